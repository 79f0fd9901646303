package rawio

import (
	"io"
	"net"
	"os"
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
}

// transfer is a read or a write under way.
type transfer struct {
	trap uintptr
	b    []byte
	n    int
	err  syscall.Errno
	step func(fd uintptr) bool // bound once: a method value is an allocation
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
	c := &Conn{Conn: conn, raw: raw}
	c.in.trap, c.out.trap = syscall.SYS_READ, syscall.SYS_WRITE
	c.in.step, c.out.step = c.in.attempt, c.out.attempt
	return c
}

// attempt makes the system call once; false if it must wait.
func (t *transfer) attempt(fd uintptr) bool {
	for {
		n, _, err := syscall.RawSyscall(t.trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(t.b))), uintptr(len(t.b)))
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

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return c.Conn.Read(b)
	}
	t := &c.in
	t.b = b
	err := c.raw.Read(t.step)
	t.b = nil
	switch {
	case err != nil:
		return 0, err
	case t.err != 0:
		return 0, c.failed("read", t.err)
	case t.n == 0:
		return 0, io.EOF
	}
	return t.n, nil
}

// chunk bounds what one system call writes: while it runs nobody else runs on
// its processor.
const chunk = 64 << 10

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
			return written, err
		case t.err != 0:
			return written, c.failed("write", t.err)
		}
		if written += t.n; written >= len(b) {
			return written, nil
		}
	}
}

func (c *Conn) failed(call string, errno syscall.Errno) error {
	return &net.OpError{
		Op: call, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(call, errno),
	}
}

// SyscallConn implements syscall.Conn.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return c.raw, nil }
