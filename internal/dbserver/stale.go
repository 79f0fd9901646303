package dbserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"farmhand/internal/atomicfile"
	"farmhand/internal/process"
)

func recordProcess(path string, pid int) error {
	id, err := process.Identify(pid)
	if err != nil {
		return fmt.Errorf("record the server's process: %w", err)
	}
	text, err := json.Marshal(id)
	if err != nil {
		return fmt.Errorf("record the server's process: %w", err)
	}
	if err := atomicfile.Write(path, text, 0o644, nil); err != nil {
		return fmt.Errorf("record the server's process: %w", err)
	}
	return nil
}

// openRecorded takes hold of the process that recordProcess has written down:
// fs.ErrNotExist if none was, process.ErrGone if it has ended.
func openRecorded(path string) (*process.Handle, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("look for a server left behind: %w", err)
	}
	var was process.ID
	if err := json.Unmarshal(text, &was); err != nil {
		return nil, fmt.Errorf("%s is not a process record (remove it when no server runs on %s): %w", path, filepath.Dir(path), err)
	}
	if was.PID <= 0 {
		return nil, fmt.Errorf("%s is not a process record (remove it when no server runs on %s): pid %d", path, filepath.Dir(path), was.PID)
	}
	handle, err := process.Open(was)
	if err != nil {
		return nil, fmt.Errorf("look for a server left behind: %w", err)
	}
	return handle, nil
}

func forgetProcess(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the server's process: %w", err)
	}
	return nil
}

// stopStale stops the process that an earlier run recorded in the directory,
// if it is still the same one.
func stopStale(ctx context.Context, c Config) (err error) {
	left, err := openRecorded(c.pidFile())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, process.ErrGone):
		return forgetProcess(c.pidFile())
	case err != nil:
		return err
	}
	defer func() { err = errors.Join(err, left.Close()) }()
	for _, step := range []struct {
		signal unix.Signal
		limit  time.Duration
	}{{unix.SIGTERM, c.StopLimit}, {unix.SIGKILL, 10 * time.Second}} {
		if err := left.Signal(step.signal); err != nil && !errors.Is(err, process.ErrGone) {
			return fmt.Errorf("stop a server left behind: %w", err)
		}
		limited, cancel := context.WithTimeout(ctx, step.limit)
		err := left.Await(limited)
		cancel()
		if err == nil {
			return forgetProcess(c.pidFile())
		}
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("wait for a server left behind (pid %d): %w", left.PID, err)
		}
	}
	return fmt.Errorf("a server left behind on %s (pid %d) does not end, not even killed", c.Dir, left.PID)
}
