package farmtest

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Link is a TCP link between clients and a server that a test can make fail:
// it listens on its own loopback address and forwards to a target. A new Link
// is whole. Its methods may be called from any goroutine.
type Link struct {
	t      testing.TB
	addr   string
	target string

	mu       sync.Mutex
	listener net.Listener // nil while cut
	pairs    map[*pair]struct{}
	closed   bool
	fault    fault
	changed  chan struct{} // closed and replaced whenever fault changes

	running sync.WaitGroup
}

// fault is what a link does to the bytes that pass.
type fault struct {
	stalled   bool
	delay     time.Duration // before each piece that is forwarded
	rate      int           // bytes per second in each direction; 0 is unlimited
	dropAfter int64         // bytes from the target after which a new connection is reset; negative is never
}

// pair is one forwarded connection.
type pair struct {
	client, target *net.TCPConn
	dropAfter      int64
	done           chan struct{} // closed when the pair is closed
	once           sync.Once
}

// NewLink opens a link to target (host:port). It ends with the test.
func NewLink(t testing.TB, target string) *Link {
	t.Helper()
	l := &Link{
		t: t, addr: FreePort(t).String(), target: target,
		pairs: map[*pair]struct{}{}, fault: fault{dropAfter: -1}, changed: make(chan struct{}),
	}
	l.Restore()
	t.Cleanup(func() {
		l.mu.Lock()
		l.closed = true
		l.mu.Unlock()
		l.Cut()
		l.running.Wait()
	})
	return l
}

// Addr is the host:port that clients connect to.
func (l *Link) Addr() string { return l.addr }

// Connections is the number of connections open now.
func (l *Link) Connections() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.pairs)
}

// Cut closes every connection in order (FIN to both sides) and refuses new
// ones.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listener != nil {
		if err := l.listener.Close(); err != nil {
			l.t.Errorf("farmtest: cut link: %v", err)
		}
		l.listener = nil
	}
	for p := range l.pairs {
		p.close()
	}
}

// Reset breaks every connection with RST; new ones work.
func (l *Link) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.pairs {
		p.reset()
	}
}

// Stall lets no byte pass in either direction, on connections old and new,
// which stay open: what a machine that froze or a route that went looks like.
func (l *Link) Stall() { l.change(func(f *fault) { f.stalled = true }) }

// Slow delays every piece that is forwarded by delay and bounds each direction
// of each connection to rate bytes per second; rate 0 is unlimited.
func (l *Link) Slow(delay time.Duration, rate int) {
	l.change(func(f *fault) { f.delay, f.rate = delay, rate })
}

// DropAfter makes every new connection end by RST as soon as n bytes came from
// the target; the client gets exactly n. Negative means never.
func (l *Link) DropAfter(n int64) { l.change(func(f *fault) { f.dropAfter = n }) }

// Restore makes the link whole again: it accepts connections and forwards
// without any fault.
func (l *Link) Restore() {
	l.change(func(f *fault) { *f = fault{dropAfter: -1} })
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listener != nil {
		return
	}
	listener, err := net.Listen("tcp", l.addr)
	if err != nil {
		l.t.Errorf("farmtest: restore link: %v", err)
		return
	}
	l.listener = listener
	l.running.Go(func() { l.accept(listener) })
}

func (l *Link) change(apply func(*fault)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	apply(&l.fault)
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *Link) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return // cut
		}
		l.running.Go(func() { l.serve(conn.(*net.TCPConn)) })
	}
}

func (l *Link) serve(client *net.TCPConn) {
	target, err := net.Dial("tcp", l.target)
	if err != nil {
		// What a client sees when the server behind is not there.
		_ = client.SetLinger(0)
		_ = client.Close()
		return
	}
	p := &pair{client: client, target: target.(*net.TCPConn), done: make(chan struct{})}
	l.mu.Lock()
	p.dropAfter = l.fault.dropAfter
	gone := l.closed || l.listener == nil
	l.pairs[p] = struct{}{}
	l.mu.Unlock()
	if gone {
		p.close()
	}
	var both sync.WaitGroup
	both.Go(func() { l.pump(p, p.target, p.client, -1) })
	both.Go(func() { l.pump(p, p.client, p.target, p.dropAfter) })
	both.Wait()
	p.close()
	l.mu.Lock()
	delete(l.pairs, p)
	l.mu.Unlock()
}

// pump forwards until its source ends, then ends the sink's input; after limit
// bytes (if not negative) it resets the pair.
func (l *Link) pump(p *pair, to, from *net.TCPConn, limit int64) {
	buffer := make([]byte, 32<<10)
	for {
		if limit == 0 {
			p.reset()
			return
		}
		piece := buffer
		if limit > 0 && limit < int64(len(piece)) {
			piece = piece[:limit]
		}
		rate := l.current().rate
		if rate > 0 { // about twenty pieces a second
			piece = piece[:min(len(piece), max(1, rate/20))]
		}
		n, err := from.Read(piece)
		if n > 0 {
			if !l.hold(p, n) {
				return
			}
			if _, werr := to.Write(piece[:n]); werr != nil {
				p.close()
				return
			}
			if limit > 0 {
				limit -= int64(n)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			if !l.hold(p, 0) {
				return
			}
			_ = to.CloseWrite() // fails only when that side is gone too
			return
		case err != nil: // reset by a peer, or closed by us
			p.reset()
			return
		}
	}
}

func (l *Link) current() fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fault
}

// hold waits as the link's fault says before n bytes pass; false means that
// the pair was closed meanwhile.
func (l *Link) hold(p *pair, n int) bool {
	l.mu.Lock()
	f := l.fault
	l.mu.Unlock()
	wait := f.delay
	if f.rate > 0 {
		wait += time.Duration(n) * time.Second / time.Duration(f.rate)
	}
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-p.done:
			return false
		}
	}
	for {
		l.mu.Lock()
		stalled, changed := l.fault.stalled, l.changed
		l.mu.Unlock()
		if !stalled {
			return true
		}
		select {
		case <-changed:
		case <-p.done:
			return false
		}
	}
}

func (p *pair) close() {
	p.once.Do(func() {
		close(p.done)
		_ = p.client.Close()
		_ = p.target.Close()
	})
}

// reset is close with RST instead of FIN: unsent bytes are thrown away.
func (p *pair) reset() {
	_ = p.client.SetLinger(0)
	_ = p.target.SetLinger(0)
	p.close()
}
