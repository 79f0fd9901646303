package frontend

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"farmhand/proxy/internal/config"
	"farmhand/proxy/internal/wire"
)

// authority signs certificates for a test.
type authority struct {
	t    testing.TB
	dir  string
	file string // PEM
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of a test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = a.write("ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// sign makes a certificate and its key in files, and reads them.
func (a *authority) sign(name string, change func(*x509.Certificate)) (certificate, key string, pair tls.Certificate) {
	a.t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, own.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	ownDER, err := x509.MarshalECPrivateKey(own)
	if err != nil {
		a.t.Fatal(err)
	}
	certificate, key = a.write(name+".pem", "CERTIFICATE", der), a.write(name+".key", "EC PRIVATE KEY", ownDER)
	if pair, err = tls.LoadX509KeyPair(certificate, key); err != nil {
		a.t.Fatal(err)
	}
	return certificate, key, pair
}

// trusting is how a client connects that verifies nothing.
func (a *authority) trusting(shown ...tls.Certificate) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, Certificates: shown}
}

// verifying is how a client connects that wants the authority's certificate.
func (a *authority) verifying(name string) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{RootCAs: pool, ServerName: name}
}

// Each mode, as each kind of client meets it.
func TestTLSModes(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	named := func(c *x509.Certificate) { c.DNSNames = []string{"proxy.example"} }
	certificate, key, _ := a.sign("proxy.example", named)
	_, _, known := a.sign("a client", nil)
	_, _, unknown := stranger.sign("a client of others", nil)
	_, _, expired := a.sign("a late client", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	_, _, server := a.sign("no client", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })

	const (
		in = -iota
		broken
	)
	type client struct {
		name string
		unix bool
		tls  *tls.Config // nil: none
	}
	clients := []client{
		{"plain", false, nil},
		{"plain, unix", true, nil},
		{"TLS", false, a.trusting()},
		{"TLS, unix", true, a.trusting()},
		{"TLS 1.2", false, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}},
		{"TLS 1.1", false, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}},
		{"verifies the authority and the name", false, a.verifying("proxy.example")},
		{"verifies another name", false, a.verifying("else.example")},
		{"verifies another authority", false, stranger.verifying("proxy.example")},
		{"shows a certificate", false, a.trusting(known)},
		{"shows a certificate, TLS 1.2", false, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, Certificates: []tls.Certificate{known}}},
		{"shows another authority's", false, a.trusting(unknown)},
		{"shows an expired one", false, a.trusting(expired)},
		{"shows a server's", false, a.trusting(server)},
	}
	tests := []struct {
		name   string
		config config.TLSClients
		want   []int // for each client: in, broken or the error's code
	}{
		{"disabled", config.TLSClients{Mode: config.TLSDisabled}, []int{in, in, 1043, 1043, 1043, 1043, 1043, 1043, 1043, 1043, 1043, 1043, 1043, 1043}},
		{"preferred, self-signed", config.TLSClients{Mode: config.TLSPreferred}, []int{in, in, in, in, in, broken, broken, broken, broken, in, in, in, in, in}},
		{"preferred", config.TLSClients{Mode: config.TLSPreferred, Certificate: certificate, Key: key}, []int{in, in, in, in, in, broken, in, broken, broken, in, in, in, in, in}},
		{"required", config.TLSClients{Mode: config.TLSRequired, Certificate: certificate, Key: key, CA: a.file}, []int{3159, in, in, in, in, broken, in, broken, broken, in, in, in, in, in}},
		{"verify", config.TLSClients{Mode: config.TLSVerify, Certificate: certificate, Key: key, CA: a.file}, []int{3159, in, broken, broken, broken, broken, broken, broken, broken, in, in, broken, broken, broken}},
		{"verify, self-signed", config.TLSClients{Mode: config.TLSVerify, CA: a.file}, []int{3159, in, broken, broken, broken, broken, broken, broken, broken, in, in, broken, broken, broken}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			shown, err := ClientTLS(test.config, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			f := startFront(t, shown, func(f *front) {
				f.Secure = test.config.Mode == config.TLSRequired || test.config.Mode == config.TLSVerify
			})
			for i, c := range clients {
				t.Run(c.name, func(t *testing.T) {
					address := f.tcp
					if c.unix {
						address = f.socket
					}
					p := dial(t, address)
					if offered := p.greeting.Capabilities.Has(wire.ClientSSL); offered != (shown != nil) {
						t.Fatalf("TLS is offered: %t", offered)
					}
					var err error
					switch {
					case c.tls != nil && shown != nil:
						err = p.startTLS(c.tls)
					case c.tls != nil: // asks for it though it is not offered
						p.Write((&wire.HandshakeResponse{Capabilities: p.caps | wire.ClientSSL}).AppendSSLRequest(nil))
						if err = p.Flush(); err == nil {
							var e *wire.Error
							if e, err = p.readError(); err == nil {
								err = e
							}
						}
					}
					if err == nil {
						err = p.login("app", "secret", "")
					}
					got := wait(t, "outcome", f.outcomes)
					switch want := test.want[i]; want {
					case in:
						if err != nil || got.err != nil {
							t.Fatalf("client: %v, proxy: %v", err, got.err)
						}
						if got.client.Secure != (c.unix || c.tls != nil) {
							t.Errorf("secure: %t", got.client.Secure)
						}
						p.ping()
					case broken:
						var said *wire.Error
						if err == nil || errors.As(err, &said) || got.client != nil || got.err == nil || !strings.Contains(got.err.Error(), "TLS") {
							t.Errorf("client: %v, proxy: %v; want no TLS", err, got.err)
						}
					default:
						mustRefuse(t, err, uint16(want))
					}
				})
			}
		})
	}
}

// The certificate that the proxy makes for itself is another each time, good for
// years from when it is made, and for the names of this host.
func TestSelfSigned(t *testing.T) {
	now := time.Date(2030, 5, 6, 7, 8, 9, 0, time.UTC)
	leaf := func() *x509.Certificate {
		t.Helper()
		shown, err := ClientTLS(config.TLSClients{Mode: config.TLSPreferred}, now)
		if err != nil {
			t.Fatal(err)
		}
		return shown.Certificates[0].Leaf
	}
	one, two := leaf(), leaf()
	if one.SerialNumber.Cmp(two.SerialNumber) == 0 || one.SerialNumber.Sign() <= 0 || one.Equal(two) {
		t.Errorf("serial numbers %v and %v", one.SerialNumber, two.SerialNumber)
	}
	if one.NotBefore.After(now) || one.NotAfter.Before(now.AddDate(9, 0, 0)) || one.IsCA {
		t.Errorf("good from %v to %v, an authority: %t", one.NotBefore, one.NotAfter, one.IsCA)
	}
	names := []string{"localhost", "127.0.0.1", "[::1]"}
	if host, err := os.Hostname(); err == nil && host != "" {
		names = append(names, host)
	}
	for _, name := range names {
		if err := one.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
}

// A setting that cannot work is refused when it is read, in words that name the
// file.
func TestTLSRefused(t *testing.T) {
	a := newAuthority(t)
	certificate, key, _ := a.sign("proxy", nil)
	_, otherKey, _ := a.sign("other", nil)
	missing, empty := filepath.Join(a.dir, "missing.pem"), filepath.Join(a.dir, "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name                 string
		mode                 config.TLSMode
		certificate, key, ca string
		want                 string
		servers              bool // the same for connections to servers
	}{
		{"no key", config.TLSPreferred, certificate, "", "", "needs its key", true},
		{"no certificate", config.TLSRequired, "", key, "", "needs its key", true},
		{"another's key", config.TLSPreferred, certificate, otherKey, "", otherKey, true},
		{"a certificate that is not there", config.TLSPreferred, missing, key, "", missing, true},
		{"a key that is not there", config.TLSPreferred, certificate, missing, "", missing, true},
		{"an empty certificate", config.TLSPreferred, empty, key, "", empty, true},
		{"a key for a certificate", config.TLSPreferred, key, key, "", key, true},
		{"a CA that is not there", config.TLSVerify, certificate, key, missing, missing, true},
		{"an empty CA", config.TLSVerify, certificate, key, empty, empty, true},
		{"a key for a CA", config.TLSVerify, certificate, key, key, "no certificate", true},
		{"no CA", config.TLSVerify, certificate, key, "", "CA file", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			clients, err := ClientTLS(config.TLSClients{Mode: test.mode, Certificate: test.certificate, Key: test.key, CA: test.ca}, time.Now())
			if clients != nil || err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "clients") {
				t.Errorf("clients: %v, want %q", err, test.want)
			}
			if !test.servers {
				return
			}
			servers, err := ServerTLS(config.TLSServers{Mode: test.mode, Certificate: test.certificate, Key: test.key, CA: test.ca})
			if servers != nil || err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "servers") {
				t.Errorf("servers: %v, want %q", err, test.want)
			}
		})
	}
	if _, err := ClientTLS(config.TLSClients{Mode: config.TLSVerify, CA: missing}, time.Now()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v hides its cause", err)
	}
}

// What the proxy makes of servers' certificates in each mode.
func TestServerTLS(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	pair := func(a *authority, name string, change func(*x509.Certificate)) tls.Certificate {
		_, _, p := a.sign(name, change)
		return p
	}
	byName := pair(a, "db1.example", func(c *x509.Certificate) { c.DNSNames = []string{"db1.example"} })
	byAddress := pair(a, "whatever", func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 7)} })
	byCommonName := pair(a, "db1.example", nil)
	both := pair(a, "db1.example", func(c *x509.Certificate) { c.DNSNames = []string{"db2.example"} })
	late := pair(a, "db1.example", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	ofOthers := pair(stranger, "db1.example", nil)
	ofAClient := pair(a, "db1.example", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	tests := []struct {
		name   string
		shown  tls.Certificate
		called string
		good   bool // in the mode verify
	}{
		{"its name", byName, "db1.example", true},
		{"another's name", byName, "db2.example", false},
		{"no name", byName, "", false},
		{"its address", byAddress, "10.0.0.7", true},
		{"another's address", byAddress, "10.0.0.8", false},
		{"its common name", byCommonName, "DB1.example", true},
		{"another's common name", byCommonName, "db2.example", false},
		{"no name for a common name", byCommonName, "", false},
		{"a common name that other names override", both, "db1.example", false},
		{"expired", late, "db1.example", false},
		{"another authority's", ofOthers, "db1.example", false},
		{"a client's", ofAClient, "db1.example", false},
	}
	for _, mode := range []config.TLSMode{config.TLSPreferred, config.TLSRequired, config.TLSVerify} {
		for _, test := range tests {
			t.Run(string(mode)+", "+test.name, func(t *testing.T) {
				used, err := ServerTLS(config.TLSServers{Mode: mode, CA: a.file, ServerName: test.called})
				if err != nil {
					t.Fatal(err)
				}
				mine, theirs := connected(t)
				served := make(chan error, 1)
				go func() {
					served <- tls.Server(theirs, &tls.Config{Certificates: []tls.Certificate{test.shown}, SessionTicketsDisabled: true}).Handshake()
				}()
				err = tls.Client(mine, used).Handshake()
				mine.Close()
				wait(t, "the server's end", served) // with an error where the client leaves
				if good := mode != config.TLSVerify || test.good; good != (err == nil) {
					t.Errorf("%v, want good: %t", err, good)
				}
			})
		}
	}
	if c, err := ServerTLS(config.TLSServers{Mode: config.TLSDisabled, Certificate: "is not read"}); c != nil || err != nil {
		t.Errorf("disabled: %v, %v", c, err)
	}
	t.Run("shows who it is", func(t *testing.T) {
		certificate, key, _ := a.sign("the proxy", nil)
		used, err := ServerTLS(config.TLSServers{Mode: config.TLSRequired, Certificate: certificate, Key: key})
		if err != nil {
			t.Fatal(err)
		}
		mine, theirs := connected(t)
		served := make(chan error, 1)
		server := tls.Server(theirs, &tls.Config{
			Certificates: []tls.Certificate{byName}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.verifying("").RootCAs, SessionTicketsDisabled: true,
		})
		go func() { served <- server.Handshake() }()
		if err := tls.Client(mine, used).Handshake(); err != nil {
			t.Error(err)
		}
		if err := wait(t, "the server's handshake", served); err != nil || server.ConnectionState().PeerCertificates[0].Subject.CommonName != "the proxy" {
			t.Error(err)
		}
	})
}
