package roles_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"farmhand/scaler/internal/decide"
	"farmhand/scaler/internal/roles"
)

// TestLostServer is replaced, kept to be looked at, and then terminated.
func TestLostServer(t *testing.T) {
	w := newWorld(true, 3)
	name := replica(w)
	w.nodes[name].silent = true
	began := w.now
	w.until(t, time.Minute, "trouble", func(r roles.Result) bool { return of(r, name) == decide.Unwell })
	r := w.until(t, time.Hour, "its loss", func(r roles.Result) bool { return of(r, name) == decide.Lost })
	if took := w.now.Sub(began); took < w.role.Limits.Silent || took > w.role.Limits.Silent+15*time.Second {
		t.Errorf("it was given up after %v", took)
	}
	if !slices.Equal(r.Launch, []string{"db4"}) || !strings.Contains(strings.Join(r.Notes, ";"), name+" is given up: nothing was heard of it for 1m0s") {
		t.Errorf("%v, %v", r.Launch, r.Notes)
	}
	lost := w.now
	w.until(t, 2*time.Hour, "the end of its instance", func(roles.Result) bool { return w.nodes[name] == nil })
	if took := w.now.Sub(lost); took < w.role.Limits.Keep {
		t.Errorf("its instance was terminated after %v", took)
	}
	if r := w.step(); len(r.Servers) != 3 || count(r, decide.Ready) != 3 || !r.State.LastIn.IsZero() {
		t.Errorf("%+v", r)
	}
}

// replica is one of the world's that is not the primary.
func replica(w *world) string {
	for _, name := range w.names() {
		if name != w.a.Primary {
			return name
		}
	}
	return ""
}

// TestLostServerComesBack before its instance was terminated: then there is one too
// many, and one goes.
func TestLostServerComesBack(t *testing.T) {
	w := newWorld(true, 3)
	name := replica(w)
	w.nodes[name].silent = true
	w.until(t, time.Hour, "a replacement", func(r roles.Result) bool { return count(r, decide.Lost) == 1 && count(r, decide.Ready) == 3 })
	w.nodes[name].silent = false
	r := w.until(t, time.Minute, "its return", func(r roles.Result) bool { return count(r, decide.Ready) == 4 })
	if !slices.Contains(r.Notes, name+" is back") {
		t.Errorf("%v", r.Notes)
	}
	w.until(t, time.Hour, "3 servers", func(r roles.Result) bool { return len(r.Servers) == 3 && len(r.Leave) == 0 })
}

// TestLaunchFails: what never appears, or never speaks, is replaced, under new names.
func TestLaunchFails(t *testing.T) {
	w := newWorld(true, 2)
	w.load, w.held = 0.9, true
	w.until(t, 10*time.Minute, "a launch", func(r roles.Result) bool { return slices.Contains(r.Launch, "db3") })
	began := w.now
	w.until(t, 10*time.Minute, "another launch", func(r roles.Result) bool { return slices.Contains(r.Launch, "db4") })
	if took := w.now.Sub(began); took < w.role.Limits.Appear || took > w.role.Limits.Appear+10*time.Second {
		t.Errorf("it was asked for again after %v", took)
	}
	w.held = false
	r := w.until(t, 10*time.Minute, "another launch", func(r roles.Result) bool { return len(r.Launch) > 0 })
	name := r.Launch[0]
	w.nodes[name].never = true
	began = w.now
	w.until(t, time.Hour, "its loss", func(r roles.Result) bool { return of(r, name) == decide.Lost })
	if took := w.now.Sub(began); took < w.role.Limits.Launch || took > w.role.Limits.Launch+10*time.Second {
		t.Errorf("it was given up after %v", took)
	}
	w.until(t, time.Minute, "the end of its instance", func(roles.Result) bool { return w.nodes[name] == nil })
	w.until(t, 10*time.Minute, "a third server", func(r roles.Result) bool { return count(r, decide.Ready) == 3 })
}

// TestAllSilent: when nothing is heard of anybody, it may be us.
func TestAllSilent(t *testing.T) {
	w := newWorld(false, 3)
	for _, n := range w.nodes {
		n.silent = true
	}
	began := w.now
	w.until(t, time.Hour, "their loss", func(r roles.Result) bool { return count(r, decide.Lost) == 3 })
	if took := w.now.Sub(began); took < w.role.Limits.AllSilent {
		t.Errorf("they were given up after %v", took)
	}
}

// TestVanished: an instance that somebody else has terminated is replaced.
func TestVanished(t *testing.T) {
	w := newWorld(false, 3)
	delete(w.nodes, "web2")
	began := w.now
	r := w.until(t, 10*time.Minute, "a launch", func(r roles.Result) bool { return len(r.Launch) > 0 })
	if took := w.now.Sub(began); took < w.role.Limits.Appear || !slices.Equal(r.Launch, []string{"web4"}) || of(r, "web2") != 0 {
		t.Errorf("after %v: %+v", took, r)
	}
}

// TestLostServerHandsItsDiskOn at once, if its replacement is to have that.
func TestLostServerHandsItsDiskOn(t *testing.T) {
	w := newWorld(true, 3)
	w.role.Limits.Hand = true
	name := replica(w)
	w.nodes[name].silent = true
	r := w.until(t, time.Hour, "its loss", func(r roles.Result) bool { return of(r, name) == decide.Lost })
	if leave := r.State.Servers[name].Leaving; leave == nil || !leave.Lost {
		t.Errorf("it is lost and does not leave: %+v", r.State.Servers[name])
	}
	lost := w.now
	w.until(t, time.Hour, "the end of its instance", func(roles.Result) bool { return w.nodes[name] == nil })
	if took := w.now.Sub(lost); took > w.role.Limits.Retire+time.Minute {
		t.Errorf("its instance was terminated after %v", took)
	}
}

// TestOnlyServer: where a role has one server, others of the farm say whether it is us.
func TestOnlyServer(t *testing.T) {
	for _, elsewhere := range []bool{true, false} {
		w := newWorld(false, 1)
		w.role.Policy.Min, w.role.Policy.Max, w.role.Policy.Metrics = 1, 1, nil
		w.role.Limits.Silent, w.role.Limits.Hand = 20*time.Second, true
		w.elsewhere = elsewhere
		w.until(t, 20*time.Minute, "one server", func(r roles.Result) bool { return len(r.Servers) == 1 && of(r, "web1") == decide.Ready })
		w.nodes["web1"].silent = true
		began := w.now
		r := w.until(t, time.Hour, "its loss", func(r roles.Result) bool { return of(r, "web1") == decide.Lost })
		most := w.role.Limits.Silent
		if !elsewhere {
			most = w.role.Limits.AllSilent
		}
		if took := w.now.Sub(began); took < most || took > most+10*time.Second {
			t.Errorf("it was given up after %v; others are heard of: %v", took, elsewhere)
		}
		if len(r.Launch) != 1 || r.State.Servers[r.Launch[0]].Slot != 1 {
			t.Errorf("%v are launched in its place: %+v", r.Launch, r.State)
		}
		w.until(t, 10*time.Second, "the end of its instance", func(roles.Result) bool { return w.nodes["web1"] == nil })
	}
}
