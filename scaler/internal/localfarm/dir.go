package localfarm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"farmhand/scaler/internal/control"
)

// Dir is the directory of a farm on this machine:
//
//	farm.yaml   what the farm is to be
//	control/    the control node's directory
//	scaler.log  what the scaler says
//	lock        held by the scaler that runs the farm in the foreground; its process id
//	            is in it
//	NAME/ …     as the local provider has it
type Dir struct{ Path string }

// Control is the control node's directory.
func (d Dir) Control() control.Dir { return control.Dir{Path: filepath.Join(d.Path, "control")} }

// FarmFile is the path of the farm file.
func (d Dir) FarmFile() string { return filepath.Join(d.Path, "farm.yaml") }

// Log is where the scaler that runs the farm in the foreground logs.
func (d Dir) Log() string { return filepath.Join(d.Path, "scaler.log") }

func (d Dir) lock() string { return filepath.Join(d.Path, "lock") }

// ErrRunning says that a farm runs in the directory already.
var ErrRunning = errors.New("a farm runs there already")

// ErrNotRunning says that none does.
var ErrNotRunning = errors.New("no farm runs there")

// Hold takes the directory for this process until the file is closed.
func (d Dir) Hold() (*os.File, error) {
	lock, err := os.OpenFile(d.lock(), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", d.Path, err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w (scaler status --local %s shows it, scaler down --local %s stops it)", d.Path, ErrRunning, d.Path, d.Path)
		}
		return nil, fmt.Errorf("lock %s: %w", d.Path, err)
	}
	err = lock.Truncate(0)
	if err == nil {
		_, err = lock.WriteString(strconv.Itoa(os.Getpid()))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", d.Path, err), lock.Close())
	}
	return lock, nil
}

// Holder is the process that runs the farm in the foreground; [ErrNotRunning] if
// none does.
func (d Dir) Holder() (int, error) {
	lock, err := os.Open(d.lock())
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%s: %w", d.Path, ErrNotRunning)
	}
	if err != nil {
		return 0, fmt.Errorf("look at %s: %w", d.Path, err)
	}
	defer func() { _ = lock.Close() }() // lets a lock go that was taken here
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if err == nil {
		return 0, fmt.Errorf("%s: %w", d.Path, ErrNotRunning)
	}
	if !errors.Is(err, syscall.EWOULDBLOCK) {
		return 0, fmt.Errorf("look at %s: %w", d.Path, err)
	}
	text, err := os.ReadFile(d.lock())
	if err != nil {
		return 0, fmt.Errorf("look at %s: %w", d.Path, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("the farm in %s has just begun to start", d.Path)
	}
	return pid, nil
}

// Stop has the scaler that runs the farm in the foreground stop it, as by Ctrl-C,
// and returns when it has.
func (d Dir) Stop(ctx context.Context) error {
	pid, err := d.Holder()
	if err != nil {
		return err
	}
	// It was written by who holds the lock, so it is still its own.
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the farm (pid %d): %w", pid, err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := d.Holder()
		if errors.Is(err, ErrNotRunning) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the farm (pid %d) has not stopped yet: %w", pid, context.Cause(ctx))
		}
	}
}
