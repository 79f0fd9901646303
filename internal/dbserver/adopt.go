package dbserver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// running is a server's process: our own child, or one that an earlier run has
// started.
type running interface {
	PID() int
	Done() <-chan struct{}
	// Err and Ended wait for the end; Ended is never nil.
	Err() error
	Ended() error
	// Signal is false if the process has ended.
	Signal(syscall.Signal) bool
}

// Found is what is left of an earlier run on a directory.
type Found int

// What Adopt finds.
const (
	// Nothing: the last server was stopped in order, or there was none.
	Nothing Found = iota
	// Dead: the last server ended in some other way.
	Dead
	// Alive: it runs.
	Alive
)

// Adopt returns the server that an earlier run of this program started on the
// directory, if that still runs. Whether it answers is for the caller to see. It
// must be released when it is not needed any more, also after its end.
func Adopt(inst Install, c Config) (*Server, Found, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, Nothing, err
	}
	was, err := readProcess(c.pidFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, Nothing, nil
	}
	if err != nil {
		return nil, Nothing, err
	}
	// The descriptor is taken before the identity is compared, so what is
	// watched and signalled is what was compared.
	fd, err := unix.PidfdOpen(was.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, Dead, nil
	}
	if err != nil {
		return nil, Nothing, fmt.Errorf("open the process of a server left behind (pid %d): %w", was.PID, err)
	}
	is, err := identify(was.PID)
	if errors.Is(err, fs.ErrNotExist) || err == nil && is != was || err == nil && hasEnded(fd) {
		return nil, Dead, unix.Close(fd)
	}
	if err != nil {
		return nil, Nothing, errors.Join(fmt.Errorf("identify a server left behind (pid %d): %w", was.PID, err), unix.Close(fd))
	}
	secret, err := os.ReadFile(c.secretFile())
	if err != nil {
		return nil, Nothing, errors.Join(fmt.Errorf("adopt server in %s: %w", c.Dir, err), unix.Close(fd))
	}
	process, err := adopt(was.PID, fd)
	if err != nil {
		return nil, Nothing, errors.Join(fmt.Errorf("adopt server in %s: %w", c.Dir, err), unix.Close(fd))
	}
	return &Server{inst: inst, config: c, secret: string(secret), child: process}, Alive, nil
}

// adopted is a process that is nobody's child here. It is watched until it ends
// or is released.
type adopted struct {
	pid      int
	mu       sync.Mutex    // a descriptor that is closed can become another one's
	fd       int           // of the process; -1 after the release
	release  *os.File      // closed to let go of it
	done     chan struct{} // closed at the process's end
	released chan struct{} // closed when nobody watches any more
}

// adopt takes fd over.
func adopt(pid, fd int) (*adopted, error) {
	wait, release, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	a := &adopted{pid: pid, fd: fd, release: release, done: make(chan struct{}), released: make(chan struct{})}
	go a.watch(wait)
	return a, nil
}

// watch holds an OS thread: not every kernel lets a pidfd into an epoll set, which
// is what the runtime would wait with.
func (a *adopted) watch(wait *os.File) {
	defer close(a.released)
	defer func() { _ = wait.Close() }() // nothing is read
	for {
		// The first becomes readable at the process's end (pidfd_open(2)), the second
		// reports that the pipe's other end is closed.
		fds := []unix.PollFd{{Fd: int32(a.fd), Events: unix.POLLIN}, {Fd: int32(wait.Fd()), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil {
			continue // interrupted by a signal; the descriptors are good
		}
		if fds[0].Revents != 0 {
			close(a.done)
		}
		return
	}
}

func hasEnded(fd int) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return err == nil && n > 0
}

func (a *adopted) PID() int              { return a.pid }
func (a *adopted) Done() <-chan struct{} { return a.done }

// errUnknownEnd: only a parent learns how a process ended.
var errUnknownEnd = errors.New("how it ended is not known: an earlier run had started it")

func (a *adopted) Err() error {
	<-a.done
	return errUnknownEnd
}

func (a *adopted) Ended() error { return a.Err() }

func (a *adopted) Signal(sig syscall.Signal) bool {
	select {
	case <-a.done:
		return false // it may not be reaped yet
	default:
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return unix.PidfdSendSignal(a.fd, sig, nil, 0) == nil
}

// Release lets go of a process that was adopted: it is not watched any more. Of the
// server nothing else may be called after it. It does nothing to a child, whose end
// must be awaited.
func (s *Server) Release() {
	if a, ok := s.child.(*adopted); ok {
		_ = a.release.Close() // nothing was written
		<-a.released
		a.mu.Lock()
		defer a.mu.Unlock()
		_ = unix.Close(a.fd) // it was only watched
		a.fd = -1
	}
}
