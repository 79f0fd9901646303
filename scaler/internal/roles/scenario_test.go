package roles_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"farmhand/internal/cluster"
	"farmhand/scaler/internal/decide"
	"farmhand/scaler/internal/roles"
)

func TestServersBecomeReady(t *testing.T) {
	w := newWorld(true, 3)
	r := w.step()
	if count(r, decide.Ready) != 3 || r.State.Wanted != 3 || len(r.Launch) != 0 {
		t.Fatalf("%+v", r)
	}
	w.load = 2.5
	r = w.until(t, 3*time.Minute, "a launch", func(r roles.Result) bool { return len(r.Launch) > 0 })
	if !slices.Equal(r.Launch, []string{"db4", "db5"}) {
		t.Errorf("launched %v", r.Launch)
	}
	began := w.now
	r = w.until(t, time.Hour, "warming up", func(r roles.Result) bool { return count(r, decide.Warming) == 2 })
	if took := w.now.Sub(began); took < launchTime || of(r, "db4") != decide.Warming {
		t.Errorf("they were heard of after %v", took)
	}
	r = w.until(t, time.Hour, "readiness", func(r roles.Result) bool { return count(r, decide.Ready) == 5 })
	if took := w.now.Sub(began); took < launchTime+warmTime || took > launchTime+warmTime+10*time.Second {
		t.Errorf("they were ready after %v", took)
	}
	for _, s := range r.Servers {
		if (s.Name == "db4" || s.Name == "db5") != s.ReadyAt.Equal(w.now) {
			t.Errorf("%s was ready at %v, it is %v", s.Name, s.ReadyAt, w.now)
		}
	}
}

// TestScaleIn: drained, let go of, shut down, terminated; one after another.
func TestScaleIn(t *testing.T) {
	w := newWorld(true, 4)
	began := w.now
	w.load = 0.1
	r := w.until(t, 10*time.Minute, "a decision", func(r roles.Result) bool { return len(r.Leave) > 0 })
	name := r.Decision.Actions[0].Server
	if r.Leave[name] != roles.Drain || w.a.Primary == name {
		t.Fatalf("%s leaves: %v", name, r.Leave)
	}
	drain := w.now
	r = w.until(t, 5*time.Minute, "a shutdown", func(r roles.Result) bool { return r.Leave[name] == roles.Retire })
	if took := w.now.Sub(drain); took < letGoTime || took > letGoTime+10*time.Second || of(r, name) != decide.Draining {
		t.Errorf("the proxies let go after %v", took)
	}
	retire := w.now
	w.until(t, 5*time.Minute, "its end", func(r roles.Result) bool { return r.Leave[name] == roles.Terminate })
	if took := w.now.Sub(retire); took < stopTime || took > stopTime+10*time.Second {
		t.Errorf("it shut down after %v", took)
	}
	r = w.step()
	if of(r, name) != 0 || r.State.LastIn != w.now || r.State.Wanted != 3 || !began.Before(r.State.LastIn) {
		t.Errorf("when it was gone: %+v", r)
	}
	w.until(t, time.Hour, "2 servers", func(r roles.Result) bool { return len(r.Servers) == 2 && len(r.Leave) == 0 })
}

// TestWebScaleIn: a web node is in no assignment, and has nothing to shut down for.
func TestWebScaleIn(t *testing.T) {
	w := newWorld(false, 3)
	w.load = 0.2
	r := w.until(t, 10*time.Minute, "a decision", func(r roles.Result) bool { return len(r.Leave) > 0 })
	name, began := r.Decision.Actions[0].Server, w.now
	if r.Leave[name] != roles.Drain {
		t.Errorf("%v", r.Leave)
	}
	w.until(t, 5*time.Minute, "its end", func(r roles.Result) bool { return r.Leave[name] == roles.Terminate })
	if took := w.now.Sub(began); took < w.role.Limits.Drain || took > w.role.Limits.Drain+10*time.Second { // its clients stay
		t.Errorf("it was terminated after %v", took)
	}
	if r = w.step(); len(r.Servers) != 2 || r.State.LastIn != w.now {
		t.Errorf("%+v", r)
	}

	// Without clients it need not wait, but for those that may be on their way.
	w = newWorld(false, 3)
	w.load = 0.2
	for _, n := range w.nodes {
		n.idle = true
	}
	r = w.until(t, 10*time.Minute, "a decision", func(r roles.Result) bool { return len(r.Leave) > 0 })
	name, began = r.Decision.Actions[0].Server, w.now
	w.until(t, 5*time.Minute, "its end", func(r roles.Result) bool { return r.Leave[name] == roles.Terminate })
	if took := w.now.Sub(began); took < w.role.Limits.Settle || took > w.role.Limits.Settle+10*time.Second {
		t.Errorf("it was terminated after %v", took)
	}
}

// TestHooksAreWaitedFor: while a server is drained, and until they end or their time is
// over.
func TestHooksAreWaitedFor(t *testing.T) {
	for _, database := range []bool{true, false} {
		for _, ends := range []bool{true, false} {
			w := newWorld(database, 4)
			other := w.nodes[w.names()[3]]
			other.hooked = true
			w.load = 0.1
			r := w.until(t, 10*time.Minute, "a decision", func(r roles.Result) bool { return len(r.Leave) > 0 })
			name, began := r.Decision.Actions[0].Server, w.now
			told := func(text string) func(roles.Result) bool {
				return func(r roles.Result) bool {
					return slices.ContainsFunc(r.Notes, func(n string) bool { return strings.Contains(n, text) })
				}
			}
			if ends {
				for end := w.now.Add(w.role.Limits.Drain + 2*time.Minute); w.now.Before(end); {
					if r = w.step(); r.Leave[name] != roles.Drain {
						t.Fatalf("%s goes on: %v", name, r.Leave)
					}
				}
				other.hooked = false
				r = w.until(t, 10*time.Second, "the end of the hooks", told("the hooks before the end of "+name+" have ended"))
			} else {
				r = w.until(t, 10*time.Minute, "the end of patience", told("have not ended within 5m0s on "+w.names()[3]))
				if took := w.now.Sub(began); took < w.role.Limits.Hooks || took > w.role.Limits.Hooks+10*time.Second {
					t.Errorf("they were waited for %v", took)
				}
			}
			if r.Leave[name] == roles.Drain {
				t.Errorf("%s stays drained", name)
			}
			w.until(t, 5*time.Minute, "its end", func(r roles.Result) bool { return of(r, name) == 0 })
		}
	}
}

// TestHooksOfALostServer: what was given up is not kept for hooks.
func TestHooksOfALostServer(t *testing.T) {
	w := newWorld(false, 3)
	w.nodes["web1"].hooked, w.nodes["web2"].never, w.nodes["web2"].runs = true, true, false
	w.load = 1.2
	w.until(t, 10*time.Minute, "its loss", func(r roles.Result) bool { return of(r, "web2") == decide.Lost })
	w.until(t, w.role.Limits.Keep+time.Minute, "its end", func(r roles.Result) bool { return r.Leave["web2"] == roles.Terminate })
}

// TestClientsThatStay: who does not let go is waited for, but not for ever.
func TestClientsThatStay(t *testing.T) {
	w := newWorld(true, 3)
	w.load = 0.1
	for _, n := range w.nodes {
		n.clings = true
	}
	w.until(t, 10*time.Minute, "a decision", func(r roles.Result) bool { return len(r.Leave) > 0 })
	began := w.now
	w.until(t, 10*time.Minute, "a shutdown", func(r roles.Result) bool { return slices.Contains(steps(r), roles.Retire) })
	if took := w.now.Sub(began); took < w.role.Limits.Drain || took > w.role.Limits.Drain+10*time.Second {
		t.Errorf("it was waited for %v", took)
	}
}

func steps(r roles.Result) (list []roles.Step) {
	for _, step := range r.Leave {
		list = append(list, step)
	}
	return list
}

// TestNeeded: while the cluster's leader does not tell it to shut down, no server is
// terminated, however long that takes.
func TestNeeded(t *testing.T) {
	w := newWorld(true, 3)
	w.load, w.refuses = 0.1, true
	w.until(t, 10*time.Minute, "a decision", func(r roles.Result) bool { return len(r.Leave) > 0 })
	for end := w.now.Add(time.Hour); w.now.Before(end); {
		if r := w.step(); slices.Contains(steps(r), roles.Terminate) {
			t.Fatal("it is terminated")
		}
	}
	w.refuses = false
	w.until(t, 5*time.Minute, "its end", func(r roles.Result) bool { return len(r.Servers) == 2 })
}

// TestPrimaryLost: one that leaves and has become the primary stays.
func TestPrimaryLost(t *testing.T) {
	w := newWorld(true, 3)
	name := replica(w)
	w.load = 1.2 // nothing to be decided about it
	var ok bool
	if w.state, ok = w.state.Leave(name, "a person asked", false, w.now); !ok {
		t.Fatal("it cannot leave")
	}
	w.step()
	w.a = w.a.Clone()
	for i, s := range w.a.Servers { // a failover to the one that is drained
		switch s.Name {
		case w.a.Primary:
			w.a.Servers[i].Task = cluster.Follow
		case name:
			w.a.Servers[i].Task, w.a.Servers[i].State = cluster.Lead, ""
		}
	}
	w.a.Primary = name
	r := w.step()
	if len(r.Leave) != 0 || !slices.Contains(r.Notes, name+" stays: it is the primary now") || of(r, name) != decide.Ready {
		t.Errorf("%+v", r)
	}
}

// TestLastReplica: one that leaves stays if the others are lost meanwhile.
func TestLastReplica(t *testing.T) {
	w := newWorld(true, 3)
	w.load = 0.1
	r := w.until(t, 10*time.Minute, "a decision", func(r roles.Result) bool { return len(r.Leave) > 0 })
	leaves := r.Decision.Actions[0].Server
	for name, n := range w.nodes {
		if name != leaves && name != w.a.Primary {
			n.silent = true
		}
	}
	w.until(t, time.Minute, "its return", func(r roles.Result) bool {
		return slices.Contains(r.Notes, leaves+" stays: no other replica is ready any more")
	})
	w.until(t, time.Minute, "its readiness", func(r roles.Result) bool { return len(r.Leave) == 0 && of(r, leaves) == decide.Ready })
}

// TestPersonDrains: who was drained by a person has no load and is not replaced.
func TestPersonDrains(t *testing.T) {
	w := newWorld(true, 3)
	name := replica(w)
	state, ok := w.state.Leave(name, "to be looked at", true, w.now)
	if _, again := state.Leave(name, "to be looked at", true, w.now); !ok || again {
		t.Fatalf("it leaves: %v, and again: %v", ok, again)
	}
	if _, known := w.state.Leave("db9", "", true, w.now); known || w.state.Servers[name].Leaving != nil {
		t.Error("one that there is not can leave, or the state was changed")
	}
	w.state = state
	for end := w.now.Add(time.Hour); w.now.Before(end); {
		if r := w.step(); r.Leave[name] != roles.Drain || of(r, name) != decide.Unwell || len(r.Launch) > 0 {
			t.Fatalf("%+v", r)
		}
	}
	since := w.state.Servers[name].Ready
	if w.state, ok = w.state.Return(name); !ok {
		t.Error("it cannot return")
	}
	w.until(t, time.Minute, "its return", func(r roles.Result) bool { return of(r, name) == decide.Ready })
	if w.state.Servers[name].Ready != since {
		t.Error("that is no change of the role's size")
	}
	if _, ok := w.state.Return(name); ok {
		t.Error("it returns again")
	}
}

// TestNewLeader goes on with what was begun, and gives up nobody whom it has not seen.
func TestNewLeader(t *testing.T) {
	w := newWorld(true, 4)
	w.load = 0.1
	r := w.until(t, 10*time.Minute, "a decision", func(r roles.Result) bool { return len(r.Leave) > 0 })
	leaves := r.Decision.Actions[0].Server
	for _, n := range w.nodes {
		n.silent = true
	}
	w.step()
	w.now = w.now.Add(24 * time.Hour) // without a leader
	w.again(t)
	w.load = 0.7
	if r = w.step(); r.Leave[leaves] == roles.Stay || count(r, decide.Lost) != 0 || len(r.Launch) != 0 {
		t.Errorf("%+v", r)
	}
	for _, n := range w.nodes {
		n.silent = false
	}
	w.until(t, 5*time.Minute, "its end", func(r roles.Result) bool { return len(r.Servers) == 3 && count(r, decide.Ready) == 3 })

	// A leader who knows nothing takes the servers as they are.
	w.state, w.samples = roles.State{}, nil
	if r = w.step(); count(r, decide.Ready) != 3 || len(r.Launch) != 0 || r.State.Last < 3 || r.State.Wanted != 3 {
		t.Errorf("%+v", r)
	}
}

func TestPaused(t *testing.T) {
	w := newWorld(true, 3)
	w.paused, w.load = true, 2.5
	for end := w.now.Add(10 * time.Minute); w.now.Before(end); {
		if r := w.step(); len(r.Launch) > 0 || r.State.Wanted != 3 {
			t.Fatalf("%+v", r)
		}
	}
	w.paused = false
	w.until(t, time.Minute, "a launch", func(r roles.Result) bool { return len(r.Launch) > 0 })
}

// TestSource: what somebody copies from does not go.
func TestSource(t *testing.T) {
	w := newWorld(true, 3)
	name := replica(w)
	w.a = w.a.Clone()
	w.a.Servers = append(w.a.Servers, cluster.Server{Name: "x", Task: cluster.Clone, Source: name})
	in := w.look()
	in.Sources = map[string]bool{w.a.Primary: true}
	for _, s := range w.role.Next(w.state, in, w.now).Servers {
		if want := s.Name == name || s.Name == w.a.Primary; s.Source != want {
			t.Errorf("%s is a source: %v", s.Name, s.Source)
		}
	}
}

func TestDatabaseReport(t *testing.T) {
	good := cluster.Report{Process: cluster.Running, Answers: true, Load: map[string]float64{cluster.LoadClients: 3}}
	if r := roles.DatabaseReport(&good, start); !r.Well || *r.Clients != 3 || r.Heard != start || r.Retired {
		t.Errorf("%+v", r)
	}
	for name, r := range map[string]cluster.Report{
		"does not answer": {Process: cluster.Running, Load: good.Load}, "crashed": {Process: cluster.Crashed, Answers: true},
	} {
		if r := roles.DatabaseReport(&r, start); r.Well || r.Clients != nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
	for _, process := range []cluster.Process{cluster.Absent, cluster.Crashed} {
		if r := roles.DatabaseReport(&cluster.Report{Task: cluster.Retire, Done: true, Process: process}, start); !r.Retired || r.Well {
			t.Errorf("%+v", r)
		}
	}
}

func TestState(t *testing.T) {
	w := newWorld(true, 3)
	before, err := w.state.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for range 10 { // nothing happens, so nothing has to be written
		w.step()
	}
	after, err := w.state.Encode()
	if err != nil || string(before) != string(after) {
		t.Errorf("%s, then %s (%v)", before, after, err)
	}
	if s, err := roles.Decode(nil); err != nil || len(s.Servers) != 0 {
		t.Errorf("of nothing: %v, %v", s, err)
	}
	if _, err := roles.Decode([]byte("{")); err == nil {
		t.Error("what cannot be read is no error")
	}
}
