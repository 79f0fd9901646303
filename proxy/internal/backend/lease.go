package backend

import (
	"runtime"
	"time"
)

// A connection that is handed out is held by one session. Between its commands
// the session lends the connections on which nothing of it depends: they stay
// with it, and cost nothing to take back, unless another session needs one
// meanwhile. So a session keeps its connection as long as there are enough, and
// thousands of sessions share a few when there are not.
//
// The lease word says whose turn it is: the number of the hand-out, which
// changes whenever the connection changes hands, and in its lowest bits one of
// these.
const (
	held    = 0 // the session uses it, or something of the session depends on it
	lent    = 1 // the session is between commands: anybody may take it
	claimed = 2 // the pool looks at it, for a moment

	leaseBits = 2
	leaseMask = 1<<leaseBits - 1
)

// Lease names a hand-out of a connection.
type Lease uint64

// Lease is the connection's current hand-out. Only who holds it may ask.
func (c *Conn) Lease() Lease { return Lease(c.lease.Load() &^ leaseMask) }

// HeldBy tells whether the connection is held by that hand-out: it was not lent,
// taken or given back since.
func (c *Conn) HeldBy(l Lease) bool { return c.lease.Load() == uint64(l)|held }

// LentBy tells whether the connection is lent by that hand-out, and nobody has
// taken it.
func (c *Conn) LentBy(l Lease) bool {
	w := c.lease.Load()
	return w == uint64(l)|lent || w == uint64(l)|claimed
}

// pass hands the connection to another holder.
func (c *Conn) pass() { c.lease.Store(c.lease.Load()&^leaseMask + 1<<leaseBits) }

// Parting is what a session leaves undecided when it lends a connection.
type Parting struct {
	// Since is when the session used the connection last.
	Since time.Time
	// Keep: something of the last statement can be asked for on this connection
	// only (its warnings). It is taken only from a session that has been quiet for
	// keepFor.
	Keep bool
	// Inserted is set where the session's LAST_INSERT_ID() is known to the
	// connection only: who takes that asks, and tells.
	Inserted *Inserted
}

// keepFor is how long a session that is quiet keeps a connection for what can be
// asked for there only, though others wait for one.
const keepFor = time.Second

// Lend allows others to take the connection, until Retake. The holder must not
// touch it before that.
func (p *Pool) Lend(c *Conn, l Lease, parting Parting) {
	c.parting = parting
	c.lease.Store(uint64(l) | lent)
	// Whoever began to wait before that looked at the connection saw it held.
	if p.waiting.Load() > 0 && !parting.Keep && c.lease.CompareAndSwap(uint64(l)|lent, uint64(l)|claimed) {
		p.offer(c)
	}
}

// Retake ends a Lend. It is false where the connection has changed hands.
func (c *Conn) Retake(l Lease) bool {
	for {
		if c.lease.CompareAndSwap(uint64(l)|lent, uint64(l)|held) {
			c.parting = Parting{}
			return true
		}
		if c.lease.Load() != uint64(l)|claimed {
			return false
		}
		runtime.Gosched() // the pool decides at once
	}
}

// claim takes a lent connection to look at it; the answer is keepLent or pass.
func (c *Conn) claim() bool {
	w := c.lease.Load()
	return w&leaseMask == lent && c.lease.CompareAndSwap(w, w&^leaseMask|claimed)
}

// keepLent gives up a claim.
func (c *Conn) keepLent() { c.lease.Store(c.lease.Load()&^leaseMask | lent) }
