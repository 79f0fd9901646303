package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"farmhand/internal/farmtest"
	"farmhand/proxy/internal/wire"
)

// front is the least that a real client takes for a server: it greets,
// authenticates, and answers OK to every command.
type front struct {
	auth        *Authenticator
	plugin      string // the greeting's
	tls         *tls.Config
	public      bool // whoever comes by TCP comes over a network that can be read
	tcp, socket net.Listener
	serving     sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
}

func newFront(t testing.TB, a *Authenticator, plugin string, public bool) *front {
	t.Helper()
	f := &front{auth: a, plugin: plugin, public: public, tls: serverTLS(t), conns: make(map[net.Conn]bool)}
	var err error
	if f.tcp, err = net.Listen("tcp", farmtest.FreePort(t).String()); err != nil {
		t.Fatal(err)
	}
	if f.socket, err = net.Listen("unix", filepath.Join(farmtest.ShortDir(t), "f.sock")); err != nil {
		t.Fatal(err)
	}
	for _, l := range []net.Listener{f.tcp, f.socket} {
		f.serving.Go(func() { f.accept(l) })
	}
	t.Cleanup(func() {
		f.tcp.Close()    //nolint:errcheck // the test is over
		f.socket.Close() //nolint:errcheck // the test is over
		f.mu.Lock()
		for c := range f.conns {
			c.Close() //nolint:errcheck // the test is over
		}
		f.mu.Unlock()
		f.serving.Wait()
	})
	return f
}

func serverTLS(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, of, of, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

func (f *front) accept(l net.Listener) {
	for {
		raw, err := l.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		f.conns[raw] = true
		f.mu.Unlock()
		f.serving.Go(func() {
			defer raw.Close() //nolint:errcheck // nothing was left to send
			f.serve(raw)
		})
	}
}

// serve ends with the first error: the client sees it and the test fails there.
func (f *front) serve(raw net.Conn) {
	if raw.SetDeadline(time.Now().Add(exchangeLimit)) != nil {
		return
	}
	link := newConnLink(raw)
	greeting := &wire.Greeting{
		Version: "8.4.0-farmhand", ConnectionID: 1, Nonce: NewNonce(), Collation: 45, Status: wire.StatusAutocommit, AuthPlugin: f.plugin,
		Capabilities: wire.ClientMySQL | wire.ClientProtocol41 | wire.ClientSecureConnection | wire.ClientPluginAuth |
			wire.ClientPluginAuthLenEnc | wire.ClientTransactions | wire.ClientSSL | wire.ClientConnectWithDB,
	}
	if link.WritePacket(greeting.Append(nil)) != nil {
		return
	}
	response, wantsTLS, err := f.response(link)
	secure := link.UnixSocket()
	if err == nil && wantsTLS {
		secure = true
		link.Conn = tls.Server(raw, f.tls)
		response, _, err = f.response(link)
	}
	if err != nil {
		return
	}
	_, err = f.auth.Authenticate(context.Background(), link, Request{
		User: response.User, Database: response.Schema, Host: "client", Plugin: response.AuthPlugin, Nonce: greeting.Nonce,
		Response: response.AuthResponse, Secure: secure, Loopback: !f.public, ClientCanSwitch: response.Capabilities.Has(wire.ClientPluginAuth),
	})
	var refusal *Refusal
	if errors.As(err, &refusal) {
		e := &wire.Error{Code: refusal.Code, State: refusal.State, Message: refusal.Message}
		_ = link.WritePacket(wire.AppendError(nil, e)) // the client may be gone
		return
	}
	for err == nil {
		if link.WritePacket(okPacket) != nil {
			return
		}
		var command []byte
		if command, err = link.ReadPacket(); err == nil && len(command) > 0 && command[0] == byte(wire.ComQuit) {
			return
		}
	}
}

func (f *front) response(link Link) (*wire.HandshakeResponse, bool, error) {
	payload, err := link.ReadPacket()
	if err != nil {
		return nil, false, err
	}
	return wire.ParseHandshakeResponse(payload)
}

// realClient logs in once; it returns what the client said if it was not let in.
type realClient struct {
	name   string
	speaks []string // account plugins that it can do
	login  func(t *testing.T, f *front, network, user, password string) error
}

func realClients() []realClient {
	all := []string{nativeName, cachingName, sha256Name, ed25519Server, parsecName}
	return []realClient{
		{"go-sql-driver", all, loginGoDriver},
		{"php", []string{nativeName, cachingName, ed25519Server, parsecName}, loginPHP},
		{"mariadb", []string{nativeName, cachingName, ed25519Server, parsecName}, loginMariaDB},
	}
}

func loginGoDriver(t *testing.T, f *front, network, user, password string) error {
	c := mysql.NewConfig()
	c.User, c.Passwd, c.AllowCleartextPasswords = user, password, true
	c.Logger = &mysql.NopLogger{}
	switch network {
	case "unix":
		c.Net, c.Addr = "unix", f.socket.Addr().String()
	case "tls":
		c.TLSConfig = "skip-verify"
		fallthrough
	default:
		c.Net, c.Addr = "tcp", f.tcp.Addr().String()
	}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	defer db.Close() //nolint:errcheck // Ping's error is what counts
	return db.PingContext(t.Context())
}

func loginPHP(t *testing.T, f *front, network, user, password string) error {
	const script = `mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);
		[, $network, $host, $port, $socket, $user, $password] = $argv;
		$c = mysqli_init();
		try {
			$c->real_connect($host, $user, $password, null, (int)$port, $socket,
				$network === "tls" ? MYSQLI_CLIENT_SSL | MYSQLI_CLIENT_SSL_DONT_VERIFY_SERVER_CERT : 0);
			$c->query("DO 1");
		} catch (mysqli_sql_exception $e) { echo $e->getCode(), " ", $e->getMessage(); exit(1); }`
	host, port, socket := f.place(network)
	return run(t, "php", "-r", script, "--", network, host, port, socket, user, password)
}

func loginMariaDB(t *testing.T, f *front, network, user, password string) error {
	host, port, socket := f.place(network)
	args := []string{"--no-defaults", "--user=" + user, "--password=" + password, "--batch", "--execute=DO 1"}
	switch network {
	case "unix":
		args = append(args, "--socket="+socket)
	case "tls":
		args = append(args, "--host="+host, "--port="+port, "--ssl", "--protocol=tcp")
	default:
		args = append(args, "--host="+host, "--port="+port, "--skip-ssl", "--protocol=tcp")
	}
	return run(t, "mariadb", args...)
}

// place is where a client connects to.
func (f *front) place(network string) (host, port, socket string) {
	if network == "unix" {
		return "localhost", "0", f.socket.Addr().String()
	}
	host, port, err := net.SplitHostPort(f.tcp.Addr().String())
	if err != nil {
		panic(err) // the listener's own address
	}
	return host, port, ""
}

func run(t *testing.T, program string, args ...string) error {
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("needs the program %s: %v", program, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), exchangeLimit)
	defer cancel()
	if out, err := exec.CommandContext(ctx, path, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// Client libraries that others wrote get in with the right password, over every
// transport, the first time and again, and are told "access denied" with a
// wrong one.
func TestRealClients(t *testing.T) {
	far := &server{}
	for _, plugin := range schemeOrder {
		far.rows = append(far.rows, rowsOf(t, plugin, plugin, "päss word")...)
	}
	for _, greets := range []string{nativeName, cachingName} {
		for _, c := range realClients() {
			t.Run(greets+"/"+c.name, func(t *testing.T) {
				f := newFront(t, newAuthenticator(far, Options{DefaultPlugin: greets}), greets, false)
				for _, network := range []string{"unix", "tls", "tcp"} {
					for _, plugin := range c.speaks {
						what := fmt.Sprintf("%s over %s", plugin, network)
						for range 2 {
							if err := c.login(t, f, network, plugin, "päss word"); err != nil {
								t.Errorf("%s: %v", what, err)
							}
						}
						err := c.login(t, f, network, plugin, "wrong")
						if err == nil || !strings.Contains(err.Error(), "1045") {
							t.Errorf("%s, wrong password: %v", what, err)
						}
					}
				}
			})
		}
	}
}

// Once its password is known, a client that signs gets in over a network that
// can be read, too.
func TestRealClientsSign(t *testing.T) {
	far := &server{rows: rowsOf(t, "u", ed25519Server, "päss word")}
	for name, login := range map[string]func(*testing.T, *front, string, string, string) error{
		"go-sql-driver": loginGoDriver, "mariadb": loginMariaDB,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFront(t, newAuthenticator(far, Options{}), nativeName, true)
			if err := login(t, f, "tcp", "u", "päss word"); err == nil || !strings.Contains(err.Error(), "learn") {
				t.Errorf("before the password is known: %v", err)
			}
			if err := login(t, f, "unix", "u", "päss word"); err != nil {
				t.Errorf("over the socket: %v", err)
			}
			if err := login(t, f, "tcp", "u", "päss word"); err != nil {
				t.Errorf("with a signature: %v", err)
			}
			if err := login(t, f, "tcp", "u", "wrong"); err == nil || !strings.Contains(err.Error(), "1045") {
				t.Errorf("with a wrong signature: %v", err)
			}
		})
	}
}
