package rawio

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ring sends on many sockets in one system call, through an io_uring (io_uring(7)):
// each send is done before the call returns, or fails where it would have to wait. It
// is made when it is used first. Where the kernel has none (before 5.6), or forbids it
// (kernel.io_uring_disabled, the seccomp filters of containers), nothing is sent this
// way. It belongs to one goroutine.
type ring struct {
	none bool // it cannot be made, or has failed
	fd   int
	// Shared with the kernel: what it has to do, and what came of it.
	submissions []submission
	completions []completion
	sqTail      *uint32
	cqHead      *uint32
	cqTail      *uint32
	memory      [][]byte
}

// ringsAllowed is false in tests of what is done without.
var ringsAllowed = true

var errNoRing = errors.New("no io_uring is to be used")

// alone is why a poller has no ring.
var alone atomic.Pointer[error]

// Alone is why what WriteSoon writes goes out with a system call for each socket: the
// kernel's refusal of an io_uring. Nil: it goes out together, or nothing had to yet.
func Alone() error {
	if why := alone.Load(); why != nil {
		return *why
	}
	return nil
}

// submission is the kernel's struct io_uring_sqe, completion its struct io_uring_cqe.
type submission struct {
	opcode   uint8
	flags    uint8
	ioprio   uint16
	fd       int32
	off      uint64
	addr     uint64
	len      uint32
	msgFlags uint32
	userData uint64
	_        [3]uint64
}

type completion struct {
	userData uint64
	res      int32
	flags    uint32
}

// ringParams is the kernel's struct io_uring_params.
type ringParams struct {
	sqEntries, cqEntries, flags, sqThreadCPU, sqThreadIdle, features, wqFD uint32
	_                                                                      [3]uint32
	sq                                                                     struct {
		head, tail, ringMask, ringEntries, flags, dropped, array, _ uint32
		_                                                           uint64
	}
	cq struct {
		head, tail, ringMask, ringEntries, overflow, cqes, flags, _ uint32
		_                                                           uint64
	}
}

const (
	ringEntries = 128 // sends in one call
	mostBusy    = 100 // times that a call may be refused for now
)

// The kernel's constants.
const (
	opSend     = 26
	getEvents  = 1
	offSQ      = 0
	offCQ      = 0x8000000
	offSQEs    = 0x10000000
	sendNoWait = syscall.MSG_DONTWAIT | syscall.MSG_NOSIGNAL
)

// send sends what it can of a list, and notes what came of it.
func (r *ring) send(list []outgoing) {
	if r.none {
		return
	}
	if r.submissions == nil {
		err := errNoRing
		if ringsAllowed {
			err = r.open()
		}
		if err != nil {
			r.giveUp(err)
			return
		}
	}
	for len(list) > 0 && !r.none {
		n := min(len(list), ringEntries)
		r.batch(list[:n])
		list = list[n:]
	}
}

// batch sends a list that the ring has room for.
func (r *ring) batch(list []outgoing) {
	tail := *r.sqTail // which nobody else changes
	for i := range list {
		o := &list[i]
		r.submissions[(tail+uint32(i))%ringEntries] = submission{
			opcode: opSend, fd: int32(o.socket.fd), addr: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(o.data)))), len: uint32(len(o.data)),
			msgFlags: sendNoWait, userData: uint64(i),
		}
	}
	atomic.StoreUint32(r.sqTail, tail+uint32(len(list)))
	taken, done := 0, 0
	for busy := 0; done < len(list); {
		// All are done when it returns, so it does not wait.
		n, _, errno := syscall.RawSyscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(len(list)-taken), uintptr(len(list)-done), getEvents, 0, 0)
		if errno == 0 {
			taken += int(n)
		}
		done += r.reap(list)
		if errno == syscall.EAGAIN || errno == syscall.EBUSY { // no memory for it, mostly
			busy++
		}
		if errno != 0 && errno != syscall.EINTR && (busy == 0 || busy > mostBusy) {
			// What the kernel has not taken is sent in another way. Of the rest nobody
			// knows how much has gone out.
			for i := range list[:taken] {
				if o := &list[i]; !o.tried {
					o.tried, o.errno = true, syscall.EIO
				}
			}
			r.giveUp(os.NewSyscallError("io_uring_enter", errno))
			return
		}
	}
}

// giveUp has everything sent one by one from now on.
func (r *ring) giveUp(why error) {
	r.none = true
	r.close()
	alone.Store(&why)
}

// reap takes what the kernel has done. It returns how many sends that were.
func (r *ring) reap(list []outgoing) (done int) {
	head, tail := *r.cqHead, atomic.LoadUint32(r.cqTail)
	for ; head != tail; head++ {
		c := &r.completions[head%uint32(len(r.completions))]
		o := &list[c.userData]
		if o.tried = true; c.res < 0 {
			o.errno = syscall.Errno(-c.res)
		} else {
			o.n = int(c.res)
		}
		done++
	}
	atomic.StoreUint32(r.cqHead, head)
	return done
}

// open makes the ring, and tries it.
func (r *ring) open() error {
	var p ringParams
	fd, _, errno := syscall.RawSyscall(unix.SYS_IO_URING_SETUP, ringEntries, uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return os.NewSyscallError("io_uring_setup", errno)
	}
	r.fd = int(fd)
	syscall.CloseOnExec(r.fd)
	if p.sqEntries != ringEntries || p.cqEntries < ringEntries {
		return fmt.Errorf("io_uring: %d and %d entries", p.sqEntries, p.cqEntries)
	}
	parts := []struct {
		offset int64
		size   int
	}{
		{offSQ, int(p.sq.array + 4*p.sqEntries)},
		{offCQ, int(p.cq.cqes) + int(p.cqEntries)*int(unsafe.Sizeof(completion{}))},
		{offSQEs, int(p.sqEntries) * int(unsafe.Sizeof(submission{}))},
	}
	for _, part := range parts {
		m, err := unix.Mmap(r.fd, part.offset, part.size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
		if err != nil {
			return os.NewSyscallError("mmap", err)
		}
		r.memory = append(r.memory, m)
	}
	sq, cq := r.memory[0], r.memory[1]
	word := func(m []byte, offset uint32) *uint32 { return (*uint32)(unsafe.Pointer(&m[offset])) }
	r.sqTail, r.cqHead, r.cqTail = word(sq, p.sq.tail), word(cq, p.cq.head), word(cq, p.cq.tail)
	for i := range p.sqEntries { // each place has its own submission
		*word(sq, p.sq.array+4*i) = i
	}
	r.completions = unsafe.Slice((*completion)(unsafe.Pointer(&cq[p.cq.cqes])), p.cqEntries)
	r.submissions = unsafe.Slice((*submission)(unsafe.Pointer(&r.memory[2][0])), p.sqEntries)
	return r.try()
}

// try sends something: a kernel may have rings, and not know what is asked of this one.
func (r *ring) try() error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	list := []outgoing{{socket: &Socket{fd: pair[0]}, data: []byte("tried")}}
	r.batch(list)
	if o := &list[0]; o.errno != 0 || o.n != len(o.data) {
		return fmt.Errorf("io_uring: sent %d of %d bytes: %w", o.n, len(o.data), o.errno)
	}
	got := make([]byte, 10)
	if n, err := unix.Read(pair[1], got); err != nil || string(got[:n]) != "tried" {
		return fmt.Errorf("io_uring: %q has come: %w", got[:max(n, 0)], err)
	}
	return nil
}

// close gives everything back.
func (r *ring) close() {
	for _, m := range r.memory {
		_ = unix.Munmap(m)
	}
	if r.fd > 0 {
		_ = unix.Close(r.fd)
	}
	*r = ring{none: r.none}
}
