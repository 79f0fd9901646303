package daemon

import (
	"bytes"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"farmhand/internal/farmtest"
	"farmhand/internal/topology"
	"farmhand/proxy/internal/wire"
)

// TestMemoryOfIdleClientsAndALargeResult runs the proxy as a process of its own,
// to see its memory and nobody else's: 2,000 clients that each ran a statement
// and are idle, and a result of 1 GB that a client reads slowly.
func TestMemoryOfIdleClientsAndALargeResult(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector multiplies memory: run without -race")
	}
	f := farmtest.Start(t, farmtest.Options{Replicas: 1, ExtraArgs: []string{"--max-connections=2500"}})
	r := process(t, f)
	for range 2000 {
		c := r.login(t, 0)
		c.WriteCommand(append([]byte{byte(wire.ComQuery)}, "SELECT @@server_id"...))
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		for range 5 { // count, definition, EOF, row, EOF
			if p, err := c.ReadPayload(1 << 16); err != nil || wire.IsError(p) {
				t.Fatalf("SELECT: %q, %v", p, err)
			}
		}
	}
	idle := peak(t, r.pid)
	held := f.Replica(0).Counter(t, "Threads_connected")
	c := r.login(t, 0)
	if err := c.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	c.WriteCommand(append([]byte{byte(wire.ComQuery)}, "SELECT REPEAT('x', 1000000) FROM seq_1_to_1000"...))
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	total := 0
	for rows := 0; rows < 1000; {
		p, err := c.ReadPayload(1 << 24)
		if err != nil {
			t.Fatal(err)
		}
		total += len(p)
		if len(p) > 1000000 {
			rows++
			<-pace.C // the reader is slow: all waits for it
		}
	}
	most := peak(t, r.pid)
	t.Logf("peak resident memory: %d MiB with 2,000 idle clients that hold %d server connections, %d MiB after a result of %d MB", idle>>20, held, most>>20, total/1e6)
	if most > 200e6 {
		t.Errorf("peak resident memory is %d MB", most/1e6)
	}
}

// child is a proxy in a process of its own.
type child struct {
	*running
	pid int
}

// process runs the proxy's program in front of f.
func process(t *testing.T, f *farmtest.Farm) *child {
	t.Helper()
	dir := farmtest.ShortDir(t)
	program := filepath.Join(dir, "proxy")
	if out, err := osexec.CommandContext(t.Context(), "go", "build", "-o", program, "farmhand/proxy").CombinedOutput(); err != nil {
		t.Fatalf("build the proxy: %v\n%s", err, out)
	}
	f.Primary().Exec(t, "CREATE SCHEMA IF NOT EXISTS seed")
	f.WaitCaughtUp(t)
	r := &running{farm: f, tcp: farmtest.FreePort(t).String()}
	if err := topology.Write(filepath.Join(dir, "topology.json"), f.Topology()); err != nil {
		t.Fatal(err)
	}
	var cluster string
	for name := range f.Topology().Clusters {
		cluster = name
	}
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	password := file("password", farmtest.Monitor.Password)
	configuration := file("proxy.yaml", fmt.Sprintf("listen: [{tcp: %q}]\ntopology: %s\ncluster: %s\nmonitor: {user: %s, password_file: %s}\nadmin: {address: \"\"}\n",
		r.tcp, filepath.Join(dir, "topology.json"), cluster, farmtest.Monitor.User, password))
	command := osexec.Command(program, "run", configuration)
	var log bytes.Buffer
	command.Stderr = &log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	db := r.open(t)
	r.eventually(t, "the proxy answers", func() bool { return db.Ping() == nil })
	return &child{r, command.Process.Pid}
}

// peak is the most resident memory that a process has had, in bytes.
func peak(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kib int64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal(err)
	}
	return kib << 10
}
