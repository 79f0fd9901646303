package roles_test

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/scaler/internal/decide"
	"farmhand/scaler/internal/roles"
)

// TestWhateverHappens lets anything happen to a role, and wants what doc.go promises
// at every step; and that all is well again some time after it has ended.
func TestWhateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(rapid.Bool().Draw(t, "database"), rapid.IntRange(2, 5).Draw(t, "servers"))
		w.role.Limits.Launch, w.role.Limits.Warm, w.role.Limits.AllSilent = 2*time.Minute, 4*time.Minute, 2*time.Minute
		w.role.Limits.Trouble, w.role.Limits.Keep = 2*time.Minute, 3*time.Minute
		w.tick = 5 * time.Second
		c := &checker{given: map[string]bool{}}
		for range rapid.IntRange(1, 10).Draw(t, "events") {
			happens(t, w)
			for range rapid.IntRange(1, 30).Draw(t, "ticks") {
				c.step(t, w)
			}
		}
		// All is healed.
		w.paused, w.refuses, w.held = false, false, false
		for name, n := range w.nodes {
			n.silent, n.unwell, n.clings, n.never, n.hooked, n.runs = false, false, false, false, false, true
			if s, ok := w.state.Return(name); ok {
				w.state = s
			}
		}
		for range int(15 * time.Minute / w.tick) {
			w.step()
		}
		w.load = 0.5 * float64(max(len(w.nodes)-1, 1)) // so that nothing has to be done about it
		for range int(5 * time.Minute / w.tick) {
			w.step()
		}
		r := c.step(t, w)
		if n := count(r, decide.Ready); n != len(r.Servers) || n != len(w.nodes) || n < r.State.Wanted || n < w.role.Policy.Min || len(r.Leave) > 0 {
			t.Fatalf("in the end: %+v", r)
		}
	})
}

// happens lets one thing happen.
func happens(t *rapid.T, w *world) {
	pick := func() *node {
		names := w.names()
		if len(names) == 0 {
			return &node{}
		}
		return w.nodes[rapid.SampledFrom(names).Draw(t, "node")]
	}
	switch rapid.SampledFrom([]string{
		"silent", "heard", "silent", "unwell", "well", "stops", "runs", "clings", "vanishes", "load", "load",
		"hooks", "hooks", "paused", "refuses", "held", "leader", "leave", "leave", "return", "nothing",
	}).Draw(t, "what") {
	case "silent":
		pick().silent = true
	case "heard":
		pick().silent = false
	case "unwell":
		pick().unwell = true
	case "well":
		pick().unwell = false
	case "stops":
		pick().runs = false
	case "runs":
		pick().runs = true
	case "clings":
		n := pick()
		n.clings = !n.clings
	case "hooks":
		n := pick()
		n.hooked = !n.hooked
	case "vanishes":
		for _, name := range w.names() {
			if rapid.IntRange(0, 3).Draw(t, "vanishes") == 0 {
				delete(w.nodes, name)
			}
		}
	case "load":
		w.load = rapid.SampledFrom([]float64{0, 0.3, 1, 2, 4}).Draw(t, "load")
	case "paused":
		w.paused = !w.paused
	case "refuses":
		w.refuses = !w.refuses
	case "held":
		w.held = !w.held
	case "leader":
		w.now = w.now.Add(time.Duration(rapid.IntRange(0, 7200).Draw(t, "break")) * time.Second)
		w.again(t)
	case "leave":
		names := slices.Sorted(maps.Keys(w.state.Servers))
		if name := rapid.SampledFrom(append(names, "nobody")).Draw(t, "server"); w.a == nil || name != w.a.Primary {
			w.state, _ = w.state.Leave(name, "a person asked", rapid.Bool().Draw(t, "stays"), w.now)
		}
	case "return":
		for name := range w.state.Servers {
			w.state, _ = w.state.Return(name)
		}
	}
}

// checker holds every step to the promises.
type checker struct{ given map[string]bool }

func (c *checker) step(t *rapid.T, w *world) roles.Result {
	before := text(t, w.state)
	state := w.state
	r := w.step()
	if text(t, state) != before {
		t.Fatalf("the state was changed: %s, now %s", before, text(t, state))
	}
	if again := c.repeat(w, state); !reflect.DeepEqual(again.State, r.State) || !reflect.DeepEqual(again.Leave, r.Leave) || !reflect.DeepEqual(again.Launch, r.Launch) {
		t.Fatalf("the same is not the same: %+v and %+v", r, again)
	}
	for _, name := range r.Launch {
		if _, known := state.Servers[name]; known || c.given[name] {
			t.Fatalf("%s was given before", name)
		}
		c.given[name] = true
	}
	live := 0
	for _, s := range r.Servers {
		if s.State >= decide.Launching && s.State <= decide.Unwell {
			live++
		}
	}
	if len(r.Launch) > 0 && live+len(r.Launch) > w.role.Policy.Max {
		t.Fatalf("%d servers and %v", live, r.Launch)
	}
	for name, step := range r.Leave {
		c.leaves(t, w, r.State.Servers[name], name, step)
	}
	return r
}

// repeat is the same step again.
func (c *checker) repeat(w *world, state roles.State) roles.Result {
	role := w.role
	role.Measure = func([]decide.Server) [][]decide.Sample { return [][]decide.Sample{w.samples} }
	return role.Next(state, w.in, w.now)
}

func (c *checker) leaves(t *rapid.T, w *world, s roles.Server, name string, step roles.Step) {
	if w.in.Assignment == nil {
		return
	}
	part, known := w.in.Assignment.Server(name)
	switch {
	case w.in.Assignment.Primary == name || part.Task == cluster.Lead:
		t.Fatalf("%s leaves (%v), and it is the primary", name, step)
	case step > roles.Drain && len(w.in.Hooks[name].Pending) > 0 && s.Leaving.Hooked.Before(s.Leaving.Since.Add(w.role.Limits.Hooks)) && s.Leaving.Hooked.Equal(w.now) && !s.Leaving.Lost:
		t.Fatalf("%s leaves (%v), and hooks run", name, step)
	case step == roles.Retire && part.State == farm.Serving && !s.Leaving.Lost:
		t.Fatalf("%s is told to shut down, and it serves", name)
	case step == roles.Terminate && known && part.Task != cluster.Retire:
		t.Fatalf("%s is terminated, and its task is to %s", name, part.Task)
	}
}

func text(t *rapid.T, s roles.State) string {
	data, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestAnyInputs: whatever is seen, the promises of a single step hold.
func TestAnyInputs(t *testing.T) {
	names := []string{"db1", "db2", "db3", "db4", "other"}
	rapid.Check(t, func(t *rapid.T) {
		role := roles.Role{Name: "db", Policy: policy(rapid.Bool().Draw(t, "database")), Limits: roles.DefaultLimits()}
		role.Measure = func([]decide.Server) [][]decide.Sample {
			return [][]decide.Sample{{{At: start, Value: rapid.SampledFrom([]float64{0, 1, math.NaN()}).Draw(t, "value")}}}
		}
		var state roles.State
		now := start
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 4000).Draw(t, "later")) * time.Second)
			in := roles.Inputs{Members: map[string]bool{}, Reports: map[string]roles.Report{}, Assignment: &cluster.Assignment{Serial: rapid.Uint64().Draw(t, "serial")}}
			for _, name := range names {
				flag := func(what string) bool { return rapid.Bool().Draw(t, name+" "+what) }
				if flag("there") {
					in.Instances = append(in.Instances, roles.Instance{Name: name, Launched: now.Add(-time.Hour), Runs: flag("runs")})
				}
				in.Members[name] = flag("member")
				if flag("reports") {
					in.Reports[name] = roles.Report{Heard: now, Well: flag("well"), Retired: flag("retired")}
				}
				if flag("assigned") {
					in.Assignment.Servers = append(in.Assignment.Servers, cluster.Server{
						Name: name, Task: rapid.SampledFrom(cluster.Tasks()).Draw(t, "task"),
						State: rapid.SampledFrom([]farm.State{"", farm.Serving, farm.Warming, farm.Draining}).Draw(t, "state"),
					})
				}
			}
			in.Assignment.Primary = rapid.SampledFrom(append(names, "")).Draw(t, "primary")
			r := role.Next(state, in, now)
			for name, step := range r.Leave {
				part, known := in.Assignment.Server(name)
				if role.Policy.Primary && step != roles.Stay && known && (part.Task == cluster.Lead || in.Assignment.Primary == name) {
					t.Fatalf("%s leaves (%v), and it is the primary: %+v", name, step, in.Assignment)
				}
			}
			for _, s := range r.Servers {
				if s.State < decide.Launching || s.State > decide.Lost {
					t.Fatal(fmt.Sprint(s))
				}
			}
			state = r.State
		}
	})
}
