package role

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"farmhand/internal/atomicfile"
	"farmhand/internal/child"
	"farmhand/internal/process"
	"farmhand/sidecar/internal/config"
)

// program is one that is kept running.
type program struct {
	name string
	// args are the program and its arguments; a name without a / is looked for.
	args         []string
	environment  []string // beyond the sidecar's own
	credential   *syscall.Credential
	stopSignal   syscall.Signal
	reloadSignal syscall.Signal
	stopAfter    time.Duration
	// endStatus is the exit status with which it ends in order when it is told to, beside 0.
	endStatus int
	// record is the file in which the process is noted, so that a sidecar which comes
	// after one that was killed finds it and keeps it. Empty: the program's next process takes
	// over from the one before by itself.
	record string
	// until are programs that use this one, which is told to end when they have ended.
	until []*program
	// uses is the unix socket of a program without which this one fails who asks it: it is waited
	// for before the first start, at most for usesLimit. Empty for none.
	uses string
	// prepare is done before each start, after what is done once it is kept no more; nil for nothing.
	prepare, after func() error
	output         io.Writer // of the program; a file, so that it does not end with us
	log            *zap.Logger
	// told is called with each process that runs, and with why it does not.
	told func(pid int, trouble error)

	ended chan struct{} // closed when it is not kept any more
	mu    sync.Mutex
	now   running // nil while it does not run
	began time.Time
	stale bool // its files have changed since its next process was to start
}

// newProgram is one of the configuration's, whose process is noted in the directory state.
func newProgram(c config.Program, state string) (*program, error) {
	p := &program{
		name: c.Name, args: c.Command, stopSignal: unix.SignalNum("SIG" + cmp.Or(c.StopSignal, "TERM")),
		reloadSignal: unix.SignalNum("SIG" + cmp.Or(c.ReloadSignal, "HUP")), stopAfter: cmp.Or(time.Duration(c.StopAfter), 30*time.Second),
		record: filepath.Join(state, "program-"+c.Name+".json"),
	}
	for _, name := range slices.Sorted(maps.Keys(c.Environment)) {
		p.environment = append(p.environment, name+"="+c.Environment[name])
	}
	var err error
	if p.credential, err = account(c.RunAs); err != nil {
		return nil, fmt.Errorf("run_as: %w", err)
	}
	return p, nil
}

// killAfter is how long a program that was told twice to end may still take.
const killAfter = 5 * time.Second

// hold keeps the program running from when it can start until finish ends, or, if another
// program uses it, until that has ended then.
func (p *program) hold(finish, now context.Context, ready <-chan struct{}) (err error) {
	defer close(p.ended)
	if p.after != nil {
		defer func() { err = errors.Join(err, p.after()) }()
	}
	select {
	case <-finish.Done():
		return nil
	case <-ready:
	}
	if p.uses != "" {
		awaitSocket(finish, p.uses)
	}
	if len(p.until) == 0 {
		return p.keep(finish, now)
	}
	last, end := context.WithCancel(context.WithoutCancel(finish))
	go func() {
		<-finish.Done()
		for _, other := range p.until {
			<-other.ended
		}
		end()
	}()
	return p.keep(last, now)
}

const usesLimit = 10 * time.Second

// awaitSocket returns when somebody listens there, or no later than it is to.
func awaitSocket(ctx context.Context, path string) {
	ctx, cancel := context.WithTimeout(ctx, usesLimit)
	defer cancel()
	for ctx.Err() == nil {
		if conn, err := new(net.Dialer).DialContext(ctx, "unix", path); err == nil {
			_ = conn.Close() // it has only asked
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// keep starts the program, and again when it ends, until finish does. The
// program outlives a sidecar that is killed: losing the sidecar must not stop
// traffic.
func (p *program) keep(finish, now context.Context) error {
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

// deaf is how long a program that has begun may not hear signals yet: one that is ignored
// until then, as SIGHUP of what was begun by nohup, is lost.
const deaf = 2 * time.Second

// reload has the program read its files anew. One that does not run will, or is told once
// it does; one that has just begun is told again.
func (p *program) reload() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now == nil {
		p.stale = true
		return nil
	}
	p.now.signal(p.reloadSignal)
	p.log.Info("program reads its files anew", zap.Stringer("signal", p.reloadSignal))
	if time.Since(p.began) < deaf {
		p.reloadLater()
	}
	return nil
}

// reloadLater has the process that runs read its files anew once it listens. The caller has
// the lock.
func (p *program) reloadLater() {
	now := p.now
	time.AfterFunc(deaf, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.now == now {
			now.signal(p.reloadSignal)
		}
	})
}

// signal sends the program a signal; false if it does not run.
func (p *program) signal(s syscall.Signal) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now == nil {
		return false
	}
	p.now.signal(s)
	return true
}

// run runs the program once. The error is why it ended unasked, or not cleanly.
func (p *program) run(finish, now context.Context) error {
	p.mu.Lock()
	p.stale = false // what changed before, it reads
	p.mu.Unlock()
	process, err := p.start(finish, now)
	if err != nil {
		return err
	}
	p.set(process)
	defer p.set(nil)
	p.told(process.pid(), nil)
	select {
	case <-process.done():
		if p.record != "" {
			// What it has left would stand in the way of the next.
			_ = syscall.Kill(-process.pid(), syscall.SIGKILL)
		}
		if err := process.err(); err != nil {
			return err
		}
		return errors.New("it ended unasked")
	case <-finish.Done():
	}
	return p.end(process, now)
}

// set notes the process that runs, nil for none.
func (p *program) set(r running) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now, p.began = r, time.Now()
	if r != nil && p.stale {
		p.reloadLater()
	}
}

// end ends a process in order; the end of now makes that short.
func (p *program) end(process running, now context.Context) error {
	process.signal(p.stopSignal)
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
		case <-process.done():
		case <-timer.C:
			process.signal(next.signal)
		case <-hurry:
			process.signal(next.signal)
		}
		timer.Stop()
	}
	<-process.done()
	var exit *exec.ExitError
	if err := process.err(); err != nil && (p.endStatus == 0 || !errors.As(err, &exit) || exit.ExitCode() != p.endStatus) {
		return fmt.Errorf("%s did not end cleanly: %w", p.args[0], err)
	}
	return nil
}

// noted is what stands in a program's record.
type noted struct {
	process.ID
	// Command is what the process runs by: one that is to run by something else is
	// another.
	Command []string `json:"command"`
}

// start starts a process of the program, unless an earlier sidecar has left one that is
// as this one is to be.
func (p *program) start(finish, now context.Context) (running, error) {
	if p.record != "" {
		left, err := p.left(now)
		if left != nil || err != nil {
			return left, err
		}
	}
	path, err := find(p.args[0])
	if err == nil && p.prepare != nil {
		err = p.prepare()
	}
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, p.args[1:]...)
	cmd.Args[0] = p.args[0]
	cmd.Stdout, cmd.Stderr = p.output, p.output
	cmd.Env = append(os.Environ(), p.environment...)
	if p.credential != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.credential}
	}
	c, err := child.Start(cmd, 0)
	if err != nil {
		return nil, err
	}
	p.log.Info("program runs", zap.Strings("command", p.args), zap.Int("pid", c.PID()))
	own := ownChild{c}
	if p.record == "" {
		return own, nil
	}
	if err := p.note(c.PID()); err != nil && !errors.Is(err, process.ErrGone) {
		// Unknown to the next sidecar it would be in its way.
		return nil, errors.Join(err, p.end(own, now))
	}
	return own, nil
}

func (p *program) note(pid int) error {
	id, err := process.Identify(pid)
	if err != nil {
		return err
	}
	text, err := json.Marshal(noted{id, p.command()})
	if err != nil {
		return err
	}
	return atomicfile.Write(p.record, append(text, '\n'), 0o600, nil)
}

// command is all that a process of the program runs by.
func (p *program) command() []string { return slices.Concat(p.args, p.environment) }

// left is the process that an earlier sidecar has left; nil if there is none. One that runs
// by another configuration is ended.
func (p *program) left(now context.Context) (running, error) {
	text, err := os.ReadFile(p.record)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var n noted
	if err == nil {
		err = json.Unmarshal(text, &n)
	}
	if err != nil {
		return nil, fmt.Errorf("who runs is not known: %s: %w", p.record, err)
	}
	h, err := process.Open(n.ID)
	if errors.Is(err, process.ErrGone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	a := adopt(h)
	if slices.Equal(n.Command, p.command()) {
		p.log.Info("program runs already, and is kept", zap.Strings("command", p.args), zap.Int("pid", n.PID))
		return a, nil
	}
	p.log.Info("program runs by another configuration, and is ended", zap.Strings("command", n.Command), zap.Int("pid", n.PID))
	return nil, p.end(a, now)
}

// directories are where programs are that no path of ours leads to.
var directories = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// find returns the path of a program: as it is given, or in PATH, or where a system has
// its own.
func find(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range directories {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("there is no program %s in PATH (%s), nor in %s: install it, or give its path", name, os.Getenv("PATH"), strings.Join(directories, ", "))
}

// running is a process of a program. It is waited for by one goroutine.
type running interface {
	pid() int
	done() <-chan struct{}
	// err is how it ended, once done is closed.
	err() error
	signal(syscall.Signal)
}

// ownChild is a process that we have started.
type ownChild struct{ *child.Child }

func (c ownChild) pid() int                { return c.PID() }
func (c ownChild) done() <-chan struct{}   { return c.Done() }
func (c ownChild) err() error              { return c.Err() }
func (c ownChild) signal(s syscall.Signal) { c.Signal(s) }

// adopted is a process that an earlier sidecar has started. With what status it ends
// nobody learns.
type adopted struct {
	handle *process.Handle
	ended  chan struct{}
	mu     sync.Mutex // is held while the handle is used or closed
	closed bool
	failed error
}

func adopt(h *process.Handle) *adopted {
	a := &adopted{handle: h, ended: make(chan struct{})}
	go func() {
		defer close(a.ended)
		err := h.Await(context.Background())
		a.mu.Lock()
		defer a.mu.Unlock()
		a.closed, a.failed = true, errors.Join(err, h.Close())
	}()
	return a
}

func (a *adopted) pid() int              { return a.handle.PID }
func (a *adopted) done() <-chan struct{} { return a.ended }
func (a *adopted) err() error            { return a.failed }

func (a *adopted) signal(s syscall.Signal) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		_ = a.handle.Signal(s) // it has ended, then
	}
}
