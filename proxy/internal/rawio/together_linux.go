package rawio

import (
	"sync"
	"syscall"
)

// soon is what is to be done when the poller has told what it has.
var soon struct {
	sync.Mutex
	telling bool
	errands
	spare errands // empty, to be used again
}

// Writer is told what became of a WriteSoon: what WriteNow would have returned.
type Writer = interface{ Wrote(n int, err error) }

// errands are what Soon, WriteSoon, lastly and closeSoon ask for, done in this order.
type errands struct {
	calls  []func()
	writes []outgoing
	last   []func()
	closes []int // descriptors
}

// outgoing is what a socket is to send.
type outgoing struct {
	socket *Socket
	data   []byte
	then   Writer
	tried  bool
	n      int
	errno  syscall.Errno
}

// Soon has f called when the poller has told of all the input that it has just been
// told of itself, by its goroutine: what many clients have sent at the same moment is
// there then. Where it tells of none, f is called at once. f must not wait for
// anything.
func Soon(f func()) {
	if !leaveTo(&soon.calls, f) {
		f()
	}
}

// leaveTo puts an errand on its list in soon; false where the poller tells of no input.
func leaveTo[T any](list *[]T, errand T) bool {
	soon.Lock()
	defer soon.Unlock()
	if soon.telling {
		*list = append(*list, errand)
	}
	return soon.telling
}

// WriteSoon has b written as by WriteNow, but when the poller has told of all the
// input that it has just been told of itself, and in one system call with what others
// have it write: the kernel wakes those who read that one after another, and none of
// them takes the processor away in between. then is told of the result by the poller's
// goroutine, and must not wait for anything. Until then b must stay as it is, and
// nobody else may write. False: nothing has happened, since the poller tells of no
// input, or the socket takes no more.
func (s *Socket) WriteSoon(b []byte, then Writer) bool {
	if s.settled.Load() != nil || s.out.state.Load()&(closed|expired) != 0 {
		return false
	}
	soon.Lock()
	defer soon.Unlock()
	if !soon.telling || !s.enter() {
		return false
	}
	soon.writes = append(soon.writes, outgoing{socket: s, data: b, then: then})
	return true
}

// lastly has f called as Soon does, but when all has been sent that others wait for: f
// takes longer than that.
func lastly(f func()) {
	if !leaveTo(&soon.last, f) {
		f()
	}
}

// closeSoon closes a descriptor at once, or where the poller tells of input when all is
// done that comes of that: to close a connection takes as long as to send two answers,
// and nobody waits for it.
func closeSoon(fd int) {
	if !leaveTo(&soon.closes, fd) {
		closeNow(fd)
	}
}

// closeNow does not tell the scheduler, which would wake its monitor: it takes no longer
// than a write.
func closeNow(fd int) {
	_, _, _ = syscall.RawSyscall(syscall.SYS_CLOSE, uintptr(fd), 0, 0)
}

// startTelling and endTelling are around what the poller tells.
func startTelling() {
	soon.Lock()
	soon.telling = true
	soon.Unlock()
}

func (p *poller) endTelling() {
	soon.Lock()
	defer soon.Unlock()
	for len(soon.calls) > 0 || len(soon.writes) > 0 || len(soon.last) > 0 || len(soon.closes) > 0 {
		now := soon.errands
		soon.errands, soon.spare = soon.spare, errands{}
		soon.Unlock()
		for _, f := range now.calls {
			f()
		}
		p.write(now.writes)
		for _, f := range now.last {
			f()
		}
		for _, fd := range now.closes {
			closeNow(fd)
		}
		clear(now.calls)
		clear(now.writes)
		clear(now.last)
		soon.Lock()
		soon.spare = errands{now.calls[:0], now.writes[:0], now.last[:0], now.closes[:0]}
	}
	soon.telling = false
}

// write writes what sockets are to send, and tells of it.
func (p *poller) write(list []outgoing) {
	if len(list) > 1 {
		p.together.send(list)
	}
	for i := range list {
		o := &list[i]
		if !o.tried {
			o.n, o.errno = o.socket.sendNow(o.data)
		}
	}
	for i := range list {
		o := &list[i]
		o.socket.leave()
		if o.errno == 0 || o.errno == syscall.EAGAIN {
			o.then.Wrote(o.n, nil)
		} else {
			o.then.Wrote(0, o.socket.failed("write", o.errno))
		}
	}
}
