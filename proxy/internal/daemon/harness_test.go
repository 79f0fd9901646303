package daemon

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/service"
	"farmhand/internal/topology"
	"farmhand/proxy/internal/config"
)

// running is a proxy in this process, in front of a farm.
type running struct {
	*Daemon
	farm     *farmtest.Farm
	topology string // path
	tcp      string
	socket   string
	stop     func()
	done     chan struct{} // closed when Run has returned
	dir      string
}

// start runs a proxy in front of f. change may change its configuration.
func start(t *testing.T, f *farmtest.Farm, change func(*config.Config)) *running {
	t.Helper()
	dir := farmtest.ShortDir(t)
	r := &running{farm: f, topology: filepath.Join(dir, "topology.json"), socket: filepath.Join(dir, "p.sock")}
	// Where nothing was ever written there is no position, and no lag is known.
	f.Primary().Exec(t, "CREATE SCHEMA IF NOT EXISTS seed")
	f.WaitCaughtUp(t)
	if err := topology.Write(r.topology, f.Topology()); err != nil {
		t.Fatal(err)
	}
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte(farmtest.Monitor.Password), 0o600); err != nil {
		t.Fatal(err)
	}
	r.tcp = farmtest.FreePort(t).String()
	c := config.Default()
	c.Listen = []config.Listener{{TCP: r.tcp}, {Unix: r.socket}}
	for name := range f.Topology().Clusters {
		c.Cluster = name
	}
	c.Topology, c.Monitor = r.topology, config.Monitor{User: farmtest.Monitor.User, PasswordFile: password}
	c.Admin.Address = ""
	c.Health.Interval = config.Duration(50 * time.Millisecond)
	c.Health.SlowStart = 0
	c.DrainTimeout = config.Duration(2 * time.Second)
	c.Console.Admins = []string{"app"}
	if change != nil {
		change(&c)
	}
	r.dir = dir
	r.run(t, &c)
	r.waitServing(t)
	return r
}

// successor starts another proxy with the same configuration, which takes over.
func successor(t *testing.T, old *running) *running {
	t.Helper()
	r := &running{farm: old.farm, topology: old.topology, socket: old.socket, tcp: old.tcp, dir: old.dir}
	r.run(t, old.config)
	r.waitServing(t)
	return r
}

// run makes a proxy and runs it until the test ends or stop is called.
func (r *running) run(t *testing.T, c *config.Config) {
	t.Helper()
	log := zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
	finish, cancel := context.WithCancelCause(context.Background())
	d, err := New(finish, filepath.Join(r.dir, "proxy.yaml"), c, log, zap.NewAtomicLevel(), service.NewRegistry(service.Build{}), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Daemon = d
	done := make(chan error, 1)
	r.done = make(chan struct{})
	go func() {
		defer close(r.done)
		done <- d.Run(finish, context.Background(), func() {})
	}()
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel(nil)
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("proxy: %v", err)
			}
		case <-time.After(time.Minute):
			t.Error("proxy did not stop")
		}
	}
	t.Cleanup(r.stop)
}

// waitServing waits until the primary is writable and every replica serves.
func (r *running) waitServing(t *testing.T) {
	t.Helper()
	r.eventually(t, "every server serves", func() bool {
		v := r.monitor.View()
		if v.Primary == nil || !v.Primary.Writable || v.Primary.Variables == nil || v.Collations() == nil {
			return false
		}
		for _, s := range v.Replicas {
			if (!s.Eligible || !s.LagKnown) && s.State == farm.Serving {
				return false
			}
		}
		return true
	})
}

// eventually waits for a condition, of which it has no event.
func (r *running) eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain until %s; view: %s", what, r.describe())
		case <-tick.C:
		}
	}
}

// caughtUp waits until every replica has, and the proxy knows that it has, what
// the primary has now.
func (r *running) caughtUp(t *testing.T) {
	t.Helper()
	r.farm.WaitCaughtUp(t)
	began := time.Now()
	r.eventually(t, "every replica is seen to have caught up", func() bool {
		v := r.monitor.View()
		if v.Primary.Probed.Before(began) {
			return false
		}
		for _, s := range v.Replicas {
			if !s.Position.Contains(v.Primary.Position) {
				return false
			}
		}
		return true
	})
}

func (r *running) describe() string {
	if r.Daemon == nil {
		return "of another process"
	}
	v := r.monitor.View()
	var b strings.Builder
	if v.Primary != nil {
		fmt.Fprintf(&b, "%s %v writable=%v %s %s; ", v.Primary.Name, v.Primary.Status, v.Primary.Writable, v.Primary.Reason, v.Primary.LastError)
	}
	for _, s := range v.Replicas {
		fmt.Fprintf(&b, "%s %v eligible=%v %s %s; ", s.Name, s.Status, s.Eligible, s.Reason, s.LastError)
	}
	return b.String()
}

// open opens the proxy as the application, one connection at most when single.
func (r *running) open(t *testing.T) *sql.DB {
	t.Helper()
	return farmtest.Open(t, "tcp", r.tcp, farmtest.App)
}

// conn is one connection through the proxy.
func (r *running) conn(t *testing.T) *sql.Conn {
	t.Helper()
	return conn(t, r.open(t))
}

func conn(t *testing.T, db *sql.DB) *sql.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// exec runs statements on a connection.
func exec(t *testing.T, c *sql.Conn, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := c.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// value is the first column of the first row, as text.
func value(t *testing.T, c *sql.Conn, query string, args ...any) string {
	t.Helper()
	var v sql.NullString
	if err := c.QueryRowContext(t.Context(), query, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	if !v.Valid {
		return "NULL"
	}
	return v.String
}

// servedBy is the name of the server that serves a plain read of the connection.
func (r *running) servedBy(t *testing.T, c *sql.Conn) string {
	t.Helper()
	id := value(t, c, "SELECT @@server_id")
	for _, s := range r.farm.Servers() {
		if fmt.Sprint(s.ServerID()) == id {
			return s.Name()
		}
	}
	t.Fatalf("no server has the id %s", id)
	return ""
}
