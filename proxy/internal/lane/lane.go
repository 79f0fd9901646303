package lane

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"farmhand/proxy/internal/backend"
	"farmhand/proxy/internal/wire"
)

// Bounds of what goes by a lane.
const (
	// MaxCommand is the longest command, in bytes.
	MaxCommand = 1 << 10
	// MaxAnswer is the longest answer, in bytes with its headers.
	MaxAnswer = 16 << 10
	// most is how many statements are sent, or wait to be, on one lane.
	most = 64
)

// Call is a session's place in a lane; one session has one, and uses it again.
type Call struct {
	command []byte // valid until Do returns
	answer  *[]byte
	size    int
	status  wire.Status
	done    bool
	unfit   bool // it took too long, or its answer was not clean
	wake    chan verdict
}

// NewCall returns a Call.
func NewCall() *Call { return &Call{wake: make(chan verdict, 1)} }

// Answer is what the server answered, packets as they are, and its status. It is
// valid until Release.
func (c *Call) Answer() ([]byte, wire.Status) { return (*c.answer)[:c.size], c.status }

// Release gives the answer's memory back.
func (c *Call) Release() {
	if c.answer != nil {
		answers.Put(c.answer)
		c.answer = nil
	}
}

var answers = sync.Pool{New: func() any { b := make([]byte, 0, 1<<10); return &b }}

// verdict is what a session that waits in a lane is told.
type verdict uint8

const (
	answered verdict = iota // or not: Call.answer says
	lead                    // it is the one who reads and writes now
)

// lane is one shared connection. Of the sessions in it one leads: it writes what
// has gathered, reads the answers and hands them out; once it has its own it
// passes the lead on to one that has not.
type lane struct {
	group *Group
	conn  *backend.Conn
	lease backend.Lease

	load atomic.Int32 // calls in it
	pace atomic.Int64 // nanoseconds that a statement took of late
	sent atomic.Int64 // nanoseconds of the clock when the server was last heard of or written to; 0: nothing is outstanding

	mu          sync.Mutex
	busy        bool // somebody leads
	dead        bool
	interrupted bool    // the connection has a deadline in the past
	pending     []*Call // not sent yet

	// The leader's.
	lent    bool
	out     []*Call // sent, not answered, in order
	next    int     // of out
	scanned int     // bytes of the answer under way
	begun   bool
	batch   int64 // when out was sent
	tracker wire.Tracker
}

// do sends a command and returns with its answer, or without.
func (l *lane) do(c *Call) {
	l.mu.Lock()
	if l.dead {
		l.mu.Unlock()
		return
	}
	l.pending = append(l.pending, c)
	l.load.Add(1)
	if l.busy {
		l.mu.Unlock()
		if <-c.wake == answered {
			return
		}
	} else {
		l.busy = true
		l.mu.Unlock()
		runtime.Gosched() // others have commands at this moment: they are sent together
	}
	l.lead(c)
}

// lead leads until c is done, and a little longer.
func (l *lane) lead(c *Call) {
	for !c.done {
		if l.next == len(l.out) {
			if err := l.send(); err != nil {
				l.fail(err, c)
				return
			}
		}
		ok, err := l.take(c)
		if err == nil && !ok {
			if err = l.conn.Fill(); err == nil {
				l.sent.Store(l.group.lanes.now())
			}
		}
		if err != nil {
			l.fail(err, c)
			return
		}
	}
	for l.next < len(l.out) {
		ok, err := l.take(c)
		if err != nil {
			l.fail(err, c)
			return
		}
		if !ok {
			break
		}
	}
	l.pass()
}

// send sends what has gathered.
func (l *lane) send() error {
	if l.lent {
		if !l.conn.Retake(l.lease) {
			return errTaken
		}
		l.lent = false
	}
	l.mu.Lock()
	l.out, l.pending = l.pending, l.out[:0]
	l.mu.Unlock()
	l.next = 0
	for _, c := range l.out {
		l.conn.WriteCommand(c.command)
	}
	l.batch = l.group.lanes.now()
	l.sent.Store(l.batch)
	if l.group.lanes.closed.Load() {
		return errClosed
	}
	l.group.lanes.watch()
	return l.conn.Flush()
}

var (
	errTaken  = errors.New("another session has taken the connection")
	errClosed = errors.New("the proxy stops")
	errLong   = errors.New("an answer is longer than a lane takes")
	// errChanged: who comes next would not find what it wants.
	errChanged = errors.New("a statement has changed the connection, or may have")
)

// take takes the next answer out of what has been read, and gives it to who
// waits for it; false where it is not there as a whole.
func (l *lane) take(leader *Call) (bool, error) {
	if !l.begun {
		l.tracker.Begin(wire.ComQuery, l.conn.Caps)
		l.begun = true
	}
	b := l.conn.Buffered()
	for !l.tracker.Done() {
		left := b[l.scanned:]
		if len(left) < wire.HeaderSize {
			return false, nil
		}
		length, _ := wire.Header(left)
		if l.scanned+wire.HeaderSize+length > MaxAnswer {
			return false, errLong
		}
		if len(left) < wire.HeaderSize+length {
			return false, nil
		}
		payload := left[wire.HeaderSize : wire.HeaderSize+length]
		first := byte(0)
		if length > 0 {
			first = payload[0]
		}
		if l.tracker.Next(length, first) == wire.Hold {
			event, err := l.tracker.Inspect(payload)
			if err != nil {
				return false, err
			}
			if event == wire.SendFile {
				return false, wire.ErrMalformed
			}
		}
		l.scanned += wire.HeaderSize + length
	}
	c := l.out[l.next]
	l.out[l.next] = nil
	l.next++
	if l.clean() {
		c.answer = answers.Get().(*[]byte)
		*c.answer = append((*c.answer)[:0], b[:l.scanned]...)
		c.size, c.status = l.scanned, l.tracker.OK.Status
	} else {
		c.unfit = true
	}
	l.conn.Discard(l.scanned)
	l.scanned, l.begun = 0, false
	if l.next == len(l.out) {
		took := (l.group.lanes.now() - l.batch) / int64(len(l.out))
		l.pace.Store((l.pace.Load()*7 + took) / 8)
	}
	l.finish(c, leader)
	if !l.unharmed() {
		return true, errChanged
	}
	return true, nil
}

// unclean are status flags that an answer of a lane has not.
const unclean = wire.StatusInTransaction | wire.StatusInTransactionReadOnly | wire.StatusMoreResults | wire.StatusCursorExists | wire.StatusSessionStateChanged

// clean tells whether the answer says nothing but its rows.
func (l *lane) clean() bool {
	t := &l.tracker
	return l.unharmed() && t.Results == 1 && t.OK.Header == 0xfe && t.OK.Warnings == 0
}

// unharmed tells whether the connection is as it was before the answer. A read of a
// view may run a function that sets something, and an error does not tell.
func (l *lane) unharmed() bool {
	t := &l.tracker
	return t.Err == nil && t.OK.Status&unclean == 0 && t.OK.Status&wire.StatusAutocommit != 0
}

// finish ends a call.
func (l *lane) finish(c, leader *Call) {
	l.load.Add(-1)
	c.done = true
	if c != leader {
		c.wake <- answered
	}
}

// pass passes the lead on, or lends the connection where nobody is left.
func (l *lane) pass() {
	if l.next < len(l.out) {
		l.out[l.next].wake <- lead
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending) > 0 {
		l.pending[0].wake <- lead
		return
	}
	l.sent.Store(0)
	if l.interrupted { // too late: all is answered
		l.interrupted = false
		_ = l.conn.SetReadDeadline(time.Time{}) // a closed one says so when it is used
	}
	l.lent = true
	l.conn.Idle()
	// Who comes next takes it back, or finds it gone.
	l.group.lanes.pool.Lend(l.conn, l.lease, backend.Parting{Since: time.Now()})
	l.busy = false
}

// fail ends the lane: nobody in it gets an answer.
func (l *lane) fail(err error, leader *Call) {
	l.group.remove(l)
	l.sent.Store(0)
	l.mu.Lock()
	l.dead = true
	calls := append(l.out[l.next:], l.pending...)
	l.out, l.pending, l.next = nil, nil, 0
	l.mu.Unlock()
	late := errors.Is(err, os.ErrDeadlineExceeded)
	if !errors.Is(err, errTaken) {
		l.conn.MarkBroken()
		l.group.lanes.pool.Close(l.conn, "lane ended")
		l.group.lanes.ended(l, err, late)
	}
	late = late || errors.Is(err, errLong)
	for i, c := range calls {
		c.unfit = late && i == 0 // the others were behind it
		l.finish(c, leader)
	}
}
