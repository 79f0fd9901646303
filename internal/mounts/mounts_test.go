package mounts_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"farmhand/internal/mounts"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestDetach: what is mounted in a directory goes, and what it shows stays.
func TestDetach(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("to mount takes root")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	outside, inside := filepath.Join(dir, "outside"), filepath.Join(dir, "in", "a place\twith 1")
	must(t, os.MkdirAll(outside, 0o755))
	must(t, os.MkdirAll(inside, 0o755))
	must(t, os.WriteFile(filepath.Join(outside, "kept"), []byte("x"), 0o644))
	must(t, mounts.Detach(filepath.Join(dir, "nothing", "there")))
	must(t, mounts.Detach(filepath.Join(dir, "in")))
	for range 2 { // one over the other
		must(t, unix.Mount(outside, inside, "", unix.MS_BIND, ""))
	}
	t.Cleanup(func() {
		for unix.Unmount(inside, unix.MNT_DETACH) == nil {
		}
	})
	must(t, unix.Mount("name", filepath.Join(inside), "tmpfs", unix.MS_RDONLY, "size=4k"))
	at, err := mounts.At(inside)
	if err != nil || at == nil || at.Type != "tmpfs" || at.Source != "name" || !at.ReadOnly {
		t.Fatalf("at %q there is %+v, %v", inside, at, err)
	}
	must(t, mounts.Detach(filepath.Join(dir, "in")))
	if at, err := mounts.At(inside); err != nil || at != nil {
		t.Errorf("still %+v, %v", at, err)
	}
	must(t, os.RemoveAll(filepath.Join(dir, "in")))
	if _, err := os.Stat(filepath.Join(outside, "kept")); err != nil {
		t.Error(err)
	}
}
