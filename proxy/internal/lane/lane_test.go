package lane

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"farmhand/internal/farmtest"
	"farmhand/proxy/internal/auth"
	"farmhand/proxy/internal/backend"
	"farmhand/proxy/internal/rawio"
	"farmhand/proxy/internal/wire"
)

// TestBatchesOverlapOnALongWay: to a server that is far several batches are on their way
// on one lane, and everybody gets the answer to what it has asked.
func TestBatchesOverlapOnALongWay(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{})
	link := farmtest.NewLink(t, f.Primary().Addr())
	const way = 4 * time.Millisecond
	link.Slow(way/2, 0)
	pool := backend.NewPool(backend.Options{IdlePerUser: 1, IdleTimeout: time.Hour, ConnectTimeout: time.Minute, ResetTimeout: time.Minute}, prometheus.NewRegistry())
	lanes := New(pool, func(server string, err error) { t.Errorf("%s: %v", server, err) })
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{pool.Run, lanes.Run} {
		running.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(running.Wait)
	t.Cleanup(cancel)
	server := f.Primary().Describe()
	server.Address = link.Addr()
	w := backend.Want{Server: server, Credential: auth.PasswordCredential(farmtest.App.User, farmtest.App.Password), Caps: wire.ClientMultiResults | wire.ClientDeprecateEOF, Schema: "app"}
	// A machine that is busy may be too late for a lane: then it is tried again.
	farmtest.Eventually(t, "batches overlap", func() error {
		c, err := pool.Get(t.Context(), &w)
		if err != nil {
			return err
		}
		group := lanes.Add(&w, c, 1)
		l := (*group.list.Load())[0]
		ask := func(call *Call, n int) {
			text := fmt.Sprintf("<%d>", n)
			group.Do(call, Command{Payload: append(wire.AppendQuery(nil, c.Caps), "SELECT '"+text+"' FROM DUAL"...)})
			if answer, _ := call.Answer(); answer != nil && !bytes.Contains(answer, []byte(text)) {
				t.Errorf("%s is answered %q", text, answer)
			}
			call.Release()
		}
		ask(NewCall(), 0)
		var most atomic.Int32
		var asking sync.WaitGroup
		for i := range 24 {
			asking.Go(func() {
				call := NewCall()
				for n := range 50 {
					ask(call, i*1000+n)
					l.mu.Lock()
					now := int32(len(l.flights))
					l.mu.Unlock()
					for m := most.Load(); m < now && !most.CompareAndSwap(m, now); m = most.Load() {
					}
				}
			})
		}
		asking.Wait()
		if most.Load() > mostFlights {
			t.Errorf("%d batches were on their way at once", most.Load())
		}
		if got := time.Duration(l.way.Load()); got < way || most.Load() < 2 {
			return fmt.Errorf("the way is %v of %v, and %d batches were on it", got, way, most.Load())
		}
		return nil
	})
}

// TestChoose: the lane with the least load, or the first to a server that is far until those
// in it keep others waiting; none where one would have to wait for too long.
func TestChoose(t *testing.T) {
	type load struct {
		n         int32
		pace, way time.Duration
	}
	for _, c := range []struct {
		loads []load
		want  int // of the loads; -1: none
	}{
		{nil, -1},
		{[]load{{3, 0, 0}, {2, 0, 0}, {4, 0, 0}}, 1},
		{[]load{{most, 0, 0}, {most, 0, 0}}, -1},
		{[]load{{99, time.Millisecond, 0}}, 0},
		{[]load{{101, time.Millisecond, 0}}, -1},
		{[]load{{59, time.Millisecond, 40 * time.Millisecond}}, 0},
		{[]load{{61, time.Millisecond, 40 * time.Millisecond}}, -1},
		{[]load{{3, 0, time.Millisecond}, {2, 0, time.Millisecond}, {0, 0, time.Millisecond}}, 0},
		{[]load{{0, 0, time.Millisecond}, {7, 60 * time.Microsecond, time.Millisecond}}, 1},
		{[]load{{8, 60 * time.Microsecond, time.Millisecond}, {0, 60 * time.Microsecond, time.Millisecond}}, 1},
		{[]load{{8, 0, time.Millisecond}, {9, 0, time.Millisecond}}, 0},
		{[]load{{3, 0, 499 * time.Microsecond}, {2, 0, 499 * time.Microsecond}}, 1},
		{[]load{{1, 999 * time.Microsecond, time.Millisecond}, {0, 999 * time.Microsecond, time.Millisecond}}, 0},
		{[]load{{1, time.Millisecond, time.Millisecond}, {0, time.Millisecond, time.Millisecond}}, 1},
		{[]load{{1, 0, 101 * time.Millisecond}}, -1},
	} {
		var list []*lane
		for _, x := range c.loads {
			l := &lane{watched: &rawio.Watched{}}
			l.load.Store(x.n)
			l.pace.Store(int64(x.pace))
			l.way.Store(int64(x.way))
			list = append(list, l)
		}
		g := &Group{}
		g.Resize(len(list))
		g.list.Store(&list)
		got := g.choose()
		if c.want < 0 && got != nil || c.want >= 0 && got != list[c.want] {
			t.Errorf("of %v it is not number %d", c.loads, c.want)
		}
	}
}

// TestChooseKeepsToTheSize: what there is beyond the size is not used, and a statement
// runs by itself now and then where lanes are missing and all there are have work.
func TestChooseKeepsToTheSize(t *testing.T) {
	group := func(size int, loads ...int32) (*Group, []*lane) {
		var list []*lane
		for _, n := range loads {
			l := &lane{}
			l.load.Store(n)
			list = append(list, l)
		}
		g := &Group{lanes: &Lanes{start: time.Now().Add(-time.Hour)}}
		g.Resize(size)
		g.list.Store(&list)
		return g, list
	}
	g, list := group(2, 5, 4, 0)
	if g.choose() != list[1] || g.Wants() {
		t.Error("a lane beyond the size is used, or there is to be another")
	}
	g, list = group(3, 2, 3)
	if !g.Wants() || g.choose() != nil || g.choose() != list[0] {
		t.Error("not one statement runs by itself, or the next one does as well")
	}
	if g, list = group(3, 3, 1); g.choose() != list[1] {
		t.Error("there is to be one more lane, though one has no work but for one statement")
	}
	g, list = group(3, 3)
	list[0].watched = &rawio.Watched{}
	if list[0].way.Store(int64(time.Millisecond)); g.choose() != list[0] {
		t.Error("there is to be one more lane to a server that is far, though the one there is takes more")
	}
	g, list = group(2, 3, 2)
	if list[0].way.Store(int64(time.Millisecond)); g.choose() != list[1] {
		t.Error("an encrypted lane is filled")
	}
}

// TestSize: a lane for each processor, and more where statements wait for the disk.
func TestSize(t *testing.T) {
	for _, c := range []struct {
		processors int
		pages      float64
		want       int
	}{{0, 0, 1}, {2, 0, 2}, {2, 0.1, 2}, {2, 0.25, 4}, {2, 1, 10}, {4, 0.5, 12}, {4, 50, mostLanes}, {64, 0, mostLanes}} {
		if got := Size(c.processors, c.pages); got != c.want {
			t.Errorf("%d processors, %v pages: %d instead of %d", c.processors, c.pages, got, c.want)
		}
	}
}
