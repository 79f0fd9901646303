package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// idleSessions is what many sessions cost that mostly do nothing.
type idleSessions struct {
	sessions int
	// loggedIn and used are the bytes resident per session, when it has logged
	// in and when it has asked something and waits.
	loggedIn, used float64
	// cap is the limit of connections to each server; 0 if the proxy has no
	// such limit, and refused says why.
	cap     int
	refused string
	// connections is the most that the proxy had to all servers, its own
	// questions to them included.
	connections int
	asked       int     // statements that were answered
	p99         float64 // ms, from their arrival
}

const (
	// capPerServer: 3 × 13, and a connection of the monitor to each, are at
	// most 50.
	capPerServer = 13
	// idleRate is how many statements a second all the sessions have in turn,
	// each again after some seconds, as sessions do that wait most of the time.
	idleRate = 1000
)

// idleTitle is the name by which -only selects it.
const idleTitle = "idle sessions"

// measureIdle opens sessions to a proxy of its own, has each ask at least once,
// and looks at its memory and connections.
func (b *bench) measureIdle(ctx context.Context, binary string, sessions int) (*idleSessions, error) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return nil, err
	}
	if need := uint64(sessions + 1000); files.Max < need {
		return nil, fmt.Errorf("the limit of open files (ulimit -Hn) is %d, %d sessions take %d", files.Max, sessions, need)
	}
	r := &idleSessions{sessions: sessions, cap: capPerServer}
	limits := table{"connections": sessions + 1000}
	in, err := b.startProxy(ctx, "idle", binary, false, table{"limits": limits, "pool": table{"max_per_server": r.cap}})
	if errors.Is(err, errConfiguration) {
		r.cap, r.refused = 0, err.Error()
		in, err = b.startProxy(ctx, "idle-uncapped", binary, false, table{"limits": limits})
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = b.stop(in.child) }() // close waits for it once more
	pid := in.child.PID()
	to := in.to[byTCP]
	nothing := func() error { return nil }
	warm := loop{to: to, clients: openAtOnce, statements: pointSelects("")}
	if _, err := warm.run(ctx, time.Second, hooks{nothing, nothing}); err != nil {
		return nil, fmt.Errorf("warm up: %w", err)
	}
	empty, err := settled(ctx, pid)
	if err != nil {
		return nil, err
	}
	var watching sync.WaitGroup
	var watchErr error
	watch, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	watching.Go(func() { r.connections, watchErr = b.mostConnections(watch, pid) })
	per := func(into *float64) func() error {
		return func() error {
			now, err := settled(ctx, pid)
			*into = float64(now-empty) / float64(sessions)
			return err
		}
	}
	all := loop{to: to, clients: sessions, statements: pointSelects(""), rate: idleRate}
	if r.cap == 0 {
		all.atOnce = openAtOnce // each that is under way has a server connection
	}
	length := time.Duration(float64(sessions)/idleRate*1.5*float64(time.Second)) + time.Second
	got, err := all.run(ctx, length, hooks{per(&r.loggedIn), per(&r.used)})
	stopWatching()
	watching.Wait()
	if err = errors.Join(err, watchErr); err != nil {
		return nil, err
	}
	r.asked, r.p99 = int(got.units), got.times.quantile(0.99)
	return r, nil
}

// settled is the memory that a process has resident when that no longer falls:
// after three seconds without less, at most 20.
func settled(ctx context.Context, pid int) (int64, error) {
	least, err := memory(pid, "VmRSS")
	if err != nil {
		return 0, err
	}
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for began, fell := time.Now(), time.Now(); time.Since(fell) < 3*time.Second && time.Since(began) < 20*time.Second; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
		now, err := memory(pid, "VmRSS")
		if err != nil {
			return 0, err
		}
		if now < least-least/100 {
			least, fell = now, time.Now()
		}
	}
	return memory(pid, "VmRSS")
}

// mostConnections is the most TCP connections to the servers that a process had
// until ctx ended.
func (b *bench) mostConnections(ctx context.Context, pid int) (most int, err error) {
	servers := make([]string, len(b.servers))
	for i, s := range b.servers {
		servers[i] = s.address
	}
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for {
		n, err := connectionsTo(pid, servers)
		if err != nil {
			return most, err
		}
		most = max(most, n)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return most, nil
		}
	}
}
