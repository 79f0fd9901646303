package role

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"syscall"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/child"
)

// program is one that is kept running.
type program struct {
	args      []string
	stopAfter time.Duration
	output    io.Writer // of the program; a file, so that it does not end with us
	log       *zap.Logger
	// told is called with each process that runs, and with why it does not.
	told func(pid int, trouble error)
}

// killAfter is how long a program that was told twice to end may still take.
const killAfter = 5 * time.Second

// keep starts the program, and again when it ends, until finish does. The
// program outlives a sidecar that is killed: losing the sidecar must not stop
// traffic. The proxy that the next sidecar starts takes the sockets over from it.
func (p program) keep(finish, now context.Context) error {
	var backoff child.Backoff
	for {
		began := time.Now()
		ended := p.run(finish, now)
		if finish.Err() != nil {
			return ended
		}
		wait := backoff.Next(time.Since(began))
		p.log.Error("program ended, will be started again", zap.Strings("command", p.args), zap.Error(ended), zap.Duration("after", wait))
		p.told(0, fmt.Errorf("%s: %w; next try in %v", p.args[0], ended, wait))
		select {
		case <-time.After(wait):
		case <-finish.Done():
			return nil
		}
	}
}

// run runs the program once. The error is why it ended unasked, or not cleanly.
func (p program) run(finish, now context.Context) error {
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Stdout, cmd.Stderr = p.output, p.output
	process, err := child.Start(cmd, 0)
	if err != nil {
		return err
	}
	p.log.Info("program runs", zap.Strings("command", p.args), zap.Int("pid", process.PID()))
	p.told(process.PID(), nil)
	select {
	case <-process.Done():
		return process.Ended()
	case <-finish.Done():
	}
	process.Signal(syscall.SIGTERM)
	for _, next := range []struct {
		wait   time.Duration
		signal syscall.Signal
	}{{p.stopAfter, syscall.SIGTERM}, {killAfter, syscall.SIGKILL}} {
		timer := time.NewTimer(next.wait)
		hurry := now.Done()
		if next.signal == syscall.SIGKILL {
			hurry = nil // it has just been told for the second time
		}
		select {
		case <-process.Done():
		case <-timer.C:
			process.Signal(next.signal)
		case <-hurry:
			process.Signal(next.signal)
		}
		timer.Stop()
	}
	if err := process.Err(); err != nil {
		return fmt.Errorf("%s did not end cleanly: %w", p.args[0], err)
	}
	return nil
}
