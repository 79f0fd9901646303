package frontend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"farmhand/internal/farm"
	"farmhand/proxy/internal/auth"
	"farmhand/proxy/internal/compress"
	"farmhand/proxy/internal/monitor"
	"farmhand/proxy/internal/session"
	"farmhand/proxy/internal/wire"
)

// handshakePacket bounds what a client may send before it is authenticated, in
// bytes; connection attributes are the most of it.
const handshakePacket = 64 << 10

// own are the capabilities that are between the client and the proxy, whatever
// the servers have.
const own = wire.ClientSSL | wire.ClientCompress | wire.ClientZstd

// notOffered are capabilities of servers that the proxy does not offer:
// metadata that a server believes to be in a client's cache may have been sent
// by another server.
const notOffered = wire.MariaDBCacheMetadata | wire.MariaDBComMulti | wire.ClientMultiFactor | wire.ClientCapabilityExtension

// Handshake greets clients, secures their connections and authenticates them.
type Handshake struct {
	Farm session.Farm
	Auth *auth.Authenticator
	// TLS gives what is shown to clients now, nil where it is not offered.
	// Secure: nobody is let in over TCP without it.
	TLS    func() *tls.Config
	Secure bool
	// Timeout is for everything from the connection to the end of the login.
	Timeout time.Duration
	// Version is what clients are greeted with before any server was reached;
	// empty has them wait for one.
	Version string
}

// Greet runs the handshake up to the point where the client waits for its OK:
// an error is a *wire.Error that the client has been sent, or the connection's.
// The context bounds it as well. On success the connection's deadline is
// cleared, and Accept is still to be called.
func (h *Handshake) Greet(ctx context.Context, id uint32, p *Accepted) (*session.Client, error) {
	return h.Login(id, p).Run(ctx)
}

// Login is one client's handshake.
type Login struct {
	h        *Handshake
	id       uint32
	p        *Accepted
	conn     *wire.Conn
	deadline time.Time
	greeting *wire.Greeting // nil until it is sent
}

// Login begins the handshake with a client, of which nothing is sent yet.
func (h *Handshake) Login(id uint32, p *Accepted) *Login {
	return &Login{h: h, id: id, p: p, conn: wire.NewConn(p.direct()), deadline: time.Now().Add(h.Timeout)}
}

// GreetNow sends the greeting, and sets the deadline. It is false, and does
// nothing, where that would have to wait.
func (l *Login) GreetNow() bool {
	if !l.conn.CanNotify() {
		return false
	}
	server := l.h.knownServer(l.h.Farm.View())
	if server == nil {
		return false
	}
	greeting := l.h.greeting(l.id, server)
	if err := l.conn.SetReadDeadline(l.deadline); err != nil {
		return false
	}
	l.conn.Seq = 0
	l.conn.Write(greeting.Append(nil))
	l.greeting = greeting
	_, _ = l.conn.FlushNow() // a new socket has room; if it fails, so does the read that follows
	return true
}

// Notify has then called when the client has answered the greeting, or its time is
// up; see wire.Conn.Notify.
func (l *Login) Notify(then func()) bool { return l.conn.Notify(then) }

// Now returns the client if all is there that lets it in: one packet, of a client
// whose password is known. Else, without an error, Run goes on with what is there.
// Only Notify's call makes sure that there is something.
func (l *Login) Now(ctx context.Context) *session.Client {
	if l.conn.CanNotify() {
		if ok, _, err := l.conn.FillNow(); !ok || err != nil {
			return nil
		}
	}
	in := l.conn.Buffered()
	if len(in) < wire.HeaderSize {
		return nil
	}
	length, seq := wire.Header(in)
	if len(in) != wire.HeaderSize+length || length > handshakePacket {
		return nil
	}
	response, sslRequest, err := wire.ParseHandshakeResponse(in[wire.HeaderSize:])
	if err != nil || sslRequest || response.Capabilities.Has(wire.ClientCompress) || response.Capabilities.Has(wire.ClientZstd) {
		return nil
	}
	client := l.client(response, l.p.local())
	request := l.request(response, client)
	var more []byte
	client.Credential, more = l.h.Auth.AuthenticateNow(ctx, &request)
	if client.Credential == nil {
		return nil
	}
	l.conn.Discard(len(in))
	l.conn.Idle()
	l.conn.Seq = seq + 1
	if more != nil {
		l.conn.Write(more) // goes with the OK
	}
	return client
}

// Run does the rest of the handshake, as Greet does the whole.
func (l *Login) Run(ctx context.Context) (*session.Client, error) {
	conn, h := l.conn, l.h
	if err := conn.SetDeadline(l.deadline); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithDeadlineCause(ctx, l.deadline, fmt.Errorf("the handshake took longer than %v", h.Timeout))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.p.SetDeadline(time.Unix(1, 0)) })
	client, err := l.run(ctx)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	var refused *wire.Error
	if errors.As(err, &refused) {
		conn.Write(wire.AppendError(nil, refused))
		if e := conn.Flush(); e != nil {
			return nil, errors.Join(err, e)
		}
	}
	if err != nil {
		return nil, err
	}
	return client, conn.SetDeadline(time.Time{})
}

func (l *Login) run(ctx context.Context) (*session.Client, error) {
	conn, h, p := l.conn, l.h, l.p
	if l.greeting == nil {
		server, err := h.anyServer(ctx)
		if server == nil && h.Version == "" {
			// Without a SQLSTATE: before the handshake libmysqlclient takes one for text.
			return nil, &wire.Error{Code: 2003, Message: "Farmhand: no database server has been reached yet. " + err.Error()}
		}
		l.greeting = h.greeting(l.id, server)
		conn.Seq = 0
		conn.Write(l.greeting.Append(nil))
		if err := conn.Flush(); err != nil {
			return nil, err
		}
	}
	badHandshake := &wire.Error{Code: 1043, State: "08S01", Message: "Bad handshake"}
	read := func() (*wire.HandshakeResponse, bool, error) {
		payload, err := conn.ReadPayload(handshakePacket)
		if errors.Is(err, wire.ErrTooLarge) {
			conn.Seq++ // the packet that was not read counts
			return nil, false, badHandshake
		}
		if err != nil {
			return nil, false, fmt.Errorf("read handshake response: %w", err)
		}
		r, sslRequest, err := wire.ParseHandshakeResponse(payload)
		if err != nil {
			return nil, false, badHandshake
		}
		return r, sslRequest, nil
	}
	response, sslRequest, err := read()
	if err != nil {
		return nil, err
	}
	// Only now is it certain what a trusted proxy said before the client.
	secure := p.local()
	if sslRequest {
		config := h.TLS()
		if config == nil {
			return nil, badHandshake
		}
		var secured *tls.Conn
		if err := conn.Upgrade(func(under net.Conn) net.Conn {
			secured = tls.Server(under, config)
			return secured
		}); err != nil {
			return nil, err
		}
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("TLS: %w", err)
		}
		secure = true
		if response, sslRequest, err = read(); err != nil {
			return nil, err
		}
		if sslRequest {
			return nil, badHandshake
		}
	}
	client := l.client(response, secure)
	client.Credential, err = h.Auth.Authenticate(ctx, session.AuthLink{Conn: conn}, l.request(response, client))
	var refusal *auth.Refusal
	if errors.As(err, &refusal) {
		return nil, &wire.Error{Code: refusal.Code, State: refusal.State, Message: refusal.Message}
	}
	return client, err
}

// client is who has answered the greeting, to be authenticated.
func (l *Login) client(response *wire.HandshakeResponse, secure bool) *session.Client {
	host, remote := "localhost", "unix socket"
	if from := l.p.Remote(); from.IsValid() {
		remote = from.String()
		if !from.Addr().IsLoopback() {
			host = from.Addr().String()
		}
	}
	g := l.greeting
	client := &session.Client{
		Conn: l.conn, Caps: response.Capabilities & g.Capabilities, User: response.User, Host: host, Remote: remote,
		Schema: response.Schema, Collation: uint16(response.Collation), Nonce: g.Nonce, GreetingPlugin: g.AuthPlugin, Secure: secure, Loopback: l.p.Loopback(),
	}
	if !client.Caps.Has(wire.ClientConnectWithDB) {
		client.Schema = ""
	}
	if client.Caps.Has(wire.ClientZstd) {
		client.ZstdLevel = int(response.ZstdLevel)
	}
	return client
}

// request is what the client is authenticated by.
func (l *Login) request(response *wire.HandshakeResponse, client *session.Client) auth.Request {
	return auth.Request{
		User: response.User, Database: client.Schema, Host: client.Host, GreetingPlugin: client.GreetingPlugin, Plugin: response.AuthPlugin, Nonce: client.Nonce,
		Response: response.AuthResponse, Secure: client.Secure, Loopback: client.Loopback,
		ClientCanSwitch: client.Caps.Has(wire.ClientPluginAuth), SSLRequired: l.h.Secure && !l.p.local(),
	}
}

// greeting makes the proxy's greeting from a server's, or where there is none from
// Version.
func (h *Handshake) greeting(id uint32, server *monitor.Server) *wire.Greeting {
	g := &wire.Greeting{ConnectionID: id, Nonce: auth.NewNonce()[:wire.NonceSize], Status: wire.StatusAutocommit, AuthPlugin: "mysql_native_password"}
	if server != nil {
		g.Version, g.AuthPlugin, g.Collation = server.Greeting.Version, server.Greeting.AuthPlugin, server.Greeting.Collation
		g.Capabilities = wire.Capability(server.Greeting.Capabilities)
		if server.Flavor == farm.MariaDB && server.VersionNumber < 110000 {
			// MariaDB 10 puts this before its version, for replicas that take
			// 10 for a version before 5.
			g.Version = "5.5.5-" + g.Version
		}
	} else {
		g.Version, g.Collation = h.Version, 45
		g.Capabilities = wire.ClientMySQL | wire.ClientFoundRows | wire.ClientLongFlag | wire.ClientConnectWithDB | wire.ClientODBC |
			wire.ClientLocalFiles | wire.ClientIgnoreSpace | wire.ClientProtocol41 | wire.ClientInteractive | wire.ClientTransactions |
			wire.ClientSecureConnection | wire.ClientMultiStatements | wire.ClientMultiResults | wire.ClientPSMultiResults |
			wire.ClientPluginAuth | wire.ClientConnectAttrs | wire.ClientPluginAuthLenEnc
	}
	g.Capabilities &^= own | notOffered
	g.Capabilities |= wire.ClientPluginAuth | wire.ClientSecureConnection | wire.ClientCompress
	if h.TLS() != nil {
		g.Capabilities |= wire.ClientSSL
	}
	if g.Capabilities.Has(wire.ClientMySQL) {
		g.Capabilities |= wire.ClientZstd
	}
	return g
}

// knownServer is a server that has been reached, nil if none has: the primary if
// possible, whose version and capabilities the session's statements will mostly
// meet.
func (h *Handshake) knownServer(v *monitor.View) *monitor.Server {
	known := func(s *monitor.Server) bool { return s != nil && s.Greeting.Version != "" }
	if known(v.Primary) {
		return v.Primary
	}
	for _, s := range v.Replicas {
		if known(s) {
			return s
		}
	}
	return nil
}

// anyServer waits for a known server. Where there is a Version it waits for none,
// and may return nil.
func (h *Handshake) anyServer(ctx context.Context) (*monitor.Server, error) {
	for {
		v := h.Farm.View()
		if s := h.knownServer(v); s != nil {
			return s, nil
		}
		if h.Version != "" {
			return nil, nil
		}
		select {
		case <-ctx.Done():
			return nil, unreached(v)
		case <-h.Farm.Changed(v.Generation):
		case <-time.After(h.Timeout / 2):
			return nil, unreached(v)
		}
	}
}

func unreached(v *monitor.View) error {
	text := "The topology names no server"
	if v.Primary != nil {
		text = v.Primary.Name + ": " + orStatus(v.Primary)
	}
	for _, s := range v.Replicas {
		text += "; " + s.Name + ": " + orStatus(s)
	}
	return errors.New(text)
}

func orStatus(s *monitor.Server) string {
	if s.LastError != "" {
		return s.LastError
	}
	return s.Status.String()
}

// AcceptNow is Accept, without waiting, for a client that Login.Now gave.
func AcceptNow(c *session.Client, status wire.Status) error {
	writeOK(c, status)
	all, err := c.Conn.FlushNow()
	if err == nil && !all {
		err = io.ErrShortWrite
	}
	return err
}

func writeOK(c *session.Client, status wire.Status) {
	c.Conn.Write(wire.AppendOK(nil, session.Welcome(status, c.Schema), c.Caps))
}

// Accept sends the OK that ends the handshake, and has everything after it
// compressed if the client asked for that.
func Accept(c *session.Client, status wire.Status) error {
	writeOK(c, status)
	if err := c.Conn.Flush(); err != nil {
		return err
	}
	algorithm, level := compress.Zlib, 0
	switch {
	case c.Caps.Has(wire.ClientCompress):
	case c.Caps.Has(wire.ClientZstd):
		algorithm, level = compress.Zstd, c.ZstdLevel
	default:
		return nil
	}
	var failed error
	err := c.Conn.Upgrade(func(conn net.Conn) net.Conn {
		compressed, err := compress.New(conn, algorithm, level)
		if err != nil {
			failed = err
			return conn
		}
		c.ResetSequence = compressed.ResetSequence
		return compressed
	})
	return errors.Join(err, failed)
}
