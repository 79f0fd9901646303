package provider_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"farmhand/internal/mounts"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider/providertest"
)

// TestWhatIsMountedInAnInstanceStays: files that several use, such as a storage's, are neither removed with
// one of them nor in an image of it.
func TestWhatIsMountedInAnInstanceStays(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("to mount takes root")
	}
	o := made(t)
	l := local(t, o)
	if _, err := l.Launch(t.Context(), providertest.Spec(farmfile.WebKind, "web", 1)); err != nil {
		t.Fatal(err)
	}
	up(t, l, "web1", 0)
	shared := t.TempDir()
	work, err := filepath.EvalSymlinks(filepath.Join(o.Dir, "web1"))
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(work, "work", "shared")
	for _, err := range []error{
		os.WriteFile(filepath.Join(shared, "upload"), []byte("x"), 0o644), os.MkdirAll(at, 0o755), os.WriteFile(filepath.Join(work, "work", "own"), nil, 0o644),
		unix.Mount(shared, at, "", unix.MS_BIND, ""),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) }) // it is to be unmounted already
	i, err := l.MakeImage(t.Context(), "web1", "web-20261129-100000")
	if err != nil {
		t.Fatal(err)
	}
	files := filepath.Join(o.Dir, "images", "web-20261129-100000", "files")
	if _, err := os.Stat(filepath.Join(files, "shared")); !os.IsNotExist(err) || i.Files != 1 {
		t.Errorf("the image %+v has what is mounted: %v", i, err)
	}
	if err := l.Terminate(t.Context(), "web1"); err != nil {
		t.Fatal(err)
	}
	if m, err := mounts.At(at); err != nil || m != nil {
		t.Errorf("still mounted: %+v, %v", m, err)
	}
	if _, err := os.Stat(filepath.Join(shared, "upload")); err != nil {
		t.Error(err)
	}
}
