package membership

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/registry"
)

// noted is an observer that remembers.
type noted struct {
	mu      sync.Mutex
	last    Snapshot
	trouble string // empty once a change ended it
}

func (o *noted) Changed(s Snapshot) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last, o.trouble = s, ""
}

func (o *noted) Trouble(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.trouble = err.Error()
}

func (o *noted) hosts() string {
	var all []string
	for _, h := range o.last.Hosts {
		all = append(all, h.Name+"="+h.Role+"/"+string(h.State)+"@"+h.Address)
	}
	return strings.Join(all, " ")
}

// registryWorld is a source and a registry in a test's hands, within a bubble.
type registryWorld struct {
	t       *testing.T
	values  chan registry.Value
	leaving chan registry.Value
	views   chan registry.MembersView
	members []registry.Member
	told    noted
}

func inRegistryWorld(t *testing.T, f func(w *registryWorld)) {
	synctest.Test(t, func(t *testing.T) {
		w := &registryWorld{t: t, values: make(chan registry.Value), leaving: make(chan registry.Value), views: make(chan registry.MembersView)}
		source, err := NewRegistry(RegistryOptions{
			Cluster: "db", Log: zap.NewNop(),
			Watch: func(ctx context.Context, r registry.Record, tell func(registry.Value) error) error {
				switch r.String() {
				case "clusters/db/assignment":
					return passOn(ctx, w.values, tell)
				case "clusters/db/departures":
					return passOn(ctx, w.leaving, tell)
				}
				t.Errorf("%s is watched", r)
				return nil
			},
			Members: func(ctx context.Context, tell func(registry.MembersView) error) error {
				return passOn(ctx, w.views, tell)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- source.Run(ctx, &w.told) }()
		w.leave()
		f(w)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func passOn[T any](ctx context.Context, from <-chan T, tell func(T) error) error {
	for {
		select {
		case value := <-from:
			if err := tell(value); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (w *registryWorld) value(v registry.Value) { w.values <- v; synctest.Wait() }

func (w *registryWorld) assign(serial uint64, epoch farm.Epoch, primary string, servers ...cluster.Server) {
	w.t.Helper()
	a := &cluster.Assignment{Epoch: epoch, Serial: serial, Primary: primary, NextID: 99, Why: "a test"}
	for i, s := range servers {
		s.ID, s.Address = uint32(i+1), "10.0.0."+s.Name[2:]+":3306"
		a.Servers = append(a.Servers, s)
	}
	data, err := a.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	w.value(registry.Value{Data: data, Revision: 1})
}

// leave is a record of who leaves; of nobody there is none.
func (w *registryWorld) leave(names ...string) {
	w.t.Helper()
	var data []byte
	if len(names) > 0 {
		var d cluster.Departures
		for _, name := range names {
			d.Hosts = append(d.Hosts, cluster.Departure{Host: farm.EventHost{Name: name}})
		}
		var err error
		if data, err = d.Encode(); err != nil {
			w.t.Fatal(err)
		}
	}
	w.leaving <- registry.Value{Data: data}
	synctest.Wait()
}

// see is a view of the members.
func (w *registryWorld) see(lost error, members ...registry.Member) {
	if lost == nil {
		w.members = members
	}
	w.views <- registry.MembersView{Members: w.members, Lost: lost}
	synctest.Wait()
}

func (w *registryWorld) expect(hosts, trouble string) {
	w.t.Helper()
	w.told.mu.Lock()
	defer w.told.mu.Unlock()
	if got := w.told.hosts(); got != hosts {
		w.t.Errorf("the hosts are\n%s, want\n%s", got, hosts)
	}
	if got := w.told.trouble; got != trouble && (trouble == "" || !strings.Contains(got, trouble)) {
		w.t.Errorf("the trouble is %q, want %q", got, trouble)
	}
}

var (
	lead   = cluster.Server{Name: "db1", Task: cluster.Lead}
	follow = cluster.Server{Name: "db2", Task: cluster.Follow, Source: "db1", State: farm.Serving, Weight: 70}
	web    = registry.Member{Name: "web1", Role: "web", Address: "10.0.1.1"}
)

const both = "db1=primary/up@10.0.0.1:3306 db2=replica/up@10.0.0.2:3306"

// TestRegistryPutsTwoThingsTogether: assignments and members, when both are there.
func TestRegistryPutsTwoThingsTogether(t *testing.T) {
	inRegistryWorld(t, func(w *registryWorld) {
		w.value(registry.Value{})
		w.expect("", "no assignment for cluster db")
		w.assign(1, 3, "db1", lead, follow)
		w.expect("", "no assignment") // it would tell hooks that all others are gone
		w.see(nil, web, registry.Member{Name: "cache1", Role: "memcached"})
		w.expect("cache1=memcached/up@cache1 "+both+" web1=web/up@10.0.1.1", "")
		if c := w.told.last.Cluster; w.told.last.Epoch != 3 || w.told.last.Serial != 1 || c == nil || c.Primary.Name != "db1" || len(c.Replicas) != 1 || c.Replicas[0].Weight != 70 {
			t.Errorf("%+v, the proxies are told of %+v", w.told.last, c)
		}
		// Members that are, or say that they are, database servers; and what cannot be.
		w.see(nil, web, registry.Member{Name: "db1", Role: "mysql", Address: "elsewhere"}, registry.Member{Name: "db9", Role: "mysql"}, registry.Member{Name: "x", Role: "db"},
			registry.Member{Name: "evil", Role: "primary", Address: "10.6.6.6:3306"}, registry.Member{Name: "odd", Role: "a role"}, registry.Member{Name: "odder", Role: "web", Address: "a b"})
		w.expect(both+" web1=web/up@10.0.1.1", "")
	})
}

// TestWhoDepartsIsLeaving: other hosts by the record of departures, database servers by
// the assignment.
func TestWhoDepartsIsLeaving(t *testing.T) {
	inRegistryWorld(t, func(w *registryWorld) {
		w.see(nil, web)
		w.assign(1, 3, "db1", lead, follow)
		w.expect(both+" web1=web/up@10.0.1.1", "")
		w.leave("db2", "web1", "web9")
		w.expect(both+" web1=web/leaving@10.0.1.1", "")
		w.leaving <- registry.Value{Lost: errors.New("no answer")}
		w.leaving <- registry.Value{Data: []byte("{")}
		synctest.Wait()
		w.expect(both+" web1=web/leaving@10.0.1.1", "")
		w.leave()
		w.expect(both+" web1=web/up@10.0.1.1", "")
	})
}

// TestServersThatProxiesDoNotKnow are hosts for hooks and templates all the same.
func TestServersThatProxiesDoNotKnow(t *testing.T) {
	inRegistryWorld(t, func(w *registryWorld) {
		w.see(nil)
		w.assign(1, 3, "", lead, cluster.Server{Name: "db2", Task: cluster.Fence}, cluster.Server{Name: "db3", Task: cluster.Clone, Source: "db1"},
			cluster.Server{Name: "db4", Task: cluster.Retire}, cluster.Server{Name: "db5", Task: cluster.Follow, Source: "db1", State: farm.Draining, Weight: 1},
			cluster.Server{Name: "db6", Task: cluster.Follow, Source: "db1", State: farm.Warming, Weight: 1})
		w.expect("db1=replica/up@10.0.0.1:3306 db2=replica/down@10.0.0.2:3306 db3=replica/joining@10.0.0.3:3306 "+
			"db4=replica/leaving@10.0.0.4:3306 db5=replica/leaving@10.0.0.5:3306 db6=replica/joining@10.0.0.6:3306", "")
		if c := w.told.last.Cluster; c.Primary != nil || len(c.Replicas) != 2 {
			t.Errorf("the proxies are told of %+v", c)
		}
	})
}

// TestWhatIsOldOrBadIsNotTaken, and neither is that there is nothing any more.
func TestWhatIsOldOrBadIsNotTaken(t *testing.T) {
	inRegistryWorld(t, func(w *registryWorld) {
		w.see(nil)
		w.assign(5, 3, "db1", lead, follow)
		w.expect(both, "")
		w.assign(4, 3, "db1", lead)
		w.expect(both, "assignment 4 of epoch 3 is older than 5 of epoch 3")
		w.assign(6, 2, "db1", lead)
		w.expect(both, "is older")
		w.value(registry.Value{Data: []byte("{")})
		w.expect(both, "read an assignment")
		w.value(registry.Value{})
		w.expect(both, "no assignment")
		w.assign(5, 3, "db1", lead, follow) // the same, after a gap
		w.expect(both, "")
	})
}

// TestLostIsNotGone: without the registry all stay, and for a while after it is
// back those that only could not renew their leases.
func TestLostIsNotGone(t *testing.T) {
	inRegistryWorld(t, func(w *registryWorld) {
		lost := errors.New("no answer")
		cache := registry.Member{Name: "cache1", Role: "memcached", Address: "10.0.2.1:11211"}
		all := "cache1=memcached/up@10.0.2.1:11211 " + both + " web1=web/up@10.0.1.1"
		w.see(nil, cache, web)
		w.assign(1, 3, "db1", lead, follow)
		w.expect(all, "")
		w.value(registry.Value{Lost: lost})
		w.see(lost)
		w.expect(all, "no answer")
		w.assign(1, 3, "db1", lead, follow)
		w.expect(all, "no answer") // the members may be old
		w.see(nil)
		w.expect(all, "")
		moved := web
		moved.Address = "10.0.1.2"
		w.see(nil, moved)
		w.expect("cache1=memcached/up@10.0.2.1:11211 "+both+" web1=web/up@10.0.1.2", "")
		time.Sleep(afterGap) // of the bubble
		synctest.Wait()
		w.expect(both+" web1=web/up@10.0.1.2", "")
		// Without a gap, who has left has left.
		w.see(nil)
		w.expect(both, "")
	})
}
