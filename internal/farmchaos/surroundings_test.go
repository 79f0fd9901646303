package farmchaos

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// writeHooks writes the scripts and returns their directory.
func writeHooks(dir string, scripts map[string]string) (string, error) {
	hooks := filepath.Join(dir, "hooks")
	for name, text := range scripts {
		path := filepath.Join(hooks, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			return "", err
		}
	}
	return hooks, nil
}

// badHooks hang, fail and tell a secret, for each of the events; what they
// leave behind shows that they ran.
func badHooks(events ...string) map[string]string {
	all := map[string]string{}
	for _, event := range events {
		all[event+"/10-tells"] = `set -eu
dir=$(cd "$(dirname "$0")/../../farm" && pwd)
echo "the password is $(cat "$dir/secrets/replication.password")"
cat "$dir/secrets/replication.password" >&2
: >"$dir/../ran-$FARMHAND_EVENT-$FARMHAND_NODE"
`
		all[event+"/20-fails"] = "exit 7\n"
		all[event+"/30-hangs"] = "exec sleep 600\n"
	}
	return all
}

// disks gives each database server a file system of its own, of so many MiB, which the
// launcher puts where the server's directory will be. They are gone with the test's
// namespace of mounts at the latest.
func (f *chaosFarm) disks(size int) {
	f.t.Helper()
	for _, name := range []string{"db1", "db2", "db3"} {
		dir := f.disk(name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			f.t.Fatal(err)
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=0755", size)); err != nil {
			f.t.Fatalf("a file system for %s: %v", name, err)
		}
		f.t.Cleanup(func() {
			if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
				f.t.Error(err)
			}
		})
	}
}

func (f *chaosFarm) disk(name string) string { return filepath.Join(f.dir, "disk-"+name) }

// fill leaves no room on a server's disk.
func (f *chaosFarm) fill(name string) (empty func()) {
	f.t.Helper()
	path := filepath.Join(f.disk(name), "filler")
	file, err := os.Create(path)
	if err != nil {
		f.t.Fatal(err)
	}
	for piece := make([]byte, 1<<20); len(piece) > 0; {
		if _, err := file.Write(piece); errors.Is(err, syscall.ENOSPC) {
			piece = piece[:len(piece)/2]
		} else if err != nil {
			f.t.Fatal(err)
		}
	}
	if err := file.Close(); err != nil {
		f.t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			f.t.Error(err)
		}
	}
}

// rival kills a server's process and starts it again by hand, as it was started before.
func (f *chaosFarm) rival(s server) {
	f.t.Helper()
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.mysqld))
	if err != nil {
		f.t.Fatal(err)
	}
	args := strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")
	cmd := exec.Command("ip", append([]string{"netns", "exec", f.network.name(s.name)}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	f.kill(syscall.SIGKILL, s.mysqld)
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		err := cmd.Wait()
		f.t.Logf("the rival of %s has ended: %v", s.name, err)
		close(ended)
	}()
	f.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
	})
}

// TestAFarmBearsItsSurroundings: full disks, hooks that hang, fail and tell secrets,
// and somebody who starts a server by hand.
func TestAFarmBearsItsSurroundings(t *testing.T) {
	if !*all {
		t.Skip("needs -farm.all; make chaos-farm gives it")
	}
	f := start(t, options{count: "3", disk: 700, hooks: badHooks("host-crash", "primary-lost", "new-primary", "replication-broken")})
	l := begin(t, f.proxy, breath)
	for _, s := range []scenario{
		{"primary's mysqld killed, with hooks that hang, fail and tell a secret", func(f *chaosFarm, p server, _ []server) func() {
			f.kill(syscall.SIGKILL, p.mysqld)
			return func() { f.secretsKept("host-crash-"+p.name, "primary-lost-web1", "new-primary-web1") }
		}, 1, 1, quick, false},
		{"a replica's disk full, then not", func(f *chaosFarm, _ server, replicas []server) func() {
			empty := f.fill(replicas[0].name)
			f.await(replicas[0].name+" stands still", func() error { return f.behind(replicas[0]) })
			return empty
		}, 0, 0, patent, false},
		{"primary's disk full, then not", func(f *chaosFarm, p server, _ []server) func() {
			return f.fill(p.name)
		}, 1, 1, patent, true},
		{"primary's mysqld killed and started by somebody else", func(f *chaosFarm, p server, _ []server) func() {
			f.rival(p)
			return nil
		}, 0, 1, patent, false},
		{"a replica's mysqld killed and started by somebody else", func(f *chaosFarm, _ server, replicas []server) func() {
			f.rival(replicas[0])
			return nil
		}, 0, 0, quick, false},
	} {
		if !t.Run(s.name, func(t *testing.T) { f.strike(t, l, s) }) {
			break
		}
	}
}

// behind returns nil once a server's report says that it has not got what others have.
func (f *chaosFarm) behind(s server) error {
	r, err := f.reported(s.name)
	switch {
	case err != nil:
		return err
	case r.Replication != nil && r.Replication.ApplierError+r.Replication.ReceiverError != "" || r.Beat != nil && *r.Beat > 2*time.Second || r.ReceivedAge != nil && *r.ReceivedAge > 2*time.Second || !r.Answers:
		return nil
	}
	return fmt.Errorf("%+v", r)
}

// secretsKept waits until the hooks have run, and looks for what they told in all that
// the farm has written.
func (f *chaosFarm) secretsKept(ran ...string) {
	f.t.Helper()
	secret, err := os.ReadFile(filepath.Join(f.dir, "farm", "secrets", "replication.password"))
	if err != nil {
		f.t.Fatal(err)
	}
	word := strings.TrimSpace(string(secret))
	for _, name := range ran {
		f.await("the hooks have run: "+name, func() error {
			_, err := os.Stat(filepath.Join(f.dir, "ran-"+name))
			return err
		})
	}
	f.await("a journal has what the hooks said, without the secret", func() error {
		masked := false
		err := filepath.WalkDir(filepath.Join(f.dir, "farm"), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".log") && !strings.HasSuffix(path, ".jsonl") {
				return nil // a file may go while it is looked for
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return nil
			}
			if strings.Contains(string(text), word) {
				f.t.Errorf("%s has the secret", path)
			}
			masked = masked || strings.HasSuffix(path, ".jsonl") && strings.Contains(string(text), "the password is ***")
			return nil
		})
		if err == nil && !masked {
			err = errors.New("none has it")
		}
		return err
	})
	events, err := f.run("events", "--json")
	if err != nil {
		f.t.Fatal(err)
	}
	if strings.Contains(events, word) {
		f.t.Error("the farm's journal has the secret")
	}
}
