package backend

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// turn is a session that waits for a connection because a limit is reached.
type turn struct {
	k     key
	want  *Want
	since time.Time
	// What it was given, before ready is closed: a connection, or leave to open
	// one, for which there is room reserved.
	conn  *Conn
	given bool
	ready chan struct{}
}

// queue is who waits for connections to one server. Each user's turns come in
// the order in which they came, and the users take turns: one with many clients
// does not keep the others waiting.
type queue struct {
	users []*userQueue // the first one is next
	n     int
}

type userQueue struct {
	login [32]byte
	turns []*turn
}

func (q *queue) empty() bool { return q.n == 0 }
func (q *queue) len() int    { return q.n }

func (q *queue) add(t *turn) {
	q.n++
	for _, u := range q.users {
		if u.login == t.k.login {
			u.turns = append(u.turns, t)
			return
		}
	}
	q.users = append(q.users, &userQueue{t.k.login, []*turn{t}})
}

// next returns the first turn, in the users' order, that ok accepts.
func (q *queue) next(ok func(*turn) bool) *turn {
	for _, u := range q.users {
		for _, t := range u.turns {
			if ok(t) {
				return t
			}
		}
	}
	return nil
}

// remove takes a turn out; its user is the last one now.
func (q *queue) remove(t *turn) bool {
	for i, u := range q.users {
		if u.login != t.k.login {
			continue
		}
		at := slices.Index(u.turns, t)
		if at < 0 {
			return false
		}
		q.n--
		u.turns = slices.Delete(u.turns, at, at+1)
		q.users = slices.Delete(q.users, i, i+1)
		if len(u.turns) > 0 {
			q.users = append(q.users, u)
		}
		return true
	}
	return false
}

// enqueue gives w a turn. The caller has the lock, as for all below but await.
func (p *Pool) enqueue(pl *place, k key, w *Want) *turn {
	t := &turn{k: k, want: w, since: time.Now(), ready: make(chan struct{})}
	pl.queue.add(t)
	p.waiting.Add(1)
	p.metrics.queued.WithLabelValues(k.server).Set(float64(pl.queue.len()))
	return t
}

// leave takes a turn out of the queue.
func (p *Pool) leave(pl *place, t *turn) {
	if pl.queue.remove(t) {
		p.waiting.Add(-1)
		p.metrics.queued.WithLabelValues(t.k.server).Set(float64(pl.queue.len()))
	}
}

// grant ends a turn: with c, or with leave to open a connection.
func (p *Pool) grant(pl *place, t *turn, c *Conn) {
	p.leave(pl, t)
	t.conn, t.given = c, true
	close(t.ready)
}

// serve gives those who wait what there is: room for another connection, or
// connections that sessions have lent.
func (p *Pool) serve(pl *place) {
	for !pl.queue.empty() {
		t := pl.queue.next(func(t *turn) bool { return p.serveTurn(pl, t) })
		if t == nil {
			return
		}
	}
}

// serveTurn gives a turn something, if there is anything for it.
func (p *Pool) serveTurn(pl *place, t *turn) bool {
	if c := pl.claimLent(t.k, t.want, 0, 0); c != nil {
		p.grant(pl, t, p.took(pl, c))
		return true
	}
	if !p.hasRoom(pl, t.k) && !pl.closeIdle(p, t.k) && !pl.closeLent(p, t.k) {
		return false
	}
	p.reserve(pl, t.k)
	p.grant(pl, t, nil)
	return true
}

// suits finds the turn that a connection that has become free is for: the first
// one, in the users' order, that can use it as it is. One that cannot lets others
// go before it for a moment only: then the connection is better closed, to make
// room for its own.
func (p *Pool) suits(pl *place, c *Conn) *turn {
	now := time.Now()
	t := pl.queue.next(func(t *turn) bool {
		return t.k == c.key && c.grade(t.want) > useless || now.Sub(t.since) >= p.patience
	})
	if t == nil || t.k != c.key || c.grade(t.want) == useless {
		return nil
	}
	return t
}

// give gives a connection that has become free to somebody who waits for it. If
// it does not, and somebody waits, it is to be closed.
func (p *Pool) give(pl *place, c *Conn) bool {
	t := p.suits(pl, c)
	if t == nil {
		return false
	}
	p.grant(pl, t, c)
	return true
}

// offer gives a connection that its session lends, and that is claimed, to who
// waits for one.
func (p *Pool) offer(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pl := p.place(c.key.server)
	if t := p.suits(pl, c); t != nil {
		p.grant(pl, t, p.took(pl, c))
		return
	}
	c.keepLent()
	p.serve(pl) // which may close it to make room
}

// await waits for a turn to come.
func (p *Pool) await(ctx context.Context, t *turn, w *Want) error {
	timer := time.NewTimer(p.opt.WaitTimeout)
	defer timer.Stop()
	// Also of a wait in vain: it is the longest that there is.
	defer func() { p.metrics.waited.Observe(time.Since(t.since).Seconds()) }()
	var err error
	select {
	case <-t.ready:
		return nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-timer.C:
		err = fmt.Errorf("every connection that the limits allow is in use (pool.max_per_server, pool.max_per_user, or the server's own), for %v now", p.opt.WaitTimeout)
	}
	p.mu.Lock()
	pl := p.place(t.k.server)
	if !t.given {
		p.leave(pl, t)
		p.mu.Unlock()
		return &ConnectError{Server: w.Server.Name, Err: err}
	}
	// It was given something at the same time.
	c := t.conn
	if c == nil {
		p.free(pl, t.k)
		p.serve(pl)
	}
	p.mu.Unlock()
	if c != nil {
		c.told(err)
		p.drop(c, "not needed")
	}
	return &ConnectError{Server: w.Server.Name, Err: err}
}
