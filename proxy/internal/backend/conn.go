package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"farmhand/internal/farm"
	"farmhand/proxy/internal/auth"
	"farmhand/proxy/internal/rawio"
	"farmhand/proxy/internal/wire"
)

// Shape is the set of capabilities that a client's choice decides on a server
// connection, because they change what the server sends or accepts. Two
// sessions may use the same connection, one after the other, only where theirs
// are equal.
const Shape = wire.ClientFoundRows | wire.ClientNoSchema | wire.ClientODBC | wire.ClientLocalFiles |
	wire.ClientIgnoreSpace | wire.ClientInteractive | wire.ClientMultiStatements | wire.ClientMultiResults |
	wire.ClientPSMultiResults | wire.ClientExpiredPasswords | wire.ClientDeprecateEOF |
	wire.ClientOptionalMetadata | wire.ClientQueryAttributes |
	wire.MariaDBProgress | wire.MariaDBStmtBulk | wire.MariaDBExtendedMetadata | wire.MariaDBBulkUnitResults

// always is what every server connection asks for, as far as the server has
// it. Session tracking is the proxy's own: it is taken out again for clients
// that did not ask for it.
const always = wire.ClientMySQL | wire.ClientLongFlag | wire.ClientProtocol41 | wire.ClientTransactions |
	wire.ClientSecureConnection | wire.ClientPluginAuth | wire.ClientPluginAuthLenEnc |
	wire.ClientConnectAttrs | wire.ClientSessionTrack

// controlLimit bounds what a server may send in the connection phase and in
// answer to the proxy's own statements, in bytes.
const controlLimit = 1 << 20

// Conn is an authenticated connection to a server. It belongs to one session or
// to the pool. What the session has established on it is kept in the fields
// that the session owns.
type Conn struct {
	*wire.Conn
	Server   farm.Server
	ThreadID uint32 // the server's id of the connection
	Caps     wire.Capability
	MariaDB  bool
	Secure   bool
	// Status is the connection's status after login.
	Status wire.Status

	// Schema is the connection's default schema.
	Schema string
	// Settings are what is established on the connection, beyond the login's.
	Settings *Settings
	// Synced is the version of its session's state that the connection has; its
	// session's alone.
	Synced uint64
	// Used: a client's statement has run since the login or the last reset.
	Used bool
	// Warned: the last statement left warnings or an error to ask for.
	Warned bool
	// Unheard: a statement that failed may have changed what the server has not told yet.
	Unheard bool
	// InsertID is what LAST_INSERT_ID() gives, as far as its session knows.
	InsertID uint64

	lease      atomic.Uint64
	parting    Parting  // of the session that has lent it
	statements []uint32 // prepared on it, by the server's ids
	at         int      // in the pool's list of those handed out
	idleSince  time.Time
	demand     *demand // that it serves, while handed out

	key     key
	raw     net.Conn // the socket underneath
	created time.Time
	broken  bool
	// role is MariaDB's SET ROLE that brings the default role back.
	role string
	// unclean: a reset does not bring back what the login had.
	unclean bool
}

// MarkBroken keeps the connection from going back to the pool: something went
// wrong on it, or it is in the middle of a response.
func (c *Conn) MarkBroken() { c.broken = true }

// Broken reports whether the connection was marked.
func (c *Conn) Broken() bool { return c.broken }

// ConnectError is a failure to get a usable connection from a server: nothing
// of the client's has been sent.
type ConnectError struct {
	Server string
	Err    error
}

func (e *ConnectError) Error() string { return fmt.Sprintf("connect to %s: %v", e.Server, e.Err) }
func (e *ConnectError) Unwrap() error { return e.Err }

// TLS says how connections to servers are encrypted.
type TLS struct {
	Config   *tls.Config // nil: never
	Required bool        // refuse a server without TLS, but for one on a socket
}

// link is the auth package's view of a connection.
type link struct {
	c    *wire.Conn
	unix bool
}

// UnixSocket implements auth.SocketLink.
func (l link) UnixSocket() bool { return l.unix }

func (l link) ReadPacket() ([]byte, error) { return l.c.ReadPayload(controlLimit) }

func (l link) WritePacket(p []byte) error {
	l.c.Write(p)
	return l.c.Flush()
}

// dial connects to a server and logs in. shape is a subset of Shape. The
// context bounds the whole.
func dial(ctx context.Context, server farm.Server, cred *auth.Credential, shape wire.Capability, schema string, tlsOptions TLS) (*Conn, error) {
	var d net.Dialer
	raw, err := d.DialContext(ctx, server.Network(), server.Address)
	if err != nil {
		return nil, withCause(ctx, err)
	}
	raw = rawio.Adopt(raw)
	// Cancellation becomes a deadline: whatever waits on the connection wakes up.
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	c, err := login(raw, server, cred, shape, schema, tlsOptions)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = raw.Close()
		return nil, withCause(ctx, err)
	}
	return c, nil
}

// withCause adds to an error why its context ended, where that brought it about.
func withCause(ctx context.Context, err error) error {
	if ctx.Err() == nil || isServerError(err) {
		return err
	}
	return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
}

func isServerError(err error) bool {
	var e *wire.Error
	return errors.As(err, &e)
}

func login(raw net.Conn, server farm.Server, cred *auth.Credential, shape wire.Capability, schema string, tlsOptions TLS) (*Conn, error) {
	w := wire.NewConn(raw)
	payload, err := w.ReadPayload(controlLimit)
	if err != nil {
		return nil, fmt.Errorf("read greeting: %w", err)
	}
	greeting, err := wire.ParseGreeting(payload)
	if err != nil {
		return nil, err
	}
	c := &Conn{
		Conn: w, Server: server, ThreadID: greeting.ConnectionID, raw: raw, created: time.Now(), Schema: schema,
		MariaDB: !greeting.Capabilities.Has(wire.ClientMySQL),
		Secure:  server.Network() == "unix",
	}
	c.Caps = greeting.Capabilities & (always | shape)
	if schema != "" {
		c.Caps |= wire.ClientConnectWithDB
	}
	response := wire.HandshakeResponse{
		MaxPacketSize: 1 << 30, Collation: greeting.Collation, User: cred.User, Schema: schema,
		Attributes: wire.AppendAttributes(nil, "_client_name", "farmhand", "program_name", "farmhand-proxy"),
	}
	switch {
	case tlsOptions.Config == nil || server.Network() == "unix": // a socket is as good, and has no name to verify
	case greeting.Capabilities.Has(wire.ClientSSL):
		c.Caps |= wire.ClientSSL
		response.Capabilities = c.Caps
		w.Write(response.AppendSSLRequest(nil))
		if err := w.Flush(); err != nil {
			return nil, fmt.Errorf("ask for TLS: %w", err)
		}
		config := tlsOptions.Config
		if config.ServerName == "" {
			config = config.Clone()
			config.ServerName, _, _ = net.SplitHostPort(server.Address)
			if verify, name := config.VerifyConnection, config.ServerName; verify != nil {
				config.VerifyConnection = func(state tls.ConnectionState) error {
					state.ServerName = name // crypto/tls leaves an IP address out
					return verify(state)
				}
			}
		}
		var secured *tls.Conn
		if err := w.Upgrade(func(under net.Conn) net.Conn {
			secured = tls.Client(under, config)
			return secured
		}); err != nil {
			return nil, err
		}
		if err := secured.Handshake(); err != nil {
			return nil, fmt.Errorf("TLS: %w", err)
		}
		c.Secure = true
	case tlsOptions.Required:
		return nil, errors.New("the server offers no TLS, which tls.servers.mode asks for")
	}
	response.Capabilities = c.Caps
	response.AuthPlugin, response.AuthResponse = cred.FirstResponse(greeting.AuthPlugin, greeting.Nonce, c.Secure)
	w.Write(response.Append(nil))
	if err := w.Flush(); err != nil {
		return nil, fmt.Errorf("send login: %w", err)
	}
	last, err := auth.Login(link{w, server.Network() == "unix"}, cred, response.AuthPlugin, greeting.Nonce, c.Secure)
	if err != nil {
		return nil, err
	}
	ok, err := wire.ParseOK(last, c.Caps)
	if err != nil {
		return nil, fmt.Errorf("read the login's OK: %w", err)
	}
	c.Status = ok.Status &^ wire.StatusSessionStateChanged
	if err := c.prepare(); err != nil {
		return nil, err
	}
	return c, nil
}

// ReadReply reads the OK of a statement of the proxy's own; an ERR is returned
// as *wire.Error. It is for statements without a result set only.
func (c *Conn) ReadReply() (wire.OK, error) {
	p, err := c.ReadPayload(controlLimit)
	if err != nil {
		c.broken = true
		return wire.OK{}, err
	}
	switch {
	case wire.IsError(p):
		e, err := wire.ParseError(p)
		if err != nil {
			c.broken = true
			return wire.OK{}, err
		}
		return wire.OK{}, e
	case wire.IsOK(p):
		return wire.ParseOK(p, c.Caps)
	}
	c.broken = true
	return wire.OK{}, fmt.Errorf("OK expected: %w", wire.ErrMalformed)
}

// ReadValue reads the answer to a statement of the proxy's own that gives one
// row of one column, as text; "" where it gives no row, or NULL. An ERR is
// returned as *wire.Error.
func (c *Conn) ReadValue() (string, error) {
	value, err := c.readValue()
	var refused *wire.Error
	if err != nil && !errors.As(err, &refused) {
		c.broken = true
	}
	return value, err
}

func (c *Conn) readValue() (string, error) {
	next := func() ([]byte, error) {
		p, err := c.ReadPayload(controlLimit)
		if err == nil && wire.IsError(p) {
			var e *wire.Error
			if e, err = wire.ParseError(p); err == nil {
				err = e
			}
		}
		return p, err
	}
	p, err := next()
	if err != nil {
		return "", err
	}
	if len(p) == 0 || p[0] != 1 {
		return "", fmt.Errorf("one column expected: %w", wire.ErrMalformed)
	}
	head := 1 // the column's definition, and the EOF after it
	if !c.Caps.Has(wire.ClientDeprecateEOF) {
		head = 2
	}
	for range head {
		if _, err := next(); err != nil {
			return "", err
		}
	}
	value := ""
	for {
		p, err := next()
		switch {
		case err != nil:
			return "", err
		case len(p) > 0 && p[0] == 0xfe && len(p) < 1<<24-1: // EOF, or the OK in its place
			return value, nil
		case len(p) > 0 && p[0] < 0xfb && int(p[0]) == len(p)-1:
			value = string(p[1:])
		case len(p) != 1 || p[0] != 0xfb: // not NULL
			return "", fmt.Errorf("a row of one short text expected: %w", wire.ErrMalformed)
		}
	}
}

// setMultiStatements sends a COM_SET_OPTION that allows or forbids several
// statements in a text.
func (c *Conn) setMultiStatements(command []byte) error {
	c.WriteCommand(command)
	if err := c.Flush(); err != nil {
		return err
	}
	p, err := c.ReadPayload(controlLimit)
	if err != nil {
		return err
	}
	if wire.IsError(p) {
		return fmt.Errorf("COM_SET_OPTION refused by %s", c.Server.Name)
	}
	return nil
}

// Prepared takes note of a statement that was prepared on the connection.
func (c *Conn) Prepared(id uint32) { c.statements = append(c.statements, id) }

// HasStatement tells whether a statement of that id, which is the server's, is
// prepared on the connection.
func (c *Conn) HasStatement(id uint32) bool { return slices.Contains(c.statements, id) }

// CloseStatement closes a prepared statement, together with the next command.
func (c *Conn) CloseStatement(id uint32) {
	if at := slices.Index(c.statements, id); at >= 0 {
		c.statements = slices.Delete(c.statements, at, at+1)
		c.writeClose(id)
	}
}

func (c *Conn) writeClose(id uint32) {
	command := [5]byte{byte(wire.ComStmtClose)}
	wire.SetStatementID(command[:], id)
	c.WriteCommand(command[:])
}

// closeStatements closes what the session before has prepared.
func (c *Conn) closeStatements() {
	for _, id := range c.statements {
		c.writeClose(id)
	}
	c.statements = c.statements[:0]
}
