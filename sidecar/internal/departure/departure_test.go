package departure

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// far is the registry and the hooks: all that a watch meets.
type far struct {
	t      *testing.T
	values chan registry.Value

	mu     sync.Mutex
	put    []farm.Event
	ends   map[string]chan int // how many failed, by event
	refuse error               // of putting, or of reporting
	report string
}

func (f *far) PutOnce(e farm.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return f.refuse
	}
	f.put = append(f.put, e)
	return e.Check()
}

func (f *far) Await(ctx context.Context, id string) (int, error) {
	f.mu.Lock()
	end := f.ends[id]
	f.mu.Unlock()
	select {
	case n := <-end:
		return n, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

func (f *far) reported(_ context.Context, name string, value []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return f.refuse
	}
	r, err := cluster.DecodeHooksReport(value)
	if err != nil || name != cluster.HooksReportName || r.Name != "web1" {
		f.t.Errorf("reported %s: %s, %v", name, value, err)
	}
	var all []string
	for _, e := range r.Ended {
		all = append(all, fmt.Sprintf("%s:%d", e.Event, e.Failed))
	}
	f.report = strings.Join(all, " ")
	return nil
}

func (f *far) refuses(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuse = err
}

// tell has these be the departures.
func (f *far) tell(events ...string) {
	f.t.Helper()
	d := &cluster.Departures{}
	for _, e := range events {
		d.Hosts = append(d.Hosts, cluster.Departure{Event: e, Host: farm.EventHost{Name: "db3", Role: "replica", Address: "10.0.0.3:3306"}, Since: time.Now(), Why: "too many"})
	}
	data, err := d.Encode()
	if err != nil {
		f.t.Fatal(err)
	}
	f.values <- registry.Value{Data: data}
	synctest.Wait()
}

func (f *far) expect(report string, put int) {
	f.t.Helper()
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.report != report || len(f.put) != put {
		f.t.Errorf("reported %q, want %q; %d events, want %d", f.report, report, len(f.put), put)
	}
}

func watched(t *testing.T, hooks bool, f func(f *far)) {
	synctest.Test(t, func(t *testing.T) {
		there := &far{t: t, values: make(chan registry.Value), ends: map[string]chan int{"e1": make(chan int, 1), "e2": make(chan int, 1)}}
		o := Options{
			Node: "web1", Cluster: "db", Report: there.reported, Log: zap.NewNop(),
			Watch: func(ctx context.Context, r registry.Record, tell func(registry.Value) error) error {
				for {
					select {
					case v := <-there.values:
						if err := tell(v); err != nil {
							return err
						}
					case <-ctx.Done():
						return context.Cause(ctx)
					}
				}
			},
		}
		if hooks {
			o.Hooks = there
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- Run(ctx, o) }()
		f(there)
		stop()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestHooksAreToldAndTheFarmThatTheyHaveEnded(t *testing.T) {
	watched(t, true, func(f *far) {
		f.tell()
		f.expect("", 0)
		f.tell("e1", "") // one that is drained only is no event
		f.tell("e1", "e2")
		f.expect("", 2)
		if e := f.put[0]; e.ID != "e1" || e.Kind != farm.BeforeHostTerminate || e.Host.Name != "db3" || e.Fields["reason"] != "too many" {
			t.Errorf("the hooks are told of %+v", e)
		}
		f.ends["e2"] <- 1
		f.expect("e2:1", 2)
		// What cannot be read, or be had, changes nothing.
		f.values <- registry.Value{Data: []byte("{")}
		f.values <- registry.Value{Lost: errors.New("no answer")}
		f.refuses(errors.New("no answer"))
		f.ends["e1"] <- 0
		f.expect("e2:1", 2)
		f.refuses(nil)
		time.Sleep(retryEvery)
		f.expect("e1:0 e2:1", 2)
		f.tell("e1")
		f.expect("e1:0", 2)
		// Gone while its hooks ran.
		f.ends["e3"] = make(chan int, 1)
		f.tell("e3")
		f.tell()
		f.ends["e3"] <- 0
		f.expect("", 3)
	})
}

func TestHooksThatCannotBeRunAreTriedAgain(t *testing.T) {
	watched(t, true, func(f *far) {
		f.refuses(errors.New("the disk is full"))
		f.tell("e1")
		f.expect("", 0)
		f.refuses(nil)
		time.Sleep(retryEvery)
		f.ends["e1"] <- 0
		time.Sleep(retryEvery)
		f.expect("e1:0", 1)
	})
}

func TestANodeWithoutHooksHasNoneToWaitFor(t *testing.T) {
	watched(t, false, func(f *far) {
		f.tell("e1")
		f.expect("e1:0", 0)
	})
}
