package role

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/volumemark"
	"farmhand/sidecar/internal/config"
)

// TestSharedDisk: nothing is shared that is not on the volume of this node.
func TestSharedDisk(t *testing.T) {
	dir := t.TempDir()
	d := sharedDisk{
		Storage: config.Storage{Data: dir}, volume: config.Volume{Name: "files-1", Directory: dir}, node: "files2",
		path: filepath.Join(dir, "files"), uid: -1, gid: -1,
	}
	for _, mark := range []volumemark.Mark{{}, {Volume: "files-1", Instance: "files1", Epoch: 1}} {
		if mark.Volume != "" {
			must(t, volumemark.Write(dir, mark))
		}
		if err := d.ready(); err == nil || !strings.Contains(err.Error(), "nothing is given to others without it") {
			t.Errorf("with the mark %+v: %v", mark, err)
		}
		if _, err := os.Stat(d.path); err == nil {
			t.Error("the directory is there")
		}
	}
	must(t, volumemark.Write(dir, volumemark.Mark{Volume: "files-1", Instance: "files2", Epoch: 2}))
	must(t, d.ready())
	must(t, os.WriteFile(filepath.Join(d.path, "a"), nil, 0o644))
	must(t, d.ready())
	if _, err := os.Stat(filepath.Join(d.path, "a")); err != nil {
		t.Errorf("made anew: %v", err)
	}
	d.Durable = true
	if err := d.ready(); err == nil || !strings.Contains(err.Error(), "is no file system of its own") {
		t.Errorf("durable on a directory: %v", err)
	}
}

// TestMountsEndLast: what mounts a storage ends when all other programs of the node have, and the way to
// the storage after that.
func TestMountsEndLast(t *testing.T) {
	dir := t.TempDir()
	c := config.Default()
	c.Role, c.Name, c.State, c.Farm.Directory = "base", "app1", dir, filepath.Join(dir, "node")
	c.Base.Directory = filepath.Join(dir, "work")
	client := filepath.Join(dir, "glusterfs")
	must(t, os.WriteFile(client, []byte("#!/bin/sh\n"), 0o755))
	c.Base.Programs = []config.Program{{Name: "app", Command: []string{"sleep", "1"}, Environment: map[string]string{"A": "b"}}}
	c.Base.Mounts = []config.Mount{{Storage: "my-files", Path: filepath.Join(dir, "shared"), Program: client}}
	if p := c.Validate(); len(p) > 0 {
		t.Fatal(p)
	}
	n, err := newNode(c, Tools{Log: zap.NewNop()})
	must(t, err)
	app, door, mount := n.program("app"), n.program("door-my-files"), n.program("mount-my-files")
	if app == nil || door == nil || mount == nil || !slices.Equal(mount.until, []*program{app}) || !slices.Equal(door.until, []*program{mount}) || len(app.until) > 0 {
		t.Fatalf("the programs are %+v", n.programs)
	}
	if want := []string{"A=b", "FARMHAND_STORAGE_MY_FILES=" + filepath.Join(dir, "shared")}; !slices.Equal(app.environment, want) {
		t.Errorf("the environment is %v", app.environment)
	}
	if len(n.checks) != 1 || len(n.templates) != 1 || !strings.Contains(n.templates[0].Text, `members "my-files"`) {
		t.Errorf("%d checks, templates %+v", len(n.checks), n.templates)
	}
	c.Farm.Directory = ""
	if _, err := newNode(c, Tools{Log: zap.NewNop()}); err == nil || !strings.Contains(err.Error(), "a node of a farm only") {
		t.Errorf("without a farm: %v", err)
	}
}

// TestLooker: what hangs is looked at by one process, and holds nobody up; what it says at last is heard.
func TestLooker(t *testing.T) {
	goOn, ends := filepath.Join(t.TempDir(), "go-on"), "3"
	script := func() []string {
		return []string{"sh", "-c", "while [ ! -e " + goOn + " ]; do sleep 0.01; done; echo why >&2; exit " + ends}
	}
	l := &looker{args: script()}
	hang := func() (under *look) {
		t.Helper()
		short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		began := time.Now()
		if err := l.try(short); err == nil || !strings.Contains(err.Error(), "no answer for") || time.Since(began) > 5*time.Second {
			t.Errorf("%v, after %v", err, time.Since(began))
		}
		return l.under
	}
	if first := hang(); hang() != first {
		t.Error("there are two at a time")
	}
	must(t, os.WriteFile(goOn, nil, 0o644))
	if err := l.try(t.Context()); err == nil || err.Error() != "why (exit status 3)" {
		t.Errorf("%v", err)
	}
	must(t, os.Remove(goOn))
	ends = "0"
	l.args = script()
	hang()
	must(t, os.WriteFile(goOn, nil, 0o644))
	if err := l.try(t.Context()); err == nil || !strings.Contains(err.Error(), "an answer within") || l.under != nil {
		t.Errorf("an answer that came too late: %v", err)
	}
	must(t, l.try(t.Context()))
}

// TestRemedy: what is done about a mount that does not answer.
func TestRemedy(t *testing.T) {
	const wait, s = time.Minute, time.Second
	for name, c := range map[string]struct {
		is   sick
		want remedy
	}{
		"the storage is away":                           {sick{waited: 80 * s}, noRemedy},
		"it is back, and others are about to be let go": {sick{waited: 80 * s, connected: 10 * s}, noRemedy},
		"a connection has changed nothing":              {sick{waited: 20 * s, connected: 17 * s}, reconnect},
		"it was looked at just after the connection":    {sick{waited: 16 * s, connected: 20 * s}, reconnect},
		"it is slow": {sick{waited: 20 * s, connected: 26 * s}, noRemedy},
		"the storage is away for longer than is waited": {sick{waited: 90 * s}, remount},
		"the client does not answer":                    {sick{waited: 90 * s, connected: time.Hour}, remount},
	} {
		if got := c.is.remedy(wait); got != c.want {
			t.Errorf("%s: %q instead of %q", name, got, c.want)
		}
	}
	if got := (sick{waited: 59 * s}).remedy(s); got != noRemedy {
		t.Errorf("with a short wait: %q", got)
	}
}
