package main

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// The delay that stands for a network between zones: a round trip takes so
// much longer. A TCP forwarder makes it, the same for all who connect through
// it, since not every kernel can delay packets (tc netem). It is a process and a
// thread of its own with timers to the microsecond; Go's are to the millisecond.
const roundTrip = time.Millisecond

// forwarder forwards connections with a delay. A client's connect succeeds at
// once, so the round trip that it would take, and the way of its last packet,
// come before the server is connected to. It takes in whatever comes, so it is
// for small statements and answers.
type forwarder struct {
	epoll     int
	listeners map[int]unix.Sockaddr // of the target
	flows     map[int]*flow         // by the socket that is read
	late      []delivery            // in order of their time
	dials     []dialing             // in order of their time
	buffer    []byte
}

// flow is one direction of a connection.
type flow struct {
	from, to int
	other    *flow
	waiting  []byte // what the receiver had no room for
	closed   bool   // nothing more is read
	watched  uint32 // what the kernel reports about from
	ended    bool   // the end has been passed on
}

type delivery struct {
	at   time.Time
	flow *flow
	data []byte // empty: the end
}

type dialing struct {
	at     time.Time
	client int
	target unix.Sockaddr
}

// forward forwards from each first to each second address of the pairs, until
// it is killed.
func forward(pairs []string) error {
	runtime.LockOSThread() // whose timers are set here
	defer runtime.UnlockOSThread()
	f := &forwarder{listeners: map[int]unix.Sockaddr{}, flows: map[int]*flow{}, buffer: make([]byte, 64<<10)}
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("timer slack: %w", err)
	}
	var err error
	if f.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	for ; len(pairs) > 1; pairs = pairs[2:] {
		if err := f.listen(pairs[0], pairs[1]); err != nil {
			return fmt.Errorf("forward %s to %s: %w", pairs[0], pairs[1], err)
		}
	}
	return f.run()
}

func sockaddr(text string) (unix.Sockaddr, error) {
	at, err := netip.ParseAddrPort(text)
	if err != nil {
		return nil, err
	}
	return &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}, nil
}

func (f *forwarder) listen(from, to string) error {
	here, err := sockaddr(from)
	if err != nil {
		return err
	}
	target, err := sockaddr(to)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := unix.Bind(fd, here); err != nil {
		return err
	}
	if err := unix.Listen(fd, 4096); err != nil {
		return err
	}
	f.listeners[fd] = target
	return f.watch(fd, unix.EPOLL_CTL_ADD, unix.EPOLLIN)
}

func (f *forwarder) watch(fd, op int, events uint32) error {
	return unix.EpollCtl(f.epoll, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

func (f *forwarder) run() error {
	events := make([]unix.EpollEvent, 256)
	for {
		now := time.Now()
		for len(f.dials) > 0 && !f.dials[0].at.After(now) {
			if err := f.dial(f.dials[0]); err != nil {
				return err
			}
			f.dials = f.dials[1:]
		}
		for len(f.late) > 0 && !f.late[0].at.After(now) {
			f.deliver(f.late[0])
			f.late = f.late[1:]
		}
		wait := time.Second
		if len(f.dials) > 0 {
			wait = min(wait, f.dials[0].at.Sub(now))
		}
		if len(f.late) > 0 {
			wait = min(wait, f.late[0].at.Sub(now))
		}
		n, err := waitEvents(f.epoll, events, wait)
		if err != nil {
			return err
		}
		for _, e := range events[:n] {
			if target, ok := f.listeners[int(e.Fd)]; ok {
				if err := f.accept(int(e.Fd), target); err != nil {
					return err
				}
				continue
			}
			if flow := f.flows[int(e.Fd)]; flow != nil {
				f.ready(flow, e.Events)
			}
		}
	}
}

func (f *forwarder) accept(listener int, target unix.Sockaddr) error {
	fd, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) || errors.Is(err, unix.ECONNABORTED) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	f.dials = append(f.dials, dialing{time.Now().Add(roundTrip + roundTrip/2), fd, target})
	return nil
}

func (f *forwarder) dial(d dialing) error {
	server, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	for _, fd := range []int{d.client, server} {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return fmt.Errorf("no delay: %w", err)
		}
	}
	up, down := &flow{from: d.client, to: server}, &flow{from: server, to: d.client}
	up.other, down.other = down, up
	if err := unix.Connect(server, d.target); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		_, _ = unix.Close(d.client), unix.Close(server) // as a refused connection
		return nil
	}
	for _, w := range []*flow{up, down} {
		f.flows[w.from] = w
		f.rewatch(w)
	}
	return nil
}

// ready reads from a socket, or writes what waits for room in it.
func (f *forwarder) ready(w *flow, events uint32) {
	if events&unix.EPOLLOUT != 0 {
		f.write(w.other, nil)
		if f.flows[w.from] != w {
			return // that failed
		}
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
		return
	}
	n, err := unix.Read(w.from, f.buffer)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return
	}
	if err != nil || n == 0 {
		n, w.closed = 0, true // what is on its way still arrives
		f.rewatch(w)
	}
	f.late = append(f.late, delivery{time.Now().Add(roundTrip / 2), w, append([]byte(nil), f.buffer[:n]...)})
}

// deliver passes on what was late.
func (f *forwarder) deliver(d delivery) {
	if f.flows[d.flow.from] != d.flow {
		return // the connection is gone
	}
	if len(d.data) > 0 {
		f.write(d.flow, d.data)
		return
	}
	d.flow.ended = true
	if d.flow.other.ended {
		f.drop(d.flow)
		return
	}
	if len(d.flow.waiting) == 0 {
		_ = unix.Shutdown(d.flow.to, unix.SHUT_WR) // fails if the other side has gone
	}
}

// write sends data after what waits already, and keeps what has no room.
func (f *forwarder) write(w *flow, data []byte) {
	w.waiting = append(w.waiting, data...)
	n, err := unix.Write(w.to, w.waiting)
	if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENOTCONN) {
		f.drop(w)
		return
	}
	w.waiting = w.waiting[max(0, n):]
	if len(w.waiting) == 0 && w.ended {
		_ = unix.Shutdown(w.to, unix.SHUT_WR) // fails if the other side has gone
	}
	f.rewatch(w.other)
}

// rewatch has the kernel report what is of use about the socket that w reads.
func (f *forwarder) rewatch(w *flow) {
	var events uint32
	if !w.closed {
		events |= unix.EPOLLIN
	}
	if len(w.other.waiting) > 0 {
		events |= unix.EPOLLOUT
	}
	if events == w.watched {
		return
	}
	op := unix.EPOLL_CTL_MOD
	switch {
	case events == 0:
		op = unix.EPOLL_CTL_DEL
	case w.watched == 0:
		op = unix.EPOLL_CTL_ADD
	}
	if err := f.watch(w.from, op, events); err != nil {
		f.drop(w)
		return
	}
	w.watched = events
}

// drop closes a connection.
func (f *forwarder) drop(w *flow) {
	delete(f.flows, w.from)
	delete(f.flows, w.to)
	_, _ = unix.Close(w.from), unix.Close(w.to)
}
