package mysqld

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/atomicfile"
	"farmhand/internal/cluster"
	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/registry"
)

// asSidecar makes the test binary a sidecar's agent, whose registry is a directory
// and whose options are in a file there.
const asSidecar = "FARMHAND_TEST_AGENT"

// told is what that sidecar is told of itself.
type told struct {
	Name, Cluster        string
	Server               dbserver.Config
	Replication, Monitor dbserver.Account
}

// folder is a registry in a directory: assignment.json and report.json.
type folder string

// Watch implements [Farm].
func (f folder) Watch(ctx context.Context, r registry.Record, tell func(registry.Value) error) error {
	for last := ""; ; {
		data, err := f.Read(ctx, r)
		if err == nil && string(data) != last {
			last = string(data)
			err = tell(registry.Value{Data: data})
		}
		if err == nil {
			err = pause(ctx, 5*time.Millisecond)
		}
		if err != nil {
			return err
		}
	}
}

// Read implements [Farm].
func (f folder) Read(context.Context, registry.Record) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(string(f), "assignment.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// Report implements [Farm].
func (f folder) Report(_ context.Context, _ string, value []byte) error {
	return atomicfile.Write(filepath.Join(string(f), "report.json"), value, 0o644, nil)
}

// Until implements [Farm].
func (folder) Until() time.Time { return time.Now().Add(time.Hour) }

// sidecar is the program that the test binary can be.
func sidecar() {
	dir := os.Getenv(asSidecar)
	var is told
	data, err := os.ReadFile(filepath.Join(dir, "options.json"))
	if err == nil {
		err = json.Unmarshal(data, &is)
	}
	var inst dbserver.Install
	if err == nil {
		inst, err = dbserver.Find(context.Background(), farm.MariaDB)
	}
	var a *Agent
	if err == nil {
		a, err = New(Options{
			Name: is.Name, Cluster: is.Cluster, Install: inst, Server: is.Server, Replication: is.Replication, Monitor: is.Monitor,
			Farm: folder(dir), Log: zap.NewNop(),
		})
	}
	if err == nil {
		finish, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		err = a.Run(finish, context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestTheServerOutlivesItsSidecar: it serves while its sidecar is dead, the next one
// adopts it, and a death meanwhile is known as one.
func TestTheServerOutlivesItsSidecar(t *testing.T) {
	w := newWorld(t, farm.MariaDB, "db1", "db2")
	db1 := w.nodes["db1"]
	seed(t, db1.inst, db1.server.Dir)
	dir := folder(farmtest.ShortDir(t))
	o := db1.options()
	t.Cleanup(func() { // what a test that fails leaves
		c := db1.server
		c.ServerID = 1
		if s, _, err := dbserver.Adopt(db1.inst, c); err != nil {
			t.Error(err)
		} else if s != nil {
			s.Kill()
			s.Release()
		}
	})
	configure := func() {
		t.Helper()
		data, err := json.Marshal(told{o.Name, o.Cluster, o.Server, o.Replication, o.Monitor})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(string(dir), "options.json"), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	configure()
	w.assign(false, part{"db1", cluster.Lead, "", false}, part{"db2", cluster.Retire, "", false})
	if err := atomicfile.Write(filepath.Join(string(dir), "assignment.json"), w.value, 0o644, nil); err != nil {
		t.Fatal(err)
	}
	start := func() *exec.Cmd {
		t.Helper()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), asSidecar+"="+string(dir))
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	await := func(what string, since time.Time, is func(*cluster.Report) bool) (r *cluster.Report) {
		t.Helper()
		farmtest.Eventually(t, what, func() error {
			data, err := os.ReadFile(filepath.Join(string(dir), "report.json"))
			if err != nil {
				return err
			}
			if r, err = cluster.DecodeReport(data); err == nil && (r.Time.Before(since) || !is(r)) {
				err = errors.New(show(r))
			}
			return err
		})
		return r
	}
	leads := func(r *cluster.Report) bool { return r.Done && r.Writable && r.Intact }
	first := start()
	pid := await("it leads", time.Time{}, leads).PID
	db1.admin("CREATE TABLE app.t (n INT PRIMARY KEY)")
	for n := range 2 {
		if err := first.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = first.Wait() // killed
		if err := db1.write("app"); err != nil {
			t.Fatalf("without its sidecar: %v", err)
		}
		// It may have another configuration: what is dynamic of it, the server takes.
		o.Server.BufferPool = int64(64-40*n) << 20
		configure()
		killed := time.Now()
		first = start()
		if r := await("the next one has adopted it", killed, leads); r.PID != pid {
			t.Fatalf("process %d was adopted as %d", pid, r.PID)
		}
		farmtest.Eventually(t, "it has the other buffer pool", func() error {
			if size := db1.admin("SELECT @@innodb_buffer_pool_size AS size")[0].String("size"); size != fmt.Sprint(o.Server.BufferPool) {
				return fmt.Errorf("%s bytes, and %d are asked for", size, o.Server.BufferPool)
			}
			return nil
		})
	}
	watched := farmtest.Watch(t, pid)
	began := time.Now()
	kill9(t, pid)
	r := await("the death of an adopted one is known", began, func(r *cluster.Report) bool { return r.Process == cluster.Crashed })
	t.Logf("crash of an adopted server known: %v", r.Time.Sub(began))
	watched.AwaitEnd(t)
	// And so is a death while there is no sidecar.
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait()
	began = time.Now()
	second := start()
	await("it has not forgotten", began, func(r *cluster.Report) bool { return r.Process == cluster.Crashed })
	pid = await("it leads again", began, leads).PID
	// In order, it takes its server with it.
	watched = farmtest.Watch(t, pid)
	if err := second.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := second.Wait(); err != nil {
		t.Error(err)
	}
	watched.AwaitEnd(t)
}
