package membership

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"farmhand/internal/farm"
)

// snapshots are memberships of few hosts with few choices, so that two of them
// have much in common.
func snapshots() *rapid.Generator[Snapshot] {
	host := rapid.Custom(func(t *rapid.T) Host {
		return Host{
			Name:    rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "name"),
			Role:    rapid.SampledFrom([]string{"replica", "replica", "web", "memcached"}).Draw(t, "role"),
			Address: fmt.Sprintf("10.0.0.%d:1", rapid.IntRange(1, 3).Draw(t, "address")),
			State:   rapid.SampledFrom(States()).Draw(t, "state"),
		}
	})
	return rapid.Custom(func(t *rapid.T) Snapshot {
		s := Snapshot{
			Epoch: farm.Epoch(rapid.IntRange(1, 3).Draw(t, "epoch")),
			Hosts: rapid.SliceOfNDistinct(host, 0, 4, func(h Host) string { return h.Name }).Draw(t, "hosts"),
		}
		if i := rapid.IntRange(-1, len(s.Hosts)-1).Draw(t, "primary"); i >= 0 {
			s.Hosts[i].Role = string(farm.Primary)
		}
		return canonical(s)
	})
}

// TestEventsMakeTheOldIntoTheNew is what the events mean.
func TestEventsMakeTheOldIntoTheNew(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old, now := snapshots().Draw(t, "old"), snapshots().Draw(t, "now")
		events := Diff(old, now)
		if got, want := Apply(byName(old), events), byName(now); !maps.EqualFunc(got, want, func(a, b Host) bool {
			return a.Name == b.Name && a.Role == b.Role && a.Address == b.Address && a.State == b.State
		}) {
			t.Fatalf("events %v\n got %v\nwant %v", events, got, want)
		}
		if again := Diff(now, now); len(again) != 0 {
			t.Fatalf("nothing changed: %v", again)
		}
		place := -1
		for _, e := range events {
			if at := slices.IndexFunc(order, func(kinds []farm.EventKind) bool { return slices.Contains(kinds, e.Kind) }); at < place || at < 0 {
				t.Fatalf("out of order: %v", events)
			} else {
				place = at
			}
		}
	})
}

var order = [][]farm.EventKind{
	{farm.PrimaryLost},
	{farm.HostDown, farm.HostCrash},
	{farm.BeforeHostTerminate},
	{farm.BeforeHostUp},
	{farm.HostUp},
	{farm.NewPrimary},
}

// short makes a snapshot of words such as db1=primary/up@1.
func short(t *testing.T, text string) Snapshot {
	t.Helper()
	var s Snapshot
	for word := range strings.FieldsSeq(text) {
		name, rest, _ := strings.Cut(word, "=")
		rest, address, _ := strings.Cut(rest, "@")
		role, state, _ := strings.Cut(rest, "/")
		s.Hosts = append(s.Hosts, Host{Name: name, Role: role, Address: address, State: State(state)})
	}
	return canonical(s)
}

func words(events []farm.Event) string {
	var all []string
	for _, e := range events {
		word := fmt.Sprintf("%s:%s=%s@%s", e.Kind, e.Host.Name, e.Host.Role, e.Host.Address)
		if p := e.Fields["previous"]; p != "" {
			word += "<" + p
		}
		all = append(all, word)
	}
	return strings.Join(all, " ")
}

func TestDiff(t *testing.T) {
	for _, test := range []struct{ what, old, now, want string }{
		{"a farm appears", "", "db1=primary/up@1 web1=web@2", "host-up:db1=primary@1 host-up:web1=web@2 new-primary:db1=primary@1"},
		{"switchover", "db1=primary@1 db2=replica@2", "db1=replica@1 db2=primary@2", "new-primary:db2=primary@2<db1"},
		{"failover in one step", "db1=primary@1 db2=replica@2", "db1=primary/down@1 db2=primary@2", "host-crash:db1=replica@1 new-primary:db2=primary@2<db1"},
		{"the primary crashes", "db1=primary@1 db2=replica@2", "db1=primary/down@1 db2=replica@2", "primary-lost:db1=primary@1 host-crash:db1=replica@1"},
		{"the primary vanishes", "db1=primary@1", "", "primary-lost:db1=primary@1 host-down:db1=primary@1"},
		{"a new one after that", "db2=replica@2", "db2=primary@2", "new-primary:db2=primary@2"},
		{"a life", "w=web/joining@1", "w=web/up@1", "host-up:w=web@1"},
		{"its end", "w=web/up@1", "w=web/leaving@1", "before-host-terminate:w=web@1"},
		{"it is gone", "w=web/leaving@1", "", "host-down:w=web@1"},
		{"another address", "w=web@1", "w=web@2", "host-down:w=web@1 host-up:w=web@2"},
		{"another job", "w=web@1", "w=memcached@1", "host-down:w=web@1 host-up:w=memcached@1"},
		{"one goes, one comes", "a=web@1", "b=web@1", "host-down:a=web@1 host-up:b=web@1"},
	} {
		if got := words(Diff(short(t, test.old), short(t, test.now))); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.what, got, test.want)
		}
	}
}

func TestAdmit(t *testing.T) {
	with := func(epoch farm.Epoch, primary string) Snapshot {
		s := Snapshot{Epoch: epoch, Hosts: []Host{{Name: "w", Role: "web", State: Up}}}
		if primary != "" {
			s.Hosts = append(s.Hosts, Host{Name: primary, Role: "primary", State: Up})
		}
		return s
	}
	for _, test := range []struct {
		seen    Term
		s       Snapshot
		want    Term
		refusal string
	}{
		{Term{}, with(7, "db1"), Term{7, "db1"}, ""},
		{Term{7, "db1"}, with(7, "db1"), Term{7, "db1"}, ""},
		{Term{7, "db1"}, with(8, "db2"), Term{8, "db2"}, ""},
		{Term{7, "db1"}, with(6, "db1"), Term{7, "db1"}, "epoch 6 is older than 7"},
		{Term{7, "db1"}, with(7, "db2"), Term{7, "db1"}, "epoch 7 has db1 for its primary already"},
		{Term{7, "db1"}, with(8, ""), Term{8, ""}, ""},
		{Term{7, "db1"}, with(7, ""), Term{7, "db1"}, ""}, // and no other may follow in it
		// A source without epochs.
		{Term{}, with(0, ""), Term{}, ""},
		{Term{}, with(0, "db1"), Term{1, "db1"}, ""},
		{Term{7, "db1"}, with(0, "db1"), Term{7, "db1"}, ""},
		{Term{7, "db1"}, with(0, ""), Term{7, "db1"}, ""},
		{Term{7, "db1"}, with(0, "db2"), Term{8, "db2"}, ""},
	} {
		s, term, err := Admit(test.seen, test.s)
		if term != test.want || (err == nil) != (test.refusal == "") || err != nil && !strings.Contains(err.Error(), test.refusal) {
			t.Errorf("%+v after %+v: %+v, %v; want %+v, %q", test.s, test.seen, term, err, test.want, test.refusal)
		}
		if err == nil && s.Epoch != test.want.Epoch {
			t.Errorf("%+v after %+v: the snapshot has epoch %d", test.s, test.seen, s.Epoch)
		}
	}
}
