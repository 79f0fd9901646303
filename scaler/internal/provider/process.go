package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"farmhand/internal/atomicfile"
	"farmhand/internal/child"
	"farmhand/internal/mounts"
	"farmhand/internal/process"
	"farmhand/scaler/internal/flock"
)

// sidecar takes hold of an instance's sidecar; nil if it does not run.
func (l *Local) sidecar(name string) (*process.Handle, error) { return recorded(l.place.process(name)) }

// recorded takes hold of the process that is recorded at path; nil if there is none
// or it has ended.
func recorded(path string) (*process.Handle, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var id process.ID
	if err := json.Unmarshal(text, &id); err != nil {
		return nil, fmt.Errorf("%s is not a process record: %w", path, err)
	}
	h, err := process.Open(id)
	if errors.Is(err, process.ErrGone) {
		return nil, nil
	}
	return h, err
}

// start starts the instance's sidecar unless it runs, or the instance is to go.
func (l *Local) start(ctx context.Context, r record) (err error) {
	lock, err := flock.Hold(ctx, l.place.of(r.Name, "lock"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if r, err = l.read(r.Name); err != nil || r.Terminating {
		return err
	}
	running, err := l.sidecar(r.Name)
	if err != nil {
		return err
	}
	if running != nil {
		return running.Close()
	}
	if err := l.attachVolume(ctx, r); err != nil {
		return err
	}
	// A scaler that was killed after the start and before the record was written.
	args := []string{filepath.Join(l.Programs, "sidecar"), "run", l.place.config(r.Name)}
	found, err := process.Find(func(f process.Found) bool {
		return l.marked(f, r.Name) && len(f.Arguments) == len(args) && slices.Equal(f.Arguments[1:], args[1:])
	})
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return l.recordProcess(r.Name, found[0].ID)
	}
	logs, err := os.OpenFile(l.place.log(r.Name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, logs.Close()) }() // the child has its own descriptor
	if l.Launcher != "" {
		args = append([]string{l.Launcher, r.Name, r.Address.String()}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = l.environment(r.Name)
	// Its reports, a line each second, are nobody's here: the registry has better ones.
	cmd.Stdout, cmd.Stderr = nil, logs
	// A session of its own: neither a closed terminal nor our end is its end.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	started, err := child.Start(cmd, 0)
	if err != nil {
		return err
	}
	id, err := process.Identify(started.PID())
	if errors.Is(err, process.ErrGone) {
		return fmt.Errorf("its sidecar ended at once: %w; see %s", started.Ended(), l.place.log(r.Name))
	}
	if err != nil {
		return err
	}
	return l.recordProcess(r.Name, id)
}

func (l *Local) recordProcess(name string, id process.ID) error {
	text, err := json.Marshal(id)
	if err != nil {
		return err
	}
	return atomicfile.Write(l.place.process(name), text, 0o644, nil)
}

func (l *Local) marked(f process.Found, name string) bool {
	return slices.Contains(f.Environment, mark+"="+filepath.Join(l.Dir, name))
}

// killLimit is how long a killed process may take to be gone: the kernel has to
// give its memory back.
const killLimit = 10 * time.Second

// end stops the instance's sidecar and what it started: with SIGTERM, which lets a
// database server shut down cleanly, and after limit with SIGKILL.
func (l *Local) end(ctx context.Context, name string, limit time.Duration) (err error) {
	lock, err := flock.Hold(ctx, l.place.of(name, "lock"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	var session int
	sidecar, err := l.sidecar(name)
	if err != nil {
		return err
	}
	if sidecar != nil {
		defer func() { err = errors.Join(err, sidecar.Close()) }()
		session = sidecar.PID
		gentle, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		if err := sidecar.Signal(unix.SIGTERM); err != nil && !errors.Is(err, process.ErrGone) {
			return err
		}
		switch err := sidecar.Await(gentle); {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, context.DeadlineExceeded):
			l.Log.Warn("instance is killed: it did not stop in time", zapName(name))
			// Before its server is ended, or it would start that again.
			if err := kill(ctx, sidecar.ID); err != nil {
				return err
			}
		case err != nil:
			return err
		}
	}
	// Without its sidecar nobody stops a server that it has left behind.
	if err := l.terminateServer(ctx, name, limit); err != nil {
		return err
	}
	if err := l.killLeft(ctx, name, session); err != nil {
		return err
	}
	// Nobody is left who would unmount it.
	return mounts.Detach(filepath.Join(l.Dir, name))
}

// terminateServer ends the instance's database server if its sidecar, killed or
// out of time, has left one behind.
func (l *Local) terminateServer(ctx context.Context, name string, limit time.Duration) error {
	r, err := l.read(name)
	if err != nil {
		return err
	}
	server, err := recorded(filepath.Join(l.data(r), "process.json"))
	if err != nil || server == nil {
		return err
	}
	err = endProcess(ctx, server, limit)
	return errors.Join(err, server.Close())
}

func endProcess(ctx context.Context, h *process.Handle, limit time.Duration) error {
	for _, step := range []struct {
		signal unix.Signal
		limit  time.Duration
	}{{unix.SIGTERM, limit}, {unix.SIGKILL, killLimit}} {
		err := h.Signal(step.signal)
		if errors.Is(err, process.ErrGone) {
			return nil
		}
		if err != nil {
			return err
		}
		waiting, cancel := context.WithTimeout(ctx, step.limit)
		err = h.Await(waiting)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
	return fmt.Errorf("process %d does not end, not even killed", h.PID)
}

// killLeft kills what is left of the instance: the sidecar's session, and all that
// an earlier sidecar of it has left, until there is nothing.
func (l *Local) killLeft(ctx context.Context, name string, session int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, killLimit, errors.New("what is left of it does not end, not even killed"))
	defer cancel()
	for {
		left, err := process.Find(func(f process.Found) bool {
			return l.marked(f, name) || session != 0 && f.Session == session
		})
		if err != nil || len(left) == 0 {
			return err
		}
		for _, f := range left {
			if err := kill(ctx, f.ID); err != nil {
				return err
			}
		}
	}
}

func kill(ctx context.Context, id process.ID) error {
	h, err := process.Open(id)
	if errors.Is(err, process.ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	if err = h.Signal(unix.SIGKILL); errors.Is(err, process.ErrGone) {
		err = nil
	}
	if err == nil {
		err = h.Await(ctx)
	}
	return errors.Join(err, h.Close())
}

// Halt stops an instance without terminating it; Keep starts it again. It is killed
// after limit, at once if that is 0. Nobody must keep it running meanwhile.
func (l *Local) Halt(ctx context.Context, name string, limit time.Duration) error {
	err := l.end(ctx, name, limit)
	if err == nil {
		err = l.restVolume(ctx, name)
	}
	if err != nil {
		return fmt.Errorf("stop %s: %w", name, err)
	}
	return nil
}
