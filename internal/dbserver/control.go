package dbserver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"farmhand/internal/mysqladmin"
)

// controlLimit bounds a control exchange, connecting included.
const controlLimit = 30 * time.Second

// AdminUser is the administrator's account name on every server that
// Initialise made; it exists at localhost only.
const AdminUser = "root"

// Admin is where and as whom the server takes an administrator: over its
// socket. The password is not for logs.
func (s *Server) Admin() mysqladmin.Target {
	return mysqladmin.Target{Network: "unix", Address: s.config.Socket, User: AdminUser, Password: s.secret, Program: "farmhand"}
}

// Exec runs statements in order on one administrator's connection and stops
// at the first error, which names the kind of statement but never its text:
// that may hold a password.
func (s *Server) Exec(ctx context.Context, statements ...string) error {
	return s.control(ctx, func(ctx context.Context, conn *mysqladmin.Conn) error {
		for _, statement := range statements {
			if _, err := conn.Exec(ctx, statement); err != nil {
				return fmt.Errorf("%s: %w", kind(statement), err)
			}
		}
		return nil
	})
}

// Query runs one query as administrator and returns its rows.
func (s *Server) Query(ctx context.Context, query string) (rows []mysqladmin.Row, err error) {
	err = s.control(ctx, func(ctx context.Context, conn *mysqladmin.Conn) (err error) {
		rows, err = conn.Query(ctx, query)
		return err
	})
	return rows, err
}

// State is what the server says of itself.
func (s *Server) State(ctx context.Context) (state mysqladmin.State, err error) {
	err = s.control(ctx, func(ctx context.Context, conn *mysqladmin.Conn) (err error) {
		state, err = conn.State(ctx)
		return err
	})
	return state, err
}

// Replication is the state of the server's following; ok is false when it
// follows nobody.
func (s *Server) Replication(ctx context.Context) (channel mysqladmin.Channel, ok bool, err error) {
	err = s.control(ctx, func(ctx context.Context, conn *mysqladmin.Conn) error {
		channels, err := conn.Replication(ctx)
		if len(channels) > 0 {
			channel, ok = channels[0], true
		}
		return err
	})
	return channel, ok, err
}

func (s *Server) control(ctx context.Context, do func(context.Context, *mysqladmin.Conn) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, controlLimit)
	defer cancel()
	conn, err := mysqladmin.Dial(ctx, s.Admin())
	if err != nil {
		return fmt.Errorf("server %s: as administrator: %w", s.Addr(), err)
	}
	err = do(ctx, conn)
	// A connection that broke says so again when it is closed.
	if cerr := conn.Close(); err == nil && cerr != nil && !errors.Is(cerr, mysqladmin.ErrClosed) {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("server %s: %w", s.Addr(), err)
	}
	return nil
}

// kind is a statement's first words.
func kind(statement string) string {
	words := strings.Fields(statement)
	return strings.Join(words[:min(3, len(words))], " ") + " …"
}
