package auth

import (
	"context"
	"crypto/sha256"
	"sync"
)

// flights lets callers with the same question share one answer while it is being
// found. The first caller finds it, in its own goroutine and under its own
// context; if that context ends, the next caller takes over.
type flights struct {
	mu      sync.Mutex
	running map[flightKey]*flight
}

// flightKey is a question: this credential, these rows, this database.
type flightKey struct {
	print, credential [sha256.Size]byte
	database          string
}

type flight struct {
	done      chan struct{} // closed when err and abandoned are set
	err       error
	abandoned bool // the caller that ran it gave up: err is about that caller only
}

// do runs ask or waits for one that runs. Its error is ask's, or ctx's.
func (f *flights) do(ctx context.Context, key flightKey, ask func() error) error {
	for {
		own, other := f.join(key)
		if other == nil {
			return f.run(ctx, key, own, ask)
		}
		select {
		case <-other.done:
			if !other.abandoned {
				return other.err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (f *flights) run(ctx context.Context, key flightKey, own *flight, ask func() error) error {
	own.abandoned = true // stays so if ask panics
	defer f.leave(key, own)
	own.err = ask()
	own.abandoned = own.err != nil && ctx.Err() != nil
	return own.err
}

// join starts a flight (own) or finds one that another caller runs.
func (f *flights) join(key flightKey) (own, other *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if other, ok := f.running[key]; ok {
		return nil, other
	}
	if f.running == nil {
		f.running = make(map[flightKey]*flight)
	}
	own = &flight{done: make(chan struct{})}
	f.running[key] = own
	return own, nil
}

func (f *flights) leave(key flightKey, own *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.running, key)
	close(own.done)
}
