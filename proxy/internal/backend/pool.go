package backend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"farmhand/proxy/internal/wire"

	"github.com/prometheus/client_golang/prometheus"
)

// Options are a pool's limits.
type Options struct {
	MaxPerServer   int           // connections to one server; 0 is no limit
	MaxPerUser     int           // connections to one server of one user; 0 is no limit of its own
	IdlePerUser    int           // idle connections kept for each server, user and shape
	IdleTimeout    time.Duration // an idle connection is closed after it, and so is one that an idle session keeps
	MaxLifetime    time.Duration // a connection older than it is not kept; 0 is no limit
	ConnectTimeout time.Duration // of dialing and logging in
	ResetTimeout   time.Duration // of cleaning a connection
	WaitTimeout    time.Duration // of waiting for a connection where a limit is reached
	Warm           bool          // connections are opened ahead of demand
	TLS            TLS
	// Report is told of every failure to connect and its server.
	Report func(server string, err error)
}

// Pool keeps connections to servers and hands them out. Its methods may be
// called by any goroutine.
type Pool struct {
	opt     Options
	metrics metrics
	work    sync.WaitGroup // cleaning and warming in the background
	// verifyAfter is how long a connection is idle before it is asked whether it
	// still works: its server may be unreachable, its schema gone.
	verifyAfter time.Duration
	// patience is how long somebody who waits for a connection lets others go first
	// because one that is free suits them as it is.
	patience time.Duration
	waiting  atomic.Int32 // of all places' queues

	mu     sync.Mutex
	places map[string]*place                 // by server name
	stays  func(server, address string) bool // nil for all
	gone   bool
}

// NewPool returns a pool that registers its metrics with reg.
func NewPool(opt Options, reg prometheus.Registerer) *Pool {
	return &Pool{
		opt: opt, verifyAfter: time.Second, patience: 20 * time.Millisecond, places: map[string]*place{},
		metrics: newMetrics(reg),
	}
}

// Get returns a connection for w: one from the pool, one that another session
// has lent, or a new one; where a limit is reached it waits its turn. The
// connection has no settings but such as w's override, and none of w's own need
// be on it yet. An error is the end of ctx, or a *ConnectError: nothing was sent
// for the client.
func (p *Pool) Get(ctx context.Context, w *Want) (*Conn, error) {
	k := w.key()
	var turn *turn
	var full error // the server's own refusal
	for {
		g := p.find(k, w, turn)
		turn = nil
		switch {
		case g.conn != nil:
			ok, err := p.ready(ctx, g, w)
			if err != nil {
				return nil, err
			}
			if ok {
				return g.conn, nil
			}
		case g.open:
			c, err := p.open(ctx, k, w)
			if err == nil || !p.serverIsFull(k, err) {
				return c, err
			}
			full = err
		default:
			if err := p.await(ctx, g.turn, w); err != nil {
				if full != nil && ctx.Err() == nil {
					err = full
				}
				return nil, err
			}
			turn = g.turn
		}
	}
}

// Suits tells whether a connection is idle that Get would return for w without
// asking its server anything.
func (p *Pool) Suits(w *Want) bool {
	k := w.key()
	p.mu.Lock()
	defer p.mu.Unlock()
	pl := p.places[k.server]
	if pl == nil {
		return false
	}
	list := pl.idle[k]
	for i := len(list) - 1; i >= 0 && i >= len(list)-searched; i-- {
		if c := list[i]; c.grade(w) == perfect {
			return time.Since(c.idleSince) < p.verifyAfter || c.unclean
		}
	}
	return false
}

// grant is what find came to: a connection, leave to open one, or a turn in the
// queue to wait for.
type grant struct {
	conn *Conn
	idle time.Duration // how long conn was idle
	lent bool          // conn was another session's
	open bool
	turn *turn
}

// find looks for a connection. turn is the caller's, that has come.
func (p *Pool) find(k key, w *Want, t *turn) grant {
	p.mu.Lock()
	defer p.mu.Unlock()
	pl := p.place(k.server)
	if t != nil {
		// What it was given is its own already.
		if t.conn != nil {
			return grant{conn: t.conn, lent: true}
		}
		return grant{open: true}
	}
	pl.wanted(k, w)
	if c := pl.takeIdle(p, k, w); c != nil {
		return grant{conn: c, idle: time.Since(c.idleSince)}
	}
	if w.Urgent {
		p.reserve(pl, k)
		return grant{open: true}
	}
	if pl.queue.empty() {
		// A session that has been quiet for a while is not likely to miss its
		// connection; one that asks now would have to wait for a new one.
		if c := pl.claimLent(k, w, quiet, searched); c != nil {
			return grant{conn: p.took(pl, c), lent: true}
		}
		if p.hasRoom(pl, k) {
			p.reserve(pl, k)
			return grant{open: true}
		}
	}
	g := grant{turn: p.enqueue(pl, k, w)}
	// Of what sessions have lent until now nobody tells again.
	p.serve(pl)
	return g
}

// Bounds of the search for a connection that a quiet session has lent, where a
// new one could be opened as well.
const (
	quiet    = 100 * time.Millisecond
	searched = 64
)

// open opens a connection, for which there is room.
func (p *Pool) open(ctx context.Context, k key, w *Want) (*Conn, error) {
	dialing, cancel := p.connectContext(ctx)
	defer cancel()
	c, err := dial(dialing, w.Server, w.Credential, k.shape, w.Schema, p.opt.TLS)
	if err != nil {
		p.mu.Lock()
		pl := p.place(k.server)
		p.free(pl, k)
		p.serve(pl)
		p.mu.Unlock()
		p.metrics.failed.WithLabelValues(k.server).Inc()
		p.report(ctx, k.server, err)
		return nil, &ConnectError{Server: k.server, Err: err}
	}
	c.key = k
	p.metrics.opened.WithLabelValues(k.server).Inc()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handOut(p.place(k.server), c)
	return c, nil
}

// handOut counts a connection that leaves the pool.
func (p *Pool) handOut(pl *place, c *Conn) {
	c.at = len(pl.out)
	pl.out = append(pl.out, c)
	if c.demand = pl.logins[c.key]; c.demand != nil {
		c.demand.took()
	}
	pl.active.Set(float64(len(pl.out)))
}

// takeBack counts a connection that comes back, or is gone.
func (p *Pool) takeBack(pl *place, c *Conn) {
	if c.at < 0 { // its next user would share it
		panic("backend: a connection is given back that is not handed out")
	}
	last := len(pl.out) - 1
	pl.out[c.at] = pl.out[last]
	pl.out[c.at].at = c.at
	pl.out[last] = nil
	pl.out = pl.out[:last]
	c.at = -1
	if c.demand != nil {
		c.demand.used--
		c.demand = nil
	}
	pl.active.Set(float64(len(pl.out)))
}

// serverIsFull tells whether a server has refused a connection because it has
// too many. So many as there are is then the limit, for a while.
func (p *Pool) serverIsFull(k key, err error) bool {
	var e *wire.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case 1040, 1203, 1226: // too many connections: of all, of the user, of its resources
	default:
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	pl := p.place(k.server)
	if pl.users[k.login] == 0 {
		return false // nobody would ever give one back
	}
	pl.limit, pl.limitUntil = pl.total, time.Now().Add(fullFor)
	return true
}

// fullFor is how long a server is taken to be full after it said so.
const fullFor = 2 * time.Second

func (p *Pool) connectContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, p.opt.ConnectTimeout, fmt.Errorf("no answer within %v", p.opt.ConnectTimeout))
}

// report tells of a server that cannot be reached, which one is not that refuses
// this client, or that the client did not wait for.
func (p *Pool) report(ctx context.Context, server string, err error) {
	if p.opt.Report != nil && !isServerError(err) && ctx.Err() == nil {
		p.opt.Report(server, err)
	}
}

// unlooked is how long a connection may be idle without a look whether it is still
// there. One that is not costs a read another try; writes look themselves.
const unlooked = 20 * time.Millisecond

// ready makes a connection that was in use before fit for w. ok is false where
// it is of no use: it is closed then, and another one or a new one is worth a
// try. An error is what Get returns.
func (p *Pool) ready(ctx context.Context, g grant, w *Want) (ok bool, err error) {
	c := g.conn
	if g.idle > unlooked {
		if err := c.Alive(); err != nil {
			c.told(err)
			p.drop(c, "closed by the server")
			return false, nil
		}
	}
	reload := g.idle >= p.verifyAfter && !c.unclean // whom a reset would not bring back
	fits := w.Settings.Overrides(c.Settings) && !(w.Clean && c.Used) && (c.Settings == nil || !c.Settings.user || w.Settings.Equal(c.Settings))
	if !fits && c.unclean {
		if err := c.tellInserted(); err != nil {
			c.MarkBroken()
		}
		p.drop(c, "login state")
		return false, nil
	}
	if fits && !reload && c.parting.Inserted == nil {
		c.closeStatements()
		p.metrics.reused.WithLabelValues(c.key.server).Inc()
		return true, nil
	}
	asking, cancel := p.connectContext(ctx)
	defer cancel()
	stop := context.AfterFunc(asking, func() { _ = c.raw.SetDeadline(time.Unix(1, 0)) })
	if err = c.tellInserted(); err == nil && (!fits || reload) {
		if w.Schema != "" {
			c.Schema = w.Schema
		}
		err = c.reset(reload)
	}
	if !stop() {
		// The server is silent: another connection would say no more.
		c.MarkBroken()
		c.told(context.Cause(asking))
		p.drop(c, "no answer")
		p.report(ctx, c.key.server, context.Cause(asking))
		return false, &ConnectError{Server: c.key.server, Err: context.Cause(asking)}
	}
	if err != nil {
		c.MarkBroken()
		p.drop(c, "reset failed")
		return false, nil
	}
	c.closeStatements()
	p.metrics.reused.WithLabelValues(c.key.server).Inc()
	return true, nil
}

// Put gives a connection back, which is not to be used by the caller any more.
// Where asIs is set it carries nothing but settings, which another session may
// have as well; else it is cleaned in the background. It is kept, or closed
// where it is broken, too old or one too many.
func (p *Pool) Put(c *Conn, asIs bool) {
	c.pass()
	switch {
	case c.Broken():
		p.drop(c, "broken")
	case c.unclean:
		p.drop(c, "login state")
	case p.opt.MaxLifetime > 0 && time.Since(c.created) > p.opt.MaxLifetime:
		p.drop(c, "too old")
	case asIs:
		p.keep(c)
	default:
		p.mu.Lock()
		gone := p.gone
		pl := p.place(c.key.server)
		full := pl.queue.empty() && len(pl.idle[c.key]) >= p.kept(pl, c.key)
		if !gone && !full {
			p.work.Add(1)
		}
		p.mu.Unlock()
		if gone || full {
			p.drop(c, "pool full")
			return
		}
		go func() {
			defer p.work.Done()
			_ = c.SetDeadline(time.Now().Add(p.opt.ResetTimeout))
			if err := c.Reset(); err != nil {
				p.drop(c, "reset failed")
				return
			}
			_ = c.SetDeadline(time.Time{})
			p.keep(c)
		}()
	}
}

// keep makes a connection idle, or gives it to who waits for it.
func (p *Pool) keep(c *Conn) {
	c.Idle()
	reason := "pool full"
	p.mu.Lock()
	pl := p.place(c.key.server)
	c.pass()
	switch {
	case p.gone:
	case p.give(pl, c):
		p.mu.Unlock()
		return
	case !pl.queue.empty(): // it makes room for another kind
	case p.leaves(c.key):
		reason = "server left"
	case len(pl.idle[c.key]) < p.kept(pl, c.key):
		p.takeBack(pl, c)
		c.idleSince = time.Now()
		pl.setIdle(p, c.key, append(pl.idle[c.key], c))
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	p.drop(c, reason)
}

// Close closes a connection that is not to be used again, because of reason.
func (p *Pool) Close(c *Conn, reason string) { p.drop(c, reason) }

// drop closes a connection that was handed out.
func (p *Pool) drop(c *Conn, reason string) {
	p.mu.Lock()
	func() {
		defer p.mu.Unlock() // also where it was given back before, which must not stop everybody
		pl := p.place(c.key.server)
		c.pass()
		p.takeBack(pl, c)
		p.free(pl, c.key)
		p.serve(pl)
	}()
	p.closeConn(c, reason)
}

func (p *Pool) closeConn(c *Conn, reason string) {
	p.metrics.closed.WithLabelValues(c.key.server, reason).Inc()
	if !c.Broken() {
		// COM_QUIT, as far as the socket takes it: a server counts connections
		// that end without as aborted.
		_ = c.SetDeadline(time.Now().Add(time.Second))
		c.WriteCommand([]byte{byte(wire.ComQuit)})
		_ = c.Flush()
	}
	_ = c.Conn.Close()
}

// SetMultiStatements sends a COM_SET_OPTION that allows or forbids several
// statements in a text on a connection that the caller holds.
func (p *Pool) SetMultiStatements(c *Conn, command []byte, allowed bool) error {
	if err := c.setMultiStatements(command); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c.key.shape &^= wire.ClientMultiStatements
	if allowed {
		c.key.shape |= wire.ClientMultiStatements
	}
	return nil
}

// Keep closes the idle connections of servers for which keep returns false, those that
// idle sessions have lent, and those that come back: who waits until nobody uses
// such a server any more need not wait longer than its statements take.
func (p *Pool) Keep(keep func(server, address string) bool) {
	p.mu.Lock()
	p.stays = keep
	p.mu.Unlock()
	p.sweep("server left", func(c *Conn) bool { return keep(c.key.server, c.key.address) })
}

// leaves reports whether connections of a kind are not to be kept.
func (p *Pool) leaves(k key) bool { return p.stays != nil && !p.stays(k.server, k.address) }

// Forget closes the idle connections of a login (auth.Credential.Key).
func (p *Pool) Forget(login [32]byte) {
	p.sweep("login changed", func(c *Conn) bool { return c.key.login != login })
}

// Break wakes the sessions that wait for answers of a server which is known to
// give none any more: their connections fail.
func (p *Pool) Break(server, address string) {
	p.sweep("server is silent", func(c *Conn) bool { return c.key.server != server || c.key.address != address })
	var silent []net.Conn
	p.mu.Lock()
	if pl := p.places[server]; pl != nil {
		for _, c := range pl.out {
			if c.key.address == address {
				silent = append(silent, c.raw)
			}
		}
	}
	p.mu.Unlock()
	for _, c := range silent { // who is woken may need the pool
		_ = c.SetDeadline(time.Unix(1, 0)) // it fails on a closed one only
	}
}

// Busy reports whether a session has a connection to the server at that address.
func (p *Pool) Busy(server, address string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pl := p.places[server]; pl != nil {
		for _, c := range pl.out {
			if c.key.address == address {
				return true
			}
		}
	}
	return false
}

func (p *Pool) sweep(reason string, keep func(*Conn) bool) {
	var out []*Conn
	p.mu.Lock()
	for _, pl := range p.places {
		for k, list := range pl.idle {
			kept := list[:0:0]
			for _, c := range list {
				if keep(c) {
					kept = append(kept, c)
				} else {
					out = append(out, c)
					p.free(pl, k)
				}
			}
			if len(kept) != len(list) {
				pl.setIdle(p, k, kept)
			}
		}
		p.serve(pl)
	}
	p.mu.Unlock()
	for _, c := range out {
		p.closeConn(c, reason)
	}
}

// Run closes connections past their time and opens some ahead of demand, until
// ctx ends; then it closes all idle ones and waits for what is under way.
func (p *Pool) Run(ctx context.Context) error {
	tick := time.NewTicker(max(min(p.opt.IdleTimeout/4, time.Second), 10*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			p.mu.Lock()
			p.gone = true
			p.mu.Unlock()
			p.work.Wait()
			p.sweep("shutdown", func(*Conn) bool { return false })
			return nil
		case now := <-tick.C:
			p.sweep("closed by the server", func(c *Conn) bool { return c.Alive() == nil })
			p.sweep("idle", func(c *Conn) bool { return now.Sub(c.idleSince) < p.opt.IdleTimeout })
			p.reclaim(now)
			if p.opt.Warm {
				p.warm(ctx, now)
			}
		}
	}
}

// reclaim closes the connections that idle sessions have lent for long.
func (p *Pool) reclaim(now time.Time) {
	var out []*Conn
	p.mu.Lock()
	for _, pl := range p.places {
		for _, c := range pl.out {
			if !c.claim() {
				continue
			}
			if !p.leaves(c.key) && now.Sub(c.parting.Since) < p.opt.IdleTimeout || c.parting.Keep || c.parting.Inserted != nil {
				c.keepLent()
				continue
			}
			c.pass()
			out = append(out, c)
		}
	}
	p.mu.Unlock()
	for _, c := range out {
		p.drop(c, "idle")
	}
}

// Count is how many connections to a server the pool knows.
type Count struct{ Idle, Active, Waiting int }

// Counts returns the number of connections by server, for the console.
func (p *Pool) Counts() map[string]Count {
	p.mu.Lock()
	defer p.mu.Unlock()
	counts := map[string]Count{}
	for server, pl := range p.places {
		if c := (Count{Idle: pl.idleCount, Active: len(pl.out), Waiting: pl.queue.len()}); c != (Count{}) {
			counts[server] = c
		}
	}
	return counts
}
