package lane

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"farmhand/proxy/internal/backend"
	"farmhand/proxy/internal/rawio"
	"farmhand/proxy/internal/wire"
)

// Bounds of what goes by a lane.
const (
	// MaxCommand is the longest command, in bytes.
	MaxCommand = 1 << 10
	// MaxAnswer is the longest answer, in bytes with its headers.
	MaxAnswer = 16 << 10
	// most is how many statements are sent, or wait to be, on one lane.
	most = 256
	// mostFlights is how many batches are on their way at most, one for each perFlight of
	// the way to the server and back: less is gained by sending a batch earlier than by
	// having more in it.
	mostFlights = 8
	perFlight   = 250 * time.Microsecond
	// far is the way to a server whose answers the poller does not wait for: to wait for one
	// that is near has clients' statements gather meanwhile, but keeps them waiting.
	far = int64(500 * time.Microsecond)
	// filling is how long those in a lane to a server that is far may keep one more waiting
	// there, though another lane is empty, and mostFilling how many they are at most: on so
	// long a way that is little, and a batch costs as much as some statements do.
	filling     = int64(time.Millisecond)
	mostFilling = 8
)

// lane is one shared connection. What its sessions ask is sent in batches; to a server
// that is near, each when the one before is answered. Nobody waits for the answers: the poller tells of them
// (rawio.Watch), and they are handed out where it does. An encrypted connection cannot
// be watched like that, so a goroutine reads its answers for as long as there are any
// to come.
type lane struct {
	group   *Group
	conn    *backend.Conn
	lease   backend.Lease
	watched *rawio.Watched // nil: a goroutine reads
	soon    func()         // flush

	load atomic.Int32 // calls in it
	pace atomic.Int64 // nanoseconds that a statement took of late, without the way
	way  atomic.Int64 // nanoseconds to the server and back, the least of late
	slow atomic.Int64 // nanoseconds after which an answer is late, where that is more than silence
	sent atomic.Int64 // nanoseconds of the clock when the server was last heard of or written to; 0: nothing is outstanding

	mu          sync.Mutex // of what follows
	dead        bool
	lent        bool
	due         bool // flush is to be called
	busy        bool // a goroutine writes, or reads as well
	used        bool // since the last sweep
	interrupted bool // its connection has a deadline in the past
	pending     []*Call
	out         []question        // sent, not answered, in order
	next        int               // of out
	statements  map[string]uint32 // prepared: the server's ids by text, unknown while it is asked
	scratch     []byte
	scanned     int // bytes of the answer under way
	begun       bool
	flights     []flight // batches of out that are not answered
	landing     int64    // when the last one was
	least       int64    // nanoseconds to the server and back, the least that was seen; 0: none was
	usual       int64    // nanoseconds that a batch takes
	varies      int64    // by so much
	tracker     wire.Tracker
	told        queue // done, to be told
}

// question is a command that was sent.
type question struct {
	call     *Call
	prepares bool // the statement that the call, which is the next question, executes
}

// flight is a batch that was sent.
type flight struct {
	sent  int64 // nanoseconds of the clock
	size  int   // questions
	left  int   // of them not answered
	alone bool  // nothing else was on its way then
}

// Statement ids that no server gives.
const (
	unknown = 0
	newest  = 1<<32 - 1 // what MariaDB takes for the one prepared last
)

// mostStatements is how many statements are prepared on a lane.
const mostStatements = 256

// queue is a list of calls.
type queue struct{ first, last *Call }

func (q *queue) add(c *Call) {
	if q.first == nil {
		q.first = c
	} else {
		q.last.next = c
	}
	q.last = c
}

// submit puts a call behind those that wait to be sent; false where the lane has
// ended. due: flush is to be called.
func (l *lane) submit(c *Call) (ok, due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return false, false
	}
	l.pending = append(l.pending, c)
	l.load.Add(1)
	due = !l.due && !l.busy && len(l.flights) < l.depth()
	l.due = l.due || due
	return true, due
}

// fills tells whether the next statement is to go by this lane, which has n, whatever
// others have. By an encrypted one it would wait until the batch before is answered.
func (l *lane) fills(n int32) bool {
	return n > 0 && n < mostFilling && l.watched != nil && l.way.Load() >= far && int64(n)*l.pace.Load() < filling
}

// flush sends what has gathered, without waiting for anything.
func (l *lane) flush() {
	l.mu.Lock()
	l.due = false
	l.leave(l.send())
}

// depth is how many batches may be on their way.
func (l *lane) depth() int {
	if l.watched == nil {
		return 1
	}
	return min(max(1, int(l.way.Load()/int64(perFlight))), mostFlights)
}

// send sends what has gathered unless enough is on its way. The caller has the lock, as
// for all that follows but turn.
func (l *lane) send() error {
	if l.busy || len(l.flights) >= l.depth() {
		return nil
	}
	if more, err := l.gather(); err != nil || !more {
		return err
	}
	if l.watched == nil {
		l.busy = true
		l.group.lanes.work.Go(l.turn)
		return nil
	}
	l.watched.Expect(l.least < far)
	all, err := l.conn.FlushNow()
	if err == nil && !all {
		l.busy = true
		l.group.lanes.work.Go(l.write)
	}
	return err
}

// gather makes a batch of what has gathered, for the connection to flush; false where
// there is nothing.
func (l *lane) gather() (bool, error) {
	if len(l.pending) == 0 || l.dead {
		return false, nil
	}
	if l.group.lanes.closed.Load() {
		return false, errClosed
	}
	if l.lent {
		if !l.conn.Retake(l.lease) {
			return false, errTaken
		}
		l.lent = false
	}
	alone := l.next == len(l.out)
	l.out, l.next = append(l.out[:0], l.out[l.next:]...), 0
	before := len(l.out)
	waiting := l.pending[:0]
	for _, c := range l.pending {
		if !l.ask(c) {
			waiting = append(waiting, c)
		}
	}
	clear(l.pending[len(waiting):])
	l.pending = waiting
	l.used = true
	size := len(l.out) - before
	if size == 0 {
		return false, nil // all wait for a statement to be prepared
	}
	now := l.group.lanes.now()
	l.flights = append(l.flights, flight{sent: now, size: size, left: size, alone: alone})
	if alone {
		l.sent.Store(now)
	}
	l.group.lanes.watch()
	return true, nil
}

// ask writes a call's command for the next flush; false if it must wait for the next
// batch.
func (l *lane) ask(c *Call) bool {
	text := c.command.Statement
	if text == nil {
		l.conn.WriteCommand(c.command.Payload)
		l.out = append(l.out, question{call: c})
		return true
	}
	id, asked := l.statements[string(text)]
	switch {
	case asked && id == unknown:
		return false
	case !asked:
		if len(l.statements) >= mostStatements {
			for _, old := range l.statements {
				l.conn.CloseStatement(old) // what is still in use comes back
			}
			l.statements = nil
		}
		if l.statements == nil {
			l.statements = map[string]uint32{}
		}
		l.statements[string(text)] = unknown
		l.scratch = append(append(l.scratch[:0], byte(wire.ComStmtPrepare)), text...)
		l.conn.WriteCommand(l.scratch)
		l.out = append(l.out, question{c, true})
		id = newest
	}
	l.scratch = append(l.scratch[:0], c.command.Payload...)
	wire.SetStatementID(l.scratch, id)
	l.conn.WriteCommand(l.scratch)
	l.out = append(l.out, question{call: c})
	return true
}

// write writes what the socket had no room for.
func (l *lane) write() {
	err := l.conn.Flush()
	l.mu.Lock()
	l.busy = false
	if err == nil {
		err = l.goOn() // all may be answered by now
	}
	l.leave(err)
}

// turn writes a batch and reads its answers, and goes on while there is one more.
func (l *lane) turn() {
	err := l.conn.Flush()
	for busy := true; busy; {
		if err == nil {
			err = l.conn.Fill()
		}
		l.mu.Lock()
		more := false
		if err == nil {
			l.sent.Store(l.group.lanes.now())
			err = l.take()
		}
		if err == nil && l.next == len(l.out) {
			if more, err = l.gather(); !more {
				l.busy = false
				l.rest()
			}
		}
		busy = err == nil && l.busy
		l.leave(err)
		if more {
			err = l.conn.Flush()
		}
	}
}

// readable takes what answers there are.
func (l *lane) readable(ended bool) {
	l.mu.Lock()
	if l.dead || l.lent || l.next == len(l.out) {
		l.mu.Unlock() // whatever it is, who sends next finds it
		return
	}
	var err error
	for more := true; more && err == nil; more = more || ended {
		var got bool
		if got, more, err = l.conn.FillNow(); !got {
			break
		}
		l.sent.Store(l.group.lanes.now())
		err = l.take()
	}
	if err == nil {
		err = l.goOn()
	}
	l.leave(err)
}

// goOn sends the next batch if this one is answered, or lends the connection.
func (l *lane) goOn() error {
	switch {
	case l.dead || l.busy:
		return nil
	case len(l.pending) > 0:
		return l.send()
	case l.next == len(l.out):
		l.rest()
	}
	return nil
}

// rest lends the connection: nobody is in the lane. Who comes next takes it back, or
// finds it gone.
func (l *lane) rest() {
	if l.dead || l.lent || len(l.pending) > 0 {
		return
	}
	l.sent.Store(0)
	if l.interrupted { // too late: all is answered
		l.interrupted = false
		_ = l.conn.SetDeadline(time.Time{}) // a closed one says so when it is used
	}
	if l.watched != nil {
		l.watched.Expect(false)
	}
	l.lent = true
	l.conn.Idle()
	l.group.lanes.pool.Lend(l.conn, l.lease, backend.Parting{Since: time.Now()})
}

// leave gives the lock back, ends the lane where there is an error, and tells those
// whose calls are done.
func (l *lane) leave(err error) {
	ends := err != nil && !l.dead
	late := errors.Is(err, errLate) || errors.Is(err, os.ErrDeadlineExceeded)
	if ends {
		l.dead = true
		l.sent.Store(0)
		slow := late || errors.Is(err, errLong)
		for i, q := range l.out[l.next:] {
			if i == 0 {
				q.call.unfit = slow // the others were behind it
			}
			if !q.prepares {
				l.finish(q.call)
			}
		}
		for _, c := range l.pending {
			l.finish(c)
		}
		l.out, l.pending, l.flights, l.next = nil, nil, nil, 0
	}
	told := l.told.first
	l.told = queue{}
	l.mu.Unlock()
	if ends {
		l.end(err, late)
	}
	for c := told; c != nil; {
		next := c.next
		c.next = nil
		c.tell()
		c = next
	}
	l.group.lanes.lookNow()
}

// end gives up the connection of a lane that has ended.
func (l *lane) end(err error, late bool) {
	l.group.remove(l)
	if l.watched != nil {
		l.watched.End()
	}
	switch {
	case errors.Is(err, errTaken):
	case errors.Is(err, errIdle) && l.conn.Settle() == nil:
		l.group.lanes.pool.Put(l.conn, false)
	default:
		l.conn.MarkBroken()
		l.group.lanes.pool.Close(l.conn, "lane ended")
		l.group.lanes.ended(l, err, late)
	}
}

var (
	errTaken  = errors.New("another session has taken the connection")
	errIdle   = errors.New("nobody has used it")
	errClosed = errors.New("the proxy stops")
	errLong   = errors.New("an answer is longer than a lane takes")
	errLate   = errors.New("an answer is late")
	// errChanged: who comes next would not find what it wants.
	errChanged = errors.New("a statement has changed the connection, or may have")
)

// take takes all answers out of what has been read.
func (l *lane) take() error {
	for l.next < len(l.out) {
		if ok, err := l.answer(); err != nil || !ok {
			return err
		}
	}
	if len(l.conn.Buffered()) > 0 {
		return errChanged // it says what nobody has asked
	}
	return nil
}

// answer takes the next answer out of what has been read, and gives it to who asked;
// false where it is not there as a whole.
func (l *lane) answer() (bool, error) {
	q := l.out[l.next]
	if !l.begun {
		command := wire.Command(q.call.command.Payload[0])
		if q.prepares {
			command = wire.ComStmtPrepare
		}
		l.tracker.Begin(command, l.conn.Caps)
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
	c := q.call
	l.out[l.next] = question{}
	l.next++
	defer func() { l.scanned, l.begun = 0, false }()
	l.landed()
	if q.prepares {
		l.conn.Discard(l.scanned)
		return true, l.prepared(c)
	}
	if l.clean() {
		c.answer = answers.Get().(*[]byte)
		*c.answer = append((*c.answer)[:0], b[:l.scanned]...)
		c.status = l.tracker.OK.Status
	} else {
		c.unfit = true
	}
	l.conn.Discard(l.scanned)
	l.finish(c)
	if !l.unharmed() {
		return true, errChanged
	}
	return true, nil
}

// landed takes note of when a question was answered.
func (l *lane) landed() {
	f := &l.flights[0]
	first := f.left == f.size
	if f.left--; f.left > 0 && !(first && f.alone) {
		return
	}
	now, way := l.group.lanes.now(), l.way.Load()
	if first && f.alone {
		longer := way + way/1024 + 1
		if way = now - f.sent; l.way.Load() != 0 {
			way = min(way, longer)
		}
		if l.least == 0 || way < l.least {
			l.least = way
		}
		l.way.Store(way)
	}
	if f.left == 0 {
		l.expect(now - f.sent)
		took := max(0, now-max(f.sent+way, l.landing)) / int64(f.size)
		l.pace.Store((l.pace.Load()*7 + took) / 8)
		l.landing = now
		l.flights = append(l.flights[:0], l.flights[1:]...)
	}
}

// expect learns from the time that a batch took how long one may take: on a machine
// whose processors are all busy any statement may wait for more than silence, and it is
// not to blame. It is what RFC 6298 does for a segment's acknowledgement.
func (l *lane) expect(took int64) {
	apart := took - l.usual
	l.usual += apart / 8
	l.varies += (max(apart, -apart) - l.varies) / 4
	l.slow.Store(min(l.usual+4*l.varies, int64(mostSilence)))
}

// prepared takes note of the answer to a preparation.
func (l *lane) prepared(c *Call) error {
	t := &l.tracker
	if t.Err == nil {
		l.conn.Prepared(t.Statement.ID)
		l.statements[string(c.command.Statement)] = t.Statement.ID
	}
	if t.Err != nil || t.Statement.Params != c.command.Params {
		c.unfit = true
		return errChanged // the execution behind it is of another statement
	}
	return nil
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

// finish ends a call, of which leave tells.
func (l *lane) finish(c *Call) {
	l.load.Add(-1)
	l.told.add(c)
}

// isLate tells whether nothing has been heard of the server for limit, or for longer if
// that is usual, unless everything ends.
func (l *lane) isLate(now int64, limit time.Duration) bool {
	sent := l.sent.Load()
	return sent != 0 && (now-sent >= max(int64(limit), l.slow.Load()) || l.group.lanes.closed.Load())
}

// giveUp ends the lane if it is late. The goroutine that reads an encrypted connection
// is woken to do so.
func (l *lane) giveUp(now int64, limit time.Duration) {
	l.mu.Lock()
	switch {
	case l.dead || !l.isLate(now, limit):
		l.mu.Unlock()
	case l.busy:
		l.interrupted = true
		l.mu.Unlock()
		_ = l.conn.SetDeadline(time.Unix(1, 0)) // it fails on a closed one only
	case l.group.lanes.closed.Load():
		l.leave(errClosed)
	default:
		l.leave(errLate)
	}
}
