package frontend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"farmhand/proxy/internal/rawio"
)

// Inherited is a listening socket that was opened by another process.
type Inherited struct {
	Spec Spec
	File *os.File
	// Systemd says that systemd opened it, and so owns a unix socket's file.
	Systemd bool
}

// Activated describes the sockets that systemd passed to this process. On an
// error the files are closed.
func Activated(files []*os.File) ([]Inherited, error) {
	inherited := make([]Inherited, 0, len(files))
	for _, file := range files {
		spec, err := boundTo(file)
		if err != nil {
			for _, file := range files {
				file.Close()
			}
			return nil, err
		}
		inherited = append(inherited, Inherited{Spec: spec, File: file, Systemd: true})
	}
	return inherited, nil
}

func boundTo(file *os.File) (Spec, error) {
	listener, err := net.FileListener(file)
	if err != nil {
		return Spec{}, fmt.Errorf("socket activation: %q is no listening stream socket: %w", file.Name(), err)
	}
	defer listener.Close()
	return Spec{Network: listener.Addr().Network(), Address: listener.Addr().String()}, nil
}

// Listeners is the set of sockets that clients connect to.
type Listeners struct {
	sockets []*socket

	stopped chan struct{} // closed by Stop

	mu     sync.Mutex
	ending bool // stopped is closed
	handed bool // a successor has the sockets: their files are its
}

// Listen opens a socket for each address, or takes the inherited one that is
// bound to it already. Every inherited file is closed when it returns; the
// sockets that no spec asks for are so given up. On an error nothing stays
// open, and no file that was there before is gone except a stale one.
func Listen(ctx context.Context, specs []Spec, inherited []Inherited) (_ *Listeners, err error) {
	defer func() {
		for _, i := range inherited {
			err = errors.Join(err, i.File.Close())
		}
	}()
	l := &Listeners{stopped: make(chan struct{})}
	taken := make([]bool, len(inherited))
	for _, spec := range specs {
		s, err := l.take(spec, inherited, taken)
		if s == nil && err == nil {
			s, err = open(ctx, spec)
		}
		if err != nil {
			l.abandon()
			return nil, err
		}
		l.sockets = append(l.sockets, s)
		if err := s.cheapen(); err != nil {
			l.abandon()
			return nil, err
		}
	}
	if len(specs) == 0 {
		return nil, errors.New("listen: no address is configured")
	}
	return l, nil
}

// abandon closes sockets that never served. The file of an inherited one stays,
// for whoever has it.
func (l *Listeners) abandon() {
	for _, s := range l.sockets {
		_ = s.close(!s.inherited) // there is an error already that says more
	}
}

func (l *Listeners) take(spec Spec, inherited []Inherited, taken []bool) (*socket, error) {
	for i, candidate := range inherited {
		if taken[i] {
			continue
		}
		same := candidate.Spec.Network == spec.Network && candidate.Spec.Address == spec.Address
		if !same && !bound(candidate.File, spec) {
			continue
		}
		if spec.Network == "unix" && !candidate.Systemd {
			if _, err := os.Lstat(spec.Address); err != nil {
				continue // its file is gone, nobody can reach it: a new one must be made
			}
		}
		taken[i] = true
		s, err := adopt(spec, candidate.File, candidate.Systemd)
		if err != nil {
			return nil, err
		}
		s.inherited = true
		if s.file != nil && !s.systemd && s.file.Mode().Perm() != spec.Mode.Perm() {
			if err := os.Chmod(spec.Address, spec.Mode.Perm()); err != nil {
				s.Close()
				return nil, fmt.Errorf("listen on %s: set the mode: %w", spec, err)
			}
		}
		return s, nil
	}
	return nil, nil
}

func bound(file *os.File, spec Spec) bool {
	listener, err := net.FileListener(file)
	if err != nil {
		return false
	}
	defer listener.Close()
	return serves(listener.Addr(), spec)
}

// Addrs returns where the sockets are bound, in the order of the specs: with
// the real port where 0 was asked for.
func (l *Listeners) Addrs() []net.Addr {
	addrs := make([]net.Addr, len(l.sockets))
	for i, s := range l.sockets {
		addrs[i] = s.Addr()
	}
	return addrs
}

// Step is a part of serving a client.
type Step struct {
	// Run returns the next step; nil: there is none, and the connection is closed.
	Run func() Step
	// Await, where it is not nil, has goOn called, once, when Run is to be called,
	// which needs no goroutine until then. False: it is to be called already, and
	// goOn is not called. goOn waits for nothing.
	Await func(goOn func()) bool
	// Brief: Run does not wait for anything, and so may hold up others.
	Brief bool
	// Fresh has it run in a goroutine of its own: it waits for long, and need not
	// keep the stack that the steps before it have taken.
	Fresh bool
}

// Handler gives the first step of an accepted connection, without waiting for
// anything. The context is the one given to Serve.
type Handler func(ctx context.Context, client *Accepted) Step

// Serve accepts connections and runs the steps that handle gives for each, until
// Stop or the end of ctx; then it waits for the handlers that still run.
// It returns nil after Stop, the context's cause, or the error that made
// accepting impossible. trusted is asked for each connection, so that it can
// change; warn is told of passing trouble, such as the limit of descriptors.
func (l *Listeners) Serve(ctx context.Context, trusted func() Trusted, warn func(error), handle Handler) error {
	stopOnEnd := context.AfterFunc(ctx, l.Stop)
	defer stopOnEnd()
	var handlers, loops sync.WaitGroup
	errs := make([]error, len(l.sockets))
	for i, s := range l.sockets {
		loops.Go(func() {
			errs[i] = l.accept(s, warn, func(conn net.Conn) {
				handlers.Add(1)
				client := newAccepted(conn, trusted())
				c := &course{handlers: &handlers, client: client, next: handle(ctx, client)}
				c.onwards = c.goOn
				c.walk(true)
			})
			if errs[i] != nil {
				l.Stop() // half a set of sockets is worse than a restart
			}
		})
	}
	loops.Wait()
	handlers.Wait()
	return errors.Join(append(errs, context.Cause(ctx))...)
}

// course is a client's way through its steps.
type course struct {
	handlers *sync.WaitGroup
	client   *Accepted
	next     Step
	onwards  func() // goOn
}

// walk goes on with the steps. brief: it must not wait for anything, and has a
// goroutine do what may.
func (c *course) walk(brief bool) {
	for c.next.Run != nil {
		if await := c.next.Await; await != nil {
			c.next.Await = nil
			if await(c.onwards) {
				return
			}
		}
		if c.next.Fresh {
			c.next.Fresh = false
			rawio.MakeWay()
			go c.walk(false)
			return
		}
		if brief && !c.next.Brief {
			rawio.MakeWay()
			go c.run()
			return
		}
		c.next = c.next.Run()
	}
	_ = c.client.Close() // again, after most handlers
	c.handlers.Done()
}

// goOn goes on after a wait, without waiting.
func (c *course) goOn() { c.walk(true) }

// run goes on in a goroutine of its own.
func (c *course) run() {
	growStack(0)
	c.walk(false)
}

// growStack has the goroutine's stack grow at once to what a login or a command
// takes anyway, while there is next to nothing on it that must be moved.
//
//go:noinline
func growStack(at int) byte {
	var frame [6 << 10]byte
	frame[at] = 1
	return frame[len(frame)-1-at]
}

// The pause after a failed accept, doubled up to its limit while it fails.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
)

func (l *Listeners) accept(s *socket, warn func(error), take func(net.Conn)) error {
	pause := firstPause
	for {
		took := false
		err := rawio.Serve(s.Listener, func(conn net.Conn) {
			took = true
			take(conn)
		})
		if took {
			pause = firstPause
		}
		select {
		case <-l.stopped:
			return nil
		default:
		}
		err = fmt.Errorf("accept on %s: %w", s.spec, err)
		if !passing(err) {
			return err
		}
		warn(err)
		select {
		case <-l.stopped: // the end of ctx stops too
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
}

// passing says whether an accept may work again later: the lack of descriptors
// or memory, or a client that gave up (accept(2) passes on its errors).
func passing(err error) bool {
	for _, errno := range []error{
		unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM,
		unix.ECONNABORTED, unix.EINTR, unix.ECONNRESET, unix.EPROTO, unix.EPERM,
		unix.ENETDOWN, unix.ENETUNREACH, unix.EHOSTDOWN, unix.EHOSTUNREACH, unix.ENOPROTOOPT, unix.ENONET, unix.EOPNOTSUPP,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// Stop ends the accepting. The sockets stay open, and what waits in their
// queues stays there for a successor; Close gives them up. It may be called at
// any time, by anyone, more than once.
func (l *Listeners) Stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ending {
		return
	}
	l.ending = true
	close(l.stopped)
	for _, s := range l.sockets {
		// It fails on a closed socket only, which accepts nothing either.
		_ = s.interrupt()
	}
}

// Close stops accepting and closes the sockets. It removes the files of unix
// sockets, unless a successor has them or they are systemd's.
func (l *Listeners) Close() error {
	l.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, s := range l.sockets {
		errs = append(errs, s.close(!l.handed))
	}
	return errors.Join(errs...)
}

// setHanded says whether the files of unix sockets are a successor's.
func (l *Listeners) setHanded(handed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.handed = handed
}
