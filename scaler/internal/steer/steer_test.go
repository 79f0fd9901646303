package steer

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
)

type fataler interface {
	Helper()
	Fatalf(string, ...any)
	Errorf(string, ...any)
}

// begun is a cluster of n servers that has come together.
func begun(t fataler, n int) *world {
	t.Helper()
	w := newWorld(n)
	w.settle(t)
	return w
}

// settle waits until all is well again, and looks for what went wrong.
func (w *world) settle(t fataler) {
	t.Helper()
	if !w.until(2000, w.steadyState) {
		t.Fatalf("tick %d: it does not come to rest: %s\n%s\n%s", w.tick, w.show(), strings.Join(w.reasons, "\n"), strings.Join(w.story[max(0, len(w.story)-30):], "\n"))
	}
	w.check(t)
}

func (w *world) check(t fataler) {
	t.Helper()
	if w.fault != "" {
		t.Errorf("%s", w.fault)
	}
	if w.assignment != nil && w.assignment.Primary != "" {
		if lost := w.lost(); len(lost) > 0 {
			t.Errorf("%d of %d acknowledged transactions are lost, such as %d\n%s", len(lost), len(w.acked), lost[0], strings.Join(w.story, "\n"))
		}
	}
}

func (w *world) show() string {
	var b strings.Builder
	a := w.assignment
	if a == nil {
		return "no assignment"
	}
	fmt.Fprintf(&b, "epoch %d serial %d phase %q primary %q target %q semi-sync %v (%s)\n", a.Epoch, a.Serial, a.Phase, a.Primary, a.Target, a.SemiSync, a.Why)
	for _, s := range a.Servers {
		x := w.servers[s.Name]
		if x == nil {
			continue
		}
		fmt.Fprintf(&b, "  %+v\n    node %v up %v frozen %v writable %v log %d relay %d source %s receives %v", s, x.node, x.up, x.frozen, x.writable, len(x.log), len(x.relay), x.source, x.receives)
		if x.report != nil {
			fmt.Fprintf(&b, " report %d ago: %+v", w.tick-x.reportedAt, *x.report)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (w *world) primary() *server { return w.servers[w.assignment.Primary] }

// another returns a server that is not the primary.
func (w *world) another() *server {
	for _, s := range w.assignment.Servers {
		if s.Name != w.assignment.Primary {
			return w.servers[s.Name]
		}
	}
	return nil
}

func TestAClusterComesTogether(t *testing.T) {
	for n := 1; n <= 5; n++ {
		w := begun(t, n)
		if w.assignment.Epoch != 1 || w.assignment.Primary != "db1" || w.failovers > 0 {
			t.Errorf("%d servers: %s", n, w.show())
		}
	}
}

// TestFailover: each fault of a primary ends with another one, once, with nothing lost.
func TestFailover(t *testing.T) {
	for name, c := range map[string]struct {
		fault  func(*world)
		within int // ticks until another takes writes
		mend   func(*world)
	}{
		"its process is killed": {func(w *world) { w.kill(w.primary()) }, 15, nil},
		"it is killed with its node, and comes back": {func(w *world) { w.kill(w.primary()); w.primary().node = false }, 120, func(w *world) {
			for _, s := range w.servers {
				s.node = true
			}
		}},
		"it is frozen, and thaws": {func(w *world) { w.primary().frozen = true }, 120, func(w *world) {
			for _, s := range w.servers {
				s.frozen = false
			}
		}},
		"it is cut off from all": {func(w *world) {
			for name := range w.servers {
				w.cut[[2]string{w.assignment.Primary, name}] = true
			}
			w.cut[[2]string{w.assignment.Primary, "scaler"}] = true
		}, 120, func(w *world) { clear(w.cut) }},
		"it is cut off from the replicas": {func(w *world) {
			for name := range w.servers {
				w.cut[[2]string{w.assignment.Primary, name}] = true
			}
		}, 120, func(w *world) { clear(w.cut) }},
	} {
		t.Run(name, func(t *testing.T) {
			for n := 2; n <= 4; n++ {
				w := begun(t, n)
				old := w.assignment.Primary
				c.fault(w)
				if !w.until(c.within, func() bool { return w.assignment.Primary != "" && w.assignment.Primary != old }) {
					t.Fatalf("%d servers: after %d ticks there is no other primary: %s\n%s", n, c.within, w.show(), strings.Join(w.reasons, "\n"))
				}
				w.run(50)
				if c.mend != nil {
					c.mend(w)
				}
				w.settle(t)
				if w.failovers != 1 {
					t.Errorf("%d failovers", w.failovers)
				}
			}
		})
	}
}

// TestNoFailover: what is no loss of the primary is not taken for one.
func TestNoFailover(t *testing.T) {
	for name, fault := range map[string]func(*world){
		"cut off from the scaler only": func(w *world) { w.cut[[2]string{w.assignment.Primary, "scaler"}] = true },
		"a replica is killed":          func(w *world) { w.kill(w.another()) },
		"a replica's node is lost":     func(w *world) { w.another().node = false },
		"everybody is cut off from the scaler": func(w *world) {
			for name := range w.servers {
				w.cut[[2]string{name, "scaler"}] = true
			}
		},
		"a replica is cut off from the primary": func(w *world) { w.cut[[2]string{w.assignment.Primary, w.another().name}] = true },
	} {
		t.Run(name, func(t *testing.T) {
			w := begun(t, 3)
			acked := len(w.acked)
			fault(w)
			w.run(150)
			if w.failovers != 0 || w.assignment.Epoch != 1 {
				t.Errorf("%d failovers: %s", w.failovers, w.show())
			}
			if len(w.acked) < acked+100 {
				t.Errorf("%d writes were acknowledged in 150 ticks", len(w.acked)-acked)
			}
			clear(w.cut)
			for _, s := range w.servers {
				s.node = true
			}
			w.settle(t)
		})
	}
}

// TestNobodyIsPromotedWhoMayLackACommit: a replica that is away may have acknowledged what no
// other has.
func TestNobodyIsPromotedWhoMayLackACommit(t *testing.T) {
	w := begun(t, 3)
	// In one tick: before anybody can know that the replica is gone.
	w.another().node = false
	w.kill(w.primary())
	w.primary().node = false
	w.run(200)
	if w.failovers != 0 {
		t.Errorf("%d failovers: %s", w.failovers, w.show())
	}
	if !strings.Contains(strings.Join(w.reasons, "\n"), "may have acknowledged commits that nobody else has") {
		t.Errorf("the reasons are %q", w.reasons)
	}
	for _, s := range w.servers {
		s.node = true
	}
	w.settle(t)
}

// TestAPersonMayAllowALoss, and then the best there is leads; but not while the old primary may
// still acknowledge.
func TestAPersonMayAllowALoss(t *testing.T) {
	w := begun(t, 3)
	old := w.assignment.Primary
	w.another().node = false
	w.kill(w.primary())
	w.primary().node = false
	w.run(50)
	w.request = &Request{Kind: Failover}
	w.run(1)
	if !w.answer.Refused {
		t.Errorf("%+v", w.answer)
	}
	w.request = &Request{Kind: Failover, AllowLoss: true}
	if !w.until(200, func() bool { return w.assignment.Primary != old && w.assignment.Primary != "" }) {
		t.Fatalf("%s\n%s", w.show(), strings.Join(w.reasons, "\n"))
	}
}

func TestSwitchover(t *testing.T) {
	for _, to := range []string{"", "db3"} {
		w := begun(t, 3)
		w.request = &Request{Kind: Switchover, To: to}
		from := w.tick
		// The one that led acknowledges from its first connection on: else a commit of which
		// it gets to know before that would wait for ever where there are but two.
		old := w.assignment.Primary
		follows := func() bool {
			s, _ := w.assignment.Server(old)
			return s.Task == cluster.Follow
		}
		if !w.until(30, follows) {
			t.Fatalf("%s does not follow\n%s", old, w.show())
		}
		if s, _ := w.assignment.Server(old); !s.Acknowledges {
			t.Errorf("%s follows and does not acknowledge", old)
		}
		if !w.until(30, func() bool { return w.assignment.Epoch == 2 && w.assignment.Primary != "" }) {
			t.Fatalf("%s\n%s", w.show(), strings.Join(w.reasons, "\n"))
		}
		t.Logf("%d ticks", w.tick-from)
		if to != "" && w.assignment.Primary != to {
			t.Errorf("%s is the primary", w.assignment.Primary)
		}
		if !w.answer.Done {
			t.Errorf("%+v", w.answer)
		}
		w.settle(t)
		if w.failovers != 0 {
			t.Errorf("%d failovers", w.failovers)
		}
	}
}

// TestSwitchoversThatCannotBe leave the primary what it is.
func TestSwitchoversThatCannotBe(t *testing.T) {
	w := begun(t, 3)
	for to, want := range map[string]string{"db9": "no server", "db1": "leads already"} {
		w.request = &Request{Kind: Switchover, To: to}
		w.run(1)
		if !strings.Contains(w.answer.Text, want) {
			t.Errorf("%s: %+v", to, w.answer)
		}
	}
	w.servers["db2"].slow, w.servers["db2"].relay = 1000, []int{}
	w.request = &Request{Kind: Switchover, To: "db2"}
	w.until(200, func() bool { return w.request == nil })
	if !w.answer.Refused || w.assignment.Primary != "db1" && w.assignment.Phase == cluster.Steady {
		t.Errorf("%+v: %s", w.answer, w.show())
	}
	w.servers["db2"].slow = 0
	w.settle(t)
	if w.assignment.Primary != "db1" {
		t.Errorf("%s is the primary", w.assignment.Primary)
	}
}

// TestNewServersAreTakenInAndOldOnesLet.
func TestNewServersAreTakenIn(t *testing.T) {
	w := begun(t, 2)
	w.add("db3")
	w.add("db4")
	w.settle(t)
	ids := map[uint32]bool{}
	for _, s := range w.assignment.Servers {
		ids[s.ID] = true
	}
	if len(ids) != 4 {
		t.Errorf("ids %v", ids)
	}
	delete(w.servers, "db2")
	w.settle(t)
	w.add("db2")
	w.settle(t)
	if s, _ := w.assignment.Server("db2"); s.ID != 5 {
		t.Errorf("a server that came back under an old name has the id %d", s.ID)
	}
}

// TestANewServerWithTheDiskOfOneThatIsGone follows from where that was, if there is
// anything on it and it leads to the primary's data; else it copies another's.
func TestANewServerWithTheDiskOfOneThatIsGone(t *testing.T) {
	for what, c := range map[string]struct{ empty, errant, copies bool }{
		"as it was left": {}, "nothing on it": {empty: true, copies: true}, "more than the primary has": {errant: true, copies: true},
	} {
		t.Run(what, func(t *testing.T) {
			w := begun(t, 3)
			name := "db3"
			if w.assignment.Primary == name {
				name = "db2"
			}
			gone := w.servers[name]
			delete(w.servers, name)
			w.settle(t)
			w.add("db4")
			s := w.servers["db4"]
			s.inherits = true
			if !c.empty {
				s.data, s.log, s.errant = true, slices.Clone(gone.log), c.errant
			}
			w.settle(t)
			story := strings.Join(w.story, "\n")
			if copied := strings.Contains(story, "db4 copies") || strings.Contains(story, "db4 is new: it copies"); copied != c.copies {
				t.Errorf("it copied: %v, want %v\n%s", copied, c.copies, story)
			}
			if part, ok := w.assignment.Server("db4"); !ok || part.Task != cluster.Follow {
				t.Errorf("it is %+v", part)
			}
		})
	}
}

// TestTheLastThatAcknowledgesStays until there is another one, or commits need none.
func TestTheLastThatAcknowledgesStays(t *testing.T) {
	w := begun(t, 3)
	v := View{Term: 1, Assignment: w.assignment, Servers: map[string]Seen{}}
	for name, s := range w.servers {
		leave := Retire
		if name == w.assignment.Primary {
			leave = Stay
		}
		v.Servers[name] = Seen{Address: "127.0.0." + name[2:] + ":3306", Report: s.report, Member: true, Leave: leave}
	}
	// First they take no new reads, then they go.
	draining := Next(v, w.policy, time.Unix(1000, 0))
	v.Assignment = draining.Assignment
	step := Next(v, w.policy, time.Unix(1001, 0))
	retired := 0
	for _, s := range step.Assignment.Servers {
		if s.Task == cluster.Retire {
			retired++
		}
	}
	if retired != 1 {
		t.Errorf("%d are retired of two that acknowledge: %+v", retired, step.Assignment)
	}
}

// TestOneThatStaysAfterAllTakesReadsAgain.
func TestOneThatStaysAfterAllTakesReadsAgain(t *testing.T) {
	w := begun(t, 3)
	for i := range w.assignment.Servers {
		if s := &w.assignment.Servers[i]; s.Name == w.another().name {
			s.State = farm.Draining
		}
	}
	w.settle(t)
	if s, _ := w.assignment.Server(w.another().name); s.State != farm.Serving || s.Weight != farm.DefaultWeight {
		t.Errorf("%+v", s)
	}
}

// TestErrantTransactionsAreCopiedOver.
func TestErrantTransactionsAreCopiedOver(t *testing.T) {
	w := begun(t, 3)
	r := w.another()
	r.errant = true
	copied := false
	w.until(100, func() bool {
		s, _ := w.assignment.Server(r.name)
		copied = copied || s.Task == cluster.Clone
		return copied
	})
	if !copied {
		t.Errorf("%s", w.show())
	}
	w.settle(t)
}

// TestServersThatLackSomethingAreCopiedAnew from one that does not.
func TestServersThatLackSomethingAreCopiedAnew(t *testing.T) {
	w := begun(t, 3)
	r := w.another()
	r.missing = true
	copied := w.until(100, func() bool { return !r.missing })
	if !copied {
		t.Errorf("%s", w.show())
	}
	w.settle(t)
	// All that there are, from the primary.
	for _, s := range w.servers {
		s.missing = s.name != w.assignment.Primary
	}
	w.run(2) // until it is reported
	w.settle(t)
	for _, s := range w.servers {
		if s.missing {
			t.Errorf("%s still lacks something", s.name)
		}
	}
}

// TestServersWhoseDataIsBrokenAreCopiedAnew: a replica, the only one, and one that led.
func TestServersWhoseDataIsBrokenAreCopiedAnew(t *testing.T) {
	for name, of := range map[string]struct {
		servers int
		which   func(*world) *server
	}{
		"a replica":        {3, (*world).another},
		"the only replica": {2, (*world).another},
		"the primary":      {3, (*world).primary},
	} {
		t.Run(name, func(t *testing.T) {
			w := begun(t, of.servers)
			s := of.which(w)
			s.rotten = true
			w.kill(s)
			w.run(50)
			if r := s.report; r.Process != cluster.Crashed || r.Broken != "" {
				t.Fatalf("%+v", r)
			}
			w.settle(t)
			if s.rotten || w.assignment.Primary == s.name {
				t.Errorf("%s\n%s", w.show(), strings.Join(w.reasons, "\n"))
			}
		})
	}
}

// TestNobodyIsPromotedWhoLacksSomething, though what it says of how far it is counts.
func TestNobodyIsPromotedWhoLacksSomething(t *testing.T) {
	w := begun(t, 3)
	old := w.primary()
	old.node = false
	w.kill(old)
	chosenBefore := w.servers["db2"]
	if chosenBefore == old {
		chosenBefore = w.servers["db1"]
	}
	chosenBefore.missing = true
	if !w.until(300, func() bool { return w.assignment.Primary != "" && w.assignment.Primary != old.name }) || w.assignment.Primary == chosenBefore.name {
		t.Errorf("%s\n%s", w.show(), strings.Join(w.reasons, "\n"))
	}
	w.check(t)
}

// TestWritesGoOnWithoutReplicas, if the policy says so, after its time.
func TestWritesGoOnWithoutReplicas(t *testing.T) {
	for _, lossless := range []bool{false, true} {
		w := begun(t, 2)
		w.policy.Lossless = lossless
		w.another().node = false
		w.kill(w.another())
		w.run(400)
		if w.assignment.SemiSync != lossless {
			t.Errorf("lossless %v, and semi-synchronous %v\n%s", lossless, w.assignment.SemiSync, strings.Join(w.reasons, "\n"))
		}
		w.another().node = true
		w.settle(t)
		if !w.assignment.SemiSync {
			t.Error("semi-synchronous replication does not come back")
		}
	}
}

// TestPausedIsPaused: nothing begins, until it is resumed.
func TestPausedIsPaused(t *testing.T) {
	w := begun(t, 3)
	w.paused = true
	serial := w.assignment.Serial
	w.primary().node, w.primary().up = false, false
	w.add("db4")
	w.run(100)
	if w.failovers != 0 || w.assignment.Serial != serial {
		t.Errorf("%s", w.show())
	}
	w.paused = false
	if !w.until(100, func() bool { return w.failovers == 1 }) {
		t.Errorf("%s", strings.Join(w.reasons, "\n"))
	}
}

// TestAServerThatFailsAgainIsNotFailedOverFrom within the quiet time.
func TestAServerThatFailsAgain(t *testing.T) {
	w := begun(t, 3)
	first := w.primary().name
	w.kill(w.primary())
	w.run(20)
	w.settle(t)
	w.request = &Request{Kind: Switchover, To: first}
	if !w.until(100, func() bool { return w.assignment.Primary == first }) {
		t.Fatalf("%s", w.show())
	}
	w.kill(w.primary())
	w.primary().node = false
	w.run(60)
	if w.failovers != 1 || !strings.Contains(strings.Join(w.reasons, "\n"), "scaler ack") {
		t.Errorf("%d failovers; %q", w.failovers, w.reasons)
	}
	w.servers[first].node = true
	w.settle(t)
}

// TestThePrimaryThatDiesOnTheWay: the one that is being promoted dies.
func TestThePrimaryThatDiesOnTheWay(t *testing.T) {
	for _, phase := range []cluster.Phase{cluster.Electing, cluster.Promoting, cluster.Handing, cluster.Yielding} {
		for _, who := range []string{"the new one", "the old one"} {
			t.Run(string(phase)+", "+who, func(t *testing.T) {
				w := begun(t, 3)
				old := w.primary()
				if phase == cluster.Handing || phase == cluster.Yielding {
					w.request = &Request{Kind: Switchover}
				} else {
					w.kill(old)
				}
				if !w.until(50, func() bool { return w.assignment.Phase == phase }) {
					t.Fatalf("%s", w.show())
				}
				victim := old
				if leader, ok := w.assignment.Leader(); ok && who == "the new one" {
					victim = w.servers[leader.Name]
				}
				if target := w.assignment.Target; target != "" && who == "the new one" {
					victim = w.servers[target]
				}
				w.kill(victim)
				victim.node = false
				w.run(150)
				victim.node = true
				w.settle(t)
			})
		}
	}
}

// TestAPrimaryWhoseReplicasDoNotAcknowledgeYet: both of the others led before, or were
// about to, and count as new; the commits that wait for them must not keep them from
// acknowledging, nor look like the end of the primary.
func TestAPrimaryWhoseReplicasDoNotAcknowledgeYet(t *testing.T) {
	w := begun(t, 3)
	w.kill(w.primary())
	if !w.until(50, func() bool { return w.assignment.Phase == cluster.Promoting }) {
		t.Fatalf("%s", w.show())
	}
	leader, _ := w.assignment.Leader()
	w.kill(w.servers[leader.Name])
	if !w.until(200, func() bool { return w.assignment.Primary != "" && w.assignment.Primary != leader.Name }) {
		t.Fatalf("%s", w.show())
	}
	epoch := w.assignment.Epoch
	for _, server := range w.assignment.Servers {
		w.servers[server.Name].lastGot = w.tick - 15 // it takes them a while to be heard
	}
	w.settle(t)
	if w.assignment.Epoch != epoch {
		t.Errorf("the primary was left, since it waited for its replicas: epoch %d, then %d\n%s", epoch, w.assignment.Epoch, strings.Join(w.story, "\n"))
	}
}

// TestTheOnlyReplicaIsAway: commits wait for it, which it hears nothing of when it is back.
// That must not look like the end of the primary.
func TestTheOnlyReplicaIsAway(t *testing.T) {
	for _, how := range []string{"frozen", "killed", "cut off"} {
		for away := 1; away < 190; away += 3 {
			w := begun(t, 2)
			epoch, s := w.assignment.Epoch, w.another()
			link := [2]string{s.name, w.assignment.Primary}
			switch how {
			case "frozen":
				s.frozen = true
			case "killed":
				w.kill(s)
				s.node = false
			case "cut off":
				w.cut[link] = true
			}
			w.run(away)
			s.frozen, s.node = false, true
			delete(w.cut, link)
			w.settle(t)
			if how != "cut off" && w.assignment.Epoch != epoch {
				t.Errorf("%s for %d ticks: the primary was left\n%s", how, away, strings.Join(w.story, "\n"))
				break
			}
		}
	}
}

// TestAllAreKilledTogether: at most one election is begun that nobody can win, and the
// one that led does again, however long it takes to come back.
func TestAllAreKilledTogether(t *testing.T) {
	for away := range 12 {
		w := begun(t, 3)
		primary, epoch := w.assignment.Primary, w.assignment.Epoch
		w.kill(w.servers[primary])
		if !w.until(20, func() bool { return w.assignment.Phase == cluster.Electing }) {
			t.Fatal(w.show())
		}
		for _, s := range w.servers {
			w.kill(s)
		}
		if !w.until(100, func() bool { return w.assignment.Phase == cluster.Promoting }) {
			t.Fatal(w.show())
		}
		w.servers[primary].node = false
		w.run(away * 10)
		w.servers[primary].node = true
		w.settle(t)
		if w.assignment.Primary != primary || w.assignment.Epoch > epoch+2 {
			t.Errorf("away for %d ticks: %s", away*10, w.show())
		}
	}
}

// TestWhateverFails: a cluster under random faults loses nothing that was
// acknowledged, never has two that acknowledge, and comes to rest when the
// faults end.
func TestWhateverFails(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := begun(t, rapid.IntRange(2, 4).Draw(t, "servers"))
		w.policy.Lossless = rapid.Bool().Draw(t, "lossless")
		names := []string{"db1", "db2", "db3", "db4"}[:len(w.servers)]
		ends := append(slices.Clone(names), "scaler")
		for range rapid.IntRange(1, 12).Draw(t, "faults") {
			s := w.servers[rapid.SampledFrom(names).Draw(t, "server")]
			switch what := rapid.SampledFrom([]string{"kill", "node", "back", "freeze", "thaw", "cut", "mend", "slow", "fast", "switchover", "errant", "rot"}).Draw(t, "fault"); what {
			case "kill":
				if s.up {
					w.kill(s)
				}
			case "node":
				if s.up {
					w.kill(s)
				}
				s.node = false
			case "back":
				s.node = true
			case "freeze":
				s.frozen = s.up
			case "thaw":
				s.frozen = false
			case "cut":
				if other := rapid.SampledFrom(ends).Draw(t, "from"); other != s.name {
					w.cut[[2]string{s.name, other}] = true
				}
			case "mend":
				clear(w.cut)
			case "slow":
				s.slow = 7
			case "fast":
				s.slow = 0
			case "errant":
				s.errant = s.name != w.assignment.Primary
			case "rot":
				// The primary has all that there is, whatever fails after this.
				if w.assignment.Phase == cluster.Steady && s.name != w.assignment.Primary && w.primary().working() {
					s.rotten = true
					w.kill(s)
				}
			case "switchover":
				w.request = &Request{Kind: Switchover, To: s.name}
			}
			w.run(rapid.IntRange(0, 120).Draw(t, "ticks"))
		}
		w.request = nil
		clear(w.cut)
		for _, s := range w.servers {
			s.node, s.frozen, s.slow = true, false, 0
		}
		w.settle(t)
	})
}

func TestTheTopologyAlwaysHasAtMostOnePrimary(t *testing.T) {
	w := begun(t, 3)
	if c := w.assignment.Topology(); c.Primary == nil || c.Primary.Name != w.assignment.Primary || len(c.Replicas) != 2 || c.Replicas[0].State != farm.Serving {
		t.Errorf("%+v", c)
	}
}
