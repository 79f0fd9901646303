package frontend

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrDraining says that the proxy is about to end and takes nobody more.
var ErrDraining = errors.New("the proxy is shutting down")

// Drainable is a session as the end of the proxy sees it. Both methods are
// called by another goroutine than the session's, must not block, and may come
// after the session's end.
type Drainable interface {
	// Drain asks the session to end as soon as it is idle and outside a
	// transaction: at once, if it is so now.
	Drain()
	// Abort ends the session whatever it does.
	Abort(cause error)
}

// Drainer ends sessions when the proxy does.
type Drainer struct {
	mu       sync.Mutex
	draining bool
	members  map[Drainable]struct{}
	empty    chan struct{} // closed when draining and no member is left
}

// NewDrainer returns a drainer without members.
func NewDrainer() *Drainer {
	return &Drainer{members: make(map[Drainable]struct{}), empty: make(chan struct{})}
}

// Join adds a session; the leave that it returns must be called at its end. It
// fails with [ErrDraining] once Drain was called.
func (d *Drainer) Join(s Drainable) (leave func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.draining {
		return nil, ErrDraining
	}
	d.members[s] = struct{}{}
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.members, s)
		if d.draining && len(d.members) == 0 {
			close(d.empty)
		}
	}), nil
}

// Drained is how a drain went.
type Drained struct {
	Ended   int // sessions that ended by themselves
	Aborted int // those that had to be ended at the limit
}

// Drain asks every session to end, waits until they have, aborts those that are
// left after the limit or at the end of ctx, and waits for these as well: an
// aborted session must leave. It may be called once.
func (d *Drainer) Drain(ctx context.Context, limit time.Duration) Drained {
	d.mu.Lock()
	d.draining = true
	members := d.list()
	if len(members) == 0 {
		close(d.empty)
	}
	d.mu.Unlock()
	for _, s := range members {
		s.Drain()
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-d.empty:
		return Drained{Ended: len(members)}
	case <-timer.C:
	case <-ctx.Done():
	}
	d.mu.Lock()
	late := d.list()
	d.mu.Unlock()
	for _, s := range late {
		s.Abort(ErrDraining)
	}
	<-d.empty
	return Drained{Ended: len(members) - len(late), Aborted: len(late)}
}

func (d *Drainer) list() []Drainable {
	members := make([]Drainable, 0, len(d.members))
	for s := range d.members {
		members = append(members, s)
	}
	return members
}
