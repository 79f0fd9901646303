package frontend

import (
	"context"
	"crypto/sha1"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/proxy/internal/auth"
	"farmhand/proxy/internal/monitor"
	"farmhand/proxy/internal/session"
	"farmhand/proxy/internal/wire"
)

// oneView is a farm of which a view is known.
type oneView struct {
	mu      sync.Mutex
	view    *monitor.View
	changed chan struct{}
}

func viewOf(v *monitor.View) *oneView { return &oneView{view: v, changed: make(chan struct{})} }

// View implements session.Farm.
func (o *oneView) View() *monitor.View {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.view
}

// Changed implements session.Farm.
func (o *oneView) Changed(uint64) <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.changed
}

// Report implements session.Farm.
func (o *oneView) Report(string, error) {}

func (o *oneView) set(v *monitor.View) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.view = v
	close(o.changed)
	o.changed = make(chan struct{})
}

// serverCaps are what MariaDB 10.11 offers, by and large.
const serverCaps = wire.ClientFoundRows | wire.ClientLongFlag | wire.ClientConnectWithDB | wire.ClientProtocol41 | wire.ClientTransactions |
	wire.ClientSecureConnection | wire.ClientMultiStatements | wire.ClientMultiResults | wire.ClientPSMultiResults | wire.ClientPluginAuth |
	wire.ClientConnectAttrs | wire.ClientPluginAuthLenEnc | wire.ClientDeprecateEOF

func mariaDB() *monitor.Server {
	return &monitor.Server{
		Server: farm.Server{Name: "db1"}, Flavor: farm.MariaDB, VersionNumber: 101114,
		Greeting: monitor.Greeting{Version: "10.11.14-MariaDB", Capabilities: uint64(serverCaps), Collation: 8, AuthPlugin: "mysql_native_password"},
	}
}

func mySQL() *monitor.Server {
	return &monitor.Server{
		Server: farm.Server{Name: "db2"}, Flavor: farm.MySQL, VersionNumber: 90700,
		Greeting: monitor.Greeting{Version: "9.7.0", Capabilities: uint64(serverCaps | wire.ClientMySQL | wire.ClientZstd | wire.ClientCompress | wire.ClientSSL), Collation: 255, AuthPlugin: "caching_sha2_password"},
	}
}

// accounts is an account table, whose primary accepts every login that fits it.
type accounts map[string]auth.Account

func (a accounts) Accounts(ctx context.Context, user string) ([]auth.Account, error) {
	if row, ok := a[user]; ok {
		return []auth.Account{row}, ctx.Err()
	}
	return nil, ctx.Err()
}

func (a accounts) Prove(ctx context.Context, _ *auth.Credential, _ string) error { return ctx.Err() }

func native(user, password string) auth.Account {
	once := sha1.Sum([]byte(password))
	return auth.Account{User: user, Host: "%", Plugin: "mysql_native_password", AuthString: fmt.Appendf(nil, "*%X", sha1.Sum(once[:]))}
}

func newAuthenticator(options auth.Options) *auth.Authenticator {
	table := accounts{"app": native("app", "secret"), "other": native("other", "word")}
	return auth.New(table, table, options)
}

// front is a frontend that runs handshakes on a TCP and a unix socket, and
// answers what is said after them with OK.
type front struct {
	*Handshake
	*Gate
	trusted     Trusted
	tcp, socket string

	outcomes chan outcome // of each handshake
}

type outcome struct {
	client *session.Client
	err    error
	now    bool // nobody waited for it
}

func newHandshake(shown *tls.Config) *Handshake {
	return &Handshake{
		Farm: viewOf(&monitor.View{Primary: mariaDB()}), Auth: newAuthenticator(auth.Options{}), Timeout: patience,
		TLS: func() *tls.Config { return shown },
	}
}

// startFront starts a frontend. change may change it first.
func startFront(t *testing.T, shown *tls.Config, change func(*front)) *front {
	t.Helper()
	f := &front{
		Handshake: newHandshake(shown), Gate: NewGate(Bounds{}), outcomes: make(chan outcome, 1000),
		socket: filepath.Join(farmtest.ShortDir(t), "front.sock"),
	}
	if change != nil {
		change(f)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	l, err := Listen(ctx, []Spec{{Network: "tcp", Address: "127.0.0.1:0"}, {Network: "unix", Address: f.socket, Mode: 0o600}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.tcp = l.Addrs()[0].String()
	done := make(chan error, 1)
	go func() {
		done <- l.Serve(ctx, func() Trusted { return f.trusted }, func(err error) { t.Error(err) }, f.first)
	}()
	t.Cleanup(func() {
		over := errors.New("the test is over")
		cancel(over)
		if err := wait(t, "the handlers' end", done); !errors.Is(err, over) {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if n, waiting := f.Counts(); n != 0 || waiting != 0 {
			t.Errorf("%d clients are still counted, %d of them logging in", n, waiting)
		}
	})
	return f
}

// first is the first step of a client.
func (f *front) first(ctx context.Context, conn *Accepted) Step {
	ticket, err := f.Enter(time.Now(), func() { conn.Close() })
	if err != nil {
		f.outcomes <- outcome{nil, err, false}
		return Step{}
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	l := f.Login(77, conn)
	run := func() Step {
		client, err := l.Run(ctx)
		if err == nil {
			err = ticket.LoggedIn(client.User)
		}
		if err == nil {
			err = Accept(client, wire.StatusAutocommit)
		}
		f.outcomes <- outcome{client, err, false}
		if err == nil {
			serve(client)
		}
		ticket.Leave()
		stop()
		return Step{}
	}
	if !l.GreetNow() {
		return Step{Run: run}
	}
	return Step{Brief: true, Await: l.Notify, Run: func() Step {
		client := l.Now(ctx)
		if client == nil {
			return Step{Run: run}
		}
		err := ticket.LoggedIn(client.User)
		if err == nil {
			err = AcceptNow(client, wire.StatusAutocommit)
		}
		f.outcomes <- outcome{client, err, true}
		return Step{Await: client.Conn.Notify, Run: func() Step {
			if err == nil && client.Conn.SetDeadline(time.Time{}) == nil {
				serve(client)
			}
			ticket.Leave()
			stop()
			return Step{}
		}}
	}}
}

// serve answers what a client says with OK.
func serve(client *session.Client) {
	for {
		if client.ResetSequence != nil {
			client.ResetSequence()
		}
		if _, err := client.Conn.ReadPayload(1 << 20); err != nil {
			return
		}
		client.Conn.Write(wire.AppendOK(nil, &wire.OK{}, client.Caps))
		if client.Conn.Flush() != nil {
			return
		}
	}
}

// peer is a client as a driver is one.
type peer struct {
	*wire.Conn
	t        testing.TB
	greeting *wire.Greeting
	caps     wire.Capability
	secure   bool
}

// dial connects, sends a header if there is one, and reads the greeting.
func dial(t testing.TB, address string, header ...byte) *peer {
	t.Helper()
	p := &peer{Conn: wire.NewConn(dialRaw(t, address)), t: t}
	p.WriteRaw(header)
	if err := p.Flush(); err != nil {
		t.Fatal(err)
	}
	payload, err := p.ReadPayload(1 << 10)
	if err != nil {
		t.Fatalf("no greeting: %v", err)
	}
	if p.greeting, err = wire.ParseGreeting(payload); err != nil {
		t.Fatalf("greeting: %v", err)
	}
	p.caps = wire.ClientProtocol41 | wire.ClientSecureConnection | wire.ClientPluginAuth | wire.ClientTransactions
	return p
}

// dialRaw connects to a TCP address or the path of a unix socket.
func dialRaw(t testing.TB, address string) net.Conn {
	t.Helper()
	network := "tcp"
	if filepath.IsAbs(address) {
		network = "unix"
	}
	conn, err := net.DialTimeout(network, address, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// startTLS asks for TLS and shakes hands.
func (p *peer) startTLS(config *tls.Config) error {
	p.caps |= wire.ClientSSL
	p.Write((&wire.HandshakeResponse{Capabilities: p.caps, MaxPacketSize: 1 << 24, Collation: 45}).AppendSSLRequest(nil))
	var secured *tls.Conn
	if err := p.Upgrade(func(under net.Conn) net.Conn {
		secured = tls.Client(under, config)
		return secured
	}); err != nil {
		return err
	}
	p.secure = true
	return secured.Handshake()
}

func (p *peer) respond(user, schema string, plugin string, response []byte) error {
	if schema != "" {
		p.caps |= wire.ClientConnectWithDB
	}
	p.Write((&wire.HandshakeResponse{
		Capabilities: p.caps, MaxPacketSize: 1 << 24, Collation: 45, User: user, AuthResponse: response, Schema: schema, AuthPlugin: plugin, ZstdLevel: 3,
	}).Append(nil))
	return p.Flush()
}

// login logs in by password. The error is a *wire.Error where the proxy said no.
func (p *peer) login(user, password, schema string) error {
	c := auth.PasswordCredential(user, password)
	plugin, response := c.FirstResponse(p.greeting.AuthPlugin, p.greeting.Nonce, p.secure)
	if err := p.respond(user, schema, plugin, response); err != nil {
		return err
	}
	_, err := auth.Login(session.AuthLink{Conn: p.Conn}, c, p.greeting.AuthPlugin, p.greeting.Nonce, p.secure)
	return err
}

// ping fails the test unless a command is answered.
func (p *peer) ping() {
	p.t.Helper()
	p.WriteCommand([]byte{byte(wire.ComPing)})
	if err := p.Flush(); err != nil {
		p.t.Fatal(err)
	}
	if payload, err := p.ReadPayload(1 << 10); err != nil || !wire.IsOK(payload) {
		p.t.Fatalf("ping: % x, %v", payload, err)
	}
}

// mustRefuse fails the test unless err is what the proxy said, with a code.
func mustRefuse(t testing.TB, err error, code uint16) *wire.Error {
	t.Helper()
	var refused *wire.Error
	if !errors.As(err, &refused) || refused.Code != code {
		t.Fatalf("%v, want error %d", err, code)
	}
	return refused
}

// readError reads the error that the proxy sends next.
func (p *peer) readError() (*wire.Error, error) {
	payload, err := p.ReadPayload(1 << 10)
	if err != nil {
		return nil, err
	}
	return wire.ParseError(payload)
}
