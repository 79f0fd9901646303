package topology

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"farmhand/internal/farm"
	"farmhand/internal/filewatch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// event is what an observer was told.
type event struct {
	accepted *farm.Topology
	old      *farm.Topology
	refused  *Refusal
	blind    error
}

func (e event) String() string {
	switch {
	case e.accepted != nil:
		return fmt.Sprintf("accepted %v", e.accepted.Clusters)
	case e.refused != nil:
		return fmt.Sprintf("refused (%s) %v", e.refused.Reason, e.refused)
	}
	return fmt.Sprintf("blind: %v", e.blind)
}

type events chan event

func (e events) Accepted(old, now *farm.Topology) { e <- event{accepted: now, old: old} }
func (e events) Refused(r *Refusal)               { e <- event{refused: r} }
func (e events) Blind(err error)                  { e <- event{blind: err} }

func (e events) next(t *testing.T) event {
	t.Helper()
	select {
	case event := <-e:
		return event
	case <-time.After(20 * time.Second):
		t.Fatal("no event within 20 s")
		return event{}
	}
}

func (e events) acceptedEpoch(t *testing.T, epoch farm.Epoch) event {
	t.Helper()
	event := e.next(t)
	if event.accepted == nil || event.accepted.Clusters["main"].Epoch != epoch {
		t.Fatalf("got: %v; want epoch %d accepted", event, epoch)
	}
	return event
}

// afterGap is acceptedEpoch after a moment in which there was no file, which a
// busy machine may stretch until it is reported.
func (e events) afterGap(t *testing.T, epoch farm.Epoch) event {
	t.Helper()
	for {
		event := e.next(t)
		if event.refused != nil && event.refused.Reason == Vanished {
			continue
		}
		if event.accepted == nil || event.accepted.Clusters["main"].Epoch != epoch {
			t.Fatalf("got: %v; want epoch %d accepted", event, epoch)
		}
		return event
	}
}

func (e events) refusedFor(t *testing.T, reason Reason) event {
	t.Helper()
	event := e.next(t)
	if event.refused == nil || event.refused.Reason != reason {
		t.Fatalf("got: %v; want a refusal for %s", event, reason)
	}
	return event
}

func (e events) none(t *testing.T) {
	t.Helper()
	select {
	case event := <-e:
		t.Fatalf("unexpected: %v", event)
	default:
	}
}

func content(epoch farm.Epoch, primary string) []byte {
	return fmt.Appendf(nil, `{"version": 1, "clusters": {"main": {"epoch": %d, "primary": {"name": %q, "address": "%[2]s:3306"}}}}`,
		epoch, primary)
}

// quick has no poll, so that a test sees what the events alone achieve.
var quick = filewatch.Timing{Debounce: 5 * time.Millisecond, Settle: 200 * time.Millisecond, Poll: time.Hour, BlindPoll: time.Hour}

func watch(t *testing.T, path string, timing filewatch.Timing, require ...string) (*Watcher, events) {
	t.Helper()
	told := make(events, 100)
	w, err := newWatcher(path, Options{Require: require, Observer: told}, timing)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		told.none(t)
	})
	return w, told
}

func put(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// swap replaces the file as an editor or Write does.
func swap(t *testing.T, path string, data []byte) {
	t.Helper()
	put(t, path+".new", data)
	must(t, os.Rename(path+".new", path))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWatchTakesUpChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "topology.json")
	put(t, path, content(1, "db1"))
	w, told := watch(t, path, quick)
	first := told.acceptedEpoch(t, 1)
	if first.old != nil || w.Current() != first.accepted {
		t.Fatalf("the first topology is %v after %v", w.Current(), first.old)
	}

	swap(t, path, content(2, "db2"))
	if second := told.acceptedEpoch(t, 2); second.old != first.accepted || w.Current() != second.accepted {
		t.Fatal("the old topology is not the one that was in force")
	}
	put(t, path, content(3, "db3")) // written in place
	told.acceptedEpoch(t, 3)

	must(t, Write(path, farm.Topology{Version: 1, Clusters: map[string]farm.Cluster{"main": {Epoch: 4}}}))
	if c := told.acceptedEpoch(t, 4).accepted.Clusters["main"]; c.Primary != nil {
		t.Fatalf("primary %v; want none", c.Primary)
	}
}

func TestWatchIgnoresWhatChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "topology.json")
	put(t, path, content(1, "db1"))
	_, told := watch(t, path, quick)
	told.acceptedEpoch(t, 1)

	swap(t, path, content(1, "db1"))
	must(t, os.Chmod(path, 0o600))
	put(t, filepath.Join(filepath.Dir(path), "another file"), nil)
	swap(t, path, append(content(1, "db1"), '\n'))
	swap(t, path, []byte(strings.Replace(string(content(1, "db1")), `{`, `{"written": "2026-01-31T12:00:00Z",`, 1)))

	swap(t, path, content(2, "db2"))
	told.acceptedEpoch(t, 2) // and nothing before it
}

func TestWatchKeepsTheLastGoodFile(t *testing.T) {
	good := content(5, "db1")
	for name, bad := range map[string]struct {
		reason Reason
		spoil  func(t *testing.T, path string)
	}{
		"empty":      {Invalid, func(t *testing.T, path string) { put(t, path, nil) }},
		"half":       {Invalid, func(t *testing.T, path string) { put(t, path, good[:len(good)/2]) }},
		"cut off":    {Invalid, func(t *testing.T, path string) { must(t, os.Truncate(path, int64(len(good)-1))) }},
		"wrong":      {Invalid, func(t *testing.T, path string) { swap(t, path, []byte(`{"version": 1, "clusters": {}}`)) }},
		"too large":  {Invalid, func(t *testing.T, path string) { must(t, os.Truncate(path, MaxSize+1)) }},
		"vanished":   {Vanished, func(t *testing.T, path string) { must(t, os.Remove(path)) }},
		"renamed":    {Vanished, func(t *testing.T, path string) { must(t, os.Rename(path, path+".old")) }},
		"older":      {OlderEpoch, func(t *testing.T, path string) { swap(t, path, content(4, "db1")) }},
		"two in one": {SecondPrimary, func(t *testing.T, path string) { swap(t, path, content(5, "db2")) }},
		"no cluster": {MissingCluster, func(t *testing.T, path string) {
			swap(t, path, []byte(strings.Replace(string(content(6, "db1")), "main", "other", 1)))
		}},
		"a directory": {Unreadable, func(t *testing.T, path string) { must(t, os.Remove(path)); must(t, os.Mkdir(path, 0o755)) }},
		"a loop":      {Unreadable, func(t *testing.T, path string) { must(t, os.Remove(path)); must(t, os.Symlink(path, path)) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "etc")
			must(t, os.Mkdir(dir, 0o755))
			path := filepath.Join(dir, "topology.json")
			put(t, path, good)
			w, told := watch(t, path, quick, "main")
			in := told.acceptedEpoch(t, 5).accepted

			bad.spoil(t, path)
			refusal := told.refusedFor(t, bad.reason).refused
			if w.Current() != in {
				t.Fatal("the last good topology is no longer in force")
			}
			if !strings.Contains(refusal.Error(), path) {
				t.Errorf("the error does not name the file: %v", refusal)
			}
			// More events for the same bad content are no news …
			put(t, filepath.Join(dir, "something else"), nil)
			w.Reload()

			// … the same good file again is, and so is a better one.
			must(t, os.RemoveAll(path))
			swap(t, path, good)
			if again := told.afterGap(t, 5); again.old != again.accepted || w.Current() != in {
				t.Fatal("the file is good again, but not with the same topology")
			}
			swap(t, path, content(6, "db2"))
			told.acceptedEpoch(t, 6)
		})
	}
}

func TestWatchForgivesWhatIsBadForAMoment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "topology.json")
	put(t, path, content(1, "db1"))
	patient := quick
	patient.Settle = time.Hour
	_, told := watch(t, path, patient)
	told.acceptedEpoch(t, 1)
	for epoch := farm.Epoch(2); epoch < 10; epoch++ {
		must(t, os.Remove(path))
		put(t, path, nil)
		put(t, path, content(epoch, "db1")[:40])
		put(t, path, content(epoch, "db1"))
		told.acceptedEpoch(t, epoch)
	}
}

func TestWatchStartsWithoutAFile(t *testing.T) {
	top := t.TempDir()
	path := filepath.Join(top, "etc", "farmhand", "topology.json")
	w, told := watch(t, path, quick)
	told.refusedFor(t, Vanished)
	if w.Current() != nil {
		t.Fatalf("current is %v; want none", w.Current())
	}
	must(t, os.MkdirAll(filepath.Dir(path), 0o755)) // the directory comes later
	swap(t, path, content(1, "db1"))
	told.acceptedEpoch(t, 1)

	must(t, os.RemoveAll(filepath.Join(top, "etc"))) // goes
	told.refusedFor(t, Vanished)
	must(t, os.MkdirAll(filepath.Dir(path), 0o755)) // and comes back
	swap(t, path, content(2, "db1"))
	told.acceptedEpoch(t, 2)

	must(t, os.Rename(filepath.Dir(path), filepath.Dir(path)+".old")) // is replaced
	must(t, os.Mkdir(filepath.Dir(path), 0o755))
	swap(t, path, content(3, "db1"))
	told.afterGap(t, 3)
}

// TestWatchFollowsLinks swaps a whole directory by one link, as a Kubernetes
// volume does with its ..data.
func TestWatchFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	version := func(name string, epoch farm.Epoch) {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
		put(t, filepath.Join(dir, name, "topology.json"), content(epoch, "db1"))
		must(t, os.Symlink(name, filepath.Join(dir, "..data_tmp")))
		must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	}
	version("..1", 1)
	path := filepath.Join(dir, "topology.json")
	must(t, os.Symlink("..data/topology.json", path))
	_, told := watch(t, path, quick)
	told.acceptedEpoch(t, 1)
	version("..2", 2)
	told.acceptedEpoch(t, 2)
	must(t, os.RemoveAll(filepath.Join(dir, "..1")))
	version("..3", 3)
	told.acceptedEpoch(t, 3)

	// The file behind the links, in a directory that is not the link's.
	swap(t, filepath.Join(dir, "..3", "topology.json"), content(4, "db1"))
	told.acceptedEpoch(t, 4)
}

func TestWatchFollowsALinkedDirectory(t *testing.T) {
	top := t.TempDir()
	for i, name := range []string{"v1", "v2"} {
		must(t, os.MkdirAll(filepath.Join(top, "versions", name), 0o755))
		put(t, filepath.Join(top, "versions", name, "topology.json"), content(farm.Epoch(i+1), "db1"))
	}
	current := filepath.Join(top, "current")
	must(t, os.Symlink("versions/../versions/v1", current))
	_, told := watch(t, filepath.Join(current, "topology.json"), quick)
	told.acceptedEpoch(t, 1)
	must(t, os.Symlink(filepath.Join(top, "versions", "v2"), current+".new"))
	must(t, os.Rename(current+".new", current))
	told.acceptedEpoch(t, 2)
	swap(t, filepath.Join(top, "versions", "v2", "topology.json"), content(3, "db1"))
	told.acceptedEpoch(t, 3)
}

// TestWatchPolls moves a directory two levels up, which makes no event in what
// is watched.
func TestWatchPolls(t *testing.T) {
	top := t.TempDir()
	path := filepath.Join(top, "a", "b", "topology.json")
	for i, name := range []string{"a", "a.new"} {
		must(t, os.MkdirAll(filepath.Join(top, name, "b"), 0o755))
		put(t, filepath.Join(top, name, "b", "topology.json"), content(farm.Epoch(i+1), "db1"))
	}
	polling := quick
	polling.Poll = 20 * time.Millisecond
	_, told := watch(t, path, polling)
	told.acceptedEpoch(t, 1)
	must(t, os.Rename(filepath.Join(top, "a"), filepath.Join(top, "a.old")))
	must(t, os.Rename(filepath.Join(top, "a.new"), filepath.Join(top, "a")))
	told.afterGap(t, 2)
	swap(t, path, content(3, "db1"))
	told.acceptedEpoch(t, 3)
}

func TestReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "topology.json")
	put(t, path, content(1, "db1"))
	deaf := quick
	deaf.Debounce = time.Hour
	w, told := watch(t, path, deaf)
	told.acceptedEpoch(t, 1)
	swap(t, path, content(2, "db1"))
	w.Reload()
	told.acceptedEpoch(t, 2)
}
