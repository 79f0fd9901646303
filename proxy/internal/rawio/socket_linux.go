package rawio

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Socket is a connection that this package's own poller watches. Reads and writes
// may go on at the same time, but no two reads and no two writes: each belongs to
// one goroutine at a time. Close and the deadlines may be called by any.
//
// A read makes its system call only when the poller has told of input, and not
// before it is told again once a call has given less than there was room for.
type Socket struct {
	poller  *poller
	epoll   int // of the poller's two
	fd      int
	serial  uint32
	users   atomic.Int32 // of fd: calls under way, and one while it is open
	listens bool         // its address is to be free when it is closed
	local   net.Addr     // the listener's, of one that was accepted
	peer    netip.AddrPort

	settled atomic.Pointer[settled] // nil while the poller watches it

	in, out side
	roomy   bool   // the poller tells of room to write, too
	then    func() // of Notify
	watch   atomic.Pointer[Watched]

	mu          sync.Mutex // of the deadlines
	inAt, outAt moment
	timer       *time.Timer
	timerAt     moment // 0: it does not run
}

// moment is a time since the program's start; 0 is never.
type moment time.Duration

var began = time.Now()

func (m moment) time() time.Time { return began.Add(time.Duration(m)) }

func momentOf(t time.Time) moment {
	if t.IsZero() {
		return 0
	}
	if m := moment(t.Sub(began)); m != 0 {
		return m
	}
	return 1
}

// side is what is known of one direction of a socket.
type side struct {
	state atomic.Uint32
	wake  chan struct{} // of who waits
}

// The bits of a side's state.
const (
	ready   = 1 << iota // a call may give something
	ended               // it will, from now on: an end or an error
	waiting             // a goroutine waits for any of the others
	calling             // a function is to be called then
	expired             // the deadline has passed
	closed
)

// park waits until the side is no more as it was: ready, expired, closed.
func (x *side) park() {
	if x.wake == nil {
		x.wake = make(chan struct{}, 1)
	}
	for {
		v := x.state.Load()
		if v&(ready|ended|expired|closed) != 0 {
			return
		}
		if x.state.CompareAndSwap(v, v|waiting) {
			<-x.wake
			return
		}
	}
}

// set sets bits and wakes who waits. It returns whether a function is to be
// called.
func (x *side) set(bits uint32) (call bool) {
	for {
		v := x.state.Load()
		if !x.state.CompareAndSwap(v, (v|bits)&^(waiting|calling)) {
			continue
		}
		if v&waiting != 0 {
			MakeWay()
			x.wake <- struct{}{}
		}
		return v&calling != 0
	}
}

// newSocket has a socket watched. If it fails it closes the descriptor.
func newSocket(s *Socket) (*Socket, error) {
	s.users.Store(1)
	if err := attend(s, false); err != nil {
		_ = unix.Close(s.fd) // there is an error already that says more
		return nil, err
	}
	return s, nil
}

// tell takes note of events.
func (s *Socket) tell(events uint32) {
	bits := uint32(0)
	if events&unix.EPOLLIN != 0 {
		bits = ready
	}
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		bits |= ended
	}
	if events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.out.set(ready)
	}
	if bits != 0 {
		s.happened(s.in.set(bits), bits&ended != 0)
	}
}

// happened tells who is to be told of the input side.
func (s *Socket) happened(call, ends bool) {
	if call {
		s.call()
	}
	if w := s.watch.Load(); w != nil {
		w.then(ends)
	}
}

// call calls Notify's function.
func (s *Socket) call() {
	then := s.then
	s.then = nil
	then()
}

// Notify has then called, once, when a read would give something, be it an end, an
// error or a deadline. That may be done by the poller's goroutine: then must not
// wait for anything. Until then nobody may read. False: a read would give
// something already, and then is not called.
func (s *Socket) Notify(then func()) bool {
	s.then = then
	for {
		v := s.in.state.Load()
		if v&(ended|expired|closed) != 0 || v&ready != 0 && s.readable() {
			s.then = nil
			return false
		}
		if v = s.in.state.Load(); v&(ready|ended|expired|closed) == 0 && s.in.state.CompareAndSwap(v, v|calling) {
			return true
		}
	}
}

// Wait waits until a read would give something, be it an end, an error or a
// deadline.
func (s *Socket) Wait() error {
	if c := s.settled.Load(); c != nil {
		return c.Conn.Wait()
	}
	for {
		if v := s.in.state.Load(); v&(ended|expired|closed) != 0 || v&ready != 0 && s.readable() {
			return s.over("read", v)
		}
		s.in.park()
	}
}

// readable looks whether there is input where the poller has told so: it may have
// been read since. If there is none, it is told anew.
func (s *Socket) readable() bool {
	s.in.state.And(^uint32(ready))
	if !s.enter() {
		return true
	}
	defer s.leave()
	var b byte
	for {
		_, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(s.fd), uintptr(unsafe.Pointer(&b)), 1, syscall.MSG_PEEK, 0, 0)
		switch errno {
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			s.in.state.Or(ready)
			return true
		}
	}
}

// enter makes sure that the descriptor stays open until leave; false if it is
// closed.
func (s *Socket) enter() bool {
	for {
		n := s.users.Load()
		if n == 0 || s.in.state.Load()&closed != 0 {
			return false
		}
		if s.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (s *Socket) leave() {
	if s.users.Add(-1) > 0 {
		return
	}
	forget(s)
	if s.listens {
		closeNow(s.fd)
	} else {
		closeSoon(s.fd)
	}
}

// over is the error of a call that a side's state ends.
func (s *Socket) over(call string, state uint32) error {
	if err := ending(state); err != nil {
		return s.failed(call, err)
	}
	return nil
}

// ending is why a side's state ends a call; nil if it does not.
func ending(state uint32) error {
	switch {
	case state&closed != 0:
		return net.ErrClosed
	case state&expired != 0:
		return os.ErrDeadlineExceeded
	}
	return nil
}

func (s *Socket) failed(call string, err error) error {
	if errno, ok := err.(syscall.Errno); ok {
		err = os.NewSyscallError(call, errno)
	}
	return &net.OpError{Op: call, Net: s.local.Network(), Source: s.local, Addr: s.RemoteAddr(), Err: err}
}

// Read implements net.Conn.
func (s *Socket) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, s.over("read", s.in.state.Load()&closed)
	}
	if c := s.settled.Load(); c != nil {
		return c.Conn.Read(b)
	}
	for {
		if err := s.awaitInput(); err != nil {
			return 0, err
		}
		if n, err := s.ReadNow(b); n > 0 || err != nil {
			return n, err
		}
	}
}

// ReadNow is Read that does not wait: where there is nothing to read it returns 0 and
// no error.
func (s *Socket) ReadNow(b []byte) (int, error) {
	if c := s.settled.Load(); c != nil {
		return c.ReadNow(b)
	}
	v := s.in.state.Load()
	if v&(closed|expired|ready|ended) == 0 {
		return 0, nil
	}
	if err := s.over("read", v); err != nil {
		return 0, err
	}
	n, errno := s.receive(b)
	switch {
	case n > 0 || errno == syscall.EAGAIN:
		return n, nil
	case errno == 0:
		return 0, io.EOF
	}
	return 0, s.failed("read", errno)
}

// ReadBuffer reads into a buffer of pool's, which has *[]byte. It takes one only
// when there is input, so that who waits holds none; the buffer is the caller's
// then, and nil where nothing was read.
func (s *Socket) ReadBuffer(pool *sync.Pool) (buffer *[]byte, n int, err error) {
	if c := s.settled.Load(); c != nil {
		return c.Conn.ReadBuffer(pool)
	}
	for {
		if err := s.awaitInput(); err != nil {
			return nil, 0, err
		}
		buffer = pool.Get().(*[]byte)
		if n, err = s.ReadNow(*buffer); n > 0 {
			return buffer, n, nil
		}
		pool.Put(buffer)
		if err != nil {
			return nil, 0, err
		}
	}
}

// awaitInput waits until the poller has told of input.
func (s *Socket) awaitInput() error {
	for {
		v := s.in.state.Load()
		if v&(closed|expired) != 0 {
			return s.over("read", v)
		}
		if v&(ready|ended) != 0 {
			return nil
		}
		s.in.park()
	}
}

// receive reads, and keeps what is known of the input.
func (s *Socket) receive(b []byte) (n int, errno syscall.Errno) {
	if !s.enter() {
		return 0, syscall.EAGAIN // who tries again sees why
	}
	// What the poller tells from here on is kept.
	was := s.in.state.And(^uint32(ready | ended))
	for {
		var r uintptr
		r, _, errno = syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0)
		if n = int(r); errno != syscall.EINTR {
			break
		}
	}
	s.leave()
	keep := was & ended // it comes behind what was read
	switch {
	case errno == syscall.EAGAIN:
		return 0, errno
	case errno != 0:
		n, keep = 0, ended
	case n == 0:
		keep = ended
	case n == len(b):
		keep |= ready
	}
	if keep != 0 {
		s.in.state.Or(keep)
	}
	return n, errno
}

// Write implements net.Conn.
func (s *Socket) Write(b []byte) (int, error) {
	if c := s.settled.Load(); c != nil {
		return c.Conn.Write(b)
	}
	written, again := 0, false
	for {
		if v := s.out.state.Load(); v&(closed|expired) != 0 {
			return written, s.over("write", v)
		}
		if len(b) == 0 {
			return 0, nil
		}
		n, errno := s.send(b[written:min(len(b), written+chunk)])
		switch errno {
		case 0:
			again = false
			if written += n; written >= len(b) {
				return written, nil
			}
		case syscall.EAGAIN:
			// Once more after what was told of room before is forgotten: then what
			// is told from there on is kept.
			if again {
				s.out.park()
			} else if err := s.awaitRoom(); err != nil {
				return written, err
			}
			again = !again
		default:
			return written, s.failed("write", errno)
		}
	}
}

// WriteNow is Write that does not wait: it returns how much there was room for.
func (s *Socket) WriteNow(b []byte) (int, error) {
	if c := s.settled.Load(); c != nil {
		return c.WriteNow(b)
	}
	if v := s.out.state.Load(); v&(closed|expired) != 0 {
		return 0, s.over("write", v)
	}
	n, errno := s.send(b)
	if errno != 0 && errno != syscall.EAGAIN {
		return 0, s.failed("write", errno)
	}
	return n, nil
}

// awaitRoom has the poller tell anew when there is room to write.
func (s *Socket) awaitRoom() error {
	s.out.state.And(^uint32(ready | ended))
	if s.roomy || !s.enter() {
		return nil
	}
	defer s.leave()
	if errno := s.control(unix.EPOLL_CTL_MOD, unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLOUT); errno != 0 {
		return s.failed("write", os.NewSyscallError("epoll_ctl", errno))
	}
	s.roomy = true
	return nil
}

func (s *Socket) send(b []byte) (n int, errno syscall.Errno) {
	if !s.enter() {
		return 0, syscall.EAGAIN // who tries again sees why
	}
	defer s.leave()
	return s.sendNow(b)
}

// sendNow is send of who has entered.
func (s *Socket) sendNow(b []byte) (n int, errno syscall.Errno) {
	for {
		r, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), syscall.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return int(r), 0
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}

// errClosedBefore is a constant: most sessions are closed twice.
var errClosedBefore error = &net.OpError{Op: "close", Err: net.ErrClosed}

// Close implements net.Conn.
func (s *Socket) Close() error {
	s.mu.Lock()
	if s.in.state.Load()&closed != 0 {
		s.mu.Unlock()
		return errClosedBefore
	}
	s.out.set(closed)
	call := s.in.set(closed)
	if s.timer != nil {
		s.timer.Stop()
	}
	c := s.settled.Load()
	s.mu.Unlock()
	var err error
	if c != nil {
		err = c.base.Close()
	} else {
		s.leave()
	}
	s.happened(call, true)
	return err
}

// SetDeadline implements net.Conn.
func (s *Socket) SetDeadline(t time.Time) error { return s.setDeadline(t, true, true) }

// SetReadDeadline implements net.Conn.
func (s *Socket) SetReadDeadline(t time.Time) error { return s.setDeadline(t, true, false) }

// SetWriteDeadline implements net.Conn.
func (s *Socket) SetWriteDeadline(t time.Time) error { return s.setDeadline(t, false, true) }

func (s *Socket) setDeadline(t time.Time, in, out bool) error {
	at := momentOf(t)
	s.mu.Lock()
	if s.in.state.Load()&closed != 0 {
		s.mu.Unlock()
		return s.failed("set", net.ErrClosed)
	}
	if in {
		s.inAt = at
		s.in.state.And(^uint32(expired))
	}
	if out {
		s.outAt = at
		s.out.state.And(^uint32(expired))
	}
	if c := s.settled.Load(); c != nil {
		defer s.mu.Unlock()
		var err error
		if in {
			err = c.base.SetReadDeadline(t)
		}
		if out && err == nil {
			err = c.base.SetWriteDeadline(t)
		}
		return err
	}
	passed, call := s.expire()
	s.mu.Unlock()
	if passed {
		s.happened(call, true)
	}
	return nil
}

// expire ends what the deadlines that have passed end, and sees to the others. The
// caller has the lock, and calls happened if that of reading has passed.
func (s *Socket) expire() (passed, call bool) {
	now := moment(time.Since(began))
	next := moment(0)
	due := func(at moment) bool {
		if at == 0 || at <= now {
			return at != 0
		}
		if next == 0 || at < next {
			next = at
		}
		return false
	}
	if due(s.outAt) {
		s.out.set(expired)
	}
	if due(s.inAt) {
		passed, call = true, s.in.set(expired)
	}
	// A timer that is too early looks again; most deadlines are put off before.
	if next == 0 || s.timerAt != 0 && s.timerAt <= next {
		return passed, call
	}
	s.timerAt = next
	if s.timer == nil {
		s.timer = time.AfterFunc(time.Duration(next-now), s.timeIsUp)
	} else {
		s.timer.Reset(time.Duration(next - now))
	}
	return passed, call
}

func (s *Socket) timeIsUp() {
	s.mu.Lock()
	s.timerAt = 0
	passed, call := false, false
	if s.in.state.Load()&closed == 0 && s.settled.Load() == nil {
		passed, call = s.expire()
	}
	s.mu.Unlock()
	if passed {
		s.happened(call, true)
	}
}

// LocalAddr implements net.Conn. It is the listener's, which may be that of all
// the machine's addresses.
func (s *Socket) LocalAddr() net.Addr { return s.local }

// RemoteAddr implements net.Conn.
func (s *Socket) RemoteAddr() net.Addr {
	if s.local.Network() == "unix" {
		return &net.UnixAddr{Net: "unix"}
	}
	return net.TCPAddrFromAddrPort(s.peer)
}

// SyscallConn implements syscall.Conn, for what does not wait.
func (s *Socket) SyscallConn() (syscall.RawConn, error) {
	if c := s.settled.Load(); c != nil {
		return c.raw, nil
	}
	return descriptor{s}, nil
}

// descriptor is a socket's, to be looked at.
type descriptor struct{ s *Socket }

// Control implements syscall.RawConn.
func (d descriptor) Control(f func(fd uintptr)) error {
	if !d.s.enter() {
		return d.s.failed("control", net.ErrClosed)
	}
	defer d.s.leave()
	f(uintptr(d.s.fd))
	return nil
}

// Read implements syscall.RawConn.
func (d descriptor) Read(f func(fd uintptr) bool) error {
	return d.try(&d.s.in, "read", func() error { return nil }, f)
}

// Write implements syscall.RawConn.
func (d descriptor) Write(f func(fd uintptr) bool) error {
	return d.try(&d.s.out, "write", d.s.awaitRoom, f)
}

func (d descriptor) try(x *side, call string, before func() error, f func(fd uintptr) bool) error {
	for {
		v := x.state.Load()
		if v&(closed|expired) != 0 {
			return d.s.over(call, v)
		}
		was := x.state.And(^uint32(ready | ended))
		if err := before(); err != nil {
			return err
		}
		done := false
		if err := d.Control(func(fd uintptr) { done = f(fd) }); err != nil {
			return err
		}
		if done {
			x.state.Or(was & (ready | ended)) // whatever is left
			return nil
		}
		x.park()
	}
}
