package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/registry"
)

// dbFarm is a farm with database nodes, and the last report of each.
type dbFarm struct {
	*testFarm
	t      *testing.T
	nodes  []*dbNode
	serial uint64

	mu      sync.Mutex
	last    map[string]*cluster.Report
	arrived chan struct{} // closed at the next one
}

// dbNode is a node whose sidecar runs a database server for the farm.
type dbNode struct {
	*node
	name    string
	cloneAt string
}

func newDBFarm(t *testing.T, names ...string) *dbFarm {
	t.Helper()
	f := &dbFarm{testFarm: newFarm(t), t: t, last: map[string]*cluster.Report{}, arrived: make(chan struct{})}
	for _, name := range names {
		f.nodes = append(f.nodes, newDBNode(t, f.testFarm, name))
	}
	inBackground(t, func(ctx context.Context) {
		err := f.admin.WatchReports(ctx, func(v registry.ReportsView) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			for _, r := range v.Changed {
				if r.Name != cluster.ReportName || r.Gone {
					continue
				}
				report, err := cluster.DecodeReport(r.Data)
				if err != nil {
					return err
				}
				f.last[r.Node] = report
			}
			close(f.arrived)
			f.arrived = make(chan struct{})
			return nil
		})
		if ctx.Err() == nil {
			t.Errorf("watch reports: %v", err)
		}
	})
	return f
}

func newDBNode(t *testing.T, f *testFarm, name string) *dbNode {
	t.Helper()
	n := &dbNode{node: newNode(t, farm.MariaDB, name, 1, nil), name: name, cloneAt: farmtest.FreePort(t).String()}
	text, err := os.ReadFile(n.config)
	must(t, err)
	c := map[string]any{}
	must(t, yaml.Unmarshal(text, &c))
	mysql := c["mysql"].(map[string]any)
	delete(mysql, "server_id")
	mysql["cluster"], mysql["clone_listen"] = "db", n.cloneAt
	token := filepath.Join(n.dir, "token")
	must(t, os.WriteFile(token, []byte(f.run(t, "registry", "token", f.dir, "--role", "mysql", "--name", name)), 0o600))
	c["farm"] = map[string]any{"directory": filepath.Join(n.dir, "node"), "token_file": token, "lease": "2s"}
	text, err = yaml.Marshal(c)
	must(t, err)
	must(t, os.WriteFile(n.config, text, 0o644))
	t.Cleanup(func() { n.killServer(t) })
	return n
}

// killServer ends a server that outlived its sidecar.
func (n *dbNode) killServer(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(n.dir, "mysql", "process.json"))
	if os.IsNotExist(err) {
		return
	}
	must(t, err)
	var process struct{ PID int }
	must(t, json.Unmarshal(text, &process))
	_ = syscall.Kill(process.PID, syscall.SIGKILL) // it may be gone
}

// assign has db1, db2 … do a task each, "TASK" or "TASK SOURCE".
func (f *dbFarm) assign(epochs farm.Epoch, semiSync bool, servers ...cluster.Server) {
	f.t.Helper()
	f.serial++
	a := &cluster.Assignment{Epoch: f.epoch + epochs, Term: f.term.Number, Serial: f.serial, SemiSync: semiSync, Durable: semiSync, Why: "a test", NextID: 9}
	for i, s := range servers {
		n := f.nodes[i]
		s.Name, s.Address, s.ID = n.name, n.address, uint32(i+1)
		for _, donor := range f.nodes {
			if s.Task == cluster.Clone && donor.name == s.Source {
				s.CloneAt = donor.cloneAt
			}
		}
		if s.Task == cluster.Lead {
			a.Primary = s.Name
		}
		a.Servers = append(a.Servers, s)
	}
	value, err := a.Encode()
	must(f.t, err)
	record, err := registry.ClusterRecord("db", cluster.Record)
	must(f.t, err)
	must(f.t, f.admin.WriteInEpoch(f.t.Context(), f.term, "db", f.epoch, f.epoch+epochs, record, value))
	f.epoch += epochs
}

// await returns the first report in the registry, of the node, that is as wanted.
func (f *dbFarm) await(name, what string, wanted func(*cluster.Report) bool) *cluster.Report {
	f.t.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		f.mu.Lock()
		last, arrived := f.last[name], f.arrived
		f.mu.Unlock()
		if last != nil && wanted(last) {
			return last
		}
		select {
		case <-arrived:
		case <-timer.C:
			f.t.Fatalf("%s: no report of %s; last %+v", name, what, last)
		}
	}
}

// done waits until nodes have carried out the newest assignment.
func (f *dbFarm) done(names ...string) {
	f.t.Helper()
	for _, name := range names {
		f.await(name, fmt.Sprintf("serial %d done", f.serial), func(r *cluster.Report) bool { return r.Serial == f.serial && r.Done })
	}
}

// TestDatabaseNodesOfAFarm: three empty servers become a cluster, which is failed
// over from a primary that is killed.
func TestDatabaseNodesOfAFarm(t *testing.T) {
	f := newDBFarm(t, "db1", "db2", "db3")
	lead := cluster.Server{Task: cluster.Lead}
	follow := func(source string) cluster.Server {
		return cluster.Server{Task: cluster.Follow, Source: source, Acknowledges: true}
	}
	for _, n := range f.nodes {
		n.start(t)
	}
	f.await("db3", "an empty server", func(r *cluster.Report) bool { return r.Empty })
	f.assign(1, false, lead, cluster.Server{Task: cluster.Clone, Source: "db1"}, cluster.Server{Task: cluster.Retire})
	f.done("db1", "db2", "db3")
	f.assign(0, false, lead, follow("db1"), cluster.Server{Task: cluster.Clone, Source: "db2"})
	f.done("db1", "db2", "db3")
	f.assign(0, true, lead, follow("db1"), follow("db1"))
	f.done("db1", "db2", "db3")
	for _, name := range []string{"db2", "db3"} {
		f.await(name, "an intact replica", func(r *cluster.Report) bool { return r.Intact && r.Errant == "" && r.Lease })
	}
	_, err := f.nodes[0].query(t, "CREATE TABLE app.t (v INT PRIMARY KEY)")
	must(t, err)
	_, err = f.nodes[0].query(t, "INSERT INTO app.t VALUES (7)")
	must(t, err)

	// The sidecar dies: its server goes on, and the next one has it.
	pid := f.await("db1", "its process", func(r *cluster.Report) bool { return r.PID > 0 }).PID
	must(t, f.nodes[0].cmd.Process.Kill())
	_ = f.nodes[0].cmd.Wait() // it was killed
	_, err = f.nodes[0].query(t, "INSERT INTO app.t VALUES (8)")
	must(t, err)
	f.nodes[0].start(t)
	killed := time.Now()
	f.await("db1", "a server that was adopted", func(r *cluster.Report) bool { return r.Time.After(killed) && r.Done && r.PID == pid && r.Lease })

	// The server dies.
	began := time.Now()
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	f.await("db1", "its death", func(r *cluster.Report) bool { return r.Process == cluster.Crashed })
	known := time.Since(began)
	hold := cluster.Server{Task: cluster.Hold, Acknowledges: true}
	f.assign(1, true, cluster.Server{Task: cluster.Fence}, hold, hold)
	f.done("db2", "db3")
	held := time.Since(began)
	f.assign(1, true, cluster.Server{Task: cluster.Fence}, lead, follow("db2"))
	f.done("db2")
	t.Logf("primary killed: known in the registry after %v, replicas hold after %v, another leads after %v", known, held, time.Since(began))
	f.assign(0, true, follow("db2"), lead, follow("db2"))
	f.done("db1", "db2", "db3")
	_, err = f.nodes[1].query(t, "INSERT INTO app.t VALUES (9)")
	must(t, err)
	farmtest.Eventually(t, "the old primary has it all", func() error {
		v, err := f.nodes[0].query(t, "SELECT SUM(v) AS v FROM app.t")
		if err == nil && v != "24" {
			err = fmt.Errorf("the sum is %s", v)
		}
		return err
	})
	for _, n := range f.nodes {
		server := f.await(n.name, "its process", func(r *cluster.Report) bool { return r.PID > 0 }).PID
		watched := farmtest.Watch(t, server)
		must(t, n.cmd.Process.Signal(syscall.SIGTERM))
		must(t, n.cmd.Wait())
		watched.AwaitEnd(t)
	}
}
