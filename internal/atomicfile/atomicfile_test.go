package atomicfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"farmhand/internal/atomicfile"
)

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := atomicfile.Write(path, []byte("one"), 0o600, nil); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a new file has mode %v, %v", info.Mode(), err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	accept := func(temporary string) error {
		if got := content(t, temporary); got != "two" || filepath.Dir(temporary) != dir {
			t.Errorf("asked about %s with %q", temporary, got)
		}
		if got := content(t, path); got != "one" {
			t.Errorf("the file has %q before the new one was accepted", got)
		}
		return nil
	}
	if err := atomicfile.Write(path, []byte("two"), 0o600, accept); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 || content(t, path) != "two" {
		t.Errorf("mode %v, %v, content %q", info.Mode(), err, content(t, path))
	}
	refused := errors.New("not this one")
	if err := atomicfile.Write(path, []byte("three"), 0o600, func(string) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
	if got := content(t, path); got != "two" {
		t.Errorf("a file that was refused is there: %q", got)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A file that others could read before is its owner's alone after WritePrivate.
func TestWritePrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("one"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.WritePrivate(path, []byte("two")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 || content(t, path) != "two" {
		t.Errorf("mode %v, %v, content %q", info.Mode(), err, content(t, path))
	}
}
