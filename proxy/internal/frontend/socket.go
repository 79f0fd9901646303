package frontend

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"farmhand/proxy/internal/rawio"
)

// Spec is one address to listen on.
type Spec struct {
	Network string      // "tcp" or "unix"
	Address string      // host:port, or the absolute path of a socket
	Mode    fs.FileMode // of a unix socket; not used for TCP
}

func (s Spec) String() string { return s.Network + " " + s.Address }

// probeTimeout bounds the question whether anybody answers on a unix socket.
const probeTimeout = time.Second

// socket is one listening socket.
type socket struct {
	spec Spec
	net.Listener
	inherited bool        // opened by another process
	systemd   bool        // the file, if any, is systemd's
	file      fs.FileInfo // of a unix socket when it was bound; nil for TCP

	closing sync.Once
	closed  error
}

// deadlined is what both kinds of listener have besides net.Listener.
type deadlined interface {
	SetDeadline(time.Time) error
	SyscallConn() (syscall.RawConn, error)
}

func open(ctx context.Context, spec Spec) (*socket, error) {
	switch spec.Network {
	case "tcp":
		return openTCP(ctx, spec)
	case "unix":
		return openUnix(ctx, spec)
	}
	return nil, fmt.Errorf("listen on %s: unknown network %q", spec, spec.Network)
}

func openTCP(ctx context.Context, spec Spec) (*socket, error) {
	// Go sets SO_REUSEADDR on listeners. Clients that could use several paths are
	// rare, and a listener for them makes every accept dearer.
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	listener, err := config.Listen(ctx, "tcp", spec.Address)
	if err == nil {
		return &socket{spec: spec, Listener: listener}, nil
	}
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("listen on %s: the port is in use%s: %w", spec, by(tcpHolder(spec.Address)), err)
	}
	return nil, fmt.Errorf("listen on %s: %w", spec, err)
}

// cheapen makes accepting from the socket cheap. What is accepted inherits the
// listener's options, which costs a connection nothing.
func (s *socket) cheapen() error {
	if s.spec.Network == "tcp" {
		if err := keepAlive(s.Listener.(deadlined)); err != nil {
			return fmt.Errorf("listen on %s: keep connections alive: %w", s.spec, err)
		}
	}
	cheap, err := rawio.Listen(s.Listener)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", s.spec, err)
	}
	s.Listener = cheap
	return nil
}

// keepAlive has the kernel find out about clients that are gone: after 15 s of
// silence it asks every 15 s, nine times, as Go does by default.
func keepAlive(listener deadlined) error {
	raw, err := listener.SyscallConn()
	if err != nil {
		return err
	}
	failed := raw.Control(func(fd uintptr) {
		for _, o := range [...]struct{ level, option, value int }{
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15},
			{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9},
		} {
			err = errors.Join(err, unix.SetsockoptInt(int(fd), o.level, o.option, o.value))
		}
	})
	return errors.Join(failed, err)
}

// openUnix makes a socket file that never has a wider mode than asked for: the
// mode of the socket's own inode, set before bind, is what bind gives the file
// (less the umask, which chmod puts right before anybody is listened to). The
// usual way, a temporary name and a rename, would leave the temporary name in
// getsockname and /proc/net/unix for as long as the socket lives.
//
// A file that nobody answers on is removed first, under a lock on the
// directory, so that two processes that start at once do not remove each
// other's.
func openUnix(ctx context.Context, spec Spec) (*socket, error) {
	fail := func(what string, err error) (*socket, error) {
		return nil, fmt.Errorf("listen on %s: %s: %w", spec, what, err)
	}
	if !filepath.IsAbs(spec.Address) {
		return fail("the path is not absolute", fs.ErrInvalid)
	}
	// sun_path holds 108 bytes, the last of them 0.
	if len(spec.Address) > 107 {
		return fail(fmt.Sprintf("the path has %d bytes, more than a socket's 107", len(spec.Address)), unix.ENAMETOOLONG)
	}
	directory, err := os.Open(filepath.Dir(spec.Address))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fail("make its directory first", err)
		}
		return fail("its directory", err)
	}
	defer directory.Close()
	if err := lock(ctx, directory); err != nil {
		return fail("lock its directory", err)
	}
	if err := removeStale(ctx, spec.Address); err != nil {
		return fail("it is in use"+by(unixHolder(spec.Address)), err)
	}

	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fail("make a socket", err)
	}
	file := os.NewFile(uintptr(fd), spec.Address)
	defer file.Close() // the listener has a duplicate
	mode := uint32(spec.Mode.Perm())
	if err := unix.Fchmod(fd, mode); err != nil {
		return fail("set the mode", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: spec.Address}); err != nil {
		return fail("bind", err)
	}
	if err := os.Chmod(spec.Address, spec.Mode.Perm()); err != nil {
		return fail("set the mode", errors.Join(err, os.Remove(spec.Address)))
	}
	if err := unix.Listen(fd, maxBacklog); err != nil {
		return fail("listen", errors.Join(err, os.Remove(spec.Address)))
	}
	s, err := adopt(spec, file, false)
	if err != nil {
		return fail("use the socket", errors.Join(err, os.Remove(spec.Address)))
	}
	return s, nil
}

// lock takes the lock on a directory, which the closing of it gives back. In a
// directory that others can read, others can hold the lock too: so it is not
// waited for without end.
func lock(ctx context.Context, directory *os.File) error {
	ctx, cancel := context.WithTimeoutCause(ctx, probeTimeout*5, errors.New("another process holds the lock"))
	defer cancel()
	for {
		err := unix.Flock(int(directory.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(firstPause):
		}
	}
}

// maxBacklog is cut to net.core.somaxconn by the kernel.
const maxBacklog = 65535

// errAnswers says that a process listens where we would.
var errAnswers = errors.New("somebody answers there")

// removeStale removes a socket file that nobody listens on. Anything else that
// is there is an error.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is not a socket; remove or rename it: %w", path, fs.ErrExist)
	}
	conn, err := (&net.Dialer{Timeout: probeTimeout}).DialContext(ctx, "unix", path)
	if err == nil {
		conn.Close()
		return errAnswers
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return err // a full queue, say: somebody is there
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// adopt makes a socket of a listening descriptor, which the caller still owns
// and should close.
func adopt(spec Spec, file *os.File, systemd bool) (*socket, error) {
	listener, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("use descriptor %q for %s: %w", file.Name(), spec, err)
	}
	s := &socket{spec: spec, Listener: listener, systemd: systemd}
	if spec.Network == "unix" {
		// No error: the file may have been removed under a living socket.
		s.file, _ = os.Lstat(spec.Address)
	}
	return s, nil
}

// interrupt makes a waiting Accept return, and every later one.
func (s *socket) interrupt() error { return s.Listener.(deadlined).SetDeadline(time.Unix(1, 0)) }

// duplicate returns a new descriptor of the socket, close-on-exec. It leaves
// the socket in non-blocking mode, as File().Fd() would not.
func (s *socket) duplicate() (int, error) {
	raw, err := s.Listener.(deadlined).SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	var dupErr error
	if err := raw.Control(func(own uintptr) { fd, dupErr = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return -1, err
	}
	return fd, dupErr
}

// close closes the socket and, if remove is set, removes its file first, unless
// the file is systemd's or another's by now. A second call does nothing.
func (s *socket) close(remove bool) error {
	s.closing.Do(func() {
		if remove && !s.systemd && s.file != nil {
			s.closed = removeSame(s.spec.Address, s.file)
		}
		s.closed = errors.Join(s.closed, s.Listener.Close())
	})
	return s.closed
}

// removeSame removes a file unless there is another in its place.
func removeSame(path string, file fs.FileInfo) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	// File systems reuse inode numbers.
	if !os.SameFile(info, file) || !info.ModTime().Equal(file.ModTime()) {
		return nil
	}
	return os.Remove(path)
}

// serves says whether a socket bound to an address is what a spec asks for.
func serves(bound net.Addr, spec Spec) bool {
	switch bound := bound.(type) {
	case *net.UnixAddr:
		return spec.Network == "unix" && bound.Name == spec.Address
	case *net.TCPAddr:
		if spec.Network != "tcp" {
			return false
		}
		want, err := net.ResolveTCPAddr("tcp", spec.Address)
		if err != nil || want.Port == 0 || want.Port != bound.Port {
			return false
		}
		have, _ := netip.AddrFromSlice(bound.IP)
		wanted, _ := netip.AddrFromSlice(want.IP) // invalid for an empty host
		have, wanted = have.Unmap(), wanted.Unmap()
		// Go takes an empty host and [::] for both families, 0.0.0.0 for one.
		if !wanted.IsValid() || wanted == netip.IPv6Unspecified() {
			return !have.IsValid() || have == netip.IPv6Unspecified()
		}
		return have == wanted
	}
	return false
}
