package roles_test

import (
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/scaler/internal/decide"
	"farmhand/scaler/internal/roles"
)

// What the world's servers take.
const (
	launchTime = 30 * time.Second
	warmTime   = 40 * time.Second
	letGoTime  = 10 * time.Second
	stopTime   = 6 * time.Second
	proxyLag   = 4 * time.Second
)

var start = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// node is a server of the world.
type node struct {
	launched, warm, drained, retired time.Time
	runs                             bool
	silent, unwell, never, clings    bool // what is wrong with it
	hooked                           bool // its hooks do not end
	idle                             bool // it has no clients
	kept                             roles.Report
}

// world is a role whose provider, registry and leader do as they should, and servers
// that need not.
type world struct {
	role    roles.Role
	tick    time.Duration
	state   roles.State
	now     time.Time
	nodes   map[string]*node
	a       *cluster.Assignment
	changed time.Time // of the assignment
	load    float64   // of all servers together
	samples []decide.Sample
	paused  bool
	refuses bool // whether the cluster's leader refuses to have a server shut down
	held    bool // whether the provider does not launch
	// elsewhere is whether servers of other roles are heard of.
	elsewhere bool
	in        roles.Inputs
}

func policy(primary bool) decide.Policy {
	return decide.Policy{Min: 2, Max: 6, Primary: primary, Zone: time.UTC, Metrics: []decide.Metric{{
		Name: "cpu", Unit: decide.Share, Spread: true, Out: 0.75, In: 0.3, Window: 30 * time.Second,
		OutCooldown: time.Minute, InCooldown: 2 * time.Minute, OutStep: 2, InStep: 1,
	}}}
}

func newWorld(primary bool, n int) *world {
	w := &world{now: start, tick: 2 * time.Second, nodes: map[string]*node{}, load: 0.5 * float64(n)}
	name := "web"
	if primary {
		w.load = 0.5 * float64(max(n-1, 1))
		name, w.a = "db", &cluster.Assignment{Epoch: 1, Serial: 1, NextID: 1}
	}
	w.role = roles.Role{Name: name, Policy: policy(primary), Limits: roles.DefaultLimits(), Measure: w.measure}
	for i := range n {
		w.nodes[name+strconv.Itoa(i+1)] = &node{launched: start.Add(-time.Hour), runs: true}
	}
	for range 60 {
		w.step()
	}
	return w
}

func (w *world) names() []string { return slices.Sorted(maps.Keys(w.nodes)) }

func (n *node) speaks(now time.Time) bool {
	return n.runs && !n.silent && !n.never && now.Sub(n.launched) >= launchTime
}

func (w *world) measure(servers []decide.Server) [][]decide.Sample {
	carriers := 0
	for _, s := range servers {
		if s.State == decide.Ready && !s.Primary {
			carriers++
		}
	}
	w.samples = append(w.samples, decide.Sample{At: w.now, Value: w.load / float64(max(carriers, 1))})
	if n := len(w.samples); n > 40 {
		w.samples = w.samples[n-40:]
	}
	return [][]decide.Sample{slices.Clone(w.samples)}
}

// step lets a tick pass and does what is said.
func (w *world) step() roles.Result {
	w.now = w.now.Add(w.tick)
	w.in = w.look()
	r := w.role.Next(w.state, w.in, w.now)
	w.state = r.State
	for _, name := range r.Launch {
		if !w.held {
			w.nodes[name] = &node{launched: w.now, runs: true}
		}
	}
	for name, step := range r.Leave {
		if step == roles.Terminate {
			delete(w.nodes, name)
		}
	}
	if w.a != nil {
		w.steer(r.Leave)
	}
	return r
}

// look is what there is to see.
func (w *world) look() roles.Inputs {
	in := roles.Inputs{Members: map[string]bool{}, Reports: map[string]roles.Report{}, Assignment: w.a, Paused: w.paused, Elsewhere: w.elsewhere}
	for _, name := range w.names() {
		n := w.nodes[name]
		in.Instances = append(in.Instances, roles.Instance{Name: name, Launched: n.launched, Runs: n.runs})
		if n.speaks(w.now) {
			clients := 5.0
			if n.idle || !n.drained.IsZero() && w.now.Sub(n.drained) > letGoTime && !n.clings {
				clients = 0
			}
			n.kept = roles.Report{Heard: w.now, Well: !n.unwell, Clients: &clients, Retired: !n.retired.IsZero() && w.now.Sub(n.retired) > stopTime}
		}
		in.Members[name] = n.speaks(w.now)
		in.Reports[name] = n.kept
	}
	in.Hooks = map[string]roles.Hooks{}
	for name, s := range w.state.Servers {
		if s.Leaving == nil {
			continue
		}
		hooks := roles.Hooks{Told: true}
		for _, node := range w.names() {
			if w.nodes[node].hooked {
				hooks.Pending = append(hooks.Pending, node)
			}
		}
		in.Hooks[name] = hooks
	}
	if w.a != nil {
		serial := w.a.Serial
		if w.now.Sub(w.changed) < proxyLag {
			serial--
		}
		in.Proxies = []roles.Proxy{{Serial: serial, Heard: w.now}, {Serial: 0, Heard: w.now.Add(-time.Hour)}}
	}
	return in
}

// steer is a leader of the cluster, a simple one.
func (w *world) steer(leave map[string]roles.Step) {
	a := w.a.Clone()
	a.Servers = slices.DeleteFunc(a.Servers, func(s cluster.Server) bool { return w.nodes[s.Name] == nil })
	for _, name := range w.names() {
		if _, known := a.Server(name); !known && w.nodes[name].speaks(w.now) {
			a.Servers = append(a.Servers, cluster.Server{Name: name, Task: cluster.Follow, State: farm.Warming})
		}
	}
	slices.SortFunc(a.Servers, func(x, y cluster.Server) int {
		if x.Name < y.Name {
			return -1
		}
		return 1
	})
	if p, ok := a.Server(a.Primary); !ok || !w.nodes[p.Name].speaks(w.now) {
		a.Primary = ""
		for i, s := range a.Servers {
			if s.Task == cluster.Lead {
				a.Servers[i].Task, a.Servers[i].State = cluster.Fence, ""
			}
		}
		for i, s := range a.Servers {
			if w.nodes[s.Name].speaks(w.now) && (s.State == farm.Serving || s.State == farm.Draining || len(w.state.Servers) > 0 && w.state.Servers[s.Name].Ready.IsZero() && a.Epoch == 1) && s.Task == cluster.Follow {
				a.Epoch++
				a.Primary, a.Servers[i].Task, a.Servers[i].State = s.Name, cluster.Lead, ""
				break
			}
		}
	}
	for i := range a.Servers {
		s := &a.Servers[i]
		n := w.nodes[s.Name]
		switch {
		case s.Task == cluster.Retire || s.Name == a.Primary:
		case leave[s.Name] >= roles.Retire && !w.refuses:
			s.Task, s.State, n.retired = cluster.Retire, "", w.now
		case leave[s.Name] >= roles.Drain:
			s.State = farm.Draining
		case s.Task == cluster.Fence && n.speaks(w.now):
			s.Task, s.State, n.warm = cluster.Follow, farm.Warming, w.now
		case s.Task == cluster.Follow && n.speaks(w.now):
			if n.warm.IsZero() {
				n.warm = w.now
			}
			if w.now.Sub(n.warm) >= warmTime {
				s.State = farm.Serving
			}
		}
		if s.State != farm.Draining {
			n.drained = time.Time{}
		} else if n.drained.IsZero() {
			n.drained = w.now
		}
	}
	if a.Primary != w.a.Primary || !slices.Equal(a.Servers, w.a.Servers) {
		a.Serial, w.changed = w.a.Serial+1, w.now
		w.a = a
	}
}

// again is a new leader, which knows what was kept.
func (w *world) again(t interface{ Fatal(...any) }) {
	data, err := w.state.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if w.state, err = roles.Decode(data); err != nil {
		t.Fatal(err)
	}
	w.samples = nil
}

// until lets time pass until something is so, at most for limit.
func (w *world) until(t *testing.T, limit time.Duration, what string, is func(r roles.Result) bool) roles.Result {
	t.Helper()
	for end := w.now.Add(limit); w.now.Before(end); {
		if r := w.step(); is(r) {
			return r
		}
	}
	t.Fatalf("%s has not come to pass in %v: %+v", what, limit, w.state)
	return roles.Result{}
}

// of returns what a server is.
func of(r roles.Result, name string) decide.State {
	for _, s := range r.Servers {
		if s.Name == name {
			return s.State
		}
	}
	return 0
}

func count(r roles.Result, state decide.State) int {
	n := 0
	for _, s := range r.Servers {
		if s.State == state {
			n++
		}
	}
	return n
}
