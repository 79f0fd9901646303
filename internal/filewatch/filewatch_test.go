package filewatch

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// What a watcher does about links, directories and half-written files is tested
// with a file of some meaning, in internal/topology.

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// words is a judge to whom a file is good if it begins with "good".
type words struct {
	taken chan Reading
	blind chan error
}

func newWords() words { return words{make(chan Reading, 10), make(chan error, 10)} }

func (w words) Good(r Reading) bool { return r.Err == nil && bytes.HasPrefix(r.Data, []byte("good")) }
func (w words) Take(r Reading)      { w.taken <- r }
func (w words) Blind(err error)     { w.blind <- err }

func next[T any](t *testing.T, from chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("nothing within 20 s")
		panic("not reached")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func swap(t *testing.T, path, content string) {
	t.Helper()
	must(t, os.WriteFile(path+".new", []byte(content), 0o644))
	must(t, os.Rename(path+".new", path))
}

var quick = Timing{Debounce: 5 * time.Millisecond, Settle: 50 * time.Millisecond, Poll: time.Hour, BlindPoll: 5 * time.Millisecond}

func TestWithoutEvents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	swap(t, path, "good 1")
	judge := newWords()
	w, err := New(path, 100, quick, judge)
	must(t, err)
	cause := errors.New("too many open files")
	r := run{w: w, ticker: time.NewTicker(time.Hour), unwatched: cause}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); defer r.stop(); r.loop(ctx, nil, nil) }()
	if got := next(t, judge.taken); string(got.Data) != "good 1" {
		t.Errorf("took %q", got.Data)
	}
	if got := next(t, judge.blind); got != cause {
		t.Errorf("told of %v", got)
	}
	swap(t, path, "good 2")
	if got := next(t, judge.taken); string(got.Data) != "good 2" {
		t.Errorf("took %q", got.Data)
	}
	stop()
	<-done
}

func TestChangesAreTakenOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	judge := newWords()
	w, err := New(path, 10, quick, judge)
	must(t, err)
	if got := next(t, judge.taken); !errors.Is(got.Err, os.ErrNotExist) {
		t.Errorf("took %+v", got)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	for _, content := range []string{"good 1", "bad", "good 1", "good and too long"} {
		swap(t, path, content)
		w.Reload() // and again for the event
		want := content[:min(len(content), 11)]
		if got := next(t, judge.taken); string(got.Data) != want || got.Err != nil {
			t.Errorf("took %q, %v; want %q", got.Data, got.Err, want)
		}
	}
	must(t, os.Remove(path))
	if got := next(t, judge.taken); !errors.Is(got.Err, os.ErrNotExist) {
		t.Errorf("took %+v", got)
	}
	must(t, os.Mkdir(path, 0o755))
	if got := next(t, judge.taken); got.Err == nil {
		t.Errorf("took %q of a directory", got.Data)
	}
	stop()
	must(t, <-done)
	if len(judge.taken) != 0 {
		t.Errorf("taken again: %v", <-judge.taken)
	}
}
