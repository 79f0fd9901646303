package rawio

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// listener accepts connections that are a [Conn] from the beginning: of what a
// plain listener does for each, they are spared looking up the own address and
// switching Nagle's algorithm off. What the listening socket has set its
// connections inherit.
type listener struct {
	file   *os.File
	raw    syscall.RawConn
	local  net.Addr
	closed atomic.Bool

	// The accept under way.
	fd    int
	errno syscall.Errno
	from  unix.RawSockaddrAny
	step  func(fd uintptr) bool
}

// Listen returns l with cheap accepts and connections, or l itself if it is no
// socket's. The result owns l, and a unix socket's file stays when it is closed.
// Accept belongs to one goroutine at a time.
func Listen(l net.Listener) (net.Listener, error) {
	switch l := l.(type) {
	case *net.TCPListener:
		return listen(l, l)
	case *net.UnixListener:
		l.SetUnlinkOnClose(false)
		return listen(l, l)
	}
	return l, nil
}

func listen(plain net.Listener, source syscall.Conn) (net.Listener, error) {
	raw, err := source.SyscallConn()
	if err != nil {
		return nil, err
	}
	l := &listener{local: plain.Addr()}
	fd := -1
	failed := raw.Control(func(own uintptr) {
		if fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0); err == nil && l.local.Network() == "tcp" {
			err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		}
	})
	if err = errors.Join(failed, err); err != nil {
		if fd >= 0 {
			_ = unix.Close(fd) // there is an error already that says more
		}
		return nil, err
	}
	l.file = os.NewFile(uintptr(fd), l.local.String())
	if l.raw, err = l.file.SyscallConn(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	l.step = l.attempt
	return l, plain.Close()
}

// attempt accepts once; false if it must wait.
func (l *listener) attempt(fd uintptr) bool {
	for {
		size := uint32(unsafe.Sizeof(l.from))
		n, _, errno := syscall.RawSyscall6(syscall.SYS_ACCEPT4, fd, uintptr(unsafe.Pointer(&l.from)), uintptr(unsafe.Pointer(&size)),
			syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0, 0)
		switch errno {
		case syscall.EINTR, syscall.ECONNABORTED: // the client that gave up is nobody's
		case syscall.EAGAIN:
			return false
		default:
			l.fd, l.errno = int(n), errno
			return true
		}
	}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	err := l.raw.Read(l.step)
	if err == nil && (l.errno == syscall.EMFILE || l.errno == syscall.ENFILE) && departed.close() > 0 {
		err = l.raw.Read(l.step)
	}
	switch {
	case err != nil:
		return nil, &net.OpError{Op: "accept", Net: l.local.Network(), Addr: l.local, Err: l.ended(err)}
	case l.errno != 0:
		return nil, &net.OpError{Op: "accept", Net: l.local.Network(), Addr: l.local, Err: os.NewSyscallError("accept4", l.errno)}
	}
	s := &socket{File: os.NewFile(uintptr(l.fd), ""), local: l.local, peer: peer(&l.from)}
	raw, err := s.File.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, s.File.Close())
	}
	return newConn(s, raw), nil
}

// ended is why an Accept that did not come to its system call has ended.
func (l *listener) ended(err error) error {
	if l.closed.Load() {
		return net.ErrClosed
	}
	return err
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.closed.Store(true)
	return l.file.Close()
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return l.local }

// SyscallConn implements syscall.Conn.
func (l *listener) SyscallConn() (syscall.RawConn, error) { return l.raw, nil }

// peer is the address that an accept has told; not valid where it has none.
func peer(from *unix.RawSockaddrAny) netip.AddrPort {
	port := func(p *uint16) uint16 { b := (*[2]byte)(unsafe.Pointer(p)); return uint16(b[0])<<8 | uint16(b[1]) }
	switch from.Addr.Family {
	case unix.AF_INET:
		a := (*unix.RawSockaddrInet4)(unsafe.Pointer(from))
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), port(&a.Port))
	case unix.AF_INET6:
		a := (*unix.RawSockaddrInet6)(unsafe.Pointer(from))
		address := netip.AddrFrom16(a.Addr).Unmap()
		if a.Scope_id != 0 && address.Is6() {
			zone := strconv.Itoa(int(a.Scope_id))
			if i, err := net.InterfaceByIndex(int(a.Scope_id)); err == nil {
				zone = i.Name
			}
			address = address.WithZone(zone)
		}
		return netip.AddrPortFrom(address, port(&a.Port))
	}
	return netip.AddrPort{}
}

// SetDeadline makes every later Accept, and the one that waits, return after t;
// zero is never.
func (l *listener) SetDeadline(t time.Time) error { return l.file.SetDeadline(t) }
