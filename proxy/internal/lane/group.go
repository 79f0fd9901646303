package lane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"farmhand/proxy/internal/backend"
	"farmhand/proxy/internal/wire"
)

// mostLanes is how many lanes sessions of equal state have to one server at most.
const mostLanes = 16

// Times of lanes.
const (
	// patience is how long a statement may have to wait in a lane for those before
	// it, as far as that can be told; else it runs by itself.
	patience = 40 * time.Millisecond
	// silence is how long a lane waits for a server's next answer. Then the
	// statement that keeps it is not quick, and nobody waits for it any longer.
	silence = 50 * time.Millisecond
	// look is how often the lanes are looked at for that.
	look = 10 * time.Millisecond
	// killLimit bounds the killing of a statement that a lane has given up.
	killLimit = 5 * time.Second
	// sweepInterval is how often the lanes that are lost are forgotten.
	sweepInterval = 10 * time.Second
)

// Lanes are all there are. Its methods may be called by any goroutine.
type Lanes struct {
	pool   *backend.Pool
	report func(server string, err error)
	start  time.Time
	kills  sync.WaitGroup
	idle   atomic.Bool // nobody looks at the lanes
	closed atomic.Bool
	wake   chan struct{}

	mu     sync.RWMutex
	groups map[backend.State]*Group
}

// New returns Lanes, none yet. report is told of servers that fail.
func New(pool *backend.Pool, report func(server string, err error)) *Lanes {
	ls := &Lanes{pool: pool, report: report, start: time.Now(), wake: make(chan struct{}, 1), groups: map[backend.State]*Group{}}
	ls.idle.Store(true)
	return ls
}

func (ls *Lanes) now() int64 { return int64(time.Since(ls.start)) }

// Group are the lanes to one server of sessions whose state is equal.
type Group struct {
	lanes *Lanes
	state backend.State
	want  backend.Want // to reach the server beside the lanes

	size int // lanes at most

	list atomic.Pointer[[]*lane] // changed under lanes.mu
}

// Find returns the lanes for a state; nil if there are none.
func (ls *Lanes) Find(state backend.State) *Group {
	ls.mu.RLock()
	defer ls.mu.RUnlock()
	return ls.groups[state]
}

// Wants tells whether there may be one more lane.
func (g *Group) Wants() bool { return len(*g.list.Load()) < g.size }

// Gone tells whether the last lane has ended.
func (g *Group) Gone() bool { return len(*g.list.Load()) == 0 }

// Add makes a lane of a connection that the caller holds, on which w is
// established. The connection is the lane's from now on. processors is how many
// the server has: there are so many lanes that a statement waits for another one
// only where all of them are at work.
func (ls *Lanes) Add(w *backend.Want, c *backend.Conn, processors int) *Group {
	state := w.State()
	ls.mu.Lock()
	defer ls.mu.Unlock()
	g := ls.groups[state]
	if g == nil {
		g = &Group{lanes: ls, state: state, want: *w, size: max(1, min(processors, mostLanes))}
		g.list.Store(&[]*lane{})
		ls.groups[state] = g
	}
	l := &lane{group: g, conn: c, lease: c.Lease(), lent: true}
	list := append(slices.Clone(*g.list.Load()), l)
	g.list.Store(&list)
	c.Idle()
	ls.pool.Lend(c, l.lease, backend.Parting{Since: time.Now()})
	return g
}

// remove takes a lane out.
func (g *Group) remove(l *lane) {
	g.lanes.mu.Lock()
	defer g.lanes.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(*g.list.Load()), func(o *lane) bool { return o == l })
	g.list.Store(&list)
	if len(list) == 0 && g.lanes.groups[g.state] == g {
		delete(g.lanes.groups, g.state)
	}
}

// Do sends a command, of MaxCommand bytes at most, which must stay as it is until
// Do returns. ok: c has the answer. Else there is none, and the command may run
// again; unfit tells that it was not for it to go by a lane.
func (g *Group) Do(c *Call, command []byte) (ok, unfit bool) {
	l := g.choose()
	if l == nil {
		return false, false
	}
	c.command, c.done, c.unfit = command, false, false
	l.do(c)
	c.command = nil
	return c.answer != nil, c.unfit
}

// choose returns the lane in which the least is to be waited for; nil if that is
// too much.
func (g *Group) choose() *lane {
	var best *lane
	least := int32(most)
	for _, l := range *g.list.Load() {
		if n := l.load.Load(); n < least {
			best, least = l, n
		}
	}
	if best == nil || int64(least)*best.pace.Load() > int64(patience) {
		return nil
	}
	return best
}

// watch has somebody look at the lanes.
func (ls *Lanes) watch() {
	if ls.idle.Load() && ls.idle.CompareAndSwap(true, false) {
		ls.wake <- struct{}{}
	}
}

// Run ends what is late, until ctx ends; then it ends the lanes.
func (ls *Lanes) Run(ctx context.Context) error {
	defer ls.kills.Wait()
	defer ls.close()
	tick, sweep := time.NewTimer(look), time.NewTicker(sweepInterval)
	defer tick.Stop()
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-sweep.C:
			ls.sweep()
			continue
		case <-ls.wake:
		}
		for working := true; working; {
			tick.Reset(look)
			select {
			case <-ctx.Done():
				return nil
			case <-sweep.C:
				ls.sweep()
			case <-tick.C:
			}
			if ls.look(silence) {
				continue
			}
			ls.idle.Store(true)
			working = ls.look(silence) // somebody has begun before that
			if working && !ls.idle.CompareAndSwap(true, false) {
				<-ls.wake
			}
		}
	}
}

// look wakes the leaders that have heard nothing of their server for limit. It
// tells whether there are any that wait.
func (ls *Lanes) look(limit time.Duration) bool {
	ls.mu.RLock()
	defer ls.mu.RUnlock()
	now, any := ls.now(), false
	for _, g := range ls.groups {
		for _, l := range *g.list.Load() {
			sent := l.sent.Load()
			any = any || sent != 0
			if sent != 0 && now-sent >= int64(limit) {
				l.interrupt(now, limit)
			}
		}
	}
	return any
}

// all are the lanes.
func (ls *Lanes) all() []*lane {
	ls.mu.RLock()
	defer ls.mu.RUnlock()
	var all []*lane
	for _, g := range ls.groups {
		all = append(all, *g.list.Load()...)
	}
	return all
}

// sweep forgets the lanes whose connections have been taken, or closed because
// they were idle.
func (ls *Lanes) sweep() {
	for _, l := range ls.all() {
		l.mu.Lock()
		lost := !l.busy && !l.conn.LentBy(l.lease)
		l.dead = l.dead || lost
		l.mu.Unlock()
		if lost {
			l.group.remove(l)
		}
	}
}

// close ends all lanes. Who waits in one gets no answer.
func (ls *Lanes) close() {
	ls.closed.Store(true)
	ls.look(0)
	for _, l := range ls.all() {
		l.mu.Lock()
		mine := !l.busy && !l.dead && l.conn.Retake(l.lease)
		l.dead = l.dead || !l.busy
		l.mu.Unlock()
		if mine {
			ls.pool.Close(l.conn, "shutdown")
		}
	}
}

// interrupt wakes the lane's leader.
func (l *lane) interrupt(now int64, limit time.Duration) {
	l.mu.Lock() // the connection is not lent meanwhile
	defer l.mu.Unlock()
	if sent := l.sent.Load(); sent != 0 && now-sent >= int64(limit) && !l.dead {
		l.interrupted = true
		_ = l.conn.SetReadDeadline(time.Unix(1, 0)) // it fails on a closed one only
	}
}

// ended takes note of a lane that has failed. Of a late one the server is told to
// give up the statement.
func (ls *Lanes) ended(l *lane, err error, late bool) {
	switch {
	case late:
	case errors.Is(err, errLong), errors.Is(err, errChanged), errors.Is(err, errClosed):
		return // nothing is wrong with the server
	default:
		ls.report(l.conn.Server.Name, err)
		return
	}
	thread, w := l.conn.ThreadID, l.group.want
	w.Urgent, w.Settings = true, nil
	ls.kills.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), killLimit)
		defer cancel()
		c, err := ls.pool.Get(ctx, &w)
		if err != nil {
			return // the server cannot be reached: the pool has told
		}
		_ = c.SetDeadline(time.Now().Add(killLimit))
		c.WriteCommand(fmt.Appendf(wire.AppendQuery(nil, c.Caps), "KILL %d", thread))
		if err = c.Flush(); err == nil {
			_, err = c.ReadReply()
		}
		if err != nil && c.Broken() {
			ls.pool.Close(c, "broken")
			return
		}
		_ = c.SetDeadline(time.Time{})
		ls.pool.Put(c, false)
	})
}
