// Package child runs a process that does not outlive its parent unless it is
// meant to.
//
// It owns the process from fork to exit; it neither restarts it nor decides
// when it ends.
//
// Invariant: when the parent dies, in whatever way, the kernel sends the child
// the signal that was asked for.
package child

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// Child is a running process. Its methods may be called from any goroutine.
type Child struct {
	process *os.Process
	done    chan struct{}
	err     error // how the process ended; set before done is closed
}

// Start starts cmd, which must not be used afterwards, in a process group of
// its own: a Ctrl-C at the terminal is for the parent to act on. The kernel
// sends it the signal parentDeath when this process dies; 0 lets it live on. A change of account
// must be asked for by cmd.SysProcAttr.Credential and not be left to the
// program: a process that changes its own account loses the signal
// (prctl(2), PR_SET_PDEATHSIG).
func Start(cmd *exec.Cmd, parentDeath syscall.Signal) (*Child, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = parentDeath
	cmd.SysProcAttr.Setpgid = !cmd.SysProcAttr.Setsid // a session of its own is such a group
	c := &Child{done: make(chan struct{})}
	started := make(chan error)
	go c.run(cmd, started)
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

// run holds its OS thread until the process has ended: the kernel takes the
// end of the thread that forked for the parent's death.
func (c *Child) run(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	c.process = cmd.Process
	started <- nil
	c.err = cmd.Wait()
	close(c.done)
}

// PID is the process's id.
func (c *Child) PID() int { return c.process.Pid }

// Done is closed when the process has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Err waits for the process's end and says how it ended; nil means status 0.
func (c *Child) Err() error {
	<-c.done
	return c.err
}

// Ended is Err for a process that should not have ended: never nil.
func (c *Child) Ended() error {
	if err := c.Err(); err != nil {
		return err
	}
	return errors.New("exit status 0")
}

// Signal sends the process a signal; false means that it has ended already.
func (c *Child) Signal(sig syscall.Signal) bool {
	// Knows of the reaping and so never hits another process of the same pid.
	return c.process.Signal(sig) == nil
}

// SignalGroup sends the signal to the process and to all that it started and
// that did not leave its process group; false means that there is nobody left.
// It may be called after the process has ended, for those that it left behind,
// but soon: a group that is empty can become another one's.
func (c *Child) SignalGroup(sig syscall.Signal) bool {
	return syscall.Kill(-c.process.Pid, sig) == nil
}
