package checker_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"farmhand/internal/checker"
	"farmhand/internal/child"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/topology"
)

const (
	registers   = 6
	listLength  = 40 // elements before the next list is begun
	accounts    = 5
	balance     = 1000
	proxies     = 2 // as if on as many web nodes
	sessionIdle = 10 * time.Millisecond
)

// world is a farm with several proxies, with a link that can fail between any
// two that talk.
type world struct {
	farm        *farmtest.Farm
	replication map[*farmtest.Server]*farmtest.Link // by replica, to the primary
	proxies     []*proxy
}

// proxy is a proxy's process on a web node of its own.
type proxy struct {
	dir     string
	program string
	addr    string
	links   map[*farmtest.Server]*farmtest.Link
	process *child.Child
	down    bool // killed, to be started again
	db      *sql.DB
}

// newWorld starts a farm. With semi-synchronous replication its primary may be
// changed (changePrimary) without losing what was acknowledged.
func newWorld(t *testing.T, flavor farm.Flavor, replicas int, semiSync bool) *world {
	t.Helper()
	w := &world{
		farm:        farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: replicas}),
		replication: map[*farmtest.Server]*farmtest.Link{},
	}
	if semiSync {
		w.farm.SemiSync(t)
	}
	for _, r := range w.farm.Replicas() {
		w.follow(t, r)
	}
	w.prepare(t)
	program := filepath.Join(farmtest.ShortDir(t), "proxy")
	if !*chaosRace {
		if err := farmtest.Build(filepath.Dir(program), "proxy"); err != nil {
			t.Fatal(err)
		}
	} else if out, err := exec.Command("go", "build", "-o", program, "-race", "farmhand/proxy").CombinedOutput(); err != nil {
		t.Fatalf("build the proxy: %v\n%s", err, out)
	}
	for range proxies {
		p := &proxy{dir: farmtest.ShortDir(t), program: program, addr: farmtest.FreePort(t).String(), links: map[*farmtest.Server]*farmtest.Link{}}
		for _, s := range w.farm.Servers() {
			p.links[s] = farmtest.NewLink(t, s.Addr())
		}
		c := mysql.NewConfig()
		c.Net, c.Addr, c.User, c.Passwd, c.DBName = "tcp", p.addr, farmtest.App.User, farmtest.App.Password, farmtest.Schema
		c.Timeout = 5 * time.Second
		c.Logger = silent{}
		connector, err := mysql.NewConnector(c)
		if err != nil {
			t.Fatal(err)
		}
		p.db = sql.OpenDB(connector)
		p.db.SetMaxIdleConns(-1) // every session is a connection of its own
		w.proxies = append(w.proxies, p)
		t.Cleanup(func() {
			_ = p.db.Close() // what breaks in closing has been judged before
			if p.process != nil {
				p.kill()
			}
			log, err := os.ReadFile(filepath.Join(p.dir, "log"))
			for _, bad := range []string{"WARNING: DATA RACE", "panic: ", "fatal error: "} {
				if n := bytes.Index(log, []byte(bad)); n >= 0 {
					t.Errorf("the proxy at %s:\n%s", p.addr, log[n:min(len(log), n+4000)])
				}
			}
			if t.Failed() {
				t.Logf("log of the proxy at %s (%v):\n%s", p.addr, err, tail(log))
			}
		})
	}
	return w
}

// follow makes a replica follow the primary over a link of its own.
func (w *world) follow(t *testing.T, r *farmtest.Server) {
	t.Helper()
	l := farmtest.NewLink(t, w.farm.Primary().Addr())
	w.replication[r] = l
	r.Follow(t, l.Addr())
}

// silent drops what the driver logs of connections that break, as they must.
type silent struct{}

func (silent) Print(...any) {}

func tail(log []byte) []byte { return log[max(0, len(log)-4000):] }

// serveAt restarts every proxy with a level of consistency.
func (w *world) serveAt(t *testing.T, level checker.Level) {
	t.Helper()
	for _, p := range w.proxies {
		if p.process != nil && !p.down {
			p.kill()
		}
		w.topology(t, p, nil)
		p.configure(t, level)
		p.start(t)
	}
	for _, p := range w.proxies {
		p.await(t)
	}
}

func (p *proxy) configure(t *testing.T, level checker.Level) {
	t.Helper()
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(p.dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("password", farmtest.Monitor.Password)
	write("proxy.yaml", fmt.Sprintf(`
listen: [{tcp: %q}]
topology: %s
cluster: default
monitor: {user: %s, password_file: %s}
admin: {address: ""}
health: {interval: 100ms, slow_start: 0s}
reads: {consistency: %v, pause: %v}
`, p.addr, filepath.Join(p.dir, "topology.json"), farmtest.Monitor.User, filepath.Join(p.dir, "password"), level, sessionIdle))
}

// topology writes a proxy's topology file; change may change it.
func (w *world) topology(t *testing.T, p *proxy, change func(*farm.Cluster)) {
	t.Helper()
	top := w.farm.Topology()
	c := top.Clusters["default"]
	c.Primary.Address = p.links[w.farm.Primary()].Addr()
	for i, r := range w.farm.Replicas() {
		c.Replicas[i].Address = p.links[r].Addr()
	}
	if change != nil {
		change(&c)
	}
	top.Clusters["default"] = c
	if err := topology.Write(filepath.Join(p.dir, "topology.json"), top); err != nil {
		t.Fatal(err)
	}
}

func (p *proxy) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(p.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(p.program, "run", filepath.Join(p.dir, "proxy.yaml"))
	cmd.Stdout, cmd.Stderr = log, log
	p.process, err = child.Start(cmd, syscall.SIGKILL)
	if cerr := log.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		t.Fatal(err)
	}
	p.down = false
}

// kill ends the proxy as a crash would.
func (p *proxy) kill() {
	p.process.Signal(syscall.SIGKILL)
	<-p.process.Done()
	p.down = true
}

// await returns when the proxy serves.
func (p *proxy) await(t *testing.T) {
	t.Helper()
	farmtest.Eventually(t, "the proxy serves", func() error {
		select {
		case <-p.process.Done():
			t.Fatalf("the proxy ended: %v", p.process.Ended())
		default:
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return p.db.PingContext(ctx)
	})
}

// prepare makes fresh tables for a round.
func (w *world) prepare(t *testing.T) {
	t.Helper()
	primary := w.farm.Primary()
	primary.Exec(t, "CREATE SCHEMA IF NOT EXISTS app",
		"DROP TABLE IF EXISTS app.register, app.list, app.account, app.ledger",
		"CREATE TABLE app.register (id INT PRIMARY KEY, version BIGINT NOT NULL)",
		"CREATE TABLE app.list (id INT PRIMARY KEY, elements TEXT NOT NULL)",
		"CREATE TABLE app.account (id INT PRIMARY KEY, balance BIGINT NOT NULL)",
		// Nothing but the proxy keeps an entry from being there twice.
		"CREATE TABLE app.ledger (n BIGINT AUTO_INCREMENT PRIMARY KEY, entry BIGINT NOT NULL)",
		"INSERT INTO app.register VALUES "+rows(registers, 0),
		"INSERT INTO app.account VALUES "+rows(accounts, balance))
	w.farm.WaitCaughtUp(t)
}

func rows(n, value int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("(%d, %d)", i, value))
	}
	return strings.Join(all, ", ")
}

// states are what all servers hold in the end.
func (w *world) states(t *testing.T) []checker.State {
	t.Helper()
	w.farm.WaitCaughtUp(t)
	var all []checker.State
	for _, s := range w.farm.Servers() {
		state := checker.State{Server: s.Name(), Lists: map[int][]int64{}, Ledger: map[int64]int{}}
		number := func(text string) int64 {
			n, err := parse(text)
			if err != nil {
				t.Fatalf("%s: %v", s.Name(), err)
			}
			return n
		}
		for _, row := range s.Query(t, "SELECT version FROM app.register ORDER BY id") {
			state.Registers = append(state.Registers, number(row.String("version")))
		}
		for _, row := range s.Query(t, "SELECT balance FROM app.account ORDER BY id") {
			state.Balances = append(state.Balances, number(row.String("balance")))
		}
		for _, row := range s.Query(t, "SELECT entry, COUNT(*) AS times FROM app.ledger GROUP BY entry") {
			state.Ledger[number(row.String("entry"))] = int(number(row.String("times")))
		}
		for _, row := range s.Query(t, "SELECT id, elements FROM app.list") {
			elements, err := split(row.String("elements"))
			if err != nil {
				t.Fatalf("%s: %v", s.Name(), err)
			}
			state.Lists[int(number(row.String("id")))] = elements
		}
		all = append(all, state)
	}
	return all
}
