package dbserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process names one process for good: pids are used again, start times within
// one boot are not.
type process struct {
	PID   int    `json:"pid"`
	Start string `json:"start"` // field 22 of /proc/PID/stat, clock ticks since boot
	Boot  string `json:"boot"`
}

func identify(pid int) (process, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	// The command name in field 2 may hold spaces and parentheses; the fields
	// after its last ')' do not (proc_pid_stat(5)).
	_, rest, ok := bytes.Cut(stat[max(0, bytes.LastIndexByte(stat, ')')):], []byte(") "))
	fields := strings.Fields(string(rest))
	if !ok || len(fields) < 20 {
		return process{}, fmt.Errorf("/proc/%d/stat has an unknown form: %q", pid, stat)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return process{}, err
	}
	return process{PID: pid, Start: fields[22-3], Boot: strings.TrimSpace(string(boot))}, nil
}

func recordProcess(path string, pid int) error {
	p, err := identify(pid)
	if err != nil {
		return fmt.Errorf("record the server's process: %w", err)
	}
	text, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("record the server's process: %w", err)
	}
	temp := path + ".new"
	if err := os.WriteFile(temp, text, 0o644); err != nil {
		return fmt.Errorf("record the server's process: %w", err)
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("record the server's process: %w", err)
	}
	return nil
}

// readProcess returns what recordProcess has written; fs.ErrNotExist if there is
// nothing.
func readProcess(path string) (process, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return process{}, fmt.Errorf("look for a server left behind: %w", err)
	}
	var was process
	if err := json.Unmarshal(text, &was); err != nil || was.PID <= 0 {
		return process{}, fmt.Errorf("%s is not a process record (remove it when no server runs on %s): %w", path, filepath.Dir(path), err)
	}
	return was, nil
}

func forgetProcess(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the server's process: %w", err)
	}
	return nil
}

// stopStale stops the process that an earlier run recorded in the directory,
// if it is still the same one.
func stopStale(ctx context.Context, c Config) error {
	was, err := readProcess(c.pidFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	// The descriptor is taken before the identity is compared, so what is
	// signalled is what was compared.
	fd, err := unix.PidfdOpen(was.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return forgetProcess(c.pidFile())
	}
	if err != nil {
		return fmt.Errorf("open the process of a server left behind (pid %d): %w", was.PID, err)
	}
	defer unix.Close(fd) // read-only
	is, err := identify(was.PID)
	if errors.Is(err, fs.ErrNotExist) || err == nil && is != was {
		return forgetProcess(c.pidFile())
	}
	if err != nil {
		return fmt.Errorf("identify a server left behind (pid %d): %w", was.PID, err)
	}
	for _, step := range []struct {
		signal unix.Signal
		limit  time.Duration
	}{{unix.SIGTERM, c.StopLimit}, {unix.SIGKILL, 10 * time.Second}} {
		if err := unix.PidfdSendSignal(fd, step.signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("stop a server left behind (pid %d): %w", was.PID, err)
		}
		gone, err := awaitExit(ctx, fd, step.limit)
		if err != nil {
			return fmt.Errorf("wait for a server left behind (pid %d): %w", was.PID, err)
		}
		if gone {
			return forgetProcess(c.pidFile())
		}
	}
	return fmt.Errorf("a server left behind on %s (pid %d) does not end, not even killed", c.Dir, was.PID)
}

// awaitExit waits until the process of a pidfd has ended: the descriptor then
// becomes readable (pidfd_open(2)).
func awaitExit(ctx context.Context, fd int, limit time.Duration) (bool, error) {
	until := time.Now().Add(limit)
	for {
		if err := ctx.Err(); err != nil {
			return false, context.Cause(ctx)
		}
		wait := min(time.Until(until), 100*time.Millisecond) // short, to notice ctx
		if wait <= 0 {
			return false, nil
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(wait.Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false, err
		}
		if n > 0 {
			return true, nil
		}
	}
}
