package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"os"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"farmhand/proxy/internal/config"
	"farmhand/proxy/internal/frontend"
	"farmhand/proxy/internal/session"
	"farmhand/proxy/internal/wire"
)

// handshakes bounds the logins in progress; a client that is slow at it gives
// way to a new one.
const handshakes = 1000

// edge is where clients come in, and what a successor takes over.
type edge struct {
	d           *Daemon
	listeners   *frontend.Listeners
	gate        *frontend.Gate
	front       frontend.Handshake
	tls         atomic.Pointer[tls.Config]
	trusted     frontend.Trusted
	predecessor *frontend.Predecessor // until it has let go
	control     string                // path of the hand-over's socket
	handover    *frontend.Handover
}

// open opens the listening sockets: those that systemd passed, those of a proxy
// that runs with the same configuration, or new ones.
func (e *edge) open(ctx context.Context, d *Daemon, activated []*os.File) error {
	c := d.config
	e.d = d
	shown, err := frontend.ClientTLS(c.TLS.Clients, time.Now())
	if err != nil {
		return err
	}
	e.tls.Store(shown)
	if e.trusted, err = frontend.ParseTrusted(c.ProxyProtocol.Trusted); err != nil {
		return err
	}
	e.gate = frontend.NewGate(frontend.Bounds{Connections: c.Limits.Connections, PerUser: c.Limits.ConnectionsPerUser, Handshakes: handshakes})
	e.front = frontend.Handshake{
		Farm: d.monitor, Auth: d.deps.Auth, TLS: e.tls.Load, Version: c.ServerVersion, Timeout: time.Duration(c.Limits.HandshakeTimeout),
		Secure: c.TLS.Clients.Mode == config.TLSRequired || c.TLS.Clients.Mode == config.TLSVerify,
	}
	inherited, err := frontend.Activated(activated)
	if err != nil {
		return err
	}
	if e.control, err = c.ControlSocket(); err != nil {
		return err
	}
	if len(inherited) == 0 {
		e.predecessor, err = frontend.TakeOver(ctx, e.control)
		switch {
		case errors.Is(err, frontend.ErrNoPredecessor):
		case err != nil:
			return err
		default:
			d.log.Info("taking over from a running proxy", zap.Int("pid", e.predecessor.PID))
			inherited = e.predecessor.Inherited
		}
	}
	specs := make([]frontend.Spec, len(c.Listen))
	for i, l := range c.Listen {
		specs[i] = frontend.Spec{Network: l.Network(), Address: l.Address()}
		if l.Network() == "unix" {
			specs[i].Mode = fs.FileMode(l.SocketMode())
		}
	}
	e.listeners, err = frontend.Listen(ctx, specs, inherited)
	return err
}

// announce tells a predecessor that this proxy serves, and waits for successors
// of its own.
func (e *edge) announce(ctx context.Context) error {
	if e.predecessor != nil {
		if err := e.predecessor.Ready(ctx); err != nil {
			return err
		}
	}
	var err error
	e.handover, err = frontend.NewHandover(ctx, e.control, e.listeners)
	return err
}

// waitForEnd returns when the proxy is to finish: it was told to, a part failed,
// or, superseded, a successor has taken over.
func (e *edge) waitForEnd(finish, parts context.Context) (superseded bool) {
	ctx, cancel := context.WithCancel(finish)
	defer cancel()
	stop := context.AfterFunc(parts, cancel)
	defer stop()
	superseded = e.handover.Serve(ctx, func(err error) { e.d.log.Warn("hand-over failed", zap.Error(err)) })
	if superseded {
		e.d.log.Info("a successor has taken over")
	}
	return superseded
}

// stop ends the accepting.
func (e *edge) stop() { e.listeners.Stop() }

// close gives the sockets up.
func (e *edge) close() error {
	if e.listeners == nil {
		return nil
	}
	return e.listeners.Close()
}

// reload takes new certificates into use.
func (e *edge) reload(c *config.Config) error {
	shown, err := frontend.ClientTLS(c.TLS.Clients, time.Now())
	if err != nil {
		return err
	}
	e.tls.Store(shown)
	e.gate.SetBounds(frontend.Bounds{Connections: c.Limits.Connections, PerUser: c.Limits.ConnectionsPerUser, Handshakes: handshakes})
	return nil
}

// serve accepts clients until the listeners are stopped, and waits for their
// sessions, which end with the context given here.
func (e *edge) serve(sessions context.Context) error {
	// Nobody waits with the clients that are to log in.
	defer context.AfterFunc(sessions, e.gate.EvictWaiting)()
	// stop ends the accepting, and nothing else: an end of the sessions' context
	// would be an error here.
	return e.listeners.Serve(context.WithoutCancel(sessions), func() frontend.Trusted { return e.trusted },
		func(err error) { e.d.log.Warn("accept failed", zap.Error(err)) },
		func(_ context.Context, client *frontend.Accepted) frontend.Step { return e.client(sessions, client) })
}

// client lets a client in, and returns what logs it in.
func (e *edge) client(ctx context.Context, conn *frontend.Accepted) frontend.Step {
	ticket, err := e.gate.Enter(time.Now(), func() { _ = conn.Close() })
	if err != nil {
		return frontend.Step{Run: func() frontend.Step {
			e.d.log.Warn("client refused", zap.Error(err))
			refuse(conn, &wire.Error{Code: 1040, State: "08004", Message: "Too many connections"})
			return frontend.Step{}
		}}
	}
	l := &login{e: e, ctx: ctx, ticket: ticket, id: e.d.registry.NextID()}
	l.Login = e.front.Login(l.id, conn)
	// Who comes when everything ends has nobody to wake it.
	if ctx.Err() == nil && l.GreetNow() {
		return frontend.Step{Run: l.now, Await: l.Notify, Brief: true}
	}
	return frontend.Step{Run: l.run}
}

// login is a client that logs in.
type login struct {
	*frontend.Login
	e      *edge
	ctx    context.Context
	ticket *frontend.Ticket
	id     uint32
}

// now logs the client in if that can be done without waiting, and else leaves it
// to run.
func (l *login) now() frontend.Step {
	client := l.Now(l.ctx)
	if client == nil {
		return frontend.Step{Run: l.run}
	}
	if client.Admit = admits(l.ticket); client.Admit(client.User) == nil {
		s := session.New(&l.e.d.deps, l.id, *client)
		if s.BeginNow(l.ctx, client.Schema, func(status wire.Status) error { return frontend.AcceptNow(s.Client(), status) }) {
			return newServed(s, l.ticket).later()
		}
	}
	return frontend.Step{Run: func() frontend.Step {
		if err := client.Conn.SetDeadline(time.Time{}); err != nil {
			return l.fail(err)
		}
		return l.admit(client)
	}}
}

// run logs the client in.
func (l *login) run() frontend.Step {
	client, err := l.Run(l.ctx)
	if err != nil {
		return l.fail(err)
	}
	return l.admit(client)
}

// fail gives the login up.
func (l *login) fail(err error) frontend.Step {
	l.e.d.log.Debug("login failed", zap.Error(err))
	l.ticket.Leave()
	return frontend.Step{}
}

// admit begins the session of a client that has proved who it is.
func (l *login) admit(client *session.Client) frontend.Step {
	client.Admit = admits(l.ticket)
	if e := client.Admit(client.User); e != nil {
		client.Conn.Write(wire.AppendError(nil, e))
		_ = client.Conn.Flush() // it is being refused
		l.ticket.Leave()
		return frontend.Step{}
	}
	s := session.New(&l.e.d.deps, l.id, *client)
	if !s.Begin(l.ctx, client.Schema, func(status wire.Status) error { return frontend.Accept(s.Client(), status) }) {
		l.ticket.Leave()
		return frontend.Step{}
	}
	return newServed(s, l.ticket).work
}

// admits returns what counts a client as a user, within the limits. The session
// keeps it, and so no more than the ticket of the login.
func admits(ticket *frontend.Ticket) func(user string) *wire.Error {
	return func(user string) *wire.Error {
		if err := ticket.LoggedIn(user); err != nil { // too many, or it had to make room and is being closed
			return &wire.Error{Code: 1203, State: "42000", Message: "User " + user + " already has more than 'max_user_connections' active connections"}
		}
		return nil
	}
}

// served is a client that is logged in.
type served struct {
	session *session.Session
	ticket  *frontend.Ticket

	wait, ask, send, work frontend.Step // made once
}

func newServed(s *session.Session, ticket *frontend.Ticket) *served {
	c := &served{session: s, ticket: ticket}
	c.wait = frontend.Step{Run: c.glance, Await: s.Notify, Brief: true}
	c.ask = frontend.Step{Run: c.answer, Await: s.Ask, Brief: true}
	c.send = frontend.Step{Run: c.sent, Await: s.Send, Brief: true}
	c.work = frontend.Step{Run: c.serve}
	return c
}

func (c *served) serve() frontend.Step {
	if c.session.Serve() {
		return c.later()
	}
	c.ticket.Leave()
	return frontend.Step{}
}

// later serves the client when it says something.
func (c *served) later() frontend.Step {
	if c.session.CanNotify() {
		return c.wait
	}
	return frontend.Step{Run: c.doze, Fresh: true}
}

func (c *served) doze() frontend.Step {
	c.session.Doze()
	return c.work
}

// glance does what need not wait for anything, and leaves the rest to serve.
func (c *served) glance() frontend.Step {
	switch c.session.Glance() {
	case session.Left:
		c.ticket.Leave()
		return frontend.Step{}
	case session.Asks:
		return c.ask
	}
	return c.work
}

func (c *served) answer() frontend.Step {
	if c.session.Answer() {
		return c.send
	}
	return c.work
}

func (c *served) sent() frontend.Step {
	if c.session.Sent() {
		return c.later()
	}
	return c.work
}

// refuse sends an error in the place of a greeting, as far as the socket takes
// it at once.
func refuse(conn net.Conn, e *wire.Error) {
	_ = conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
	payload := wire.AppendError(nil, &wire.Error{Code: e.Code, Message: e.Message}) // before the handshake there is no SQLSTATE
	packet, _ := wire.AppendPackets(nil, payload, 0)
	_, _ = conn.Write(packet)
}
