package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// loop is many clients with small statements, on one thread and without Go's
// network poller, so that the clients take little of the processors that they
// share with what they measure. Everything sent is ready beforehand.
type loop struct {
	to         endpoint
	clients    int
	statements [][]byte // packets, sent in turn
	// session is the number of statements in a session, after which the client
	// leaves and comes back; 0: each has one session all the time, and the time
	// runs from when all have logged in.
	session int
	// rate is how many statements arrive in a second, at random (Poisson), and
	// wait until a client is free; their time runs from their arrival. 0: each
	// client sends its next when it has its answer.
	rate float64
	// atOnce is how many statements that arrived may be under way; 0: as many as
	// there are clients.
	atOnce int
}

// hooks are told when the time that counts begins and ends.
type hooks struct{ begin, end func() error }

// work is what a load got done.
type work struct {
	units   float64       // of the workload's unit, between begin and end
	elapsed time.Duration // between begin and end
	times   *latencies
}

// member is one client of a running loop.
type member struct {
	fd     int
	state  memberState
	in     []byte // of the handshake, until a packet is whole
	answer answer
	began  time.Time
	asked  int // statements in this session
}

type memberState uint8

const (
	away     memberState = iota
	greeted              // connected, awaits the greeting
	loggedIn             // has sent its login
	idle                 // may be given a statement
	asking               // awaits an answer
)

// running is a loop that runs.
type running struct {
	loop
	epoll   int
	address unix.Sockaddr
	domain  int
	members []member
	free    []int       // idle members, the longest idle first
	queue   []time.Time // when statements arrived that wait
	buffer  []byte
	next    int // statement
	opening int
	ready   int // have logged in at least once
	open    int
	over    bool
	done    int
	times   latencies
	arrival *rand.Rand
}

// openAtOnce bounds the sessions that are being opened before the time runs:
// the accept queue is only so long.
const openAtOnce = 64

// stuck is how long a loop waits without anything happening.
const stuck = 30 * time.Second

// run runs the loop for length.
func (l loop) run(ctx context.Context, length time.Duration, h hooks) (work, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r := &running{loop: l, members: make([]member, l.clients), buffer: make([]byte, 64<<10), arrival: rand.New(rand.NewPCG(1, 2))}
	if err := r.prepare(); err != nil {
		return work{}, err
	}
	defer r.close()
	w, err := r.drive(ctx, length, h)
	if err != nil {
		return work{}, fmt.Errorf("%d clients of %s: %w", l.clients, l.to.address, err)
	}
	return w, nil
}

func (r *running) prepare() (err error) {
	if r.to.network == "unix" {
		r.domain, r.address = unix.AF_UNIX, &unix.SockaddrUnix{Name: r.to.address}
	} else {
		at, err := netip.ParseAddrPort(r.to.address)
		if err != nil {
			return err
		}
		r.domain, r.address = unix.AF_INET, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	// Timers to the microsecond; the default lets the kernel be 50 late.
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("timer slack: %w", err)
	}
	if r.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

func (r *running) close() {
	for i := range r.members {
		if r.members[i].state != away {
			_ = unix.Close(r.members[i].fd)
		}
	}
	_ = unix.Close(r.epoll)
}

// drive is the loop.
func (r *running) drive(ctx context.Context, length time.Duration, h hooks) (w work, err error) {
	var begin, end, arrives time.Time
	var doneAtEnd int
	progress := time.Now()
	events := make([]unix.EpollEvent, 256)
	for {
		now := time.Now()
		if begin.IsZero() && (r.session > 0 || r.ready == r.clients) {
			if err := h.begin(); err != nil {
				return w, err
			}
			begin = time.Now()
			now, end, arrives, progress = begin, begin.Add(length), begin, begin
			if err := r.startAll(); err != nil {
				return w, err
			}
		}
		if begin.IsZero() {
			if err := r.openSome(); err != nil {
				return w, err
			}
		}
		if !end.IsZero() && !r.over && !now.Before(end) {
			r.over, doneAtEnd = true, r.done
			w.elapsed = now.Sub(begin)
			if err := h.end(); err != nil {
				return w, err
			}
			for _, arrived := range r.queue { // at least so late
				r.times.add(now.Sub(arrived), 1)
			}
			r.queue = nil
			if err := r.leaveIdle(); err != nil {
				return w, err
			}
		}
		if r.over && r.open == 0 {
			w.units, w.times = float64(doneAtEnd), &r.times
			return w, nil
		}
		wait := 100 * time.Millisecond
		if !end.IsZero() && !r.over {
			for r.rate > 0 && !arrives.After(now) {
				if err := r.arrive(arrives); err != nil {
					return w, err
				}
				arrives = arrives.Add(time.Duration(r.arrival.ExpFloat64() / r.rate * 1e9))
			}
			wait = min(wait, end.Sub(now))
			if r.rate > 0 {
				wait = min(wait, arrives.Sub(now))
			}
		}
		n, err := waitEvents(r.epoll, events, wait)
		if err != nil {
			return w, err
		}
		if n == 0 {
			if ctx.Err() != nil {
				return w, context.Cause(ctx)
			}
			if (r.rate == 0 || r.over) && time.Since(progress) > stuck {
				return w, fmt.Errorf("nothing happened for %v (%d of %d clients logged in)", stuck, r.ready, r.clients)
			}
			continue
		}
		progress = now
		for _, e := range events[:n] {
			if err := r.step(int(e.Fd)); err != nil {
				return w, err
			}
		}
		if ctx.Err() != nil {
			return w, context.Cause(ctx)
		}
	}
}

// openSome opens sessions before the time runs.
func (r *running) openSome() error {
	for i := r.ready + r.opening; i < r.clients && r.opening < openAtOnce; i++ {
		r.opening++
		if err := r.connect(i); err != nil {
			return err
		}
	}
	return nil
}

// startAll sets everyone going when the time begins.
func (r *running) startAll() error {
	for i := range r.members {
		switch {
		case r.session > 0:
			if err := r.connect(i); err != nil {
				return err
			}
		case r.rate > 0:
			r.free = append(r.free, i)
		default:
			if err := r.ask(i, time.Now()); err != nil {
				return err
			}
		}
	}
	return nil
}

// leaveIdle ends the sessions that await nothing.
func (r *running) leaveIdle() error {
	for i := range r.members {
		if r.members[i].state == idle {
			if err := r.leave(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// arrive gives a statement to the client that has been idle longest.
func (r *running) arrive(at time.Time) error {
	if under := r.clients - len(r.free); len(r.free) == 0 || r.atOnce > 0 && under >= r.atOnce {
		r.queue = append(r.queue, at)
		return nil
	}
	i := r.free[0]
	r.free = r.free[1:]
	return r.ask(i, at)
}

// connect opens a session.
func (r *running) connect(i int) error {
	m := &r.members[i]
	m.began = time.Now()
	kind := unix.SOCK_STREAM | unix.SOCK_CLOEXEC
	if r.domain == unix.AF_INET {
		kind |= unix.SOCK_NONBLOCK // a unix socket's connect ends at once or waits for room in the queue
	}
	fd, err := unix.Socket(r.domain, kind, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	m.fd, m.state, m.in, m.answer, m.asked = fd, greeted, m.in[:0], answer{failure: m.answer.failure}, 0
	r.open++
	if err := unix.Connect(fd, r.address); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("connect: %w", err)
	}
	if err := unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// leave ends a session.
func (r *running) leave(i int) error {
	m := &r.members[i]
	if err := send(m.fd, quit); err != nil {
		return err
	}
	r.open--
	m.state = away
	return unix.Close(m.fd)
}

// ask sends the next statement.
func (r *running) ask(i int, began time.Time) error {
	m := &r.members[i]
	m.state = asking
	m.asked++
	if r.session == 0 {
		m.began = began
	}
	r.next = (r.next + 1) % len(r.statements)
	return send(m.fd, r.statements[r.next])
}

// step takes what came for a client.
func (r *running) step(i int) error {
	m := &r.members[i]
	n, err := receive(m.fd, r.buffer)
	if err != nil {
		return err
	}
	if n < 0 {
		return nil
	}
	if m.state == asking {
		out, err := m.answer.feed(r.buffer[:n])
		if err != nil || out == more {
			return err
		}
		if out != ended {
			return fmt.Errorf("an answer that is none to a statement")
		}
		return r.answered(i)
	}
	m.in = append(m.in, r.buffer[:n]...)
	sequence, payload, rest, ok := cutPacket(m.in)
	if !ok {
		return nil
	}
	if len(rest) > 0 {
		return errTooMuch
	}
	m.in = m.in[:0]
	if m.state == greeted {
		scramble, err := parseGreeting(payload)
		if err != nil {
			return err
		}
		m.state = loggedIn
		return send(m.fd, login(sequence+1, scramble, false))
	}
	next, done, err := loginStep(sequence, payload)
	if err != nil {
		return err
	}
	if !done {
		return send(m.fd, next)
	}
	if r.session > 0 {
		return r.ask(i, m.began)
	}
	m.state = idle
	r.opening--
	r.ready++
	return nil
}

// answered goes on after a complete answer.
func (r *running) answered(i int) error {
	m := &r.members[i]
	now := time.Now()
	r.done++
	if r.session > 0 && m.asked < r.session && !r.over {
		return r.ask(i, m.began)
	}
	if !r.over {
		r.times.add(now.Sub(m.began), 1)
	}
	switch {
	case r.over:
		return r.leave(i)
	case r.session > 0:
		if err := r.leave(i); err != nil {
			return err
		}
		return r.connect(i)
	case r.rate == 0:
		return r.ask(i, now)
	}
	m.state = idle
	r.free = append(r.free, i)
	if len(r.queue) == 0 {
		return nil
	}
	arrived := r.queue[0]
	r.queue = r.queue[1:]
	return r.arrive(arrived)
}
