package mysqld

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"farmhand/internal/cluster"
	"farmhand/internal/dbserver"
	"farmhand/internal/farmtest"
	"farmhand/internal/mysqladmin"
	"farmhand/internal/registry"
)

// node is one sidecar's agent and its view of the registry.
type node struct {
	w       *world
	name    string
	id      uint32
	inst    dbserver.Install
	server  dbserver.Config
	giving  *Giving
	log     *zap.Logger
	finish  context.CancelFunc
	ended   chan error
	mu      sync.Mutex
	until   time.Time
	last    *cluster.Report
	reports []*cluster.Report
	from    int           // the report that await begins with; that before the next one if it is later
	arrived chan struct{} // closed at the next report
}

func newNode(t *testing.T, w *world, name string, id uint32) *node {
	t.Helper()
	inst := farmtest.Need(t, w.flavor)
	dir := farmtest.ShortDir(t)
	place := farmtest.FreePort(t)
	return &node{
		w: w, name: name, id: id, inst: inst, arrived: make(chan struct{}), until: time.Now().Add(time.Hour), log: zap.NewNop(),
		server: dbserver.Config{
			Dir: filepath.Join(dir, "mysql"), Address: place.Addr(), Port: place.Port(), Socket: filepath.Join(dir, "s"), BufferPool: 32 << 20, RedoLog: redoLog,
			ExtraArgs: []string{"--sync-binlog=0", "--innodb-flush-log-at-trx-commit=2"}, // a machine's crash is not what these are about
		},
	}
}

// start runs the agent until the test ends; seeded says that there is data.
func (n *node) start(seeded bool) {
	t := n.w.t
	t.Helper()
	if done, err := dbserver.Initialised(n.server.Dir); err != nil {
		t.Fatal(err)
	} else if !done && seeded {
		seed(t, n.inst, n.server.Dir)
	}
	if testing.Verbose() {
		n.log = zaptest.NewLogger(t).Named(n.name)
	}
	a, err := New(n.options())
	if err != nil {
		t.Fatal(err)
	}
	finish, cancel := context.WithCancel(context.Background())
	n.finish, n.ended = cancel, make(chan error, 1)
	go func() { n.ended <- a.Run(finish, context.Background()) }()
	t.Cleanup(n.stop)
}

func (n *node) options() Options {
	return Options{
		Name: n.name, Cluster: "db", Install: n.inst, Server: n.server, Replication: replication, Monitor: monitor, Farm: n, Giving: n.giving, Log: n.log,
		Application: dbserver.ApplicationAccount(n.inst.Flavor, dbserver.Account{User: "shop", Password: "shop"}, "shop"),
	}
}

func (n *node) stop() {
	if n.finish == nil {
		return
	}
	n.finish()
	if err := <-n.ended; err != nil {
		n.w.t.Errorf("%s: %v", n.name, err)
	}
	n.finish = nil
}

// Watch implements [Farm].
func (n *node) Watch(ctx context.Context, _ registry.Record, tell func(registry.Value) error) error {
	for {
		n.w.mu.Lock()
		v := registry.Value{Data: n.w.value, Revision: n.w.revision, Lost: n.w.lost}
		changed := n.w.changed
		n.w.mu.Unlock()
		if err := tell(v); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Read implements [Farm].
func (n *node) Read(context.Context, registry.Record) ([]byte, error) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	return n.w.value, n.w.lost
}

// Report implements [Farm].
func (n *node) Report(_ context.Context, _ string, value []byte) error {
	r, err := cluster.DecodeReport(value)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.last, n.reports = r, append(n.reports, r)
	close(n.arrived)
	n.arrived = make(chan struct{})
	n.mu.Unlock()
	return nil
}

// Until implements [Farm].
func (n *node) Until() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.until
}

func (n *node) lease(until time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.until = until
}

// awaitLimit is generous: a busy machine may be slow.
const awaitLimit = 2 * time.Minute

// await returns the first report of which is is true, beginning with the last one or
// those since kill.
func (n *node) await(what string, is func(*cluster.Report) bool) *cluster.Report {
	t := n.w.t
	t.Helper()
	limit := time.NewTimer(awaitLimit)
	defer limit.Stop()
	n.mu.Lock()
	next := n.from
	if next == 0 {
		next = max(0, len(n.reports)-1)
	}
	n.from = 0
	n.mu.Unlock()
	for {
		n.mu.Lock()
		reports, last, arrived := n.reports[next:], n.last, n.arrived
		next = len(n.reports)
		n.mu.Unlock()
		for _, r := range reports {
			if is(r) {
				return r
			}
		}
		select {
		case <-arrived:
		case <-limit.C:
			t.Fatalf("%s: it does not come about that %s; last report %s", n.name, what, show(last))
		}
	}
}

// now is the last report.
func (n *node) now() *cluster.Report {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.last
}

// kill kills the server; await then begins with what is reported of it.
func (n *node) kill(pid int) {
	n.w.t.Helper()
	n.mu.Lock()
	n.from = len(n.reports)
	n.mu.Unlock()
	kill9(n.w.t, pid)
}

func show(r *cluster.Report) string {
	if r == nil {
		return "none"
	}
	data, _ := r.Encode()
	return string(data)
}

// done waits until the node has carried out the newest assignment.
func (n *node) done() *cluster.Report {
	n.w.t.Helper()
	n.w.mu.Lock()
	serial := n.w.serial
	n.w.mu.Unlock()
	return n.await(fmt.Sprintf("serial %d is done", serial), func(r *cluster.Report) bool { return r.Serial == serial && r.Done })
}

// admin runs statements as administrator.
func (n *node) admin(statements ...string) []mysqladmin.Row {
	n.w.t.Helper()
	rows, err := n.try(statements...)
	if err != nil {
		n.w.t.Fatalf("%s: %v", n.name, err)
	}
	return rows
}

func (n *node) try(statements ...string) (rows []mysqladmin.Row, err error) {
	secret, err := os.ReadFile(filepath.Join(n.server.Dir, "admin.secret"))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := mysqladmin.Dial(ctx, mysqladmin.Target{Network: "unix", Address: n.server.Socket, User: dbserver.AdminUser, Password: string(secret)})
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	for _, statement := range statements {
		if rows, err = conn.Query(ctx, statement); err != nil {
			return nil, fmt.Errorf("%s: %w", statement, err)
		}
	}
	return rows, nil
}

// client is an ordinary client of the application.
func (n *node) client() *mysqladmin.Conn {
	n.w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := mysqladmin.Dial(ctx, mysqladmin.Target{Network: "tcp", Address: n.server.Addr(), User: app.User, Password: app.Password})
	if err != nil {
		n.w.t.Fatal(err)
	}
	n.w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// adminConn is a connection that stays.
func (n *node) adminConn() *mysqladmin.Conn {
	n.w.t.Helper()
	secret, err := os.ReadFile(filepath.Join(n.server.Dir, "admin.secret"))
	if err != nil {
		n.w.t.Fatal(err)
	}
	conn, err := mysqladmin.Dial(n.w.t.Context(), mysqladmin.Target{Network: "unix", Address: n.server.Socket, User: dbserver.AdminUser, Password: string(secret)})
	if err != nil {
		n.w.t.Fatal(err)
	}
	n.w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// write inserts a row as a user whose password is its name.
func (n *node) write(user string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := mysqladmin.Dial(ctx, mysqladmin.Target{Network: "tcp", Address: n.server.Addr(), User: user, Password: user})
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "INSERT INTO app.t SELECT COALESCE(MAX(n), 0)+1 FROM app.t")
	return errors.Join(err, conn.Close())
}

func send(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatalf("process %d: %v", pid, err)
	}
}

func kill9(t *testing.T, pid int)   { t.Helper(); send(t, pid, syscall.SIGKILL) }
func pause9(t *testing.T, pid int)  { t.Helper(); send(t, pid, syscall.SIGSTOP) }
func resume9(t *testing.T, pid int) { t.Helper(); send(t, pid, syscall.SIGCONT) }
