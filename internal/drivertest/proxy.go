// Package drivertest runs the proxy as a process of its own, as users do, and
// the test suites of client drivers through it.
//
// It owns the proxy's process and its files until the test ends. It is imported
// by tests only, knows nothing of the proxy's inside, and does not judge what a
// suite found: it compares two runs of it.
//
// Invariant: nothing that it starts outlives the test that started it, not even
// when the test binary is killed.
package drivertest

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"farmhand/internal/child"
	"farmhand/internal/farmtest"
	"farmhand/internal/topology"
)

// Proxy is a proxy's process in front of a farm.
type Proxy struct {
	// TCP is host:port and Socket the path that it listens on.
	TCP, Socket string
	// PID is the process.
	PID int
	// Topology is the path of the file that says which servers there are; a test
	// may write another one (topology.Write).
	Topology string
}

// StartProxy builds the proxy, runs it in front of f and returns when it
// answers, by a replica if f has any. extra is added to its configuration
// (top-level YAML keys that are not among those that StartProxy writes itself:
// listen, topology, cluster, monitor, admin). What the proxy logs is shown if
// the test fails.
func StartProxy(t testing.TB, f *farmtest.Farm, extra string) *Proxy {
	t.Helper()
	dir := farmtest.ShortDir(t)
	program := filepath.Join(dir, "proxy")
	if err := farmtest.Build(dir, "proxy"); err != nil {
		t.Fatal(err)
	}
	p := &Proxy{TCP: farmtest.FreePort(t).String(), Socket: filepath.Join(dir, "p.sock")}
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// Where nothing was ever written there is no position, and no lag is known.
	f.Primary().Exec(t, "CREATE SCHEMA IF NOT EXISTS seed")
	f.WaitCaughtUp(t)
	servers := filepath.Join(dir, "topology.json")
	if err := topology.Write(servers, f.Topology()); err != nil {
		t.Fatal(err)
	}
	p.Topology = servers
	config := write("proxy.yaml", fmt.Sprintf(`
listen:
  - tcp: %s
  - unix: %s
topology: %s
cluster: default
monitor: {user: %s, password_file: %s}
admin: {address: ""}
%s
`, p.TCP, p.Socket, servers, farmtest.Monitor.User, write("password", farmtest.Monitor.Password), extra))

	log, err := os.Create(filepath.Join(dir, "proxy.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "run", config)
	cmd.Stdout, cmd.Stderr = log, log
	process, err := child.Start(cmd, syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	p.PID = process.PID()
	t.Cleanup(func() {
		process.Signal(syscall.SIGTERM)
		select {
		case <-process.Done():
		case <-time.After(20 * time.Second):
			process.Signal(syscall.SIGKILL)
			<-process.Done()
			t.Error("the proxy had to be killed")
		}
		if err := log.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			content, err := os.ReadFile(log.Name())
			t.Logf("the proxy's log (%v):\n%s", err, content)
		}
	})
	db := farmtest.OpenSchemaless(t, "tcp", p.TCP, farmtest.App)
	farmtest.Eventually(t, "the proxy serves", func() error {
		select {
		case <-process.Done():
			return fmt.Errorf("it ended: %w", process.Ended())
		default:
		}
		return servedByReplica(db, f)
	})
	return p
}

// servedByReplica is nil when a read is served as it should be in a healthy farm.
func servedByReplica(db *sql.DB, f *farmtest.Farm) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var id uint32
	if err := db.QueryRowContext(ctx, "SELECT @@server_id").Scan(&id); err != nil {
		return err
	}
	if id == f.Primary().ServerID() && len(f.Replicas()) > 0 {
		return fmt.Errorf("the primary serves reads")
	}
	return nil
}
