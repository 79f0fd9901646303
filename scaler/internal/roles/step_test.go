package roles_test

import (
	"testing"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/scaler/internal/decide"
	"farmhand/scaler/internal/roles"
)

// TestLetGo: who drains is told to shut down when nobody can use it any more.
func TestLetGo(t *testing.T) {
	none, some := 0.0, 2.0
	drained := start.Add(28 * time.Second)
	now := start.Add(30 * time.Second)
	good := roles.Report{Heard: now, Well: true, Clients: &none}
	for name, test := range map[string]struct {
		report  roles.Report
		proxies []roles.Proxy
		later   time.Duration
		want    roles.Step
	}{
		"nobody uses it":                       {report: good, want: roles.Retire},
		"the proxies know":                     {report: good, proxies: []roles.Proxy{{7, now}, {8, now}}, want: roles.Retire},
		"a proxy does not know":                {report: good, proxies: []roles.Proxy{{7, now}, {6, now}}, want: roles.Drain},
		"a proxy that is gone does not know":   {report: good, proxies: []roles.Proxy{{7, now}, {6, now.Add(-time.Minute)}}, want: roles.Retire},
		"it has clients":                       {report: roles.Report{Heard: now, Well: true, Clients: &some}, want: roles.Drain},
		"it does not know its clients":         {report: roles.Report{Heard: now, Well: true}, want: roles.Drain},
		"it has no job, and may take one":      {report: roles.Report{Heard: now, Well: true, Jobs: &none}, want: roles.Drain},
		"it had none before it was drained":    {report: roles.Report{Heard: drained, Well: true, Clients: &none}, want: roles.Drain},
		"it has clients and the time is up":    {report: roles.Report{Heard: now.Add(time.Minute), Clients: &some}, later: time.Minute, want: roles.Retire},
		"a proxy never knows, the time is up":  {report: good, proxies: []roles.Proxy{{6, now.Add(time.Minute)}}, later: time.Minute, want: roles.Retire},
		"nothing was heard of it for a moment": {report: roles.Report{Heard: now.Add(-6 * time.Second)}, want: roles.Drain},
	} {
		t.Run(name, func(t *testing.T) {
			r := roles.Role{Name: "db", Policy: decide.Policy{Min: 3, Max: 3, Primary: true}, Limits: roles.DefaultLimits(), Measure: unmeasured}
			state := roles.State{Wanted: 3, Last: 3, Servers: map[string]roles.Server{}}
			in := roles.Inputs{Reports: map[string]roles.Report{}, Members: map[string]bool{}, Proxies: test.proxies, Assignment: &cluster.Assignment{
				Serial: 9, Primary: "db1", Servers: []cluster.Server{
					{Name: "db1", Task: cluster.Lead}, {Name: "db2", Task: cluster.Follow, State: farm.Serving}, {Name: "db3", Task: cluster.Follow, State: farm.Draining},
				},
			}}
			at := now.Add(test.later)
			for _, name := range []string{"db1", "db2", "db3"} {
				state.Servers[name] = roles.Server{Launched: start, Appeared: true, Heard: start, Ready: start}
				in.Instances = append(in.Instances, roles.Instance{Name: name, Launched: start, Runs: true})
				in.Reports[name], in.Members[name] = roles.Report{Heard: at, Well: true, Clients: &some}, true
			}
			leaving := state.Servers["db3"]
			leaving.Leaving = &roles.Leaving{Why: "few use it", Since: start, Drained: drained, Serial: 7}
			state.Servers["db3"] = leaving
			in.Reports["db3"] = test.report
			if got := r.Next(state, in, at); got.Leave["db3"] != test.want || len(got.Leave) != 1 {
				t.Errorf("%v, expected %v: %+v", got.Leave, test.want, got.Notes)
			}
		})
	}
}

func unmeasured([]decide.Server) [][]decide.Sample { return nil }

// TestFirstLook: a leader that has just begun has not seen yet who is there.
func TestFirstLook(t *testing.T) {
	r := roles.Role{Name: "web", Policy: decide.Policy{Min: 2, Max: 2}, Limits: roles.DefaultLimits(), Measure: unmeasured}
	in := func(now time.Time) roles.Inputs {
		return roles.Inputs{
			Instances: []roles.Instance{{Name: "web1", Launched: start.Add(-time.Hour), Runs: true}, {Name: "web2", Launched: start.Add(-time.Hour), Runs: true}},
			Reports:   map[string]roles.Report{"web1": {Heard: now, Well: true}},
		}
	}
	got := r.Next(roles.State{}, in(start), start)
	if of(got, "web2") != decide.Launching {
		t.Errorf("at first: %+v", got.Servers)
	}
	for now := start; now.Before(start.Add(61 * time.Second)); now = now.Add(time.Second) {
		got = r.Next(got.State, in(now), now)
	}
	if of(got, "web2") != decide.Lost || len(got.Launch) != 0 && got.Launch[0] != "web3" {
		t.Errorf("after a minute: %+v", got)
	}
}

// TestBreak: what was before a break of the looking does not count.
func TestBreak(t *testing.T) {
	w := newWorld(true, 3)
	name := replica(w)
	w.nodes[name].unwell = true
	w.until(t, time.Minute, "trouble", func(r roles.Result) bool { return of(r, name) == decide.Unwell })
	w.now = w.now.Add(24 * time.Hour)
	w.again(t)
	began := w.now
	w.until(t, time.Hour, "its loss", func(r roles.Result) bool { return of(r, name) == decide.Lost })
	if took := w.now.Sub(began); took < w.role.Limits.Trouble {
		t.Errorf("it was given up after %v", took)
	}
}

// TestKept: while nobody does its work, a lost server's instance is not terminated.
func TestKept(t *testing.T) {
	w := newWorld(true, 3)
	name := replica(w)
	w.nodes[name].silent, w.held = true, true
	w.until(t, time.Hour, "its loss", func(r roles.Result) bool { return of(r, name) == decide.Lost })
	// Others are launched now and then, which are never there.
	for end := w.now.Add(2 * w.role.Limits.Keep); w.now.Before(end); {
		if r := w.step(); len(r.Leave) > 0 {
			t.Fatalf("%+v", r)
		}
	}
}

// TestNotToldYet: while the proxies were not told, no time begins.
func TestNotToldYet(t *testing.T) {
	w := newWorld(true, 3)
	name := replica(w)
	w.state, _ = w.state.Leave(name, "a person asked", false, w.now)
	for range 200 {
		w.now = w.now.Add(w.tick)
		r := w.role.Next(w.state, w.look(), w.now) // and nobody carries it out
		if r.Leave[name] != roles.Drain || !r.State.Servers[name].Leaving.Drained.IsZero() {
			t.Fatalf("%+v", r)
		}
		w.state = r.State
	}
	w.until(t, time.Minute, "its shutdown", func(r roles.Result) bool { return r.Leave[name] == roles.Retire })
}
