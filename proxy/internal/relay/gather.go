package relay

import (
	"net"
	"sync"
	"time"

	"farmhand/proxy/internal/wire"
)

// A large result comes in pieces of some tens of KB, each of which wakes the proxy and then
// the client. From gatherFrom bytes of a response on, a read that has to wait waits for
// gatherSize of them, or for as long as gatherTick twice at the most. The wait for the
// last bytes is what it costs.
const (
	gatherFrom = 2 << 20
	gatherSize = wire.WideBuffer * 3 / 4
	gatherTick = time.Millisecond
)

// gatherer is a connection whose reads can wait for more than a byte (rawio.Conn,
// rawio.Socket).
type gatherer interface {
	// Gather has the reads that wait from now on, and one that does, wait for n bytes.
	Gather(n int) error
}

// gathering is how the reads of one response wait.
type gathering struct {
	conn gatherer

	mu      sync.Mutex
	on      bool        // they wait for gatherSize
	timer   *time.Timer // rings every gatherTick while it runs
	runs    bool
	reads   int   // that were begun
	seen    int   // reads when the timer rang last
	waiting bool  // the last of them is under way
	from    int64 // at so many bytes of the response they begin to
	at      int64 // the bytes at the last read
}

// gather returns nil where the connection cannot.
func gather(conn net.Conn) *gathering {
	c, ok := conn.(gatherer)
	if !ok {
		return nil
	}
	return &gathering{conn: c}
}

// begin is called before a read, when the response has had so many bytes.
func (g *gathering) begin(at int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reads++
	g.waiting, g.at = true, at
	if !g.on && at >= g.from {
		if g.conn.Gather(gatherSize) != nil { // the read says why, if the connection is at fault
			g.from = at + gatherFrom
			return
		}
		g.on = true
	}
	if g.on && !g.runs {
		g.runs, g.timer = true, time.AfterFunc(gatherTick, g.tick)
	}
}

// end is called after a read.
func (g *gathering) end() {
	g.mu.Lock()
	g.waiting = false
	g.mu.Unlock()
}

// tick has a read that has waited since the last time make do with what there is, and
// those after it, for a while.
func (g *gathering) tick() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.runs = false
	switch {
	case !g.on: // it was stopped just now
	case g.seen != g.reads:
		g.seen, g.runs = g.reads, true
		g.timer.Reset(gatherTick)
	case g.waiting:
		g.off()
		g.from = g.at + gatherFrom
	} // else the client is slow: the next read has it ring again
}

// stop leaves the connection as it was.
func (g *gathering) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.on {
		g.timer.Stop()
		g.runs = false
		g.off()
	}
}

func (g *gathering) off() {
	g.on = false
	_ = g.conn.Gather(1) // it fails for a connection that is closed
}
