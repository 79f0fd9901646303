// Package mysqladmin is control-plane SQL on one server: connections whose
// every step obeys a context, and what a server says of itself and of its
// replication.
//
// It refuses to decide anything from what it reads, to keep pools and to retry.
// It is not for the packet path: go-mysql's client, which it wraps and which
// nobody else imports, decodes, copies and allocates.
//
// The invariant: a connection on which anything went wrong but an error that
// the server itself returned is closed and stays so.
package mysqladmin

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"

	"farmhand/internal/farm"
)

// Target is a server and the account to use there.
type Target struct {
	Network        string // "tcp" or "unix"
	Address        string // host:port or the socket's path
	User, Password string
	// TLS is nil for a connection in the clear; otherwise a server without TLS
	// is refused, unless TLSOptional is set. A configuration without a server
	// name is for the target's host.
	TLS         *tls.Config
	TLSOptional bool
	// Program is told to the server as the connection's program_name.
	Program string
	// Wrap, unless it is nil, gives the connection to use in the place of the one
	// that was dialed, which it owns then.
	Wrap func(net.Conn) net.Conn
}

// Conn is a connection to one server. It is not for several goroutines at once.
type Conn struct {
	greeting Greeting
	mysql    *client.Conn
	raw      net.Conn // what ctx acts on, below any TLS
	broken   error
}

// ErrClosed is wrapped by the errors of a connection that an earlier error has
// closed.
var ErrClosed = errors.New("connection is closed")

// Dial connects and authenticates. An error that the server returned is a
// *mysql.MyError in the error's chain.
func Dial(ctx context.Context, t Target) (*Conn, error) {
	nc, err := new(net.Dialer).DialContext(ctx, t.Network, t.Address)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if t.Wrap != nil {
		nc = t.Wrap(nc)
	}
	c := &Conn{raw: nc}
	if err := c.guard(ctx, func() error { return c.handshake(t) }); err != nil {
		c.broken = err
		return nil, fmt.Errorf("connect to %s: %w", t.Address, errors.Join(err, nc.Close()))
	}
	return c, nil
}

func (c *Conn) handshake(t Target) error {
	// The greeting is read here first: go-mysql does not hand out all of it,
	// and panics on some malformed ones.
	greeting, packet, err := readGreeting(c.raw)
	if err != nil {
		return err
	}
	c.greeting = greeting
	replay := func(context.Context, string, string) (net.Conn, error) {
		return &replayConn{Conn: c.raw, ahead: *bytes.NewReader(packet)}, nil
	}
	c.mysql, err = client.ConnectWithDialer(context.Background(), t.Network, t.Address, t.User, t.Password, "", replay,
		func(conn *client.Conn) error {
			conn.SetTLSConfig(t.tlsFor(greeting))
			conn.SetAttributes(map[string]string{"program_name": t.Program})
			// go-mysql's own default is a collation that MariaDB does not have.
			return conn.SetCollation("utf8mb4_general_ci")
		})
	return err
}

// tlsFor is the TLS configuration to use with a server; nil is in the clear.
func (t *Target) tlsFor(g Greeting) *tls.Config {
	const clientSSL = 1 << 11 // CLIENT_SSL
	if t.TLS == nil || t.TLSOptional && g.Capabilities&clientSSL == 0 {
		return nil
	}
	if t.TLS.ServerName != "" {
		return t.TLS
	}
	c := t.TLS.Clone()
	if host, _, err := net.SplitHostPort(t.Address); err == nil {
		c.ServerName = host
		if verify := c.VerifyConnection; verify != nil {
			c.VerifyConnection = func(state tls.ConnectionState) error {
				state.ServerName = host // crypto/tls leaves an IP address out
				return verify(state)
			}
		}
	}
	return c
}

// replayConn gives back the greeting that was read ahead, then the connection's
// own bytes.
type replayConn struct {
	net.Conn
	ahead bytes.Reader
}

func (r *replayConn) Read(p []byte) (int, error) {
	if r.ahead.Len() > 0 {
		return r.ahead.Read(p)
	}
	return r.Conn.Read(p)
}

// guard runs fn so that the end of ctx ends its reading and writing. Cancelling
// has to become a deadline: go-mysql knows no context once it is connected.
func (c *Conn) guard(ctx context.Context, fn func() error) (err error) {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() {
		// The connection may be closed by now, which serves as well.
		_ = c.raw.SetDeadline(time.Unix(1, 0))
	})
	defer func() {
		// go-mysql's decoders index into what a peer sent without looking at
		// its length; a broken server must not end the program.
		if p := recover(); p != nil {
			err = fmt.Errorf("malformed packet: %v", p)
		}
		if !stop() {
			// The deadline is set or is about to be, so the connection is of no
			// more use even if fn won the race.
			if cause := context.Cause(ctx); err == nil {
				err = cause
			} else {
				err = fmt.Errorf("%w (%w)", cause, err)
			}
		}
	}()
	return fn()
}

// Close says goodbye to the server and closes the connection. It may be called
// again.
func (c *Conn) Close() error {
	if c.broken != nil {
		return nil
	}
	c.broken = errors.New("closed by its owner")
	// A goodbye must not wait for a server that does not read.
	if err := c.raw.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return c.raw.Close()
	}
	if err := c.mysql.Quit(); err != nil {
		return c.raw.Close()
	}
	return nil
}

// Greeting returns what the server said when the connection was made.
func (c *Conn) Greeting() Greeting { return c.greeting }

// Flavor returns whose server it is.
func (c *Conn) Flavor() farm.Flavor { return c.greeting.Flavor() }

// ID returns the server's id of the connection (CONNECTION_ID()), for KILL.
func (c *Conn) ID() uint32 { return c.mysql.GetConnectionID() }

// Exec runs one statement and returns the number of rows it changed.
func (c *Conn) Exec(ctx context.Context, sql string) (affected uint64, err error) {
	err = c.do(ctx, sql, func(r *mysql.Result) error {
		affected = r.AffectedRows
		return nil
	})
	return affected, err
}

// Query runs one statement and returns all of its rows, which hold no reference
// to the connection.
func (c *Conn) Query(ctx context.Context, sql string) ([]Row, error) {
	var rows []Row
	err := c.do(ctx, sql, func(r *mysql.Result) (err error) {
		rows, err = rowsOf(r.Resultset)
		return err
	})
	return rows, err
}

func (c *Conn) do(ctx context.Context, sql string, use func(*mysql.Result) error) error {
	if c.broken != nil {
		return fmt.Errorf("%w: %w", ErrClosed, c.broken)
	}
	err := c.guard(ctx, func() error {
		r, err := c.mysql.Execute(sql)
		if err != nil {
			return err
		}
		defer r.Close()
		return use(r)
	})
	if err == nil {
		return nil
	}
	if ctx.Err() != nil || Code(err) == 0 {
		c.broken = err
		return errors.Join(err, c.raw.Close())
	}
	return err
}

// Code returns the number of the error that a server returned, or 0 if err is
// none of a server's.
func Code(err error) uint16 {
	var e *mysql.MyError
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}
