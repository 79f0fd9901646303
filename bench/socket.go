package main

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// send writes a packet that the socket's buffer has room for.
func send(fd int, b []byte) error {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return fmt.Errorf("send: %w", errno)
	}
	if int(n) != len(b) {
		return fmt.Errorf("send: %d of %d bytes", n, len(b))
	}
	return nil
}

// receive reads what is there; -1 for nothing yet.
func receive(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		return -1, nil
	case errno != 0:
		return 0, fmt.Errorf("receive: %w", errno)
	case n == 0:
		return 0, errors.New("the other side has closed the connection")
	}
	return int(n), nil
}

// waitEvents is epoll_pwait2, which waits to the nanosecond; an interrupted
// wait has no events.
func waitEvents(epoll int, events []unix.EpollEvent, wait time.Duration) (int, error) {
	limit := unix.NsecToTimespec(int64(max(0, wait)))
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)),
		uintptr(unsafe.Pointer(&limit)), 0, 0)
	if errno != 0 && errno != unix.EINTR {
		return 0, fmt.Errorf("epoll: %w", errno)
	}
	if errno != 0 {
		return 0, nil
	}
	return int(n), nil
}
