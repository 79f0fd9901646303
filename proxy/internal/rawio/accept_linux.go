package rawio

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// listener accepts connections that are a [Socket] from the beginning: of what a
// plain listener does for each, they are spared looking up the own address and
// switching Nagle's algorithm off. What the listening socket has set its
// connections inherit. It is a Socket itself, of which only the waiting is used.
type listener struct {
	*Socket

	mu   sync.Mutex // of the accept under way
	from unix.RawSockaddrAny
}

// Listen returns l with cheap accepts, of connections that are a [Socket], or l
// itself if it is no socket's. The result owns l, and a unix socket's file stays
// when it is closed.
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
	l := &listener{Socket: &Socket{fd: -1, listens: true, local: plain.Addr()}}
	failed := raw.Control(func(own uintptr) {
		if l.fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0); err == nil && l.local.Network() == "tcp" {
			err = unix.SetsockoptInt(l.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		}
	})
	if err = errors.Join(failed, err); err != nil {
		if l.fd >= 0 {
			_ = unix.Close(l.fd) // there is an error already that says more
		}
		return nil, err
	}
	l.in.state.Store(ready) // maybe
	if _, err = newSocket(l.Socket); err != nil {
		return nil, err
	}
	return l, plain.Close()
}

// attempt accepts once. It is EAGAIN where nobody is to be accepted; the poller tells
// when there is.
func (l *listener) attempt() (*Socket, syscall.Errno) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.enter() {
		return nil, syscall.EAGAIN // who tries again sees why
	}
	defer l.leave()
	l.in.state.And(^uint32(ready))
	for {
		size := uint32(unsafe.Sizeof(l.from))
		n, _, errno := syscall.RawSyscall6(syscall.SYS_ACCEPT4, uintptr(l.fd), uintptr(unsafe.Pointer(&l.from)), uintptr(unsafe.Pointer(&size)),
			syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0, 0)
		switch errno {
		case syscall.EINTR, syscall.ECONNABORTED: // the client that gave up is nobody's
		case syscall.EAGAIN:
			return nil, errno
		case 0:
			l.in.state.Or(ready) // there may be more
			return &Socket{fd: int(n), local: l.local, peer: peer(&l.from)}, 0
		default:
			l.in.state.Or(ready)
			return nil, errno
		}
	}
}

// accept is Accept that does not wait: nil and no error where nobody is to be accepted.
func (l *listener) accept() (*Socket, error) {
	failed := func(err error) (*Socket, error) {
		return nil, &net.OpError{Op: "accept", Net: l.local.Network(), Addr: l.local, Err: err}
	}
	if err := ending(l.in.state.Load()); err != nil {
		return failed(err)
	}
	s, errno := l.attempt()
	switch errno {
	case 0:
	case syscall.EAGAIN:
		return nil, nil
	default:
		return failed(os.NewSyscallError("accept4", errno))
	}
	s, err := newSocket(s)
	if err != nil {
		return failed(err)
	}
	return s, nil
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		if s, err := l.accept(); s != nil || err != nil {
			if err != nil {
				return nil, err
			}
			return s, nil
		}
		l.in.park()
	}
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return l.local }

// burst is how many are accepted before others have their turn.
const burst = 64

// Serve accepts connections and gives them to take, which must not wait for anything,
// until there is an error: the listener's deadline passes or it is closed, too. One
// of Listen's does so in the poller's goroutine. Neither Serve nor Accept may be called
// by others meanwhile.
func Serve(plain net.Listener, take func(net.Conn)) error {
	l, ok := plain.(*listener)
	if !ok {
		return serve(plain, take)
	}
	end := make(chan error, 1)
	var mu sync.Mutex
	ended := false
	w := &Watched{socket: l.Socket}
	accept := func() {
		mu.Lock()
		defer mu.Unlock()
		for range burst {
			if ended {
				return
			}
			s, err := l.accept()
			switch {
			case err != nil:
				ended = true
				end <- err
			case s == nil:
				return
			default:
				take(s)
			}
		}
		if !ended { // to be told again
			l.control(unix.EPOLL_CTL_MOD, unix.EPOLLIN)
		}
	}
	w.then = func(bool) { lastly(accept) } // who is being served comes first
	l.watch.Store(w)
	defer w.End()
	accept() // who is there already
	return <-end
}

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
