// Package localfarm runs a whole farm on one machine, in the foreground: a
// primary and its replicas through the local provider, and a proxy in front of
// them. It owns the farm's directory and every process that it started.
//
// It does not change who is the primary. Invariant: when Run returns, no
// process of the farm is left and its data is complete, unless Run's error
// says otherwise.
package localfarm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"farmhand/internal/child"
	"farmhand/internal/farm"
	"farmhand/internal/report"
)

// Options say what the farm is to be.
type Options struct {
	// Dir is the farm's directory, an absolute path.
	Dir string
	// Programs is the directory of the programs proxy and sidecar.
	Programs string
	// Listen is where the proxy takes clients by TCP.
	Listen netip.AddrPort
	// Socket is where it takes them by unix socket; empty for none.
	Socket string
	// Admin is the host:port of the proxy's metrics; empty for none.
	Admin string
	// Replicas is the number of replicas.
	Replicas int
	// First is the first server's address; the others get the ones after it.
	First netip.AddrPort
	// StartLimit bounds the time until the farm answers.
	StartLimit time.Duration
	// Progress is told what happens, line by line.
	Progress io.Writer
}

// instances are the farm's servers, the primary first.
func (o Options) instances() ([]instance, error) {
	list := make([]instance, 1+o.Replicas)
	at := o.First
	for i := range list {
		if !at.Addr().IsLoopback() {
			return nil, fmt.Errorf("server %d of %d would be at %v, which is not a loopback address", i+1, len(list), at)
		}
		list[i] = instance{Name: fmt.Sprintf("db%d", i+1), Address: at, ServerID: uint32(i + 1)}
		if i > 0 {
			list[i].Follow = list[0].Address
		}
		at = netip.AddrPortFrom(at.Addr().Next(), at.Port())
	}
	return list, nil
}

// run is one run of a farm.
type run struct {
	Options
	layout    layout
	local     launcher
	instances []instance
	board     *board
	announced chan struct{} // closed when the written state says that the farm is ready
	began     time.Time
	saying    sync.Mutex
}

// Run starts the farm, calls ready when it answers through the proxy, keeps it
// running until finish ends and then stops it in order: the proxy, the
// replicas, the primary. The end of now makes that short.
func Run(finish, now context.Context, o Options, ready func()) (err error) {
	r := &run{Options: o, layout: layout{o.Dir}, announced: make(chan struct{}), began: time.Now()}
	if r.instances, err = o.instances(); err != nil {
		return err
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return fmt.Errorf("make the farm's directory: %w", err)
	}
	lock, err := r.layout.hold()
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if err := r.prepare(); err != nil {
		return err
	}
	servers := make([]report.Report, len(r.instances))
	for i, instance := range r.instances {
		servers[i] = report.Report{Name: instance.Name, Address: instance.Address.String(), Role: roleOf(instance), State: report.Stopped}
	}
	r.board = newBoard(State{PID: os.Getpid(), Servers: servers, Proxy: Proxy{Listen: o.Listen.String(), Socket: o.Socket}})
	return r.hold(finish, now, ready)
}

func roleOf(i instance) farm.Role {
	if i.Follow.IsValid() {
		return farm.Replica
	}
	return farm.Primary
}

// prepare checks what can be known to fail and writes the farm's files.
func (r *run) prepare() error {
	for _, program := range []string{"proxy", "sidecar"} {
		if _, err := os.Stat(filepath.Join(r.Programs, program)); err != nil {
			return fmt.Errorf("the program %s is missing (make build): %w", program, err)
		}
	}
	if err := r.checkPlaces(); err != nil {
		return err
	}
	if err := r.layout.writeSecrets(); err != nil {
		return err
	}
	if err := r.layout.writeTopology(r.instances); err != nil {
		return err
	}
	if err := r.layout.writeProxyConfig(r.Listen, r.Socket, r.Admin); err != nil {
		return err
	}
	r.local = launcher{
		Dir: r.Dir, Sidecar: filepath.Join(r.Programs, "sidecar"),
		Accounts: accounts{
			ReplicationFile: r.layout.secret("replication"), MonitorFile: r.layout.secret("monitor"),
			ApplicationFile: r.layout.secret("app"), Application: AppUser,
		},
	}
	return nil
}

// group is some parts that are started and stopped together.
type group struct {
	stop context.CancelFunc
	done sync.WaitGroup

	mu   sync.Mutex
	errs []error
}

// launch has parts run until the group is told to stop.
func launch(now context.Context, parts ...part) *group {
	ctx, stop := context.WithCancel(context.Background())
	g := &group{stop: stop}
	for _, p := range parts {
		g.done.Go(func() {
			if err := p.keep(ctx, now); err != nil {
				g.mu.Lock()
				defer g.mu.Unlock()
				g.errs = append(g.errs, err)
			}
		})
	}
	return g
}

func (g *group) end() error {
	g.stop()
	g.done.Wait()
	return errors.Join(g.errs...)
}

// hold is the farm's life from the first process to the last.
func (r *run) hold(finish, now context.Context, ready func()) (err error) {
	publishing := launchPublisher(r)
	defer func() { err = errors.Join(err, publishing()) }()

	parts := make([]part, len(r.instances))
	for i, instance := range r.instances {
		parts[i] = r.server(instance)
	}
	r.say("starting %d servers (data in %s)", len(parts), r.Dir)
	primary := launch(now, parts[0])
	defer func() { err = errors.Join(err, primary.end()) }()
	replicas := launch(now, parts[1:]...)
	defer func() { err = errors.Join(err, replicas.end()) }()
	defer r.board.update(func(s *State) { s.Ready = false })

	starting, cancel := context.WithTimeoutCause(finish, r.StartLimit, fmt.Errorf("it took longer than %v", r.StartLimit))
	defer cancel()
	if err := r.awaitServers(starting); err != nil {
		return r.asked(finish, err)
	}
	r.say("starting the proxy on %v", r.places())
	proxy := launch(now, r.proxy())
	defer func() {
		if finish.Err() != nil {
			r.say("stopping: the proxy, the replicas, the primary (Ctrl-C again: at once)")
		}
		err = errors.Join(err, proxy.end())
	}()
	if err := r.awaitAnswers(starting); err != nil {
		return r.asked(finish, err)
	}
	r.board.update(func(s *State) { s.Ready = true })
	<-r.announced // who hears that it is ready finds it so
	ready()
	<-finish.Done()
	return nil
}

// asked is err unless the farm was told to stop, which then is its cause.
func (r *run) asked(finish context.Context, err error) error {
	if finish.Err() != nil {
		return nil
	}
	return err
}

// server is the part that an instance's sidecar is.
func (r *run) server(i instance) part {
	return part{
		name:  i.Name,
		start: func() (process, error) { return r.local.Launch(i, r.hear) },
		ended: func(err error, wait time.Duration) {
			r.say("%s: its sidecar ended (%v), starts again in %v; see %s", i.Name, err, wait, r.local.LogFile(i.Name))
			r.board.take(report.Report{
				Time: time.Now().UTC(), Name: i.Name, Address: i.Address.String(), State: report.Failed,
				Detail: fmt.Sprintf("its sidecar ended: %v", err),
			})
		},
	}
}

// hear takes a report and says what a person wants to know of it.
func (r *run) hear(now report.Report) {
	before := r.board.take(now)
	if now.State == before.State && now.PID == before.PID && now.Detail == before.Detail {
		return
	}
	text := fmt.Sprintf("%s: %s", now.Name, now.State)
	if now.State == report.Running {
		text += fmt.Sprintf(" as %s on %s, pid %d", now.Role, now.Address, now.PID)
	}
	if now.Detail != "" {
		text += ": " + now.Detail
	}
	r.say("%s", text)
}

// proxy is the part that the proxy is.
func (r *run) proxy() part {
	path := r.layout.proxyLog()
	return part{
		name: "proxy",
		start: func() (process, error) {
			logs, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
			if err != nil {
				return nil, err
			}
			defer func() { _ = logs.Close() }() // the child has its own descriptor
			cmd := exec.Command(filepath.Join(r.Programs, "proxy"), "run", r.layout.proxyConfig())
			cmd.Stdout, cmd.Stderr = logs, logs
			c, err := child.Start(cmd, syscall.SIGTERM)
			if err != nil {
				return nil, err
			}
			r.board.update(func(s *State) { s.Proxy.PID, s.Proxy.Detail = c.PID(), "" })
			return c, nil
		},
		ended: func(err error, wait time.Duration) {
			r.say("proxy: it ended (%v), starts again in %v; %s says: %s", err, wait, path, lastLine(path))
			r.board.update(func(s *State) { s.Proxy.PID, s.Proxy.Detail = 0, fmt.Sprintf("it ended: %v", err) })
		},
	}
}

// say prints a line of progress.
func (r *run) say(format string, args ...any) {
	r.saying.Lock()
	defer r.saying.Unlock()
	// Nobody may be reading any more; the farm goes on.
	_, _ = fmt.Fprintf(r.Progress, "[%6.1fs] %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

// launchPublisher writes the state file at every change, at most ten times a
// second, until the function that it returns is called.
func launchPublisher(r *run) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for announced := false; ; {
			state, changed := r.board.read()
			if err := writeJSON(r.layout.state(), state); err != nil {
				// A full disk, say: status is blind then, the farm is not.
				r.say("the farm's state cannot be written: %v", err)
			}
			if state.Ready && !announced {
				announced = true
				close(r.announced)
			}
			select {
			case <-changed:
			case <-ctx.Done():
				ended <- os.Remove(r.layout.state())
				return
			}
			<-tick.C
		}
	}()
	return func() error {
		cancel()
		return <-ended
	}
}
