package backend

import (
	"context"
	"fmt"
	"sync"
	"time"

	"farmhand/internal/farm"
	"farmhand/proxy/internal/auth"
	"farmhand/proxy/internal/wire"

	"github.com/prometheus/client_golang/prometheus"
)

// Options are a pool's limits.
type Options struct {
	IdlePerUser    int           // idle connections kept for each server, user and shape
	IdleTimeout    time.Duration // an idle connection is closed after it
	MaxLifetime    time.Duration // a connection older than it is not kept; 0 is no limit
	ConnectTimeout time.Duration // of dialing and logging in
	ResetTimeout   time.Duration // of cleaning a connection
	TLS            TLS
	// Report is told of every failure to connect and its server.
	Report func(server string, err error)
}

// key names the connections that are interchangeable.
type key struct {
	server  string
	address string
	login   [32]byte // auth.Credential.Key
	shape   wire.Capability
	// bare: without a default schema. There is no command that takes a schema
	// away, so a session that has none cannot use a connection that has one.
	bare bool
}

// Pool keeps idle connections. Its methods may be called by any goroutine.
type Pool struct {
	opt     Options
	metrics metrics
	cleans  sync.WaitGroup
	// verifyAfter is how long a connection is idle before it is asked whether it
	// still works: its server may be unreachable, its schema gone.
	verifyAfter time.Duration

	mu     sync.Mutex
	idle   map[key][]*idleConn // oldest first
	gone   bool
	active map[string]int // by server: handed out
}

type idleConn struct {
	*Conn
	since time.Time
}

type metrics struct {
	opened, reused, failed *prometheus.CounterVec
	closed                 *prometheus.CounterVec
	idle, active           *prometheus.GaugeVec
}

// NewPool returns a pool that registers its metrics with reg.
func NewPool(opt Options, reg prometheus.Registerer) *Pool {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		reg.MustRegister(c)
		return c
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"server"})
		reg.MustRegister(g)
		return g
	}
	return &Pool{
		opt: opt, verifyAfter: time.Second, idle: map[key][]*idleConn{}, active: map[string]int{},
		metrics: metrics{
			opened: counter("farmhand_proxy_server_connections_opened_total", "Connections opened to a server.", "server"),
			reused: counter("farmhand_proxy_server_connections_reused_total", "Connections to a server taken from the pool.", "server"),
			failed: counter("farmhand_proxy_server_connect_errors_total", "Failures to connect or log in to a server.", "server"),
			closed: counter("farmhand_proxy_server_connections_closed_total", "Connections to a server closed by the proxy, by reason.", "server", "reason"),
			idle:   gauge("farmhand_proxy_server_connections_idle", "Idle connections to a server."),
			active: gauge("farmhand_proxy_server_connections_active", "Connections to a server that sessions hold."),
		},
	}
}

// Get returns a clean connection to server for cred, from the pool or new. A
// failure is a *ConnectError: nothing was sent for the client.
func (p *Pool) Get(ctx context.Context, server farm.Server, cred *auth.Credential, shape wire.Capability, schema string) (*Conn, error) {
	k := key{server: server.Name, address: server.Address, login: cred.Key(), shape: shape & Shape, bare: schema == ""}
	for {
		c, idle := p.take(k)
		if c == nil {
			break
		}
		if err := c.Alive(); err != nil {
			p.drop(c, "closed by the server")
			continue
		}
		if idle >= p.verifyAfter {
			ok, err := p.verify(ctx, c, schema)
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
		}
		p.metrics.reused.WithLabelValues(server.Name).Inc()
		return c, nil
	}
	dialing, cancel := p.connectContext(ctx)
	defer cancel()
	c, err := dial(dialing, server, cred, k.shape, schema, p.opt.TLS)
	if err != nil {
		p.metrics.failed.WithLabelValues(server.Name).Inc()
		p.report(ctx, server.Name, err)
		return nil, &ConnectError{Server: server.Name, Err: err}
	}
	c.key = k
	p.metrics.opened.WithLabelValues(server.Name).Inc()
	p.count(server.Name, 1)
	return c, nil
}

func (p *Pool) connectContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, p.opt.ConnectTimeout, fmt.Errorf("no answer within %v", p.opt.ConnectTimeout))
}

// verify cleans a connection that was idle for long once more, for a session
// with the given schema: that shows whether the server still answers and has the
// schema, and what the schema's character set is by now. ok is false where it is
// of no use: it is closed then, and another one or a new one is worth a try. An
// error is what Get returns.
func (p *Pool) verify(ctx context.Context, c *Conn, schema string) (ok bool, err error) {
	asking, cancel := p.connectContext(ctx)
	defer cancel()
	stop := context.AfterFunc(asking, func() { _ = c.raw.SetDeadline(time.Unix(1, 0)) })
	c.Schema = schema
	err = c.reset(true)
	if !stop() {
		// The server is silent: another connection would say no more.
		c.MarkBroken()
		p.drop(c, "no answer")
		p.report(ctx, c.key.server, context.Cause(asking))
		return false, &ConnectError{Server: c.key.server, Err: context.Cause(asking)}
	}
	if err != nil {
		c.MarkBroken()
		p.drop(c, "reset failed")
		return false, nil
	}
	return true, nil
}

// report tells of a server that cannot be reached, which one is not that refuses
// this client, or that the client did not wait for.
func (p *Pool) report(ctx context.Context, server string, err error) {
	if p.opt.Report != nil && !isServerError(err) && ctx.Err() == nil {
		p.opt.Report(server, err)
	}
}

// take removes the youngest idle connection of k, and says for how long it was
// idle.
func (p *Pool) take(k key) (c *Conn, idle time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.idle[k]
	if len(list) == 0 {
		return nil, 0
	}
	last := list[len(list)-1]
	list[len(list)-1] = nil
	p.setIdle(k, list[:len(list)-1])
	p.countLocked(k.server, 1)
	return last.Conn, time.Since(last.since)
}

// setIdle replaces the idle list of k.
func (p *Pool) setIdle(k key, list []*idleConn) {
	before := len(p.idle[k])
	if len(list) == 0 {
		delete(p.idle, k)
	} else {
		p.idle[k] = list
	}
	p.metrics.idle.WithLabelValues(k.server).Add(float64(len(list) - before))
}

func (p *Pool) count(server string, by int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.countLocked(server, by)
}

func (p *Pool) countLocked(server string, by int) {
	p.active[server] += by
	if p.active[server] == 0 {
		delete(p.active, server)
	}
	p.metrics.active.WithLabelValues(server).Set(float64(p.active[server]))
}

// Put gives a connection back. It is cleaned in the background and kept, or
// closed where it is broken, too old or one too many.
func (p *Pool) Put(c *Conn) {
	c.key.bare = c.Schema == ""
	if c.Broken() {
		p.drop(c, "broken")
		return
	}
	if c.unclean {
		p.drop(c, "login state")
		return
	}
	if p.opt.MaxLifetime > 0 && time.Since(c.created) > p.opt.MaxLifetime {
		p.drop(c, "too old")
		return
	}
	p.mu.Lock()
	full := p.gone || len(p.idle[c.key]) >= p.opt.IdlePerUser
	if !full {
		p.cleans.Add(1)
	}
	p.mu.Unlock()
	if full {
		p.drop(c, "pool full")
		return
	}
	go func() {
		defer p.cleans.Done()
		p.clean(c)
	}()
}

func (p *Pool) clean(c *Conn) {
	_ = c.SetDeadline(time.Now().Add(p.opt.ResetTimeout))
	if err := c.Reset(); err != nil {
		p.drop(c, "reset failed")
		return
	}
	_ = c.SetDeadline(time.Time{})
	c.Idle()
	p.mu.Lock()
	full := p.gone || len(p.idle[c.key]) >= p.opt.IdlePerUser
	if !full {
		p.setIdle(c.key, append(p.idle[c.key], &idleConn{c, time.Now()}))
		p.countLocked(c.key.server, -1)
	}
	p.mu.Unlock()
	if full {
		p.drop(c, "pool full")
	}
}

// Close closes a connection that is not to be used again, because of reason.
func (p *Pool) Close(c *Conn, reason string) { p.drop(c, reason) }

// drop closes a connection that was handed out.
func (p *Pool) drop(c *Conn, reason string) {
	p.count(c.key.server, -1)
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

// Keep closes the idle connections of servers for which keep returns false.
func (p *Pool) Keep(keep func(server, address string) bool) {
	p.sweep("server left", func(c *idleConn) bool { return keep(c.key.server, c.key.address) })
}

// Forget closes the idle connections of a login (auth.Credential.Key).
func (p *Pool) Forget(login [32]byte) {
	p.sweep("login changed", func(c *idleConn) bool { return c.key.login != login })
}

func (p *Pool) sweep(reason string, keep func(*idleConn) bool) {
	var out []*Conn
	p.mu.Lock()
	for k, list := range p.idle {
		kept := list[:0:0]
		for _, c := range list {
			if keep(c) {
				kept = append(kept, c)
			} else {
				out = append(out, c.Conn)
			}
		}
		if len(kept) != len(list) {
			p.setIdle(k, kept)
		}
	}
	p.mu.Unlock()
	for _, c := range out {
		p.closeConn(c, reason)
	}
}

// Run closes idle connections past their time, until ctx ends; then it closes
// all and waits for the cleaning that is under way.
func (p *Pool) Run(ctx context.Context) error {
	tick := time.NewTicker(max(p.opt.IdleTimeout/4, 10*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			p.mu.Lock()
			p.gone = true
			p.mu.Unlock()
			p.cleans.Wait()
			p.sweep("shutdown", func(*idleConn) bool { return false })
			return nil
		case now := <-tick.C:
			p.sweep("idle", func(c *idleConn) bool {
				return now.Sub(c.since) < p.opt.IdleTimeout && c.Alive() == nil
			})
		}
	}
}

// Count is how many connections to a server the pool knows.
type Count struct{ Idle, Active int }

// Counts returns the number of connections by server, for the console.
func (p *Pool) Counts() map[string]Count {
	p.mu.Lock()
	defer p.mu.Unlock()
	counts := map[string]Count{}
	for k, list := range p.idle {
		n := counts[k.server]
		n.Idle += len(list)
		counts[k.server] = n
	}
	for s, n := range p.active {
		c := counts[s]
		c.Active = n
		counts[s] = c
	}
	return counts
}
