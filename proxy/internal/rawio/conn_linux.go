package rawio

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"
)

// Conn is a socket. Reads and writes may go on at the same time, but no two
// reads and no two writes: each belongs to one goroutine at a time. Close and
// the deadlines may be called by any.
type Conn struct {
	net.Conn
	raw syscall.RawConn

	in, out transfer
	lazy    lazyRead
}

// transfer is a read or a write under way.
type transfer struct {
	trap  uintptr // recvfrom or sendto: they have less to do than read and write
	flags uintptr
	b     []byte
	n     int
	err   syscall.Errno
	again bool                  // of once: it would have to wait
	step  func(fd uintptr) bool // bound once: a method value is an allocation
	once  func(fd uintptr) bool // step that does not wait
}

// Wrap returns conn with cheap reads and writes, or conn itself if it is no
// socket. The result owns conn.
func Wrap(conn net.Conn) net.Conn {
	var source syscall.Conn
	switch c := conn.(type) {
	case *net.TCPConn:
		source = c
	case *net.UnixConn:
		source = c
	default:
		return conn
	}
	raw, err := source.SyscallConn()
	if err != nil { // it is closed: its own methods say so
		return conn
	}
	return newConn(conn, raw)
}

func newConn(conn net.Conn, raw syscall.RawConn) *Conn {
	c := &Conn{Conn: conn, raw: raw}
	c.in.trap, c.out.trap, c.out.flags = syscall.SYS_RECVFROM, syscall.SYS_SENDTO, syscall.MSG_NOSIGNAL
	c.in.step, c.out.step = c.in.attempt, c.out.attempt
	c.in.once, c.out.once = c.in.attemptOnce, c.out.attemptOnce
	c.lazy.in, c.lazy.step = &c.in, c.lazy.attempt
	return c
}

// attempt makes the system call once; false if it must wait.
func (t *transfer) attempt(fd uintptr) bool {
	for {
		n, _, err := syscall.RawSyscall6(t.trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(t.b))), uintptr(len(t.b)), t.flags, 0, 0)
		switch err {
		case 0:
			t.n, t.err = int(n), 0
			return true
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			t.n, t.err = 0, err
			return true
		}
	}
}

// attemptOnce is attempt that never waits: again says that it would have to.
func (t *transfer) attemptOnce(fd uintptr) bool {
	t.again = !t.attempt(fd)
	return true
}

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return c.Conn.Read(b)
	}
	return c.read(b, c.in.step)
}

// ReadNow is Read that does not wait: where there is nothing to read it returns 0 and
// no error. b is not empty.
func (c *Conn) ReadNow(b []byte) (int, error) {
	c.in.again = false
	n, err := c.read(b, c.in.once)
	if c.in.again {
		return 0, nil
	}
	return n, err
}

// read reads by a step of c.in.
func (c *Conn) read(b []byte, step func(fd uintptr) bool) (int, error) {
	t := &c.in
	t.b = b
	err := c.raw.Read(step)
	t.b = nil
	err = c.received(err)
	return t.n, err
}

// received is the error of a read of which the connection underneath has said err.
func (c *Conn) received(err error) error {
	t := &c.in
	switch {
	case err != nil:
		t.n = 0
		return c.ended("read", err)
	case t.err != 0:
		return c.failed("read", t.err)
	case t.n == 0:
		return io.EOF
	}
	return nil
}

// WriteNow is Write that does not wait: it returns how much there was room for.
func (c *Conn) WriteNow(b []byte) (int, error) {
	t := &c.out
	t.b, t.again = b[:min(len(b), chunk)], false
	err := c.raw.Write(t.once)
	t.b = nil
	switch {
	case err != nil:
		return 0, c.ended("write", err)
	case t.again:
		return 0, nil
	case t.err != 0:
		return 0, c.failed("write", t.err)
	}
	return t.n, nil
}

// lazyRead is a read into a buffer that is taken when there is input.
type lazyRead struct {
	in   *transfer
	pool *sync.Pool
	got  *[]byte
	step func(fd uintptr) bool
}

func (l *lazyRead) attempt(fd uintptr) bool {
	l.got = l.pool.Get().(*[]byte)
	l.in.b = *l.got
	done := l.in.attempt(fd)
	if !done || l.in.err != 0 || l.in.n == 0 {
		l.pool.Put(l.got)
		l.got = nil
	}
	return done
}

// ReadBuffer reads into a buffer of pool's, which has *[]byte. It takes one only
// when there is input, so that who waits holds none; the buffer is the caller's
// then, and nil where nothing was read.
func (c *Conn) ReadBuffer(pool *sync.Pool) (buffer *[]byte, n int, err error) {
	l := &c.lazy
	l.pool = pool
	err = c.raw.Read(l.step)
	l.in.b = nil
	if err = c.received(err); err != nil {
		return nil, 0, err
	}
	buffer, l.got = l.got, nil
	return buffer, l.in.n, nil
}

// Wait waits until a read would give something, be it an end or an error. It
// takes little stack.
func (c *Conn) Wait() error { return c.raw.Read(readable) }

// readable tells whether a read would not have to wait.
func readable(fd uintptr) bool {
	var b byte
	for {
		_, _, err := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b)), 1, syscall.MSG_PEEK, 0, 0)
		if err != syscall.EINTR {
			return err != syscall.EAGAIN
		}
	}
}

// chunk bounds what one system call writes: while it runs nobody else runs on
// its processor.
const chunk = 256 << 10

// Write implements net.Conn.
func (c *Conn) Write(b []byte) (int, error) {
	t := &c.out
	written := 0
	for {
		t.b = b[written:min(len(b), written+chunk)]
		err := c.raw.Write(t.step)
		t.b = nil
		switch {
		case err != nil:
			return written, c.ended("write", err)
		case t.err != 0:
			return written, c.failed("write", t.err)
		}
		if written += t.n; written >= len(b) {
			return written, nil
		}
	}
}

// ended is the error of a read or a write that did not come to its system call.
func (c *Conn) ended(call string, err error) error {
	s, ok := c.Conn.(*Socket)
	if !ok {
		return err // as the connection underneath has it
	}
	if s.in.state.Load()&closed != 0 {
		err = net.ErrClosed
	}
	return s.failed(call, err)
}

func (c *Conn) failed(call string, errno syscall.Errno) error {
	return &net.OpError{
		Op: call, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(call, errno),
	}
}

// SyscallConn implements syscall.Conn.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return c.raw, nil }
