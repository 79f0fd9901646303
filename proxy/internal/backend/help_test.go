package backend

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/proxy/internal/auth"
	"farmhand/proxy/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limit bounds every wait of a test.
const limit = time.Minute

// boss is an account that may do everything.
var boss = dbserver.Account{User: "boss", Password: "boss"}

func credential(a dbserver.Account) *auth.Credential {
	return auth.PasswordCredential(a.User, a.Password)
}

func testOptions() Options {
	return Options{
		IdlePerUser: 10, IdleTimeout: time.Hour,
		ConnectTimeout: limit, ResetTimeout: limit,
	}
}

// newPool returns a pool that is shut down, and every connection with it, at
// the test's end.
func newPool(t testing.TB, opt Options) *Pool {
	t.Helper()
	p := NewPool(opt, prometheus.NewRegistry())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return p
}

// startServer starts a real server with an account that may do everything.
func startServer(t testing.TB, flavor farm.Flavor, args ...string) *farmtest.Server {
	t.Helper()
	s := farmtest.Start(t, farmtest.Options{Flavor: flavor, ExtraArgs: args}).Primary()
	s.Exec(t, "CREATE USER boss@'%' IDENTIFIED BY 'boss'", "GRANT ALL ON *.* TO boss@'%' WITH GRANT OPTION")
	return s
}

// eachFlavor runs a test on a server of each flavor.
func eachFlavor(t *testing.T, run func(t *testing.T, s *farmtest.Server), args ...string) {
	for _, flavor := range []farm.Flavor{farm.MariaDB, farm.MySQL} {
		t.Run(flavor.String(), func(t *testing.T) { run(t, startServer(t, flavor, args...)) })
	}
}

func get(t testing.TB, p *Pool, s *farmtest.Server, a dbserver.Account, schema string) *Conn {
	t.Helper()
	c, err := p.Get(t.Context(), &Want{Server: s.Describe(), Credential: credential(a), Caps: wire.ClientMultiResults | wire.ClientDeprecateEOF, Schema: schema})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// put gives a connection back and returns when the pool is through with it.
func put(p *Pool, c *Conn) {
	p.Put(c, false)
	p.work.Wait()
}

// again gives c back and takes it out again, which must be the same.
func again(t testing.TB, p *Pool, s *farmtest.Server, a dbserver.Account, c *Conn) *Conn {
	t.Helper()
	schema := c.Schema
	put(p, c)
	next := get(t, p, s, a, schema)
	if next != c {
		t.Fatalf("connection %d did not come back from the pool, but %d", c.ThreadID, next.ThreadID)
	}
	return next
}

// query runs a statement and returns its rows, NULL as "NULL", and the error
// that the server answered with.
func query(t testing.TB, c *Conn, sql string) ([][]string, *wire.Error) {
	t.Helper()
	rows, refused, err := run(c, append([]byte{byte(wire.ComQuery)}, sql...))
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return rows, refused
}

func run(c *Conn, command []byte) (rows [][]string, refused *wire.Error, err error) {
	_ = c.SetDeadline(time.Now().Add(limit))
	defer func() { _ = c.SetDeadline(time.Time{}) }()
	c.WriteCommand(command)
	if err := c.Flush(); err != nil {
		return nil, nil, err
	}
	var t wire.Tracker
	columns := 0
	for t.Begin(wire.Command(command[0]), c.Caps); !t.Done(); {
		p, err := c.ReadPayload(1 << 20)
		if err != nil {
			return nil, nil, err
		}
		if !t.Started() && len(p) == 1 {
			columns = int(p[0])
		}
		if t.Next(len(p), p[0]) == wire.Hold {
			if _, err := t.Inspect(p); err != nil {
				return nil, nil, err
			}
			if ok := t.OK; !t.Started() || t.Done() {
				_ = wire.Changes(ok.Changes, func(ch wire.Change) bool {
					if ch.Kind == wire.ChangeSchema {
						c.Schema = string(ch.Value)
					}
					return true
				})
			}
			continue
		}
		if columns > 0 { // a definition
			columns--
			continue
		}
		var row []string
		for d := wire.Decode(p); d.Len() > 0; {
			if rest := p[len(p)-d.Len():]; rest[0] == 0xfb {
				d.Skip(1)
				row = append(row, "NULL")
				continue
			}
			row = append(row, string(d.LenEncBytes()))
			if d.Err() != nil {
				return nil, nil, fmt.Errorf("row % x: %w", p, d.Err())
			}
		}
		rows = append(rows, row)
	}
	return rows, t.Err, nil
}

// must runs statements that succeed and returns the last one's rows.
func must(t testing.TB, c *Conn, statements ...string) (rows [][]string) {
	t.Helper()
	for _, sql := range statements {
		var refused *wire.Error
		if rows, refused = query(t, c, sql); refused != nil {
			t.Fatalf("%s: %v", sql, refused)
		}
	}
	return rows
}

// answer is a statement's answer in one line: its rows, or its error's code.
func answer(t testing.TB, c *Conn, sql string) string {
	t.Helper()
	rows, refused := query(t, c, sql)
	if refused != nil {
		return fmt.Sprintf("error %d", refused.Code)
	}
	return fmt.Sprint(rows)
}

func connectError(t testing.TB, err error) *ConnectError {
	t.Helper()
	var failed *ConnectError
	if !errors.As(err, &failed) {
		t.Fatalf("the error is %v, not a *ConnectError", err)
	}
	return failed
}
