package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
)

// startLimit is how long a farm may take until it answers.
const startLimit = 3 * time.Minute

// localFarm is what "make run" starts, at places of its own.
type localFarm struct {
	t        *testing.T
	top      string // the test's directory
	programs string
	dir      string
	listen   netip.AddrPort
}

// startFarm runs a farm of the default sort until the test ends. It returns when the
// farm answers.
func startFarm(t *testing.T) *localFarm {
	t.Helper()
	f := newFarm(t)
	first := farmtest.AddressBlock(5) // three servers, the web node, the control node
	f.up("--host", f.listen.Addr().String(), "--port", strconv.Itoa(int(f.listen.Port())),
		"--socket", filepath.Join(f.top, "p.sock"), "--admin", farmtest.FreePort(t).String(),
		"--addresses-from", first.String(), "--control-address", first.Next().Next().Next().Next().String())
	return f
}

// newFarm builds the programs of a farm that does not run yet.
func newFarm(t *testing.T) *localFarm {
	t.Helper()
	farmtest.Need(t, farm.MariaDB)
	top := farmtest.ShortDir(t)
	if err := os.Chmod(top, 0o755); err != nil { // the servers' own account runs what is there
		t.Fatal(err)
	}
	f := &localFarm{t: t, top: top, programs: filepath.Join(top, "bin"), dir: filepath.Join(top, "farm"), listen: farmtest.FreePort(t)}
	if err := farmtest.Build(f.programs, "proxy", "sidecar", "scaler"); err != nil {
		t.Fatal(err)
	}
	return f
}

// up runs "scaler up" until the test ends, and returns when the farm answers.
func (f *localFarm) up(args ...string) {
	t := f.t
	t.Helper()
	cmd := f.command("up")
	cmd.Args = append(cmd.Args, args...)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = write, write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := write.Close(); err != nil {
		t.Fatal(err)
	}
	ready, ended := make(chan struct{}), make(chan struct{})
	var said []string
	go func() {
		defer close(ended)
		for scan := bufio.NewScanner(read); scan.Scan(); {
			said = append(said, scan.Text())
			if strings.HasPrefix(scan.Text(), "farm ready") {
				close(ready)
			}
		}
	}()
	t.Cleanup(func() {
		if out, err := f.command("down").CombinedOutput(); err != nil {
			t.Errorf("scaler down: %v\n%s", err, out)
			_ = cmd.Process.Kill()
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("scaler up: %v", err)
		}
		<-ended
		_ = read.Close()
		if t.Failed() {
			t.Logf("scaler up said:\n%s", strings.Join(said, "\n"))
			f.showLogs()
		}
	})
	select {
	case <-ready:
	case <-ended:
		t.Fatal("scaler up ended before the farm was ready")
	case <-time.After(startLimit):
		t.Fatalf("the farm is not ready within %v", startLimit)
	}
}

// showLogs shows what the farm's programs have logged at last.
func (f *localFarm) showLogs() {
	paths, err := filepath.Glob(filepath.Join(f.dir, "*", "sidecar.log"))
	if err != nil {
		f.t.Error(err)
	}
	for _, path := range append(paths, filepath.Join(f.dir, "scaler.log")) {
		log, err := os.ReadFile(path)
		f.t.Logf("%s: %v\n%s", path, err, log[max(0, len(log)-20_000):])
	}
}

// command is one of the scaler's, about this farm.
func (f *localFarm) command(args ...string) *exec.Cmd {
	return exec.Command(filepath.Join(f.programs, "scaler"), append(args, "--local", f.dir)...)
}

// farmStatus is a part of what "scaler status --json" says.
type farmStatus struct {
	Assignment *cluster.Assignment
	Nodes      []struct {
		Name     string
		Database *cluster.Report
	}
}

func (f *localFarm) status() farmStatus {
	f.t.Helper()
	out, err := f.command("status", "--json").Output()
	if err != nil {
		f.t.Fatalf("scaler status: %v", err)
	}
	var s farmStatus
	if err := json.Unmarshal(out, &s); err != nil {
		f.t.Fatal(err)
	}
	return s
}

// primary is the name of the server that takes the writes.
func (s farmStatus) primary() string {
	if s.Assignment == nil {
		return ""
	}
	return s.Assignment.Primary
}

// kill ends a database server's process as a crash would.
func (f *localFarm) kill(name string) {
	f.t.Helper()
	for _, n := range f.status().Nodes {
		if n.Name == name && n.Database != nil && n.Database.PID != 0 {
			if err := syscall.Kill(n.Database.PID, syscall.SIGKILL); err != nil {
				f.t.Fatalf("kill %s: %v", name, err)
			}
			return
		}
	}
	f.t.Fatalf("%s has no process", name)
}

// awaitWhole returns when every server has its task and the last change of
// primary is done.
func (f *localFarm) awaitWhole(servers int, but string) farmStatus {
	f.t.Helper()
	var s farmStatus
	farmtest.Eventually(f.t, "every server is in service, and the primary is another than "+but, func() error {
		s = f.status()
		if s.primary() == "" || s.primary() == but || s.Assignment.Phase != cluster.Steady {
			return fmt.Errorf("the assignment is %+v", s.Assignment)
		}
		serving := 0
		for _, server := range s.Assignment.Servers {
			if server.State == farm.Serving {
				serving++
			}
		}
		if serving < servers {
			return fmt.Errorf("%d of %d servers are in service: %+v", serving, servers, s.Assignment.Servers)
		}
		return nil
	})
	return s
}
