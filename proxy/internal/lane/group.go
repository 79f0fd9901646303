package lane

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"farmhand/proxy/internal/backend"
	"farmhand/proxy/internal/rawio"
	"farmhand/proxy/internal/wire"
)

// How many lanes sessions of equal state have to one server at most: one for each of
// its processors, and more where what is asked has the server wait for its disk, which
// leaves them idle.
const (
	mostLanes = 16
	perPage   = 4 // so many more for each, where every statement has a page read
)

// Size is how many lanes there are to be to a server with so many processors, where a
// statement has it read so many pages from its disk. It is the rule for the size of a pool
// of threads, processors × (1 + time that waits ÷ time that computes), with a page at four
// times what a statement computes: a fast disk's. Where it is slower each web node's proxy
// has lanes of its own, and what waits for too long goes past them.
func Size(processors int, pages float64) int {
	return int(min(mostLanes, float64(max(1, processors))*(1+perPage*pages)))
}

// Times of lanes.
const (
	// patience is how long a statement may have to wait in a lane for those before
	// it, as far as that can be told; else it runs by itself. Where the server's processors
	// are what is waited for that is no faster, and takes them from the lanes: with a
	// short patience a machine that is only just busy does nearly all by itself.
	patience = 100 * time.Millisecond
	// silence is how long a lane waits for a server's next answer. Then the
	// statement that keeps it is not quick, and nobody waits for it any longer. Where
	// batches usually take longer it waits longer, mostSilence at the most.
	silence     = 100 * time.Millisecond
	mostSilence = 200 * time.Millisecond
	// look is how often the lanes are looked at for that by who uses them, and idleLook
	// in any case: a timer would wake the scheduler's threads.
	look     = 10 * time.Millisecond
	idleLook = 50 * time.Millisecond
	// growth is how often a statement runs by itself where there are to be more lanes: its
	// connection becomes one.
	growth = 10 * time.Millisecond
	// killLimit bounds the killing of a statement that a lane has given up.
	killLimit = 5 * time.Second
	// sweepInterval is how often the lanes that are lost, or not used, are forgotten.
	sweepInterval = 10 * time.Second
)

// Lanes are all there are. Its methods may be called by any goroutine.
type Lanes struct {
	pool   *backend.Pool
	report func(server string, err error)
	start  time.Time
	work   sync.WaitGroup // goroutines of lanes
	idle   atomic.Bool    // nobody looks at the lanes
	closed atomic.Bool
	looked atomic.Int64 // nanoseconds of the clock
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

	size  atomic.Int32 // lanes that there are to be
	grown atomic.Int64 // nanoseconds of the clock when a statement ran by itself to have one more

	list atomic.Pointer[[]*lane] // changed under lanes.mu
}

// Register makes visible how many lanes there are.
func (ls *Lanes) Register(to prometheus.Registerer) {
	to.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "farmhand_proxy_lanes",
		Help: "Connections that sessions of equal state share for short reads (pool.pipelining): as many to each server as it has processors, more where it reads its disk.",
	}, func() float64 { return float64(ls.Count()) }))
}

// Count is how many lanes there are.
func (ls *Lanes) Count() int { return len(ls.all()) }

// Find returns the lanes for a state; nil if there are none.
func (ls *Lanes) Find(state backend.State) *Group {
	ls.mu.RLock()
	defer ls.mu.RUnlock()
	return ls.groups[state]
}

// Wants tells whether there may be one more lane.
func (g *Group) Wants() bool { return len(*g.list.Load()) < int(g.size.Load()) }

// Resize says how many lanes there are to be, see Size.
func (g *Group) Resize(size int) {
	if n := int32(size); g.size.Load() != n {
		g.size.Store(n)
	}
}

// Gone tells whether the last lane has ended.
func (g *Group) Gone() bool { return len(*g.list.Load()) == 0 }

// Add makes a lane of a connection that the caller holds, on which w is
// established. The connection is the lane's from now on. size is how many there are
// to be, see Size.
func (ls *Lanes) Add(w *backend.Want, c *backend.Conn, size int) *Group {
	state := w.State()
	ls.mu.Lock()
	defer ls.mu.Unlock()
	g := ls.groups[state]
	if g == nil {
		g = &Group{lanes: ls, state: state, want: *w}
		g.list.Store(&[]*lane{})
		ls.groups[state] = g
	}
	g.Resize(size)
	l := &lane{group: g, conn: c, lease: c.Lease(), lent: true}
	l.soon = l.flush
	// One that cannot be watched is read by a goroutine, which finds it closed if that is why.
	l.watched, _ = rawio.Watch(c.NetConn(), l.readable)
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

// Do sends a command and waits for c to be done.
func (g *Group) Do(c *Call, command Command) {
	l, due := g.enter(c, command, nil)
	if l == nil {
		return
	}
	if due {
		runtime.Gosched() // others have commands at this moment: they are sent together
		rawio.Soon(l.soon)
	}
	<-c.wake
}

// Start sends a command, and calls then when c is done, which must not wait for
// anything. It does not wait itself. False: no lane takes the command, and then is not
// called.
func (g *Group) Start(c *Call, command Command, then func()) bool {
	l, due := g.enter(c, command, then)
	if due {
		rawio.Soon(l.soon)
	}
	return l != nil
}

// enter puts a call into a lane, nil where none takes it. due: the lane is to be
// flushed.
func (g *Group) enter(c *Call, command Command, then func()) (l *lane, due bool) {
	c.command, c.unfit, c.then = command, false, then
	if l = g.choose(); l == nil {
		return nil, false
	}
	ok, due := l.submit(c)
	if !ok {
		return nil, false
	}
	return l, due
}

// choose returns the lane in which the least is to be waited for, or one that fills;
// nil if that is too much, or the statement's connection is to become one more lane.
func (g *Group) choose() *lane {
	var best *lane
	least, fills := int32(most), false
	list := *g.list.Load()
	size := int(g.size.Load())
	for _, l := range list[:min(size, len(list))] { // the others are forgotten: nobody uses them
		n := l.load.Load()
		if l.fills(n) {
			best, least, fills = l, n, true
			break
		}
		if n < least {
			best, least = l, n
		}
	}
	if best == nil || best.way.Load()+int64(least)*best.pace.Load() > int64(patience) {
		return nil
	}
	if !fills && least > 1 && len(list) < size && g.grows() {
		return nil
	}
	return best
}

// grows tells whether it is time for one more lane.
func (g *Group) grows() bool {
	now, last := g.lanes.now(), g.grown.Load()
	return now-last >= int64(growth) && g.grown.CompareAndSwap(last, now)
}

// watch has somebody look at the lanes.
func (ls *Lanes) watch() {
	if ls.idle.Load() && ls.idle.CompareAndSwap(true, false) {
		ls.wake <- struct{}{}
	}
}

// Run ends what is late, until ctx ends; then it ends the lanes.
func (ls *Lanes) Run(ctx context.Context) error {
	defer ls.work.Wait()
	defer ls.close()
	tick, sweep := time.NewTimer(idleLook), time.NewTicker(sweepInterval)
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
			tick.Reset(idleLook)
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

// lookNow looks at the lanes if it is time to.
func (ls *Lanes) lookNow() {
	now, last := ls.now(), ls.looked.Load()
	if now-last >= int64(look) && ls.looked.CompareAndSwap(last, now) {
		ls.look(silence)
	}
}

// look ends the lanes that have heard nothing of their server for limit. It
// tells whether there are any that wait.
func (ls *Lanes) look(limit time.Duration) bool {
	now, waits := ls.now(), false
	var late []*lane
	ls.mu.RLock()
	for _, g := range ls.groups {
		for _, l := range *g.list.Load() {
			waits = waits || l.sent.Load() != 0
			if l.isLate(now, limit) {
				late = append(late, l)
			}
		}
	}
	ls.mu.RUnlock()
	for _, l := range late {
		l.giveUp(now, limit)
	}
	return waits
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
// they were idle, and gives back those of lanes that nobody has used since it was
// called last: what is prepared there is closed.
func (ls *Lanes) sweep() {
	for _, l := range ls.all() {
		l.mu.Lock()
		used := l.used
		l.used = false
		switch {
		case l.dead || !l.lent || len(l.pending) > 0:
			l.mu.Unlock()
		case !l.conn.LentBy(l.lease):
			l.leave(errTaken)
		case used || !l.conn.Retake(l.lease):
			l.mu.Unlock()
		default:
			l.lent = false
			l.leave(errIdle)
		}
	}
}

// close ends all lanes. Who waits in one gets no answer.
func (ls *Lanes) close() {
	ls.closed.Store(true)
	ls.look(0)
	for _, l := range ls.all() {
		l.mu.Lock()
		if !l.dead && l.lent && l.conn.Retake(l.lease) {
			l.lent = false
			l.leave(errClosed)
			continue
		}
		l.mu.Unlock()
	}
}

// ended takes note of a lane that has failed. Of a late one the server is told to
// give up the statement.
func (ls *Lanes) ended(l *lane, err error, late bool) {
	switch {
	case late:
	case errors.Is(err, errLong), errors.Is(err, errChanged), errors.Is(err, errClosed), errors.Is(err, errIdle):
		return // nothing is wrong with the server
	default:
		ls.report(l.conn.Server.Name, err)
		return
	}
	thread, w := l.conn.ThreadID, l.group.want
	w.Urgent, w.Settings = true, nil
	ls.work.Go(func() {
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
