package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"farmhand/internal/farmtest"
	"farmhand/internal/mounts"
	"farmhand/internal/process"
	"farmhand/internal/report"
)

// newStorageNode is a node of the farm's role files or app, whose own section is given.
func newStorageNode(t *testing.T, f *testFarm, kind, role, name, address string, section map[string]any) *webNode {
	t.Helper()
	dir := farmtest.ShortDir(t)
	n := &webNode{node: node{dir: dir, config: filepath.Join(dir, "sidecar.yaml")}, state: filepath.Join(dir, "state")}
	must(t, os.WriteFile(n.path("token"), []byte(f.run(t, "registry", "token", f.dir, "--role", kind, "--name", name)), 0o600))
	section["directory"] = n.path("work")
	text, err := yaml.Marshal(map[string]any{
		"role": kind, "name": name, "state": n.state, kind: section,
		"farm":       map[string]any{"directory": n.path("node"), "token_file": n.path("token"), "address": address, "lease": "2s", "role": role, "slot": 1, "slots": 1},
		"membership": map[string]any{"source": "registry", "registry": map[string]any{"cluster": "db"}},
	})
	must(t, err)
	must(t, os.WriteFile(n.config, text, 0o644))
	return n
}

// signalProgram sends a signal to one of the node's programs, which may not run just now.
func (n *webNode) signalProgram(t *testing.T, name string, s syscall.Signal) *process.Handle {
	t.Helper()
	var id process.ID
	must(t, yaml.Unmarshal([]byte(n.read(t, "state/program-"+name+".json")), &id))
	h, err := process.Open(id)
	if errors.Is(err, process.ErrGone) {
		return nil
	}
	must(t, err)
	t.Cleanup(func() { must(t, h.Close()) })
	if err := h.Signal(s); !errors.Is(err, process.ErrGone) {
		must(t, err)
	}
	return h
}

// killProgram kills one of the node's programs, and returns when it is gone.
func (n *webNode) killProgram(t *testing.T, name string) {
	t.Helper()
	if h := n.signalProgram(t, name, syscall.SIGKILL); h != nil {
		must(t, h.Await(t.Context()))
	}
}

// TestStorageNode: a node mounts what another has; either sidecar can be killed and nobody notices; what is killed
// beside it comes again; and the mount goes with its node, before the way to the storage.
func TestStorageNode(t *testing.T) {
	farmtest.NeedGlusterFS(t)
	f := newFarm(t)
	f.assign(t, 1, "db1", "db2")
	listen := farmtest.FreePort(t).String()
	data := farmtest.ShortDir(t)
	files := newStorageNode(t, f, "storage", "files", "files1", listen, map[string]any{"data": data, "listen": listen, "durable": false, "owner": "nobody"})
	shared := filepath.Join(farmtest.ShortDir(t), "shared")
	app := newStorageNode(t, f, "base", "app", "app1", "", map[string]any{
		"mounts":   []any{map[string]any{"storage": "files", "path": shared, "wait": "30s"}},
		"programs": []any{map[string]any{"name": "app", "command": []string{"sh", "-c", "echo $FARMHAND_STORAGE_FILES >" + data + "/told; exec sleep 100000"}}},
	})
	files.start(t)
	files.await(t, "running", running)
	app.start(t)
	app.await(t, "running", running)
	if text, err := os.ReadFile(filepath.Join(data, "told")); err != nil || string(text) != shared+"\n" {
		t.Errorf("its programs are told %q, %v", text, err)
	}
	if info, err := os.Stat(shared); err != nil || info.Sys().(*syscall.Stat_t).Uid == 0 {
		t.Errorf("the shared directory is root's, %v", err)
	}
	all := farmtest.WriteFiles(t, shared, shared)
	failed := func(when string, most int) {
		t.Helper()
		list := all.Failed()
		if len(list) > most {
			t.Errorf("%s: %d files could not be written: %v", when, len(list), list)
		}
		t.Logf("%s: %d files could not be written (%v), the longest took %v", when, len(list), list, all.Longest().Round(time.Millisecond))
	}
	all.More(t, "files are written")
	for _, n := range []*webNode{files, app} {
		must(t, n.cmd.Process.Kill())
		_ = n.cmd.Wait() // it was killed
	}
	all.More(t, "files are written without sidecars")
	files.start(t)
	app.start(t)
	files.await(t, "running", running)
	app.await(t, "running", running)
	all.More(t, "files are written with new sidecars")
	failed("sidecars were killed", 0)
	files.killProgram(t, "brick")
	all.More(t, "files are written after the brick was killed")
	failed("the brick was killed", 4)
	all.End()
	for _, name := range all.Written() {
		if got, err := os.ReadFile(filepath.Join(data, "files", name)); err != nil || string(got) != farmtest.FileText(name) {
			t.Errorf("%s was acknowledged, and is %q, %v", name, got, err)
		}
	}

	app.killProgram(t, "mount-files")
	app.await(t, "the loss of the mount", func(r report.Report) bool { return r.State != report.Running })
	app.await(t, "running", running)
	farmtest.Eventually(t, "the files are there again", func() error { _, err := os.Stat(filepath.Join(shared, all.Written()[0])); return err })
	app.end(t)
	if err := mountsAt(shared); err != nil {
		t.Error(err)
	}
	files.end(t)
}

// mountsAt returns an error if something is mounted at a path.
func mountsAt(path string) error {
	at, err := mounts.At(path)
	if err == nil && at != nil {
		err = fmt.Errorf("%s is mounted at %s", at.Type, path)
	}
	return err
}
