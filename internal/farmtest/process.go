package farmtest

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a running process of which a test wants to see the end.
type Process struct{ pid, fd int }

// Watch takes hold of a running process, which need not be a child.
func Watch(t testing.TB, pid int) *Process {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("farmtest: watch process %d: %v", pid, err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return &Process{pid, fd}
}

// PID is the process's id.
func (p *Process) PID() int { return p.pid }

// AwaitEnd returns when the process has ended.
func (p *Process) AwaitEnd(t testing.TB) {
	t.Helper()
	until := time.Now().Add(startLimit)
	for {
		left := time.Until(until).Milliseconds()
		// The descriptor can be read when the process has ended (pidfd_open(2)).
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, int(max(0, left)))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			t.Fatalf("farmtest: wait for the end of process %d: %v", p.pid, err)
		case n == 1:
			return
		case left <= 0:
			t.Fatalf("farmtest: process %d has not ended within %v", p.pid, startLimit)
		}
	}
}
