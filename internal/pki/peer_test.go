package pki

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// TestPeersCheckEachOther lets two nodes shake hands, each of which expects a name.
func TestPeersCheckEachOther(t *testing.T) {
	now := time.Now()
	ours, foreign := must(NewAuthority("shop", now))(t), must(NewAuthority("shop", now))(t)
	node := func(a *Authority, name string, at time.Time) Files {
		return holder(t, a, name, func(k *ecdsa.PublicKey) (*x509.Certificate, error) { return a.Client(k, name, at) })
	}
	control := holder(t, ours, "member:a", func(k *ecdsa.PublicKey) (*x509.Certificate, error) {
		return ours.Server(k, "member:a", []string{"127.0.0.1"}, now)
	})
	db1, db2 := node(ours, "db1", now), node(ours, "db2", now)
	expired := node(ours, "db2", now.Add(-NodeLife-time.Hour))
	for _, c := range []struct {
		what           string
		server, client Files
		// The names that the server and the client expect.
		fromClient, fromServer string
		wrong                  string // what the one who refuses says; empty: all is well
	}{
		{"the nodes that are expected", db1, db2, "db2", "db1", ""},
		{"another client", db1, db2, "db3", "db1", "db2 is unexpected"},
		{"another server", db1, db2, "db2", "db3", "db1 is unexpected"},
		{"a client of another farm", db1, node(foreign, "db2", now), "db2", "db1", "unknown authority"},
		{"a server of another farm", node(foreign, "db1", now), db2, "db2", "db1", "unknown authority"},
		{"an expired client", db1, expired, "db2", "db1", "expired"},
		{"a control node in a node's place", control, db2, "db2", "db1", "member:a is unexpected"},
	} {
		t.Run(c.what, func(t *testing.T) {
			expect := func(want string) func(string) error {
				return func(name string) error {
					if name != want {
						return errors.New(name + " is unexpected")
					}
					return nil
				}
			}
			near, far := net.Pipe()
			server := tls.Server(near, must(c.server.PeerTLS(expect(c.fromClient)))(t))
			client := tls.Client(far, must(c.client.PeerTLS(expect(c.fromServer)))(t))
			limit := now.Add(time.Minute)
			if err := errors.Join(near.SetDeadline(limit), far.SetDeadline(limit)); err != nil {
				t.Fatal(err)
			}
			said := make(chan error, 1)
			go func() {
				// A client learns of a refusal when it reads.
				_, err := server.Write([]byte("x"))
				said <- errors.Join(err, near.Close())
			}()
			_, err := client.Read(make([]byte, 1))
			err = errors.Join(err, far.Close(), <-said)
			switch {
			case c.wrong == "" && err != nil:
				t.Error(err)
			case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)):
				t.Errorf("not %q, but %v", c.wrong, err)
			}
		})
	}
	// Without a certificate there is no connection.
	near, far := net.Pipe()
	server := tls.Server(near, must(db1.PeerTLS(func(string) error { return nil }))(t))
	client := tls.Client(far, &tls.Config{InsecureSkipVerify: true})
	said := make(chan error, 1)
	go func() { said <- errors.Join(server.Handshake(), near.Close()) }()
	_, err := client.Read(make([]byte, 1))
	if served := <-said; err == nil || served == nil {
		t.Errorf("a client without a certificate: %v, %v", err, served)
	}
	if err := far.Close(); err != nil {
		t.Error(err)
	}
}
