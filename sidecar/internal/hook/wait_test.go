package hook

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"farmhand/internal/farm"
)

// TestHooksAreAwaited: those that are waited for, whether the sidecar is started anew
// meanwhile or not, and an event that is put again is none.
func TestHooksAreAwaited(t *testing.T) {
	w := newWorld(t)
	w.hook(t, farm.BeforeHostTerminate, "10-fails", "echo ran >>"+w.dir+"/log; exit 1")
	w.hook(t, farm.BeforeHostTerminate, "20-waits", "while ! [ -e "+w.dir+"/go ]; do sleep 0.05; done")
	w.hook(t, farm.BeforeHostTerminate, "30-late.async", "while ! [ -e "+w.dir+"/end ]; do sleep 0.05; done")
	w.options.Limits = map[farm.EventKind]time.Duration{farm.HostDown: 300 * time.Millisecond}
	w.hook(t, farm.HostDown, "10-hangs", "sleep 1000")
	r := w.run(t)
	e := w.event(farm.BeforeHostTerminate, "web1")
	must(t, r.PutOnce(e))
	must(t, r.PutOnce(e))
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("no time")
	failed := make(chan error, 1)
	go func() {
		_, err := r.Await(ctx, e.ID)
		failed <- err
	}()
	cancel(why)
	if err := <-failed; !errors.Is(err, why) {
		t.Errorf("waited: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(w.dir, "go"), nil, 0o644))
	wait := func(r *Runner) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if n, err := r.Await(ctx, e.ID); n != 1 || err != nil {
			t.Errorf("%d failed, %v", n, err)
		}
	}
	wait(r)
	if w.pending(t) != 1 {
		t.Error("the last one has ended, too")
	}
	w.kill(t)
	r = w.run(t) // with only the last one left
	wait(r)
	must(t, r.PutOnce(e))
	must(t, os.WriteFile(filepath.Join(w.dir, "end"), nil, 0o644))
	w.await(t, e)
	wait(r)
	must(t, r.PutOnce(e))
	if n := w.pending(t); n != 0 || len(lines(read(t, w.dir+"/log"))) != 1 {
		t.Errorf("%d events wait; ran: %s", n, read(t, w.dir+"/log"))
	}
	// A kind of event can have a limit of its own.
	down := w.put(t, w.event(farm.HostDown, "web1"))
	if n, err := r.Await(t.Context(), down.ID); n != 1 || err != nil {
		t.Errorf("%d failed, %v", n, err)
	}
}
