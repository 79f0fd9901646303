package rawio

import (
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// settled is a socket that Go's own poller watches.
type settled struct {
	*Conn
	base interface { // has the descriptor
		Close() error
		SetReadDeadline(time.Time) error
		SetWriteDeadline(time.Time) error
	}
}

// Adopt returns conn as a [Socket] that is settled, or conn itself if it is no
// socket. The result owns conn.
func Adopt(conn net.Conn) net.Conn {
	c, ok := Wrap(conn).(*Conn)
	if !ok {
		return conn
	}
	s := &Socket{local: conn.LocalAddr()}
	if peer, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		s.peer = peer.AddrPort()
	}
	s.users.Store(1)
	s.settled.Store(&settled{c, conn})
	return s
}

// Settle has Go's own poller watch the socket from now on, which costs less where a
// goroutine waits for it most of the time. Notify must not be called then. Nobody may
// read or write meanwhile.
func (s *Socket) Settle() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.in.state.Load()&closed != 0 {
		return s.failed("settle", net.ErrClosed)
	}
	if s.settled.Load() != nil {
		return nil
	}
	if errno := s.control(unix.EPOLL_CTL_DEL, 0); errno != 0 {
		return s.failed("settle", os.NewSyscallError("epoll_ctl", errno))
	}
	file := os.NewFile(uintptr(s.fd), "")
	raw, err := file.SyscallConn()
	if err != nil { // it cannot be: the file has just been made
		return s.failed("settle", err)
	}
	c := &settled{newConn(s, raw), file}
	s.settled.Store(c) // the descriptor is the file's from now on
	forget(s)
	if s.timer != nil {
		s.timer.Stop()
		s.timerAt = 0
	}
	if s.inAt != 0 {
		err = c.base.SetReadDeadline(s.inAt.time())
	}
	if s.outAt != 0 && err == nil {
		err = c.base.SetWriteDeadline(s.outAt.time())
	}
	if err != nil {
		return s.failed("settle", err)
	}
	return nil
}

// Settled tells whether Go's own poller watches the socket.
func (s *Socket) Settled() bool { return s.settled.Load() != nil }

// Unsettle has this package's poller watch the socket again. Nobody may read or write
// meanwhile. After an error the socket is closed.
func (s *Socket) Unsettle() error { return s.unsettle(false) }

// unsettle is Unsettle, of a socket that answers come on, or another.
func (s *Socket) unsettle(answers bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.in.state.Load()&closed != 0 {
		return s.failed("unsettle", net.ErrClosed)
	}
	c := s.settled.Load()
	if c == nil {
		return nil
	}
	// Go's poller forgets a descriptor that is closed: this goes on with another one.
	fd := -1
	var err error
	failed := c.raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	_ = c.base.Close() // the other is open
	if err = errors.Join(failed, err); err == nil {
		s.fd, s.roomy = fd, false
		s.in.state.Store(ready) // maybe
		s.out.state.Store(0)
		s.settled.Store(nil)
		if err = attend(s, answers); err != nil {
			_ = unix.Close(fd) // there is an error already that says more
		}
	}
	if err != nil {
		s.in.state.Or(closed)
		s.out.state.Or(closed)
		return s.failed("unsettle", err)
	}
	s.expire() // nobody waits who would be told
	return nil
}
