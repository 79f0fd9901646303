// Package command runs one program of the operator's to its end, within limits.
//
// It owns the process and its output. It uses no shell, passes on nothing of
// its own environment, and does not decide what a failure means.
//
// Invariant: Run returns within the limit, the grace and a second, whatever the
// program does, and keeps no more of its output than it was told to.
package command

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"farmhand/internal/child"
)

// Command is what to run and how far it may go.
type Command struct {
	Args  []string // the program's path and its arguments
	Env   []string // all of its environment, beyond what CleanEnv gives
	Stdin []byte
	// Dir is where it runs; empty for /.
	Dir string
	// Credential is of the account that it runs as; nil for our own.
	Credential *syscall.Credential
	// Limit is how long it may take; then it and what it started get SIGTERM,
	// and SIGKILL after Grace.
	Limit, Grace time.Duration
	// Output is how many bytes of its output are kept, from the beginning.
	Output int
}

// Status is how a program ended.
type Status string

// The ways to end.
const (
	OK          Status = "ok"          // exit status 0
	Failed      Status = "failed"      // another one, a signal, or it could not be started
	TimedOut    Status = "timed-out"   // it took longer than it may
	Interrupted Status = "interrupted" // we were told to stop
)

// Outcome is how a program ended and what it said.
type Outcome struct {
	Status  Status
	Err     error // why it is not OK; nil if it is
	Exit    int   // exit status, -1 if it has none
	Output  []byte
	Dropped int64 // bytes of output beyond the limit
	Took    time.Duration
}

// outputDelay is how long the output of a program that has ended is waited for:
// what it left running in the background may hold it open for ever.
const outputDelay = 500 * time.Millisecond

// CleanEnv is the environment of every program, without anything of ours.
func CleanEnv() []string {
	return []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
}

// Run runs the program. The end of ctx ends it as its limit does. It dies with
// this process.
func Run(ctx context.Context, c Command) Outcome {
	out := &head{most: c.Output}
	cmd := exec.Command(c.Args[0], c.Args[1:]...)
	cmd.Dir = cmp.Or(c.Dir, "/")
	if c.Credential != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.Credential}
	}
	cmd.Env = append(CleanEnv(), c.Env...)
	cmd.Stdin = bytes.NewReader(c.Stdin)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = outputDelay
	began := time.Now()
	process, err := child.Start(cmd, syscall.SIGKILL)
	if err != nil {
		return Outcome{Status: Failed, Exit: -1, Err: fmt.Errorf("start: %w", err), Took: time.Since(began)}
	}
	limit := time.NewTimer(c.Limit)
	defer limit.Stop()
	o := Outcome{}
	select {
	case <-process.Done():
	case <-limit.C:
		o.Status, o.Err = TimedOut, fmt.Errorf("took longer than %v", c.Limit)
		end(process, c.Grace)
	case <-ctx.Done():
		o.Status, o.Err = Interrupted, context.Cause(ctx)
		end(process, c.Grace)
	}
	ended := process.Err()
	o.Took, o.Output, o.Dropped = time.Since(began), out.kept, out.dropped
	var exit *exec.ExitError
	switch {
	case errors.As(ended, &exit):
		o.Exit = exit.ExitCode()
	case errors.Is(ended, exec.ErrWaitDelay):
		ended = nil
	case ended != nil:
		o.Exit = -1
	}
	if o.Status == "" {
		o.Status, o.Err = OK, ended
		if ended != nil {
			o.Status = Failed
		}
	}
	return o
}

// end terminates the process and all of its group.
func end(process *child.Child, grace time.Duration) {
	process.SignalGroup(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-process.Done():
	case <-timer.C:
	}
	// Also for those of the group that outlived the first process.
	process.SignalGroup(syscall.SIGKILL)
}

// head is a writer that keeps the beginning of what is written. It is for the
// one goroutine of the command that writes to it, until that has ended.
type head struct {
	most    int
	kept    []byte
	dropped int64
}

func (h *head) Write(p []byte) (int, error) {
	room := min(h.most-len(h.kept), len(p))
	h.kept = append(h.kept, p[:room]...)
	h.dropped += int64(len(p) - room)
	return len(p), nil
}
