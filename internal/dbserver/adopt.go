package dbserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"farmhand/internal/process"
)

// running is a server's process: our own child, or one that an earlier run has
// started.
type running interface {
	PID() int
	Done() <-chan struct{}
	// Err and Ended wait for the end; Ended is never nil.
	Err() error
	Ended() error
	// Signal is false if the process has ended.
	Signal(syscall.Signal) bool
}

// Found is what is left of an earlier run on a directory.
type Found int

// What Adopt finds.
const (
	// Nothing: the last server was stopped in order, or there was none.
	Nothing Found = iota
	// Dead: the last server ended in some other way.
	Dead
	// Alive: it runs.
	Alive
)

// Adopt returns the server that an earlier run of this program started on the
// directory, if that still runs. Whether it answers is for the caller to see. It
// must be released when it is not needed any more, also after its end.
func Adopt(inst Install, c Config) (*Server, Found, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, Nothing, err
	}
	left, err := openRecorded(c.pidFile())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, Nothing, nil
	case errors.Is(err, process.ErrGone):
		return nil, Dead, nil
	case err != nil:
		return nil, Nothing, err
	}
	secret, err := os.ReadFile(c.secretFile())
	if err != nil {
		return nil, Nothing, errors.Join(fmt.Errorf("adopt server in %s: %w", c.Dir, err), left.Close())
	}
	return &Server{inst: inst, config: c, secret: string(secret), child: adopt(left)}, Alive, nil
}

// adopted is a process that is nobody's child here. It is watched until it ends
// or is released.
type adopted struct {
	mu       sync.Mutex
	handle   *process.Handle // nil after the release
	pid      int
	release  context.CancelFunc
	done     chan struct{} // closed at the process's end
	released chan struct{} // closed when nobody watches any more
}

// adopt takes the handle over.
func adopt(handle *process.Handle) *adopted {
	ctx, release := context.WithCancel(context.Background())
	a := &adopted{handle: handle, pid: handle.PID, release: release, done: make(chan struct{}), released: make(chan struct{})}
	go func() {
		defer close(a.released)
		for ctx.Err() == nil {
			if handle.Await(ctx) == nil {
				close(a.done)
				return
			}
		}
	}()
	return a
}

func (a *adopted) PID() int              { return a.pid }
func (a *adopted) Done() <-chan struct{} { return a.done }

// errUnknownEnd: only a parent learns how a process ended.
var errUnknownEnd = errors.New("how it ended is not known: an earlier run had started it")

func (a *adopted) Err() error {
	<-a.done
	return errUnknownEnd
}

func (a *adopted) Ended() error { return a.Err() }

func (a *adopted) Signal(sig syscall.Signal) bool {
	select {
	case <-a.done:
		return false // it may not be reaped yet
	default:
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.handle != nil && a.handle.Signal(sig) == nil
}

// Release lets go of a process that was adopted: it is not watched any more. Of the
// server nothing else may be called after it. It does nothing to a child, whose end
// must be awaited.
func (s *Server) Release() {
	if a, ok := s.child.(*adopted); ok {
		a.release()
		<-a.released
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.handle != nil {
			_ = a.handle.Close() // it was only watched
			a.handle = nil
		}
	}
}
