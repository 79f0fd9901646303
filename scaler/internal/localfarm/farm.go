// Package localfarm runs a whole farm on one machine, in the foreground: the
// control node with the scaler, and by the local provider the farm's instances.
// It owns the farm's directory.
//
// It decides nothing: that does the daemon, as on every control node. Invariant:
// when Run returns, no process of the farm is left and its data is complete,
// unless Run's error says otherwise. If this process is killed, the farm goes on,
// and the next Run takes it over.
package localfarm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/registry"
	"farmhand/internal/service"
	"farmhand/scaler/internal/control"
	"farmhand/scaler/internal/daemon"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
	"farmhand/scaler/internal/terminal"
)

// Options say what the farm is to be and where.
type Options struct {
	Dir Dir
	// Programs is the directory of the programs proxy and sidecar.
	Programs string
	// File is what the farm is to be, Farm what that says.
	File daemon.File
	Farm *farmfile.Farm
	// Control is where the control node is, for a farm that is new.
	Control control.Member
	// StartLimit bounds the time until the farm answers.
	StartLimit time.Duration
	// Progress is told what happens, line by line.
	Progress io.Writer
	Log      *zap.Logger
	// Beat is called as long as the scaler's main loop goes round; Ready when the
	// farm answers.
	Beat  func()
	Ready func(Running)
}

// Running is the farm that answers.
type Running struct {
	Primary  string
	Replicas int
	Listen   string // host:port; empty for none
	Socket   string
}

// run is one run of a farm.
type run struct {
	Options
	local  *provider.Local
	began  time.Time
	saying sync.Mutex
}

// Run starts the farm, calls Ready when it answers through the proxy, keeps it
// running until finish ends and then stops it in order: the web nodes, the primary,
// the replicas, the registry. The end of now makes that short.
func Run(finish, now context.Context, o Options) error {
	r := &run{Options: o, began: time.Now()}
	if err := os.MkdirAll(o.Dir.Path, 0o755); err != nil {
		return fmt.Errorf("make the farm's directory: %w", err)
	}
	lock, err := o.Dir.Hold()
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if err := r.prepare(); err != nil {
		return err
	}
	return r.hold(finish, now)
}

// prepare checks what can be known to fail and makes the control node's directory.
func (r *run) prepare() error {
	for _, program := range []string{"proxy", "sidecar"} {
		if _, err := os.Stat(filepath.Join(r.Programs, program)); err != nil {
			return fmt.Errorf("the program %s is missing (make build): %w", program, err)
		}
	}
	p := r.Farm.Provider.Parameters.Local
	var err error
	if r.local, err = provider.NewLocal(provider.Options{
		Dir: r.Dir.Path, Programs: r.Programs, First: p.FirstAddress.Addr, Launcher: p.Launcher, Log: r.Log,
		Tell: func(name, text string) { r.say("%s: %s", name, text) },
	}); err != nil {
		return err
	}
	if err := r.checkPlaces(); err != nil {
		return err
	}
	d := r.Dir.Control()
	if _, err := os.Stat(d.ConfigFile()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	c := control.Default()
	c.Farm, c.Members = r.Farm.Name, []control.Member{r.Control}
	_, err = control.Init(d, c, time.Now())
	return err
}

// hold is the farm's life from the first process to the last.
func (r *run) hold(finish, now context.Context) error {
	ctx, stop := context.WithCancelCause(finish)
	defer stop(nil)
	var watching sync.WaitGroup
	defer watching.Wait()
	var watched error
	err := daemon.Run(ctx, daemon.Options{
		Dir: r.Dir.Control(), Log: r.Log, Lease: daemon.DefaultLease, Beat: r.Beat,
		Provide: func(*farmfile.Farm) (daemon.Provided, error) {
			return daemon.Provided{
				Provider: r.local, Keep: r.local.Keep, Passwords: r.local, Volumes: r.local.Volumes(), Images: r.local,
			}, nil
		},
		Ready: func(control.Running) {
			watching.Go(func() {
				if watched = r.Dir.Control().With(func(c *registry.Client, _ control.Config) error { return r.watch(ctx, c) }); watched != nil {
					stop(watched)
				}
			})
		},
		Last: func() error {
			stop(nil) // also where nobody asked for the end
			watching.Wait()
			return r.stop(now)
		},
	})
	if finish.Err() != nil {
		watched = nil // it was told to stop, which then is its cause
	}
	return errors.Join(watched, err)
}

// watch applies the farm file, tells what happens, and says when the farm answers.
func (r *run) watch(ctx context.Context, client *registry.Client) error {
	if err := r.apply(ctx, client); err != nil {
		return asked(ctx, err)
	}
	ctx, stop := context.WithCancel(ctx)
	group := service.NewGroup(ctx)
	defer stop()
	group.Go("journal", func(ctx context.Context) error {
		return client.FollowEntries(ctx, 0, func(e registry.Entry) error {
			if text := heard(e); text != "" {
				r.say("%s", text)
			}
			return nil
		}, nil)
	})
	group.Go("start", func(ctx context.Context) error {
		starting, cancel := context.WithTimeoutCause(ctx, r.StartLimit, fmt.Errorf("it took longer than %v", r.StartLimit))
		defer cancel()
		running, err := r.awaitFarm(starting, client)
		if err == nil {
			r.Ready(running)
		}
		return err
	})
	return asked(ctx, group.Wait())
}

func asked(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// apply makes the farm file that of the farm, unless it is already.
func (r *run) apply(ctx context.Context, client *registry.Client) error {
	was, raw, err := daemon.Applied(ctx, client)
	if err != nil || was != nil && was.Text == r.File.Text && was.Path == r.File.Path && was.Directory == r.File.Directory {
		return err
	}
	return daemon.Apply(ctx, client, r.File, raw)
}

// stop stops the instances in order; the end of now makes that short.
func (r *run) stop(now context.Context) error {
	instances, err := r.local.List(context.Background())
	if err != nil {
		return err
	}
	primary := ""
	if err := r.Dir.Control().With(func(c *registry.Client, _ control.Config) error {
		v, err := daemon.Viewed(now, c)
		if v != nil && v.Assignment != nil {
			leader, _ := v.Assignment.Leader()
			primary = leader.Name
		}
		return err
	}); err != nil && now.Err() == nil {
		r.Log.Warn("not known who the primary is", zap.Error(err)) // then it is stopped with the others
	}
	r.say("stopping: the web nodes, the primary, the replicas (Ctrl-C again: at once)")
	return StopInstances(now, r.local, instances, primary)
}

// StopInstances stops a local farm's instances in order: the web nodes, so that
// nobody waits; the primary, while replicas acknowledge its last commits; the
// replicas. The end of now makes that short. Nobody must keep them running.
func StopInstances(now context.Context, local *provider.Local, instances []provider.Instance, primary string) error {
	order := func(i provider.Instance) int {
		switch {
		case i.Kind != farmfile.MySQLKind:
			return 0
		case i.Name == primary:
			return 1
		}
		return 2
	}
	var all error
	for step := range 3 {
		var stopping sync.WaitGroup
		errs := make([]error, len(instances))
		for n, i := range instances {
			if order(i) == step {
				stopping.Go(func() { errs[n] = stopInstance(now, local, i.Name) })
			}
		}
		stopping.Wait()
		all = errors.Join(all, errors.Join(errs...))
	}
	return all
}

func stopInstance(now context.Context, local *provider.Local, name string) error {
	if now.Err() == nil {
		if err := local.Halt(now, name, local.StopLimit); now.Err() == nil {
			return err
		}
	}
	if err := local.Halt(context.Background(), name, 0); err != nil {
		return err
	}
	return fmt.Errorf("%s had to be killed", name)
}

// say prints a line of progress.
func (r *run) say(format string, args ...any) {
	r.saying.Lock()
	defer r.saying.Unlock()
	// Nobody may be reading any more; the farm goes on.
	_, _ = fmt.Fprintf(r.Progress, "[%6.1fs] %s\n", time.Since(r.began).Seconds(), terminal.Plain(fmt.Sprintf(format, args...)))
}

// listenAddress is a place of the farm file as an address; false if there is none.
func listenAddress(text string) (netip.AddrPort, bool, error) {
	if text == "" {
		return netip.AddrPort{}, false, nil
	}
	address, err := netip.ParseAddrPort(text)
	return address, err == nil, err
}
