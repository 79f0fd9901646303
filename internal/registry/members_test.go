package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"farmhand/internal/farmtest"
)

func names(members []Member) []string {
	all := []string{}
	for _, m := range members {
		all = append(all, m.Name)
	}
	return all
}

// watched collects the views of a watch.
func watched(t *testing.T, c *Client) <-chan MembersView {
	t.Helper()
	views := make(chan MembersView, 1000)
	running(t, func(ctx context.Context) error {
		return c.WatchMembers(ctx, func(v MembersView) error { views <- v; return nil })
	})
	return views
}

// until waits for a view.
func until(t *testing.T, views <-chan MembersView, what string, is func(MembersView) bool) MembersView {
	t.Helper()
	for {
		if v := soon(t, views, what); is(v) {
			return v
		}
	}
}

func are(want ...string) func(MembersView) bool {
	return func(v MembersView) bool { return v.Lost == nil && slices.Equal(names(v.Members), want) }
}

// holding collects what a holder is told.
type holding struct {
	mu   sync.Mutex
	all  []Holding
	told chan Holding
}

func (h *holding) tell(now Holding) {
	h.mu.Lock()
	h.all = append(h.all, now)
	h.mu.Unlock()
	h.told <- now
}

// last is the latest moment that the holder was told to be a member until.
func (h *holding) last() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	var last time.Time
	for _, one := range h.all {
		if one.Until.After(last) {
			last = one.Until
		}
	}
	return last
}

func hold(t *testing.T, c *Client, m Member) (*holding, func() error) {
	t.Helper()
	h := &holding{told: make(chan Holding, 10000)}
	return h, running(t, func(ctx context.Context) error { return c.HoldMembership(ctx, m, MinLease, nil, h.tell) })
}

// TestAttributesChange while the membership goes on, and are those of the next one.
func TestAttributesChange(t *testing.T) {
	c := one(t)
	admin := c.admin(t, newFarm())
	views := watched(t, admin)
	changes := make(chan map[string]string)
	h := &holding{told: make(chan Holding, 10000)}
	stop := running(t, func(ctx context.Context) error {
		return admin.HoldMembership(ctx, Member{Name: "a", Attributes: map[string]string{"slot": "1"}}, MinLease, changes, h.tell)
	})
	since := until(t, views, "view with a", are("a")).Members[0].Since
	for _, health := range []string{"unwell", ""} {
		changes <- map[string]string{"slot": "1", "health": health}
		v := until(t, views, "view with the attribute", func(v MembersView) bool {
			return are("a")(v) && v.Members[0].Attributes["health"] == health && v.Members[0].Attributes["slot"] == "1"
		})
		if !v.Members[0].Since.Equal(since) || !slices.Equal(v.Changed, []string{"a"}) {
			t.Errorf("%+v", v)
		}
	}
	must(t, stop())
	until(t, views, "view without a", are())
}

func TestMembersComeAndGo(t *testing.T) {
	c := one(t)
	farm := newFarm()
	admin := c.admin(t, farm)
	views := watched(t, admin)
	if v := soon(t, views, "first view"); len(v.Members) != 0 || v.Lost != nil {
		t.Fatalf("the first view is %+v", v)
	}
	a, stopA := hold(t, admin, Member{Name: "a", Role: "web", Address: "127.0.0.1:3306", Attributes: map[string]string{"zone": "x"}})
	v := until(t, views, "view with a", are("a"))
	if m := v.Members[0]; m.Role != "web" || m.Address != "127.0.0.1:3306" || m.Attributes["zone"] != "x" || time.Since(m.Since) > limit {
		t.Errorf("the member is %+v", m)
	}
	if !slices.Equal(v.Changed, []string{"a"}) {
		t.Errorf("changed: %v", v.Changed)
	}
	_, stopB := hold(t, admin, Member{Name: "b", Role: "mysql"})
	until(t, views, "view with both", are("a", "b"))
	// Who begins to watch now is told all that is there first.
	if v := soon(t, watched(t, admin), "view of a second watcher"); !are("a", "b")(v) {
		t.Errorf("a second watcher sees %+v", v)
	}
	// It stays beyond its lease, for it is renewed.
	first := soon(t, a.told, "first news of a").Until
	for !soon(t, a.told, "renewal after the first lease").Until.After(first.Add(MinLease)) {
	}
	members, err := admin.Members(soonContext(t))
	must(t, err)
	if got := names(members); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("after more than a lease: %v", got)
	}
	// Who leaves in order is gone at once, long before its lease would lapse.
	began := time.Now()
	must(t, stopA())
	until(t, views, "view without a", are("b"))
	if took := time.Since(began); took > MinLease {
		t.Errorf("leaving took %v", took)
	}
	must(t, stopB())
	until(t, views, "view without members", are())
}

// TestLapsedLease: a node that is cut off is gone within its lease, knows that
// before anybody else, and comes back.
func TestLapsedLease(t *testing.T) {
	c := one(t)
	farm := newFarm()
	link := c.link(t)
	views := watched(t, c.admin(t, farm))
	h, _ := hold(t, c.admin(t, farm, link.Addr()), Member{Name: "a", Role: "web"})
	until(t, views, "view with a", are("a"))
	link.Stall()
	cut := time.Now()
	until(t, views, "view without a", are())
	gone := time.Now()
	// etcd looks for lapsed leases twice a second.
	if took := gone.Sub(cut); took > MinLease+3*time.Second {
		t.Errorf("it was gone %v after it was cut off; its lease is %v", took, MinLease)
	}
	if last := h.last(); !last.Before(gone) {
		t.Errorf("the node believed to be a member until %v, others saw it gone at %v", last, gone)
	}
	for now := soon(t, h.told, "news of the lapse"); !now.Until.IsZero(); now = soon(t, h.told, "news of the lapse") {
	}
	link.Restore()
	until(t, views, "view with a again", are("a"))
}

// TestNameIsHeldOnce: a second process of the same name waits for the first.
func TestNameIsHeldOnce(t *testing.T) {
	c := one(t)
	farm := newFarm()
	admin := c.admin(t, farm)
	first, stop := hold(t, admin, Member{Name: "a", Role: "first"})
	for !soon(t, first.told, "first holder").Until.After(time.Now()) {
	}
	second, _ := hold(t, admin, Member{Name: "a", Role: "second"})
	for !soon(t, second.told, "second to wait").Waiting {
	}
	members, err := admin.Members(soonContext(t))
	must(t, err)
	if len(members) != 1 || members[0].Role != "first" {
		t.Errorf("the members are %+v", members)
	}
	must(t, stop())
	for !soon(t, second.told, "second to hold").Until.After(time.Now()) {
	}
	if !second.last().After(time.Now()) {
		t.Error("the second is no member")
	}
}

func TestHoldRefusesNonsense(t *testing.T) {
	admin := one(t).admin(t, newFarm())
	for _, c := range []struct {
		name  string
		lease time.Duration
	}{{"a/b", 10 * time.Second}, {"", 10 * time.Second}, {"a", time.Millisecond}, {"a", time.Hour}, {"a", 2500 * time.Millisecond}} {
		if err := admin.HoldMembership(soonContext(t), Member{Name: c.name}, c.lease, nil, func(Holding) {}); err == nil {
			t.Errorf("%q for %v was accepted", c.name, c.lease)
		}
	}
}

// TestWatchSurvivesRestart: a watcher is told that it is blind, and then what is
// true.
func TestWatchSurvivesRestart(t *testing.T) {
	c := newCluster(t, 1)
	admin := c.admin(t, "test")
	ctx := soonContext(t)
	put := func(name string) { _, err := admin.etcd.Put(ctx, admin.keys.session(name), "{}"); must(t, err) }
	views := watched(t, admin)
	put("a")
	until(t, views, "view with a", are("a"))
	c.stop(0)
	lost := until(t, views, "news that the registry is lost", func(v MembersView) bool { return v.Lost != nil })
	if !errors.Is(lost.Lost, ErrUnavailable) || !slices.Equal(names(lost.Members), []string{"a"}) {
		t.Errorf("while the registry is away: %+v", lost)
	}
	c.start(t, 0)
	until(t, views, "view after the restart", are("a"))
	put("b")
	until(t, views, "view with b", are("a", "b"))
}

// TestWatchSurvivesCompaction: what a watcher missed may be gone from the
// history; it is told what is true now.
func TestWatchSurvivesCompaction(t *testing.T) {
	c := one(t)
	farm := newFarm()
	admin := c.admin(t, farm)
	ctx := soonContext(t)
	put := func(name string) { _, err := admin.etcd.Put(ctx, admin.keys.session(name), "{}"); must(t, err) }
	put("a")
	link := c.link(t)
	views := watched(t, c.admin(t, farm, link.Addr()))
	until(t, views, "view with a", are("a"))
	link.Cut()
	put("b")
	_, err := admin.etcd.Delete(ctx, admin.keys.session("a"))
	must(t, err)
	last, err := admin.etcd.Put(ctx, admin.keys.session("c"), "{}")
	must(t, err)
	_, err = admin.etcd.Compact(ctx, last.Header.Revision, clientv3.WithCompactPhysical())
	must(t, err)
	link.Restore()
	v := until(t, views, "view after the compaction", func(v MembersView) bool { return slices.Equal(names(v.Members), []string{"b", "c"}) })
	if !slices.Equal(v.Changed, []string{"a", "b", "c"}) {
		t.Errorf("changed: %v", v.Changed)
	}
	put("d")
	until(t, views, "view with d", are("b", "c", "d"))
}

// TestThreeMembers: the registry goes on without one of its members, and says so
// without two.
func TestThreeMembers(t *testing.T) {
	c := newCluster(t, 3)
	admin := c.admin(t, "test")
	ctx := soonContext(t)
	views := watched(t, admin)
	hold(t, admin, Member{Name: "a", Role: "web"})
	until(t, views, "view with a", are("a"))
	leader := func() int {
		for i, m := range c.members {
			status, err := admin.etcd.Status(ctx, "https://"+m.Clients)
			if err == nil && status.Leader == status.Header.MemberId {
				return i
			}
		}
		t.Fatal("none of the three leads")
		return 0
	}
	terms, stopA := led(t, admin, "a")
	soon(t, terms, "term of a")
	waits := c.admin(t, "test")
	_, stopB := led(t, waits, "b")
	farmtest.Eventually(t, "b waits to be elected", func() error {
		r, err := waits.etcd.Get(ctx, waits.keys.leader()+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err == nil && r.Count != 2 {
			err = fmt.Errorf("%d are there", r.Count)
		}
		return err
	})
	stopped := leader() // the hardest one to lose
	c.stop(stopped)
	hold(t, admin, Member{Name: "b", Role: "web"})
	until(t, views, "view with both", are("a", "b"))
	second := (stopped + 1) % 3
	c.stop(second)
	if _, err := admin.Append(ctx, Entry{Kind: "x", Who: "test"}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a write to one of three: %v", err)
	}
	for who, stop := range map[string]func() error{"a": stopA, "b": stopB} {
		if err := stop(); err == nil {
			t.Errorf("%s has ended, and could tell one of three", who)
		}
	}
	c.start(t, stopped)
	c.start(t, second)
	until(t, views, "view after all are back", are("a", "b"))
}
