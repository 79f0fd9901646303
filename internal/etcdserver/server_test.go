package etcdserver

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"farmhand/internal/farmtest"
	"farmhand/internal/pki"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func holder(t *testing.T, a *pki.Authority, name string, sign func(*ecdsa.PublicKey) (*x509.Certificate, error)) pki.Files {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	files := pki.In(dir, name)
	key, err := pki.NewKey()
	must(t, err)
	cert, err := sign(&key.PublicKey)
	must(t, err)
	must(t, pki.MakeDir(dir))
	must(t, pki.WriteKey(files.Key, key))
	must(t, pki.WriteCertificate(files.Certificate, cert))
	must(t, pki.WriteCertificate(files.Authority, a.Certificate()))
	return files
}

func options(t *testing.T, a *pki.Authority) Options {
	t.Helper()
	clients, peers := farmtest.FreePort(t), farmtest.FreePort(t)
	hosts := []string{clients.Addr().String(), peers.Addr().String()}
	return Options{
		Farm: "test", Name: "a", Dir: filepath.Join(t.TempDir(), "data"),
		Members: []Member{{Name: "a", Clients: clients.String(), Peers: peers.String()}},
		Files: holder(t, a, "server", func(k *ecdsa.PublicKey) (*x509.Certificate, error) {
			return a.Server(k, "member:a", hosts, time.Now())
		}),
		Quota: 64 << 20, History: time.Hour, Heartbeat: 20 * time.Millisecond, Election: 200 * time.Millisecond,
		LogLevel: zapcore.DPanicLevel, Log: zap.NewNop(),
	}
}

// get asks for the version, which needs no right, with a certificate.
func get(t *testing.T, address string, files *pki.Files, a *pki.Authority) error {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(a.Certificate())
	config := &tls.Config{RootCAs: roots}
	if files != nil {
		var err error
		config, err = files.ClientTLS()
		must(t, err)
	}
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+"/version", nil)
	must(t, err)
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, response.Body)
	if response.StatusCode != http.StatusOK {
		err = errors.Join(err, fmt.Errorf("status %s", response.Status))
	}
	return errors.Join(err, response.Body.Close())
}

// TestWhoIsHeard: clients with the farm's certificates at one port, at the
// other the members of the cluster alone.
func TestWhoIsHeard(t *testing.T) {
	a, err := pki.NewAuthority("test", time.Now())
	must(t, err)
	other, err := pki.NewAuthority("other", time.Now())
	must(t, err)
	o := options(t, a)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := Start(ctx, o)
	must(t, err)
	defer s.Close()
	info, err := os.Stat(o.Dir)
	must(t, err)
	if mode := info.Mode().Perm(); mode != 0o700 {
		t.Errorf("its data has mode %o", mode)
	}
	client := func(by *pki.Authority, name string) *pki.Files {
		f := holder(t, by, "node", func(k *ecdsa.PublicKey) (*x509.Certificate, error) { return by.Client(k, name, time.Now()) })
		must(t, pki.WriteCertificate(f.Authority, a.Certificate()))
		return &f
	}
	member := o.Members[0]
	for _, c := range []struct {
		what    string
		address string
		files   *pki.Files
		heard   bool
	}{
		{"a node at the clients' port", member.Clients, client(a, "web-1"), true},
		{"a member at the peers' port", member.Peers, &o.Files, true},
		{"nobody at the clients' port", member.Clients, nil, false},
		{"another farm's administrator", member.Clients, client(other, "root"), false},
		{"a node at the peers' port", member.Peers, client(a, "web-1"), false},
		{"a node that is called like a member, at the peers' port", member.Peers, client(a, "member:a"), false},
		{"the administrator at the peers' port", member.Peers, client(a, "root"), false},
		{"nobody at the peers' port", member.Peers, nil, false},
	} {
		if err := get(t, c.address, c.files, a); (err == nil) != c.heard {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

// TestStartEnds: a member that finds no majority stops waiting when it is told
// to, and one that is not configured does not start.
func TestStartEnds(t *testing.T) {
	a, err := pki.NewAuthority("test", time.Now())
	must(t, err)
	o := options(t, a)
	o.Members = append(o.Members, Member{Name: "b", Clients: farmtest.FreePort(t).String(), Peers: farmtest.FreePort(t).String()})
	enough := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, enough)
	defer cancel()
	if _, err := Start(ctx, o); !errors.Is(err, enough) {
		t.Errorf("one of two: %v", err)
	}
	o = options(t, a)
	o.Name = "z"
	if _, err := Start(t.Context(), o); err == nil {
		t.Error("a member that is not listed has started")
	}
}
