package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"farmhand/internal/farmtest"
	"farmhand/internal/mounts"
	processlist "farmhand/internal/process"
)

// TestFarmOfStorage: files that were acknowledged survive whatever is killed of the node that has them,
// and its machine: another instance has the same disk then, once the one before is proven gone.
// Those that use them wait meanwhile. They are on a volume, by GlusterFS.
func TestFarmOfStorage(t *testing.T) {
	farmtest.Long(t)
	farmtest.NeedGlusterFS(t)
	l := newLocal(t)
	first, admin := l.flag(t, "--addresses-from"), l.flag(t, "--admin")
	l.onVolumes(t, "{kind: volume, size: 300MiB}") // or skip
	dead := filepath.Join(filepath.Dir(l.dir), "dead")
	launcher := filepath.Join(filepath.Dir(l.dir), "launcher")
	// A machine is dead on which nothing can be started any more.
	script := fmt.Sprintf("#!/bin/sh\n[ -e %s/$1 ] && exit 1\nshift 2\nexec \"$@\"\n", dead)
	if err := errors.Join(os.Mkdir(dead, 0o755), os.WriteFile(launcher, []byte(script), 0o755)); err != nil {
		t.Fatal(err)
	}
	l.by(t, fmt.Sprintf(`name: farm
provider: {kind: local, parameters: {directory: %q, first_address: %q, launcher: %q}}
roles:
  db: {kind: mysql, count: 1}
  web: {kind: web, parameters: {proxy: {tcp: %q, unix: "", admin: %q}}}
  files:
    kind: storage
    storage: {kind: volume, size: 500MiB, snapshots: {last: 1}}
    parameters: {lost_after: 10s}
  app:
    kind: base
    count: 2
    parameters:
      drain_limit: 0s
      mounts: [{storage: files, path: "{directory}/shared", wait: 2m}]
      programs: {app: {command: [sh, -c, "echo $FARMHAND_STORAGE_FILES >{directory}/told; exec sleep 100000"]}}
`, l.dir, first, launcher, l.listen, admin))
	l.start(t)
	l.await(t, "farm ready")
	ready := func(names ...string) {
		t.Helper()
		l.awaitStatus(t, strings.Join(names, ", ")+" are ready", func(s status) bool {
			return !slices.ContainsFunc(names, func(name string) bool {
				return !slices.ContainsFunc(s.Nodes, func(n node) bool { return n.Name == name && n.Size == "ready" })
			})
		})
	}
	ready("files1", "app1", "app2")
	shared := func(app string) string { return filepath.Join(l.dir, app, "work", "shared") }
	if told, err := os.ReadFile(filepath.Join(l.dir, "app1", "work", "told")); err != nil || string(told) != shared("app1")+"\n" {
		t.Errorf("its programs were told %q, %v", told, err)
	}
	disk := l.volumes(t)[0]
	if at, err := mounts.At(disk.Path); err != nil || at == nil || !slices.Contains(at.Options, "sync") {
		t.Errorf("the disk is mounted as %+v, %v: what is acknowledged need not be on it", at, err)
	}
	files := farmtest.WriteFiles(t, shared("app1"), shared("app1"), shared("app1"), shared("app2"), shared("app2"), shared("app2"))
	files.More(t, "files are written")
	quiet := func(when string, most int) {
		t.Helper()
		failed := files.Failed()
		if len(failed) > most {
			t.Errorf("%s: %d files could not be written: %v", when, len(failed), failed)
		}
		t.Logf("%s: %d files could not be written (%v), and the longest took %v", when, len(failed), failed, files.Longest().Round(time.Millisecond))
	}
	quiet("at first", 0)

	// What is under way at the moment of the kill may fail: one file of each writer.
	l.kill(t, "files1", isProgram("glusterfsd"))
	files.More(t, "files are written after the brick was killed")
	quiet("the brick was killed", 6)
	l.kill(t, "files1", isSidecarOf("files1"))
	files.More(t, "files are written after the sidecar was killed")
	quiet("the sidecar was killed", 0)
	l.kill(t, "files1", isGate)
	files.More(t, "files are written after the gate was killed")
	quiet("the gate was killed", 6)
	l.kill(t, "app1", isSidecarOf("app1"))
	l.kill(t, "app2", isDoor)
	files.More(t, "files are written after a door was killed")
	quiet("a door was killed", 3)
	if out := output(t, "volume", "snapshot", disk.Name, "--local", l.dir); !strings.Contains(out, "crash-consistent") {
		t.Errorf("snapshot: %s", out)
	}
	quiet("a snapshot was taken", 0)

	// The machine is lost.
	ready("files1")
	only := l.onlyOneBrick(t)
	if err := os.WriteFile(filepath.Join(dead, "files1"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	for l.kill(t, "files1", func([]string) bool { return true }) > 0 {
	}
	l.awaitStatus(t, "another has the disk", func(s status) bool {
		return slices.ContainsFunc(s.Nodes, func(n node) bool { return n.Name == "files2" })
	})
	launched := time.Since(killed)
	files.More(t, "files are written after the machine was lost")
	t.Logf("the machine was lost: another was launched after %v, and files were written after %v", launched.Round(time.Millisecond), time.Since(killed).Round(time.Millisecond))
	quiet("the machine was lost", 6)
	ready("files2", "app1", "app2")
	if v := l.volumes(t); len(v) != 1 || v[0].Instance != "files2" || v[0].Epoch != 2 || v[0].Name != disk.Name {
		t.Errorf("the volumes are %+v", v)
	}

	// A person takes it away.
	if out, err := scaler("scale", "files", "2", "--local", l.dir).CombinedOutput(); err == nil || !strings.Contains(string(out), "one server at a time has it") {
		t.Errorf("two servers: %v, %s", err, out)
	}
	output(t, "terminate", "files2", "--yes", "--local", l.dir)
	files.More(t, "files are written after the server was replaced")
	ready("files3")
	quiet("the server was replaced", 6)
	only()

	// What mounts it is lost.
	l.kill(t, "app1", isProgram("glusterfs"))
	files.More(t, "files are written after the client was killed")
	t.Logf("the client was killed: %v", files.Failed())
	ready("app1")

	files.End()
	last := l.volumes(t)
	if len(last) != 1 || last[0].Instance != "files3" {
		t.Errorf("the volumes are %+v", last)
	}
	for _, name := range files.Written() {
		for _, dir := range []string{shared("app1"), shared("app2"), filepath.Join(last[0].Path, "files")} {
			if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != farmtest.FileText(name) {
				t.Errorf("%s was acknowledged, and in %s there is %q, %v", name, dir, got, err)
			}
		}
	}
	t.Logf("%d files", len(files.Written()))
	output(t, "terminate", "app2", "--yes", "--local", l.dir, "--shrink")
	if entries, err := os.ReadDir(filepath.Join(last[0].Path, "files")); err != nil || len(entries) < len(files.Written()) {
		t.Errorf("after a server that used them was removed there are %d files, %v", len(entries), err)
	}
	output(t, "down", "--local", l.dir)
	if err := l.wait(t); err != nil {
		t.Error(err)
	}
	all, err := mounts.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if strings.HasPrefix(m.Path, l.dir+"/") {
			t.Errorf("still mounted: %+v", m)
		}
	}
}

func isProgram(name string) func([]string) bool {
	return func(arguments []string) bool { return len(arguments) > 0 && filepath.Base(arguments[0]) == name }
}

func isSidecarOf(name string) func([]string) bool {
	return func(arguments []string) bool {
		return len(arguments) == 3 && arguments[1] == "run" && strings.Contains(arguments[2], "/"+name+"/")
	}
}

func isShare(what string, arguments []string) bool {
	return len(arguments) > 2 && arguments[1] == "share" && arguments[2] == what
}

func isGate(arguments []string) bool { return isShare("gate", arguments) }
func isDoor(arguments []string) bool { return isShare("door", arguments) }

// kill kills processes of an instance, and returns how many there were when all of them are gone.
func (l *local) kill(t *testing.T, instance string, is func([]string) bool) int {
	t.Helper()
	found, err := processlist.Find(func(f processlist.Found) bool {
		return is(f.Arguments) && slices.Contains(f.Environment, "FARMHAND_INSTANCE="+filepath.Join(l.dir, instance))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		h, err := processlist.Open(f.ID)
		if errors.Is(err, processlist.ErrGone) {
			continue
		}
		if err == nil {
			if err = h.Signal(syscall.SIGKILL); errors.Is(err, processlist.ErrGone) {
				err = nil
			}
			err = errors.Join(err, h.Await(t.Context()), h.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return len(found)
}

// onlyOneBrick sees to it, until what it returns is called, that there are never two bricks of the farm.
func (l *local) onlyOneBrick(t *testing.T) (end func()) {
	t.Helper()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			found, err := processlist.Find(func(f processlist.Found) bool {
				return isProgram("glusterfsd")(f.Arguments) && slices.ContainsFunc(f.Environment, func(v string) bool { return strings.HasPrefix(v, "FARMHAND_INSTANCE="+l.dir+"/") })
			})
			if err != nil || len(found) > 1 {
				t.Errorf("two bricks at a time: %+v, %v", found, err)
				return
			}
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	end = func() { close(stop); <-done }
	return end
}
