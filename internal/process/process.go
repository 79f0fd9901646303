// Package process names processes of this machine for good, and signals and
// waits for those that somebody else has started.
//
// Invariant: what is signalled is the process that was named, whatever has become
// of its process id meanwhile.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ID names one process: process ids are used again, start times within one boot
// are not.
type ID struct {
	PID   int    `json:"pid"`
	Start string `json:"start"` // field 22 of /proc/PID/stat, clock ticks since boot
	Boot  string `json:"boot"`
}

// ErrGone: there is no such process any more.
var ErrGone = errors.New("the process is gone")

// Identify names the process that has the process id now; ErrGone if none has it,
// or one that has ended and is not yet reaped.
func Identify(pid int) (ID, error) {
	fields, err := stat(pid)
	if err != nil {
		return ID{}, err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ID{}, err
	}
	return ID{PID: pid, Start: fields[22-3], Boot: strings.TrimSpace(string(boot))}, nil
}

// stat returns the fields of /proc/PID/stat from the third on: the command name in
// field 2 may hold spaces and parentheses, what is after its last ')' does not
// (proc_pid_stat(5)).
func stat(pid int) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil, fmt.Errorf("process %d: %w", pid, ErrGone)
	}
	if err != nil {
		return nil, err
	}
	_, rest, ok := bytes.Cut(text[max(0, bytes.LastIndexByte(text, ')')):], []byte(") "))
	fields := strings.Fields(string(rest))
	if !ok || len(fields) < 20 {
		return nil, fmt.Errorf("/proc/%d/stat has an unknown form: %q", pid, text)
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return nil, fmt.Errorf("process %d: %w", pid, ErrGone)
	}
	return fields, nil
}

// Handle is a hold on one process. Its methods may be called from any goroutine, but
// Close only when no other of them runs or comes after it.
type Handle struct {
	ID
	fd int
}

// Open takes hold of the process that has the name; ErrGone if it has ended.
func Open(id ID) (*Handle, error) {
	if id.PID <= 0 {
		return nil, fmt.Errorf("process %d: %w", id.PID, ErrGone)
	}
	// The descriptor is taken before the name is compared, so what is signalled is
	// what was compared.
	fd, err := unix.PidfdOpen(id.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, fmt.Errorf("process %d: %w", id.PID, ErrGone)
	}
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", id.PID, err)
	}
	h := &Handle{ID: id, fd: fd}
	is, err := Identify(id.PID)
	if err == nil && is != id {
		err = fmt.Errorf("process %d: %w", id.PID, ErrGone)
	}
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// Close lets the process go; it is not ended by that.
func (h *Handle) Close() error { return unix.Close(h.fd) }

// Signal sends the process a signal; ErrGone if it has ended.
func (h *Handle) Signal(signal unix.Signal) error {
	err := unix.PidfdSendSignal(h.fd, signal, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("process %d: %w", h.PID, ErrGone)
	}
	if err != nil {
		return fmt.Errorf("signal process %d: %w", h.PID, err)
	}
	return nil
}

// Await waits until the process has ended and returns nil, or why ctx ended first.
func (h *Handle) Await(ctx context.Context) (err error) {
	defer func() {
		if err != nil && ctx.Err() == nil {
			err = fmt.Errorf("wait for process %d: %w", h.PID, err)
		} else if err != nil {
			err = context.Cause(ctx)
		}
	}()
	fd, err := unix.FcntlInt(uintptr(h.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err = unix.SetNonblock(fd, true); err != nil { // for os to have Go's poller watch it
		return errors.Join(err, unix.Close(fd))
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer func() { err = errors.Join(err, f.Close()) }()
	defer context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })() // it fails on a closed one only
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		// The descriptor becomes readable with the process's end (pidfd_open(2)).
		var n int
		n, failed = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		if errors.Is(failed, unix.EINTR) { // only where it has not ended
			failed = nil
		}
		return n > 0 || failed != nil
	})
	return errors.Join(err, failed)
}
