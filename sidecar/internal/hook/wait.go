package hook

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"farmhand/internal/farm"
	"farmhand/sidecar/internal/command"
)

// waiting is who waits for the hooks of an event.
type waiting struct {
	mu sync.Mutex
	// over are the events that only asynchronous hooks are left of.
	over map[string]bool
	news chan struct{} // closed, and another one made, when hooks have ended
}

func newWaiting() waiting { return waiting{over: map[string]bool{}, news: make(chan struct{})} }

// ended notes that the hooks of an event that are waited for have ended. It is later
// that the whole event has: then the journal knows it.
func (w *waiting) ended(id string, whole bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if whole {
		delete(w.over, id)
	} else {
		w.over[id] = true
	}
	close(w.news)
	w.news = make(chan struct{})
}

func (w *waiting) look(id string) (over bool, news <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.over[id], w.news
}

// PutOnce is [Runner.Put] of an event that may have been put before, as long as it
// waits or the journal still knows it.
func (r *Runner) PutOnce(e farm.Event) error {
	// In this order: what leaves the spool is in the journal by then.
	entries, err := r.spool.list()
	if err != nil {
		return err
	}
	for _, entry := range entries {
		waits, err := r.spool.read(entry)
		switch {
		case errors.Is(err, errNoEvent):
		case errors.Is(err, fs.ErrNotExist):
			// It has another name now, or is over.
			return r.PutOnce(e)
		case err != nil:
			return err
		case waits.ID == e.ID:
			return nil
		}
	}
	if _, over, err := r.outcome(e.ID); err != nil || over {
		return err
	}
	return r.Put(e)
}

// Await returns how many of an event's hooks did not end well, once all that are
// waited for have ended; those whose names end in .async are not. The error is ctx's
// cause, or why the journal cannot be read.
func (r *Runner) Await(ctx context.Context, id string) (failed int, err error) {
	for {
		over, news := r.look(id)
		failed, whole, err := r.outcome(id)
		if err != nil || over || whole {
			return failed, err
		}
		select {
		case <-news:
		case <-ctx.Done():
			return 0, fmt.Errorf("wait for the hooks of event %s: %w", id, context.Cause(ctx))
		}
	}
}

// outcome is what the journal has of an event's hooks, those that nobody waits for
// aside: how many have not ended well the last time, and whether the event is over.
func (r *Runner) outcome(id string) (failed int, over bool, err error) {
	attempt := 0
	_, err = ReadJournal(r.o.State, func(record Record) {
		switch {
		case record.Event != id:
		case record.Hook == "":
			over = true
		case record.Async:
		default:
			if record.Attempt > attempt {
				attempt, failed = record.Attempt, 0
			}
			if record.Result != string(command.OK) {
				failed++
			}
		}
	})
	return failed, over, err
}
