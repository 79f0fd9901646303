package daemon

import (
	"context"
	"errors"
	"testing"

	"github.com/go-sql-driver/mysql"

	"farmhand/internal/dbserver"
	"farmhand/internal/farmtest"
	"farmhand/proxy/internal/auth"
	"farmhand/proxy/internal/config"
	"farmhand/proxy/internal/session"
	"farmhand/proxy/internal/wire"
)

// Clients above a limit hear what a server would tell them, and the place of
// one that goes is free for the next.
func TestLimits(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{})
	t.Run("connections", func(t *testing.T) {
		r := start(t, f, func(c *config.Config) { c.Limits.Connections = 1 })
		for range 2 {
			in := r.login(t, 0)
			payload, err := wire.NewConn(r.raw(t)).ReadPayload(1 << 10)
			if err != nil {
				t.Fatal(err)
			}
			// As before any handshake: without a SQLSTATE.
			if e, err := wire.ParseError(payload); err != nil || *e != (wire.Error{Code: 1040, Message: "Too many connections"}) {
				t.Errorf("%v, %v", e, err)
			}
			if err := in.Close(); err != nil {
				t.Fatal(err)
			}
			r.eventually(t, "the place is free", func() bool {
				n, _ := r.edge.gate.Counts()
				return n == 0
			})
		}
	})
	t.Run("of a user", func(t *testing.T) {
		r := start(t, f, func(c *config.Config) { c.Limits.ConnectionsPerUser = 1 })
		in := r.login(t, 0)
		var refused *mysql.MySQLError
		err := r.open(t).PingContext(context.Background())
		if !errors.As(err, &refused) || refused.Number != 1203 || string(refused.SQLState[:]) != "42000" ||
			refused.Message != "User "+farmtest.App.User+" already has more than 'max_user_connections' active connections" {
			t.Errorf("%v", err)
		}
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
		r.eventually(t, "the place is free", func() bool {
			n, _ := r.edge.gate.Counts()
			return n == 0
		})
		if err := r.open(t).PingContext(context.Background()); err != nil {
			t.Error(err)
		}
	})
	t.Run("of a user that a client becomes", func(t *testing.T) {
		r := start(t, f, func(c *config.Config) { c.Limits.ConnectionsPerUser = 1 })
		other := dbserver.Account{User: "other", Password: "other"}
		f.Primary().Exec(t, "CREATE USER other@'%' IDENTIFIED BY 'other'")
		become := func(c *wire.Conn) error {
			c.WriteCommand([]byte("\x11other\x00\x00\x00\x2d\x00no_such_plugin\x00"))
			if err := c.Flush(); err != nil {
				return err
			}
			_, err := auth.Login(session.AuthLink{Conn: c}, auth.PasswordCredential(other.User, other.Password), "no_such_plugin", make([]byte, 20), false)
			return err
		}
		first := r.login(t, 0)
		if err := become(first); err != nil {
			t.Fatalf("the first to become it: %v", err)
		}
		var refused *wire.Error
		if err := become(r.login(t, 0)); !errors.As(err, &refused) || refused.Code != 1203 {
			t.Errorf("the second to become it: %v", err)
		}
	})
}
