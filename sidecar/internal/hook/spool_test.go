package hook

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
)

func TestSpoolKeepsOrderBetweenProcesses(t *testing.T) {
	w := newWorld(t)
	// Each Put opens the lock's file anew, as another process does.
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				if err := w.spool.Put(w.event(farm.Custom, "h")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	entries, err := w.spool.list()
	must(t, err)
	if len(entries) != 160 {
		t.Fatalf("%d events", len(entries))
	}
	for i := 1; i < len(entries); i++ {
		if entries[i].seq <= entries[i-1].seq {
			t.Fatalf("%v before %v", entries[i-1], entries[i])
		}
	}
}

func TestSpoolIsBounded(t *testing.T) {
	w := newWorld(t)
	for i := range MaxPending {
		must(t, os.WriteFile(filepath.Join(w.spool.dir, entry{seq: int64(i + 1)}.name()), nil, 0o600))
	}
	if err := w.spool.Put(w.event(farm.Custom, "h")); !errors.Is(err, ErrFull) {
		t.Errorf("got %v", err)
	}
	big := w.event(farm.Custom, "h")
	big.Fields = map[string]string{}
	for _, key := range strings.Split("abcdefghijklmnopqrstuvwxyz", "") {
		big.Fields[key] = strings.Repeat("x", 4000)
	}
	if err := w.spool.Put(big); err == nil || !strings.Contains(err.Error(), "expected at most 65536") {
		t.Errorf("got %v", err)
	}
}

func TestSpoolIsForItsOwnerOnly(t *testing.T) {
	w := newWorld(t)
	w.put(t, w.event(farm.Custom, "h"))
	entries, err := w.spool.list()
	must(t, err)
	info, err := os.Stat(filepath.Join(w.spool.dir, entries[0].name()))
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("an event has mode %v", info.Mode())
	}
	must(t, os.Chmod(w.spool.dir, 0o777))
	if _, err := OpenSpool(w.state); err == nil || !strings.Contains(err.Error(), "has mode 0777") {
		t.Errorf("got %v", err)
	}
}

// TestFileThatIsNoEvent is dropped and does not stop the others.
func TestFileThatIsNoEvent(t *testing.T) {
	w := newWorld(t)
	bad := entry{seq: 1}.name()
	must(t, os.WriteFile(filepath.Join(w.spool.dir, bad), []byte(`{"id": "x", "kind": "host-up"`), 0o600))
	must(t, os.WriteFile(filepath.Join(w.spool.dir, ".half-written"), []byte(`{`), 0o600))
	must(t, os.Symlink("/etc/passwd", filepath.Join(w.spool.dir, entry{seq: 2}.name())))
	w.start(t)
	_, whole := w.await(t, w.put(t, w.event(farm.HostUp, "web1")))
	if whole.Result != Delivered {
		t.Errorf("journaled: %+v", whole)
	}
	var refused []string
	for _, r := range w.records(t) {
		if r.Result == Refused {
			refused = append(refused, r.Event)
		}
	}
	if len(refused) != 2 || refused[0] != bad {
		t.Errorf("refused: %v", refused)
	}
	w.end(t)
	left, err := os.ReadDir(w.spool.dir)
	must(t, err)
	if len(left) != 1 || left[0].Name() != ".lock" {
		t.Errorf("left: %v", left)
	}
}

// TestEventThatCannotBeReadWaits: it is not dropped, and nothing overtakes it.
func TestEventThatCannotBeReadWaits(t *testing.T) {
	w := newWorld(t)
	w.hook(t, farm.Custom, "10-note", "echo $FARMHAND_FIELD_N >>"+w.dir+"/log")
	numbered := func(n string) farm.Event {
		e := w.event(farm.Custom, "h")
		e.Fields = map[string]string{"n": n}
		return w.put(t, e)
	}
	numbered("1")
	entries, err := w.spool.list()
	must(t, err)
	path := filepath.Join(w.spool.dir, entries[0].name())
	must(t, os.Rename(path, path+".away"))
	must(t, os.Mkdir(path, 0o700)) // reading it fails with EISDIR
	last := numbered("2")
	w.start(t)
	farmtest.Eventually(t, "the reading failed", func() error {
		if w.errors.Len() == 0 {
			return errors.New("it has not")
		}
		return nil
	})
	must(t, os.Remove(path))
	must(t, os.Rename(path+".away", path))
	w.await(t, last)
	if got := read(t, w.dir+"/log"); got != "1\n2\n" {
		t.Errorf("ran %q", got)
	}
}
