package consistency

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
	"farmhand/internal/mysqladmin"
	"farmhand/proxy/internal/monitor"
)

// Point is a position of the farm: everything that the primary of an epoch had
// committed, and so everything that any client had been told was committed, at
// one moment.
type Point struct {
	Position gtid.Position
	Epoch    farm.Epoch
}

// Servers is what an Index needs of the monitor.
type Servers interface {
	View() *monitor.View
	Report(server string, err error)
	Dial(ctx context.Context, s farm.Server) (*mysqladmin.Conn, error)
}

// Index asks the primary for the farm's position on behalf of all sessions: the
// read index of Raft (Ongaro's thesis, section 6.4). One query at a time is under way,
// and whoever comes meanwhile shares the next one, which is sent after they
// came. So the cost is bounded by round trips, not by sessions, and an answer
// is never older than its question. Its methods may be called by any goroutine.
type Index struct {
	servers Servers
	timeout time.Duration
	metrics indexMetrics

	mu     sync.Mutex
	asking bool
	next   *batch // who came while a query was under way
	closed bool
	idle   sync.Cond // asking has become false

	// Of the one who asks.
	conn    *mysqladmin.Conn
	address string
}

type batch struct {
	done  chan struct{} // closed when point and err are set
	point Point
	err   error
}

type indexMetrics struct {
	reads, queries, failures prometheus.Counter
	seconds                  prometheus.Histogram
}

// NewIndex returns an index of the farm. timeout bounds each query.
func NewIndex(f Servers, timeout time.Duration, reg prometheus.Registerer) *Index {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	x := &Index{servers: f, timeout: timeout, metrics: indexMetrics{
		reads:    counter("farmhand_proxy_read_index_requests_total", "Reads that asked for the farm's position."),
		queries:  counter("farmhand_proxy_read_index_queries_total", "Queries by which the primary was asked for its position, each for all reads that waited."),
		failures: counter("farmhand_proxy_read_index_failures_total", "Queries for the primary's position that failed."),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "farmhand_proxy_read_index_seconds", Help: "Duration of the queries for the primary's position.",
			Buckets: []float64{.0001, .0002, .0005, .001, .002, .005, .01, .025, .05, .1, .25, .5, 1},
		}),
	}}
	reg.MustRegister(x.metrics.seconds)
	x.idle.L = &x.mu
	return x
}

var errClosed = errors.New("the proxy is stopping")

// Read returns a position of the farm that the primary had after Read was
// called. It fails if the primary cannot be asked, which the error explains.
func (x *Index) Read(ctx context.Context) (Point, error) {
	x.metrics.reads.Inc()
	x.mu.Lock()
	if x.closed {
		x.mu.Unlock()
		return Point{}, errClosed
	}
	if x.asking {
		if x.next == nil {
			x.next = &batch{done: make(chan struct{})}
		}
		b := x.next
		x.mu.Unlock()
		select {
		case <-b.done:
			return b.point, b.err
		case <-ctx.Done():
			return Point{}, context.Cause(ctx)
		}
	}
	x.asking = true
	x.mu.Unlock()
	point, err := x.ask()
	x.pass()
	return point, err
}

// pass lets those ask who came meanwhile.
func (x *Index) pass() {
	x.mu.Lock()
	defer x.mu.Unlock()
	b := x.next
	x.next = nil
	if b == nil {
		x.asking = false
		x.idle.Broadcast()
		return
	}
	go func() {
		b.point, b.err = x.ask()
		close(b.done)
		x.pass()
	}()
}

// Close refuses further questions, waits for the last one to be answered and
// closes the connection.
func (x *Index) Close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
	for x.asking {
		x.idle.Wait()
	}
	x.drop()
}

// ask asks the primary once, and again if that was about a kept connection that
// was lost, or if the primary changed meanwhile.
func (x *Index) ask() (Point, error) {
	// It is not any one session's: its end must not depend on theirs.
	ctx, cancel := context.WithTimeout(context.Background(), x.timeout)
	defer cancel()
	began := time.Now()
	for {
		v := x.servers.View()
		p := v.Primary
		if p == nil {
			x.metrics.failures.Inc()
			return Point{}, errors.New("the topology names no primary")
		}
		kept := x.conn != nil && x.address == p.Address
		position, err := x.query(ctx, p.Server, kept)
		if now := x.servers.View(); err == nil && (now.Epoch != v.Epoch || now.Primary == nil || now.Primary.Address != p.Address) {
			continue
		}
		if err != nil && kept && mysqladmin.Code(err) == 0 && ctx.Err() == nil {
			continue // the connection may have been lost by itself
		}
		x.metrics.queries.Inc()
		if err != nil {
			x.metrics.failures.Inc()
			if mysqladmin.Code(err) == 0 { // the monitor looks at once whether it is still the primary
				x.servers.Report(p.Name, err)
			}
			return Point{}, fmt.Errorf("ask %s for its position: %w", p.Name, err)
		}
		x.metrics.seconds.Observe(time.Since(began).Seconds())
		return Point{Position: position, Epoch: v.Epoch}, nil
	}
}

// errNotPrimary: a server that does not take writes may have been deposed, and
// what was committed since is elsewhere.
var errNotPrimary = errors.New("it is read-only, so it may not be the primary any more")

func (x *Index) query(ctx context.Context, s farm.Server, kept bool) (gtid.Position, error) {
	if !kept {
		x.drop()
		conn, err := x.servers.Dial(ctx, s)
		if err != nil {
			return gtid.Position{}, err
		}
		x.conn, x.address = conn, s.Address
	}
	position, readOnly, err := x.conn.Executed(ctx)
	switch {
	case err != nil:
		if mysqladmin.Code(err) == 0 {
			x.drop()
		}
		return gtid.Position{}, err
	case readOnly:
		return gtid.Position{}, errNotPrimary
	}
	return position, nil
}

func (x *Index) drop() {
	if x.conn != nil {
		_ = x.conn.Close() // how it ends is of no interest
		x.conn = nil
	}
}
