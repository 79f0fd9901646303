package dbserver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

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
// directory, if that still runs. Whether it answers is for the caller to see. A
// server that is let go of must be released, or its end be awaited.
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
	fd, err := unix.PidfdOpen(was.PID, unix.PIDFD_NONBLOCK)
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
	s := &Server{inst: inst, config: c, secret: string(secret), child: adopt(was.PID, fd)}
	return s, Alive, nil
}

// adopted is a process that is nobody's child here. It is watched until it ends
// or is released.
type adopted struct {
	pid      int
	fd       *os.File
	done     chan struct{} // closed at the process's end
	released chan struct{} // closed when nobody watches any more
}

func adopt(pid, fd int) *adopted {
	a := &adopted{pid: pid, fd: os.NewFile(uintptr(fd), "pidfd"), done: make(chan struct{}), released: make(chan struct{})}
	go a.watch()
	return a
}

func (a *adopted) watch() {
	defer close(a.released)
	ended := false
	raw, err := a.fd.SyscallConn()
	if err == nil {
		// The descriptor becomes readable at the end (pidfd_open(2)), which wakes the
		// runtime's poller.
		err = raw.Read(func(fd uintptr) bool {
			ended = hasEnded(int(fd))
			return ended
		})
	}
	for err != nil && !ended && !errors.Is(err, os.ErrClosed) {
		// The poller does not take the descriptor.
		time.Sleep(5 * time.Millisecond)
		ended = errors.Is(unix.Kill(a.pid, 0), unix.ESRCH)
	}
	if ended {
		close(a.done)
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
	sent := false
	raw, err := a.fd.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), sig, nil, 0) == nil })
	}
	return err == nil && sent
}

// Release lets the process be: it is not watched any more and goes on. Of the
// server nothing else may be called after it. It does nothing to a child, whose
// end must be awaited.
func (s *Server) Release() {
	if a, ok := s.child.(*adopted); ok {
		_ = a.fd.Close() // was only watched
		<-a.released
	}
}
