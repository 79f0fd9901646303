package rawio

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socket is an accepted connection.
type socket struct {
	*os.File
	local  net.Addr // the listener's
	peer   netip.AddrPort
	closed atomic.Bool
}

// LocalAddr implements net.Conn. It is the listener's, which may be that of all
// the machine's addresses.
func (s *socket) LocalAddr() net.Addr { return s.local }

// RemoteAddr implements net.Conn.
func (s *socket) RemoteAddr() net.Addr {
	if s.local.Network() == "unix" {
		return &net.UnixAddr{Net: "unix"}
	}
	return net.TCPAddrFromAddrPort(s.peer)
}

// Close implements net.Conn.
func (s *socket) Close() error {
	if s.closed.Swap(true) {
		return net.ErrClosed
	}
	return s.File.Close()
}

// finish is Close for who knows that nobody reads or writes any more.
//
// To close a socket takes the kernel long enough for Go's monitor to step in, if
// the scheduler is told, and being told wakes the monitor. So an idle socket is
// put in its place past the scheduler, which ends the connection, and that is
// closed later, together with others.
func (s *socket) finish(raw syscall.RawConn) error {
	if s.closed.Swap(true) {
		return net.ErrClosed
	}
	stand, errno := standIn(), syscall.EBADF
	if err := raw.Control(func(fd uintptr) {
		if stand >= 0 {
			_, _, errno = syscall.RawSyscall(syscall.SYS_DUP3, uintptr(stand), fd, syscall.O_CLOEXEC)
		}
	}); err != nil || errno != 0 {
		return s.File.Close()
	}
	departed.add(s.File)
	return nil
}

// standIn is an idle socket; negative where there can be none.
var standIn = sync.OnceValue(func() int {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return fd
})

// departed are the descriptors of finished connections.
var departed departures

// Bounds of departures.
const (
	mostDeparted = 64
	departedFor  = 50 * time.Millisecond
)

// departures are descriptors that are to be closed before long, some at once.
type departures struct {
	mu    sync.Mutex
	files []*os.File
	timer *time.Timer // runs while there are any
}

func (d *departures) add(f *os.File) {
	d.mu.Lock()
	d.files = append(d.files, f)
	n := len(d.files)
	if n == 1 {
		if d.timer == nil {
			d.timer = time.AfterFunc(departedFor, func() { d.close() })
		} else {
			d.timer.Reset(departedFor)
		}
	}
	d.mu.Unlock()
	if n >= mostDeparted {
		d.close()
	}
}

// close closes them, and says how many they were.
func (d *departures) close() int {
	d.mu.Lock()
	files := d.files
	d.files = nil
	if len(files) > 0 {
		d.timer.Stop()
	}
	d.mu.Unlock()
	for _, f := range files {
		_ = f.Close() // what is left there has nothing to lose
	}
	return len(files)
}
