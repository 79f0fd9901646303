package rawio

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe" // for go:linkname as well

	"golang.org/x/sys/unix"
)

// poller tells sockets that there is something to read, or room to write, in the
// place of Go's own poller, which would have each of them look first and then
// forgets what it has told. It has two epolls of its own, and a goroutine that takes
// their events, many at once.
//
// Events are told when they happen, not while they last: a [Socket] remembers them.
//
// While there is much to tell the goroutine waits for more in the system call, for a
// moment at a time: it keeps its processor so long. Only then does it wait in the
// scheduler, for a third epoll that tells of the other two, which would wake a thread
// with each event. While answers are expected (see [Watched]) it waits for these,
// rather than for clients: what they ask meanwhile goes in one batch.
type poller struct {
	file    *os.File     // the third, which Go's poller watches
	fd      int          // tells of sockets, and of answers
	answers int          // tells of watched connections
	expects atomic.Int32 // answers
	watched []watchword  // by descriptor
	open    int
	serial  uint32 // of the last that is watched

	events   [128]unix.EpollEvent // of the goroutine
	told     [128]*Socket
	together ring
	coarse   bool // it can wait for whole milliseconds only
}

// watchword is the socket of a descriptor, and tells it from those before.
type watchword struct {
	*Socket
	serial uint32
}

// watched is the poller, while there are sockets: nil without any.
var watched struct {
	sync.Mutex // of what is in the poller, but for what is its goroutine's
	p          *poller
}

// start starts a poller.
func start() (*poller, error) {
	var fds [3]int
	for i := range fds {
		fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err == nil {
			fds[i] = fd
			err = unix.SetNonblock(fd, true) // for os to have Go's poller watch it
		}
		if err != nil {
			for _, fd := range fds[:i] {
				_ = unix.Close(fd)
			}
			return nil, fmt.Errorf("make a poller: %w", err)
		}
	}
	p := &poller{file: os.NewFile(uintptr(fds[0]), "epoll"), fd: fds[1], answers: fds[2]}
	raw, err := p.file.SyscallConn()
	if err == nil {
		err = errors.Join(asError(nest(fds[0], unix.EPOLL_CTL_ADD, p.fd, 0)), asError(nest(p.fd, unix.EPOLL_CTL_ADD, p.answers, unix.EPOLLIN)))
	}
	if err != nil {
		_ = p.file.Close()
		p.close()
		return nil, fmt.Errorf("make a poller: %w", err)
	}
	go func() {
		defer p.close()
		defer p.together.close()
		// It ends when the file is closed.
		_ = raw.Read(func(fd uintptr) bool {
			p.take(int(fd), 0) // after which it tells nothing
			p.collect()
			p.arm(int(fd)) // what has come meanwhile it tells at once
			return false
		})
	}()
	return p, nil
}

func (p *poller) close() {
	_ = unix.Close(p.fd)
	_ = unix.Close(p.answers)
}

// arm has Go's poller told of the next event of the other two, once.
func (p *poller) arm(fd int) {
	if errno := nest(fd, unix.EPOLL_CTL_MOD, p.fd, unix.EPOLLIN|unix.EPOLLONESHOT); errno != 0 { // a descriptor is wrong
		panic("rawio: epoll_ctl: " + errno.Error())
	}
}

// nest has an epoll told of another's events.
func nest(fd, operation, inner int, events uint32) syscall.Errno {
	e := unix.EpollEvent{Events: events | unix.EPOLLET, Fd: -1}
	_, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_CTL, uintptr(fd), uintptr(operation), uintptr(inner), uintptr(unsafe.Pointer(&e)), 0, 0)
	return errno
}

func asError(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return os.NewSyscallError("epoll_ctl", errno)
}

// How long the poller waits in the system call, in which its processor does nothing
// else.
const (
	forAnswers = 100 * time.Microsecond // while some are expected, for these; patience times in a row
	forMore    = time.Millisecond       // after something was told
	patience   = 10
)

// collect takes the events that there are and tells of them, until it has had none for
// a while.
func (p *poller) collect() {
	yielded := time.Now()
	for silent := 0; ; {
		n, wait := 0, forMore
		if p.expects.Load() > 0 && silent < patience && !p.coarse {
			n = p.take(p.answers, forAnswers)
			if p.expects.Load() > 0 {
				wait = 0
			}
		}
		n += p.take(p.fd, wait)
		switch {
		case n > 0:
			silent = 0
		case wait > 0:
			return
		default:
			silent++
		}
		if now := time.Now(); makeWay.Load() || now.Sub(yielded) >= yieldEvery {
			makeWay.Store(false)
			yield()
			yielded = now
		}
	}
}

// take takes events, waiting for the first as long as it may, and tells of them. It
// returns how many there were.
func (p *poller) take(fd int, wait time.Duration) int {
	n := p.await(fd, wait)
	if n > 0 {
		startTelling()
		defer p.endTelling()
		if p.tell(p.events[:n]) {
			p.tell(p.events[:p.await(p.answers, 0)])
		}
	}
	return n
}

// await has the events that there are in p.events, and returns how many. It waits for the
// first as long as it may.
func (p *poller) await(fd int, wait time.Duration) int {
	var n uintptr
	var errno syscall.Errno
	if p.coarse {
		n, _, errno = syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(fd), uintptr(unsafe.Pointer(&p.events)), uintptr(len(p.events)), uintptr(wait.Milliseconds()), 0, 0)
	} else {
		limit := unix.Timespec{Nsec: int64(wait)}
		n, _, errno = syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT2, uintptr(fd), uintptr(unsafe.Pointer(&p.events)), uintptr(len(p.events)), uintptr(unsafe.Pointer(&limit)), 0, 0)
	}
	switch errno {
	case 0:
		return int(n)
	case syscall.EINTR: // the scheduler wants the processor
		return 0
	case syscall.ENOSYS: // Linux before 5.11
		p.coarse = true
		return 0
	default: // the descriptor or the call is wrong
		panic("rawio: epoll_pwait: " + errno.Error())
	}
}

// yieldEvery is how often the poller yields anyhow. The scheduler interrupts a goroutine
// that has run for 10 ms, which costs more.
const yieldEvery = 4 * time.Millisecond

// yield lets the goroutines run that wait for this processor. [runtime.Gosched] would wake
// a thread as well, to run the poller, which goes on here at once if there are none.
//
//go:linkname yield runtime.goyield
func yield()

// makeWay: a goroutine was woken, or started.
var makeWay atomic.Bool

// MakeWay has the poller let others run before it waits. To be called with what it
// tells of by who wakes or starts a goroutine.
func MakeWay() {
	if !makeWay.Load() {
		makeWay.Store(true)
	}
}

// tell tells of events, but for those of the other epoll: nested is that there are some.
func (p *poller) tell(events []unix.EpollEvent) (nested bool) {
	watched.Lock()
	for i := range events {
		e := &events[i]
		if e.Fd < 0 {
			nested = true
			continue
		}
		if w := &p.watched[e.Fd]; w.serial == uint32(e.Pad) { // not a later one's of the same number
			p.told[i] = w.Socket
		}
	}
	watched.Unlock()
	for i := range events {
		if w := p.told[i]; w != nil {
			p.told[i] = nil
			w.tell(events[i].Events)
		}
	}
	return nested
}

// enlist makes s the socket of its descriptor, of which the poller is to be told next.
func enlist(s *Socket) error {
	watched.Lock()
	defer watched.Unlock()
	if watched.p == nil {
		p, err := start()
		if err != nil {
			return err
		}
		watched.p = p
	}
	p := watched.p
	if s.fd >= len(p.watched) {
		p.watched = append(p.watched, make([]watchword, s.fd+1-len(p.watched))...)
	}
	p.serial++
	p.open++
	s.poller, s.serial = p, p.serial
	p.watched[s.fd] = watchword{s, p.serial}
	return nil
}

// attend has the poller tell s of input, by the epoll of answers or the other.
func attend(s *Socket, answers bool) error {
	if err := enlist(s); err != nil {
		return err
	}
	if s.epoll = s.poller.fd; answers {
		s.epoll = s.poller.answers
	}
	if errno := s.control(unix.EPOLL_CTL_ADD, unix.EPOLLIN|unix.EPOLLRDHUP); errno != 0 {
		forget(s)
		return asError(errno)
	}
	return nil
}

// forget takes a socket out that is about to be closed, by which the kernel
// forgets it too.
func forget(s *Socket) {
	p := s.poller
	watched.Lock()
	defer watched.Unlock()
	p.watched[s.fd] = watchword{}
	if p.open--; p.open == 0 {
		watched.p = nil
		go p.file.Close() // which waits for its goroutine: this may be that
	}
}

// control changes what the poller tells a socket of.
func (s *Socket) control(operation int, events uint32) syscall.Errno {
	e := unix.EpollEvent{Events: events | unix.EPOLLET, Fd: int32(s.fd), Pad: int32(s.serial)}
	_, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_CTL, uintptr(s.epoll), uintptr(operation), uintptr(s.fd), uintptr(unsafe.Pointer(&e)), 0, 0)
	return errno
}
