package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// holder makes a directory with the authority and a certificate of each kind.
func holder(t *testing.T, a *Authority, name string, sign func(*ecdsa.PublicKey) (*x509.Certificate, error)) Files {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	files := In(dir, name)
	key := must(NewKey())(t)
	cert := must(sign(&key.PublicKey))(t)
	for _, err := range []error{
		MakeDir(dir), WriteAuthority(dir, a), WriteKey(files.Key, key), WriteCertificate(files.Certificate, cert),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func TestFilesAreTheOwnersOnly(t *testing.T) {
	a := must(NewAuthority("shop", time.Now()))(t)
	files := holder(t, a, "node", func(k *ecdsa.PublicKey) (*x509.Certificate, error) { return a.Client(k, "web-1", time.Now()) })
	dir := filepath.Dir(files.Key)
	if mode := must(os.Stat(dir))(t).Mode().Perm(); mode != 0o700 {
		t.Errorf("the directory has mode %o", mode)
	}
	for _, entry := range must(os.ReadDir(dir))(t) {
		if mode := must(entry.Info())(t).Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has mode %o", entry.Name(), mode)
		}
	}
	if err := WriteKey(files.Key, must(NewKey())(t)); !errors.Is(err, os.ErrExist) {
		t.Errorf("a key was replaced: %v", err)
	}
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := MakeDir(dir); err == nil || !strings.Contains(err.Error(), "0750") {
		t.Errorf("a directory that others can enter: %v", err)
	}
	if err := os.Chmod(files.Key, 0o604); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKey(files.Key); err == nil || !strings.Contains(err.Error(), "0604") {
		t.Errorf("a key that everybody can read: %v", err)
	}
}

func TestAuthorityIsReadAsItWasWritten(t *testing.T) {
	a, other := must(NewAuthority("shop", time.Now()))(t), must(NewAuthority("shop", time.Now()))(t)
	dir, mixed := t.TempDir(), t.TempDir()
	for _, err := range []error{
		WriteAuthority(dir, a), WriteKey(In(mixed, "ca").Key, a.key), WriteCertificate(In(mixed, "ca").Certificate, other.cert),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	read := must(ReadAuthority(dir))(t)
	if Fingerprint(read.Certificate()) != Fingerprint(a.Certificate()) || !read.key.Equal(a.key) {
		t.Error("it is another one")
	}
	if _, err := ReadAuthority(mixed); err == nil {
		t.Error("a key of another authority was accepted")
	}
}

// TestWhoMayBeWhom: what each kind of certificate proves, and what it does not.
func TestWhoMayBeWhom(t *testing.T) {
	now := time.Now()
	a, other := must(NewAuthority("shop", now))(t), must(NewAuthority("shop", now))(t)
	key := must(NewKey())(t)
	server := must(a.Server(&key.PublicKey, "member:a", []string{"127.0.0.1", "a.example"}, now))(t)
	node := must(a.Client(&key.PublicKey, "web-1", now))(t)
	roots := func(a *Authority) *x509.CertPool {
		pool := x509.NewCertPool()
		pool.AddCert(a.Certificate())
		return pool
	}
	client, serve := x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth
	for _, c := range []struct {
		what  string
		cert  *x509.Certificate
		by    *Authority
		host  string
		usage x509.ExtKeyUsage
		at    time.Time
		fine  bool
	}{
		{"a server at its address", server, a, "127.0.0.1", serve, now, true},
		{"a server at its name", server, a, "a.example", serve, now, true},
		{"a server at another address", server, a, "127.0.0.2", serve, now, false},
		{"a server as a peer", server, a, PeerHost, client, now, true},
		{"a node as a client", node, a, "", client, now, true},
		{"a node as a server", node, a, "", serve, now, false},
		{"a node as a peer", node, a, PeerHost, client, now, false},
		{"a node of another farm", node, other, "", client, now, false},
		{"a node at its end", node, a, "", client, now.Add(NodeLife - time.Minute), true},
		{"a node after its end", node, a, "", client, now.Add(NodeLife + time.Minute), false},
		{"a node where the clock is behind", node, a, "", client, now.Add(-skew + time.Minute), true},
		{"the authority as a client", a.Certificate(), a, "127.0.0.1", client, now, false},
	} {
		_, err := c.cert.Verify(x509.VerifyOptions{
			Roots: roots(c.by), DNSName: c.host, KeyUsages: []x509.ExtKeyUsage{c.usage}, CurrentTime: c.at,
		})
		if (err == nil) != c.fine {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	if node.Subject.CommonName != "web-1" {
		t.Errorf("the node's common name is %q", node.Subject.CommonName)
	}
	// A node's certificate signs nothing.
	fake := &Authority{cert: node, key: key}
	signed, err := fake.Client(&key.PublicKey, "root", now)
	if err == nil {
		_, err = signed.Verify(x509.VerifyOptions{Roots: roots(a), Intermediates: func() *x509.CertPool {
			pool := x509.NewCertPool()
			pool.AddCert(node)
			return pool
		}(), KeyUsages: []x509.ExtKeyUsage{client}})
	}
	if err == nil {
		t.Error("a node's certificate made another one")
	}
}

func TestRenewalIsDueAfterTwoThirds(t *testing.T) {
	now := time.Now()
	a := must(NewAuthority("shop", now))(t)
	key := must(NewKey())(t)
	cert := must(a.Client(&key.PublicKey, "web-1", now))(t)
	at := RenewAt(cert).Sub(now)
	if at < 19*24*time.Hour || at > 21*24*time.Hour {
		t.Errorf("renewal after %v of %v", at, NodeLife)
	}
	// What an authority near its end signs does not outlive it.
	late := a.Certificate().NotAfter.Add(-time.Hour)
	if cert = must(a.Client(&key.PublicKey, "web-1", late))(t); cert.NotAfter.After(a.Certificate().NotAfter) {
		t.Error("a certificate outlives its authority")
	}
}

func TestRequests(t *testing.T) {
	key := must(NewKey())(t)
	text := must(Request(key, "web-1"))(t)
	name, public, err := ReadRequest(text)
	if err != nil || name != "web-1" || !public.Equal(&key.PublicKey) {
		t.Fatalf("%q, %v", name, err)
	}
	request := func(key *ecdsa.PrivateKey) []byte {
		der := must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "web-1"}}, key))(t)
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	}
	block, _ := pem.Decode(text)
	forged := append([]byte(nil), block.Bytes...)
	forged[len(forged)-1] ^= 1 // in the signature
	for what, bad := range map[string][]byte{
		"nothing":         nil,
		"another block":   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes}),
		"two requests":    append(append([]byte(nil), text...), text...),
		"rubbish":         pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: []byte("rubbish")}),
		"a wrong key":     request(must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))(t)),
		"a bad signature": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: forged}),
	} {
		if _, _, err := ReadRequest(bad); err == nil {
			t.Errorf("%s was accepted", what)
		}
	}
}

func FuzzReadRequest(f *testing.F) {
	key, err := NewKey()
	if err != nil {
		f.Fatal(err)
	}
	text, err := Request(key, "web-1")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, key, err := ReadRequest(text); err == nil && key.Curve != elliptic.P256() {
			t.Error("a key that is not P-256")
		}
	})
}

// shake makes a TLS connection between the two and returns what each side says.
func shake(t *testing.T, server, client *tls.Config) (serverErr, clientErr error) {
	t.Helper()
	here, there := net.Pipe()
	deadline := time.Now().Add(20 * time.Second)
	_ = here.SetDeadline(deadline) // a pipe has one
	_ = there.SetDeadline(deadline)
	done := make(chan error, 1)
	go func() {
		conn := tls.Server(there, server)
		err := conn.Handshake()
		if err == nil {
			_, err = conn.Write([]byte("x"))
		}
		_ = there.Close()
		done <- err
	}()
	conn := tls.Client(here, client)
	if clientErr = conn.Handshake(); clientErr == nil {
		_, clientErr = conn.Read(make([]byte, 1))
	}
	_ = here.Close()
	return <-done, clientErr
}

// TestPinned: who knows the authority's fingerprint alone tells the right server
// from every other.
func TestPinned(t *testing.T) {
	now := time.Now()
	a, other := must(NewAuthority("shop", now))(t), must(NewAuthority("shop", now))(t)
	serverOf := func(a *Authority, host string) *tls.Config {
		files := holder(t, a, "server", func(k *ecdsa.PublicKey) (*x509.Certificate, error) {
			return a.Server(k, "member:a", []string{host}, now)
		})
		return must(files.ServerTLS())(t)
	}
	fingerprint := Fingerprint(a.Certificate())
	if _, err := shake(t, serverOf(a, "127.0.0.1"), PinnedTLS("127.0.0.1", fingerprint)); err != nil {
		t.Errorf("the right server: %v", err)
	}
	var wrong *WrongAuthorityError
	if _, err := shake(t, serverOf(other, "127.0.0.1"), PinnedTLS("127.0.0.1", fingerprint)); !errors.As(err, &wrong) {
		t.Errorf("another farm's server: %v", err)
	}
	if _, err := shake(t, serverOf(a, "127.0.0.9"), PinnedTLS("127.0.0.1", fingerprint)); err == nil {
		t.Error("a server of another address was accepted")
	}
	// One that shows the right authority beside a certificate of its own.
	impostor := serverOf(other, "127.0.0.1")
	get := impostor.GetCertificate
	impostor.GetCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		pair, err := get(h)
		if err == nil {
			pair.Certificate = append(pair.Certificate, a.Certificate().Raw)
		}
		return pair, err
	}
	if _, err := shake(t, impostor, PinnedTLS("127.0.0.1", fingerprint)); err == nil || errors.As(err, &wrong) {
		t.Errorf("a server that borrows the authority: %v", err)
	}
	// A node cannot pose as the server.
	node := holder(t, a, "node", func(k *ecdsa.PublicKey) (*x509.Certificate, error) { return a.Client(k, "web-1", now) })
	if _, err := shake(t, must(node.ServerTLS())(t), PinnedTLS("127.0.0.1", fingerprint)); err == nil {
		t.Error("a node posed as the server")
	}
}

// TestRenewedCertificateIsUsed: no restart is needed.
func TestRenewedCertificateIsUsed(t *testing.T) {
	now := time.Now()
	a := must(NewAuthority("shop", now))(t)
	files := holder(t, a, "server", func(k *ecdsa.PublicKey) (*x509.Certificate, error) {
		return a.Server(k, "member:a", []string{"127.0.0.1"}, now.Add(-2*serverLife)) // has expired
	})
	server := must(files.ServerTLS())(t)
	client := PinnedTLS("127.0.0.1", Fingerprint(a.Certificate()))
	if _, err := shake(t, server, client); err == nil {
		t.Fatal("an expired certificate was accepted")
	}
	key := must(ReadKey(files.Key))(t)
	if err := WriteCertificate(files.Certificate, must(a.Server(&key.PublicKey, "member:a", []string{"127.0.0.1"}, now))(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := shake(t, server, client); err != nil {
		t.Errorf("after the renewal: %v", err)
	}
}
