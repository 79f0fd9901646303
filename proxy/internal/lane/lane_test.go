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
	c, err := pool.Get(t.Context(), &w)
	if err != nil {
		t.Fatal(err)
	}
	group := lanes.Add(&w, c, 1)
	l := (*group.list.Load())[0]

	var answered atomic.Int32
	ask := func(call *Call, n int) {
		text := fmt.Sprintf("<%d>", n)
		group.Do(call, Command{Payload: append(wire.AppendQuery(nil, c.Caps), "SELECT '"+text+"' FROM DUAL"...)})
		switch answer, _ := call.Answer(); {
		case answer == nil: // the lane was full
		case !bytes.Contains(answer, []byte(text)):
			t.Errorf("%s is answered %q", text, answer)
		default:
			answered.Add(1)
		}
		call.Release()
	}
	ask(NewCall(), 0)
	if got := time.Duration(l.way.Load()); got < way || l.depth() < 2 {
		t.Errorf("the way is %v of %v, and %d batches may be on it", got, way, l.depth())
	}
	var most sync.Map
	var asking sync.WaitGroup
	for i := range 24 {
		asking.Go(func() {
			call := NewCall()
			for n := range 50 {
				ask(call, i*1000+n)
				l.mu.Lock()
				most.Store(len(l.flights), true)
				l.mu.Unlock()
			}
		})
	}
	asking.Wait()
	overlap := 0
	most.Range(func(n, _ any) bool {
		overlap = max(overlap, n.(int))
		return true
	})
	if answered.Load() < 24*50/2 {
		t.Errorf("%d statements were answered", answered.Load())
	}
	if overlap < 2 || overlap > mostFlights {
		t.Errorf("%d batches were on their way at once", overlap)
	}
}
