package backend

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/proxy/internal/wire"
)

// reports collects what a pool reports.
type reports chan error

func (r reports) take() error {
	select {
	case err := <-r:
		return err
	default:
		return nil
	}
}

func reportingPool(t *testing.T, opt Options) (*Pool, reports) {
	r := make(reports, 10)
	opt.Report = func(_ string, err error) { r <- err }
	return newPool(t, opt), r
}

// serve accepts connections, which handle gets, until the test ends.
func serve(t *testing.T, handle func(net.Conn)) farm.Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var open []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			open = append(open, c)
			handle(c)
		}
		for _, c := range open {
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return farm.Server{Name: "made up", Address: l.Addr().String()}
}

func TestServerThatAcceptsAndSaysNothing(t *testing.T) {
	opt := testOptions()
	opt.ConnectTimeout = 100 * time.Millisecond
	p, reported := reportingPool(t, opt)
	mute := serve(t, func(net.Conn) {})
	_, err := p.Get(t.Context(), &Want{Server: mute, Credential: credential(farmtest.App), Caps: 0, Schema: ""})
	if e := connectError(t, err); e.Server != mute.Name || !strings.Contains(e.Error(), "no answer within 100ms") {
		t.Errorf("the error is %v", err)
	}
	if reported.take() == nil {
		t.Error("it was not reported")
	}
}

func TestCancellationWakesADial(t *testing.T) {
	p, reported := reportingPool(t, testOptions())
	gaveUp := errors.New("the client has gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	mute := serve(t, func(net.Conn) { cancel(gaveUp) }) // the dial waits for a greeting then
	begin := time.Now()
	_, err := p.Get(ctx, &Want{Server: mute, Credential: credential(farmtest.App), Caps: 0, Schema: ""})
	if connectError(t, err); !errors.Is(err, gaveUp) {
		t.Errorf("the error is %v", err)
	}
	if took := time.Since(begin); took > limit/2 {
		t.Errorf("it took %v", took)
	}
	if err := reported.take(); err != nil {
		t.Errorf("the client's own going was reported as the server's failure: %v", err)
	}
	// And one that is cancelled before it begins.
	if _, err := p.Get(ctx, &Want{Server: mute, Credential: credential(farmtest.App), Caps: 0, Schema: ""}); err == nil {
		t.Error("no error")
	}
	if err := reported.take(); err != nil {
		t.Errorf("the client's own going was reported as the server's failure: %v", err)
	}
}

// TestBadGreetings: whatever a server says first, Get ends with an error.
func TestBadGreetings(t *testing.T) {
	for name, greeting := range map[string]string{
		"nothing":        "",
		"empty packet":   "\x00\x00\x00\x00",
		"garbage":        "\x04\x00\x00\x00\x0aabc",
		"old protocol":   "\x02\x00\x00\x00\x09a",
		"too large":      "\xff\xff\xff\x00\x0a",
		"half a packet":  "\x20\x00\x00\x00\x0a8.0",
		"HTTP":           "HTTP/1.1 400 Bad Request\r\n\r\n",
		"another header": "\x01\x00\x00\x07\x0a",
	} {
		t.Run(name, func(t *testing.T) {
			p, reported := reportingPool(t, testOptions())
			place := serve(t, func(c net.Conn) {
				if _, err := c.Write([]byte(greeting)); err != nil {
					t.Error(err)
				}
				_ = c.Close()
			})
			_, err := p.Get(t.Context(), &Want{Server: place, Credential: credential(farmtest.App), Caps: 0, Schema: ""})
			connectError(t, err)
			if reported.take() == nil {
				t.Error("it was not reported")
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	eachFlavor(t, func(t *testing.T, s *farmtest.Server) {
		p, reported := reportingPool(t, testOptions())
		code := func(what string, a dbserver.Account, schema string) uint16 {
			t.Helper()
			_, err := p.Get(t.Context(), &Want{Server: s.Describe(), Credential: credential(a), Caps: 0, Schema: schema})
			var refused *wire.Error
			if !errors.As(connectError(t, err), &refused) {
				t.Errorf("%s: %v", what, err)
				return 0
			}
			if err := reported.take(); err != nil {
				t.Errorf("%s was reported as the server's failure: %v", what, err)
			}
			return refused.Code
		}
		if got := code("wrong password", dbserver.Account{User: "app", Password: "wrong"}, ""); got != 1045 {
			t.Errorf("error %d", got)
		}
		if got := code("unknown user", dbserver.Account{User: "nobody", Password: "x"}, ""); got != 1045 {
			t.Errorf("error %d", got)
		}
		if got := code("no such schema", boss, "nowhere"); got != 1049 {
			t.Errorf("error %d", got)
		}
		s.Exec(t, "CREATE USER nothing@'%' IDENTIFIED BY 'x'")
		if got := code("forbidden schema", dbserver.Account{User: "nothing", Password: "x"}, farmtest.Schema); got != 1044 {
			t.Errorf("error %d", got)
		}
		s.Exec(t, "SET GLOBAL max_connections = 10")
		var held []*Conn
		for len(held) < 20 {
			c, err := p.Get(t.Context(), &Want{Server: s.Describe(), Credential: credential(farmtest.App), Caps: 0, Schema: ""})
			if err == nil {
				held = append(held, c)
				continue
			}
			var refused *wire.Error
			if !errors.As(connectError(t, err), &refused) || refused.Code != 1040 {
				t.Errorf("the error is %v, not 1040", err)
			}
			break
		}
		if len(held) == 20 {
			t.Error("max_connections has no effect")
		}
		for _, c := range held {
			p.Close(c, "test")
		}
		s.Stop(t)
		if _, err := p.Get(t.Context(), &Want{Server: s.Describe(), Credential: credential(farmtest.App), Caps: 0, Schema: ""}); err == nil {
			t.Error("a server that is down gives connections")
		}
		if reported.take() == nil {
			t.Error("a server that is down was not reported")
		}
		checkCounts(t, p, s, Count{})
	})
}

// authority is a certificate authority for tests.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir(), pool: x509.NewCertPool()}
	if err := os.Chmod(a.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.cert, a.key = a.sign(template, nil, nil)
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) sign(template, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if parent == nil {
		parent, by = template, key
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// files writes a certificate for an address and its key.
func (a *authority) files(address net.IP) (cert, key string) {
	a.t.Helper()
	leaf, private := a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "server"}, IPAddresses: []net.IP{address}}, a.cert, a.key)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, key = filepath.Join(a.dir, "cert.pem"), filepath.Join(a.dir, "key.pem")
	for name, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: leaf.Raw}, key: {Type: "PRIVATE KEY", Bytes: der},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o644); err != nil {
			a.t.Fatal(err)
		}
	}
	return cert, key
}

func TestTLS(t *testing.T) {
	a := newAuthority(t)
	// The farm chooses the server's address, so the certificate is loaded when it
	// is known.
	s := startServer(t, farm.MariaDB)
	host, _, err := net.SplitHostPort(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	cert, key := a.files(net.ParseIP(host))
	plain := s
	secured := startServer(t, farm.MariaDB, "--ssl-cert="+cert, "--ssl-key="+key)
	other := newAuthority(t)
	for _, x := range []struct {
		name   string
		server *farmtest.Server
		tls    TLS
		secure bool
		err    string
	}{
		{"disabled", secured, TLS{}, false, ""},
		{"preferred", secured, TLS{Config: &tls.Config{InsecureSkipVerify: true}}, true, ""},
		{"preferred, server has none", plain, TLS{Config: &tls.Config{InsecureSkipVerify: true}}, false, ""},
		{"required", secured, TLS{Config: &tls.Config{InsecureSkipVerify: true}, Required: true}, true, ""},
		{"required, server has none", plain, TLS{Config: &tls.Config{InsecureSkipVerify: true}, Required: true}, false, "the server offers no TLS"},
		{"verify by name", secured, TLS{Config: &tls.Config{RootCAs: a.pool, ServerName: host}, Required: true}, true, ""},
		{"verify, another address", secured, TLS{Config: &tls.Config{RootCAs: a.pool}, Required: true}, false, "certificate is valid for " + host},
		{"verify, another authority", secured, TLS{Config: &tls.Config{RootCAs: other.pool, ServerName: host}, Required: true}, false, "unknown authority"},
	} {
		t.Run(x.name, func(t *testing.T) { checkTLS(t, x.server, x.tls, x.secure, x.err) })
	}
	t.Run("verify by address", func(t *testing.T) {
		host, _, _ := net.SplitHostPort(secured.Addr())
		a.files(net.ParseIP(host))
		secured.Restart(t)
		checkTLS(t, secured, TLS{Config: &tls.Config{RootCAs: a.pool}, Required: true}, true, "")
		// The configuration's own verification is told the address too.
		checkTLS(t, secured, TLS{Config: &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(state tls.ConnectionState) error {
			return state.PeerCertificates[0].VerifyHostname(state.ServerName)
		}}, Required: true}, true, "")
	})
	t.Run("MySQL's own certificate", func(t *testing.T) {
		checkTLS(t, startServer(t, farm.MySQL), TLS{Config: &tls.Config{InsecureSkipVerify: true}, Required: true}, true, "")
	})
	t.Run("a socket needs none", func(t *testing.T) {
		opt := testOptions()
		opt.TLS = TLS{Config: &tls.Config{RootCAs: a.pool}, Required: true}
		p := newPool(t, opt)
		c, err := p.Get(t.Context(), &Want{Server: farm.Server{Name: "socket", Address: secured.Socket()}, Credential: credential(farmtest.App), Caps: 0, Schema: ""})
		if err != nil {
			t.Fatal(err)
		}
		if !c.Secure || c.Caps.Has(wire.ClientSSL) {
			t.Errorf("secure is %v, capabilities %#x", c.Secure, c.Caps)
		}
		put(p, c)
	})
}

func checkTLS(t *testing.T, s *farmtest.Server, how TLS, secure bool, failure string) {
	t.Helper()
	opt := testOptions()
	opt.TLS = how
	p := newPool(t, opt)
	c, err := p.Get(t.Context(), &Want{Server: s.Describe(), Credential: credential(farmtest.App), Caps: wire.ClientDeprecateEOF | wire.ClientMultiResults, Schema: farmtest.Schema})
	if failure != "" {
		if connectError(t, err); !strings.Contains(err.Error(), failure) {
			t.Errorf("the error is %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if c.Secure != secure {
		t.Errorf("secure is %v", c.Secure)
	}
	for range 3 { // also once it was in the pool, and is known to live
		cipher := must(t, c, "SHOW SESSION STATUS LIKE 'Ssl_cipher'")[0][1]
		if (cipher != "") != secure {
			t.Errorf("the cipher is %q", cipher)
		}
		c = again(t, p, s, farmtest.App, c)
	}
	put(p, c)
}
