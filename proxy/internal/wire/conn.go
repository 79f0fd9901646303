package wire

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"net"
	"sync"
	"time"
)

// Buffer sizes. A connection takes a small buffer from a pool when there is
// something to read, a large one while a large packet or result passes
// through it, and a wide one when it is told to (Widen); one that waits has none.
const (
	smallBuffer = 4 << 10
	largeBuffer = 64 << 10
	WideBuffer  = 256 << 10
)

var (
	smallBuffers = sync.Pool{New: func() any { b := make([]byte, smallBuffer); return &b }}
	largeBuffers = sync.Pool{New: func() any { b := make([]byte, largeBuffer); return &b }}
	wideBuffers  = sync.Pool{New: func() any { b := make([]byte, WideBuffer); return &b }}
)

// ErrTooLarge is the error for a payload over the limit that the reader set.
var ErrTooLarge = errors.New("packet is larger than the limit")

// ErrSequence is the error for a packet out of order.
var ErrSequence = errors.New("packets out of order")

// Conn reads and writes packets on a connection. It belongs to one goroutine
// at a time, but for Close, SetDeadline and NetConn.
//
// Reads are buffered; Buffered, Fill and Discard let a relay forward packets
// without copying them. Writes collect until Flush.
type Conn struct {
	conn net.Conn
	// Seq is the sequence number of the next packet that Write numbers, and
	// what ReadPayload set it to: one after the packet last read.
	Seq uint8
	// Sum, where it is set, takes in every byte that is sent.
	Sum *maphash.Hash

	lazy    lazy    // conn, if it is one
	instant instant // the same
	prompt  prompt  // the same
	wrote   func()  // FlushSoon's
	buf     []byte
	small   *[]byte // buf's owner, or one of the next two is
	large   *[]byte
	wide    *[]byte
	r, w    int
	out     []byte
	whole   []byte // joined payload of ReadPayload, where it was not in buf in one piece
}

// lazy is a connection that takes a buffer only when it has something to put
// there (rawio.Conn, rawio.Socket).
type lazy interface {
	ReadBuffer(pool *sync.Pool) (buffer *[]byte, n int, err error)
	Wait() error
}

// instant is a connection that can be read and written without waiting: what there
// is, or there is room for, which may be nothing (rawio.Conn, rawio.Socket).
type instant interface {
	ReadNow(b []byte) (int, error)
	WriteNow(b []byte) (int, error)
}

// prompt is a connection of which nobody need wait for input, and that can be written
// together with others (rawio.Socket).
type prompt interface {
	WriteSoon(b []byte, then interface{ Wrote(n int, err error) }) bool
	Notify(then func()) bool
	Settle() error
	Settled() bool
	Unsettle() error
}

// NewConn returns a Conn on conn, which it owns from now on.
func NewConn(conn net.Conn) *Conn {
	c := &Conn{}
	c.rest(conn)
	return c
}

// rest makes conn the connection underneath.
func (c *Conn) rest(conn net.Conn) {
	c.conn = conn
	c.lazy, _ = conn.(lazy)
	c.instant, _ = conn.(instant)
	c.prompt, _ = conn.(prompt)
}

// NetConn is the connection underneath.
func (c *Conn) NetConn() net.Conn { return c.conn }

// Upgrade puts the connection that wrap returns (TLS, compression) in the place
// of the one underneath. What was read ahead is what the new layer reads first:
// a client sends its TLS hello right behind its request for TLS.
func (c *Conn) Upgrade(wrap func(net.Conn) net.Conn) error {
	if err := c.Flush(); err != nil {
		return err
	}
	under := c.conn
	if ahead := c.Buffered(); len(ahead) > 0 {
		under = &readAhead{Conn: c.conn, ahead: append([]byte(nil), ahead...)}
		c.Discard(len(ahead))
	}
	c.rest(wrap(under))
	return nil
}

// readAhead is a connection of which some input has been read already.
type readAhead struct {
	net.Conn
	ahead []byte
}

func (r *readAhead) Read(b []byte) (int, error) {
	if len(r.ahead) > 0 {
		n := copy(b, r.ahead)
		r.ahead = r.ahead[n:]
		return n, nil
	}
	return r.Conn.Read(b)
}

// Close closes the connection underneath. The Conn's buffers stay its owner's.
func (c *Conn) Close() error { return c.conn.Close() }

// SetDeadline sets the deadline of reads and writes; zero is none.
func (c *Conn) SetDeadline(t time.Time) error { return c.conn.SetDeadline(t) }

// SetReadDeadline sets the deadline of reads alone.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.conn.SetReadDeadline(t) }

// Buffered is the input that has been read but not discarded. It is valid
// until the next Fill or ReadPayload.
func (c *Conn) Buffered() []byte { return c.buf[c.r:c.w] }

// Discard drops the first n bytes of Buffered.
func (c *Conn) Discard(n int) {
	c.r += n
	if c.r == c.w {
		c.r, c.w = 0, 0
	}
}

// Idle gives buffers back to their pools, where nothing is buffered. Call it
// before a wait that may be long: what was read before is not valid after it.
func (c *Conn) Idle() {
	if c.r == c.w {
		c.giveBack()
		c.buf, c.r, c.w = nil, 0, 0
	}
	if cap(c.whole) > largeBuffer {
		c.whole = nil
	}
	// What waits to be flushed (commands without an answer) stays.
	if cap(c.out) > keptOut && len(c.out) == 0 {
		c.out = nil
	}
}

// keptOut is the size of a buffer of output that a connection keeps while it is
// idle: that of a short command or answer.
const keptOut = 512

// Shed is Idle for a wait that is long: it keeps no buffer at all.
func (c *Conn) Shed() {
	c.Idle()
	c.whole = nil
	if len(c.out) == 0 {
		c.out = nil
	}
}

// CanWait tells whether Wait may be called: the Conn must hold nothing, and the
// connection underneath be able to tell that there is input.
func (c *Conn) CanWait() bool { return c.lazy != nil && c.buf == nil }

// Wait waits until there is something to read, which it leaves there: input, an
// end, an error. An error is that of the wait itself, such as its deadline.
func (c *Conn) Wait() error { return c.lazy.Wait() }

// Settle makes reads that wait cheap, at the cost of Notify, which cannot be called
// any more.
func (c *Conn) Settle() error {
	if c.prompt == nil {
		return nil
	}
	return c.prompt.Settle()
}

// CanUnsettle tells whether Unsettle may be called.
func (c *Conn) CanUnsettle() bool { return c.prompt != nil && c.prompt.Settled() }

// Unsettle takes Settle back.
func (c *Conn) Unsettle() error { return c.prompt.Unsettle() }

// CanNotify tells whether Notify may be called: the Conn must hold no input, and the
// connection underneath be able to tell that there is some.
func (c *Conn) CanNotify() bool { return c.prompt != nil && c.buf == nil && !c.prompt.Settled() }

// Notify has then called, once, when there is something to read: input, an end, an
// error, a deadline. Until then the Conn must not be used, but for the deadlines
// and Close. then must not wait for anything, because others' input waits for it.
// False: there is something already, and then is not called.
func (c *Conn) Notify(then func()) bool { return c.prompt.Notify(then) }

// FillNow is Fill that does not wait; false and no error where there is no input.
// more: it had room for no more than it got.
func (c *Conn) FillNow() (got, more bool, err error) {
	if err := c.room(); err != nil {
		return false, false, err
	}
	n, err := c.instant.ReadNow(c.buf[c.w:])
	if n == 0 {
		if c.r == c.w {
			c.Idle()
		}
		return false, false, err
	}
	more = c.w+n == len(c.buf)
	return true, more, c.filled(n, nil)
}

// FlushNow is Flush that does not wait: it sends what there is room for, all of it
// where it says so. The rest is Flush's.
func (c *Conn) FlushNow() (all bool, err error) {
	return c.flushed(c.instant.WriteNow(c.out))
}

// FlushSoon is FlushNow, but may leave it to the poller, which calls then when that is
// done. Until then nobody may use the Conn, but for the deadlines and Close, and then
// must not wait for anything. False: it is done already, and then is not called.
// Flushed tells what came of it.
func (c *Conn) FlushSoon(then func()) bool {
	c.wrote = then // before: it may be called at once
	if c.prompt != nil && c.prompt.WriteSoon(c.out, c) {
		return true
	}
	c.wrote = nil
	_, _ = c.FlushNow() // an error is the next read's too
	return false
}

// Flushed tells whether nothing waits to be sent: all has been sent, or nothing more can
// be, which the next read says too.
func (c *Conn) Flushed() bool { return len(c.out) == 0 }

// Wrote is called by the poller, see FlushSoon.
func (c *Conn) Wrote(n int, err error) {
	then := c.wrote
	c.wrote = nil
	_, _ = c.flushed(n, err)
	then()
}

// flushed takes note of what has been sent.
func (c *Conn) flushed(n int, err error) (all bool, _ error) {
	if c.Sum != nil {
		_, _ = c.Sum.Write(c.out[:n]) // never fails
	}
	if n == len(c.out) || err != nil {
		c.out = c.out[:0]
		return err == nil, err
	}
	c.out = c.out[:copy(c.out, c.out[n:])]
	return false, nil
}

func (c *Conn) giveBack() {
	if c.small != nil {
		smallBuffers.Put(c.small)
	}
	if c.large != nil {
		largeBuffers.Put(c.large)
	}
	if c.wide != nil {
		wideBuffers.Put(c.wide)
	}
	c.small, c.large, c.wide = nil, nil, nil
}

// take takes a small buffer.
func (c *Conn) take() {
	c.small = smallBuffers.Get().(*[]byte)
	c.buf, c.r, c.w = *c.small, 0, 0
}

// Fill reads more input behind what is buffered: at least one byte, or an
// error. It makes room, up to the size of the large buffer.
func (c *Conn) Fill() error {
	if c.buf == nil && c.lazy != nil {
		small, n, err := c.lazy.ReadBuffer(&smallBuffers)
		if small == nil {
			return noProgress(err)
		}
		c.small, c.buf, c.r, c.w = small, *small, 0, 0
		return c.filled(n, err)
	}
	if err := c.room(); err != nil {
		return err
	}
	n, err := c.conn.Read(c.buf[c.w:])
	return c.filled(n, err)
}

// room makes room behind what is buffered.
func (c *Conn) room() error {
	if c.buf == nil {
		c.take()
	}
	if c.r == c.w {
		c.r, c.w = 0, 0
	}
	if c.r > 0 && c.w == len(c.buf) {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	if c.w == len(c.buf) {
		if c.small == nil {
			return io.ErrShortBuffer
		}
		c.grow()
	}
	return nil
}

// filled takes note of n bytes that were read.
func (c *Conn) filled(n int, err error) error {
	c.w += n
	if n > 0 {
		// A read that filled a small buffer to the brim has more behind it.
		if c.small != nil && c.w == len(c.buf) {
			c.grow()
		}
		return nil
	}
	return noProgress(err)
}

func noProgress(err error) error {
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

func (c *Conn) grow() {
	large := largeBuffers.Get().(*[]byte)
	c.move(*large)
	c.large = large
}

// Widen has the Conn read into a buffer of WideBuffer bytes until it is idle.
func (c *Conn) Widen() {
	if c.wide == nil {
		wide := wideBuffers.Get().(*[]byte)
		c.move(*wide)
		c.wide = wide
	}
}

// move makes to the buffer, which its owner is to be set to.
func (c *Conn) move(to []byte) {
	n := copy(to, c.buf[c.r:c.w])
	c.giveBack()
	c.buf, c.r, c.w = to, 0, n
}

// Need reads until at least n bytes are buffered; n is at most the size of the
// large buffer. An end of input after a part of them is io.ErrUnexpectedEOF.
func (c *Conn) Need(n int) error {
	for c.w-c.r < n {
		if c.r > 0 && len(c.buf)-c.r < n {
			c.w = copy(c.buf, c.buf[c.r:c.w])
			c.r = 0
		}
		if err := c.Fill(); err != nil {
			if errors.Is(err, io.EOF) && c.w > c.r {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// CanHold reports whether a packet with a payload of n bytes fits the large
// buffer, header included.
func CanHold(n int) bool { return n+HeaderSize <= largeBuffer }

// ReadPayload reads one payload, joined where it came in several packets, of
// limit bytes at most. The result is valid until the next read. Seq is set to
// follow the last packet read.
func (c *Conn) ReadPayload(limit int) ([]byte, error) {
	n, err := c.readHeader(limit)
	if err != nil {
		return nil, err
	}
	if n < MaxPayload && CanHold(n) {
		if err := c.Need(n); err != nil {
			return nil, unexpected(err)
		}
		p := c.Buffered()[:n]
		c.Discard(n) // the bytes stay where they are until the next Fill
		return p, nil
	}
	c.whole = c.whole[:0]
	for {
		for rest := n; rest > 0; {
			if c.r == c.w {
				if err := c.Fill(); err != nil {
					return nil, unexpected(err)
				}
			}
			part := c.Buffered()
			part = part[:min(len(part), rest)]
			c.whole = append(c.whole, part...)
			rest -= len(part)
			c.Discard(len(part))
		}
		if n < MaxPayload {
			return c.whole, nil
		}
		want := c.Seq
		if n, err = c.readHeader(limit - len(c.whole)); err != nil {
			return nil, unexpected(err)
		}
		if c.Seq != want+1 {
			return nil, ErrSequence
		}
	}
}

func (c *Conn) readHeader(limit int) (length int, err error) {
	if err := c.Need(HeaderSize); err != nil {
		return 0, err
	}
	n, seq := Header(c.Buffered())
	if n > limit {
		return 0, fmt.Errorf("%w: %d bytes, limit %d", ErrTooLarge, n, limit)
	}
	c.Discard(HeaderSize)
	c.Seq = seq + 1
	return n, nil
}

// Write puts payload behind what waits to be flushed, as packets numbered from
// Seq.
func (c *Conn) Write(payload []byte) {
	c.out, c.Seq = AppendPackets(c.out, payload, c.Seq)
}

// WriteCommand puts a new command behind what waits to be flushed: its packets
// are numbered from 0.
func (c *Conn) WriteCommand(payload []byte) {
	c.Seq = 0
	c.Write(payload)
}

// WriteRaw puts bytes that are packets already behind what waits to be flushed.
func (c *Conn) WriteRaw(packets []byte) { c.out = append(c.out, packets...) }

// Flush sends what waits.
func (c *Conn) Flush() error {
	if len(c.out) == 0 {
		return nil
	}
	if c.Sum != nil {
		_, _ = c.Sum.Write(c.out) // never fails
	}
	_, err := c.conn.Write(c.out)
	c.out = c.out[:0]
	return err
}

// Forward sends what waits and then b, which it does not keep.
func (c *Conn) Forward(b []byte) error {
	if len(c.out) > 0 && len(c.out)+len(b) <= smallBuffer {
		c.out = append(c.out, b...)
		return c.Flush()
	}
	if err := c.Flush(); err != nil {
		return err
	}
	if c.Sum != nil {
		_, _ = c.Sum.Write(b) // never fails
	}
	_, err := c.conn.Write(b)
	return err
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
