package mysqld

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"farmhand/internal/dbserver"
	"farmhand/internal/mysqladmin"
)

const (
	// statementLimit bounds one statement of a task.
	statementLimit = 10 * time.Second
	// program is what our connections call themselves.
	program = "farmhand-agent"
)

// control is the loop's connection to the server. It stays open: dialling would be
// in a failover's way.
//
// A statement that was given up may still wait in the server, and be carried out
// after a later one that says the contrary. So the next use first ends the
// connection that it was sent on.
type control struct {
	server *dbserver.Server // whom conn is to
	conn   *mysqladmin.Conn // nil for none
	broken uint32           // the id of a connection that was given up; 0 for none
	id     atomic.Uint32    // of conn
	// frozen: conn holds the lock that keeps everybody from writing.
	frozen bool
	// restarted is when replication that had stopped was last started again.
	restarted time.Time
}

func (c *control) close() error {
	conn := c.conn
	c.conn, c.server, c.broken, c.frozen, c.restarted = nil, nil, 0, false, time.Time{}
	c.id.Store(0)
	if conn == nil {
		return nil
	}
	if err := conn.Close(); err != nil && !errors.Is(err, mysqladmin.ErrClosed) {
		return fmt.Errorf("close the connection to the server: %w", err)
	}
	return nil
}

// to returns a connection to server. It is for the loop alone.
func (c *control) to(ctx context.Context, server *dbserver.Server, d dialect) (*mysqladmin.Conn, error) {
	if c.server != server {
		_ = c.close() // its server is gone
		c.server = server
	}
	if c.conn != nil {
		return c.conn, nil
	}
	conn, err := dial(ctx, server)
	if err != nil {
		return nil, err
	}
	if c.broken != 0 {
		if err := endConnection(ctx, conn, d, c.broken); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	c.conn, c.broken = conn, 0
	c.id.Store(conn.ID())
	return conn, nil
}

// failed gives the connection up if err is not the server's own answer.
func (c *control) failed(err error) {
	if err != nil && mysqladmin.Code(err) == 0 && c.conn != nil {
		c.broken = c.conn.ID()
		_ = c.conn.Close() // it is broken
		c.conn, c.frozen = nil, false
		c.id.Store(0)
	}
}

func dial(ctx context.Context, server *dbserver.Server) (*mysqladmin.Conn, error) {
	target := server.Admin()
	target.Program = program
	conn, err := mysqladmin.Dial(ctx, target)
	if err != nil {
		return nil, fmt.Errorf("server %s: as administrator: %w", server.Addr(), err)
	}
	return conn, nil
}

// errNoSuchThread is the server's code for a KILL of who is gone.
const errNoSuchThread = 1094

// endConnection ends another connection and waits until it is gone.
func endConnection(ctx context.Context, conn *mysqladmin.Conn, d dialect, id uint32) error {
	ctx, cancel := context.WithTimeout(ctx, statementLimit)
	defer cancel()
	for {
		_, err := conn.Exec(ctx, fmt.Sprintf("KILL %d", id))
		if mysqladmin.Code(err) == errNoSuchThread {
			return nil
		}
		if err != nil {
			return fmt.Errorf("end the connection %d, which was given up: %w", id, err)
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return fmt.Errorf("wait for the end of connection %d, which was given up: %w", id, err)
		}
	}
}

// exec has the server execute statements, in order, up to the first error.
func (a *Agent) exec(ctx context.Context, p picture, statements ...string) error {
	return a.use(ctx, p, func(ctx context.Context, conn *mysqladmin.Conn) error {
		for _, statement := range statements {
			if _, err := conn.Exec(ctx, statement); err != nil {
				return fmt.Errorf("%s: %w", firstWords(statement), err)
			}
		}
		return nil
	})
}

// facts asks the server what the tasks go by.
func (a *Agent) facts(ctx context.Context, p picture) (f facts, err error) {
	err = a.use(ctx, p, func(ctx context.Context, conn *mysqladmin.Conn) error {
		f, err = a.dialect.facts(ctx, conn)
		return err
	})
	return f, err
}

func (a *Agent) use(ctx context.Context, p picture, do func(context.Context, *mysqladmin.Conn) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, statementLimit, fmt.Errorf("the server did not answer within %v", statementLimit))
	defer cancel()
	conn, err := a.control.to(ctx, p.server, a.dialect)
	if err != nil {
		return err
	}
	err = do(ctx, conn)
	a.control.failed(err)
	return err
}

// firstWords is how an error names a statement, whose text may hold a password.
func firstWords(statement string) string {
	words := strings.Fields(statement)
	return strings.Join(words[:min(4, len(words))], " ")
}
