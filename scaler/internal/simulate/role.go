package simulate

import (
	"math"
	"slices"
	"strconv"
	"time"

	"farmhand/scaler/internal/decide"
	"farmhand/scaler/internal/farmfile"
)

// role is one of the farm's being simulated.
type role struct {
	name     string
	kind     farmfile.RoleKind
	policy   decide.Policy
	metrics  []farmfile.MetricKind // of the policy
	assumed  Assumption
	delays   *Assumptions
	trace    *Trace
	picture  decide.Picture
	since    map[string]time.Time // when a server's state began
	launched int                  // servers so far
	load     load
}

// newRole returns the role with its least number of servers, ready, and the
// metrics that are left out because the trace does not tell of them.
func newRole(name string, f *farmfile.Farm, t *Trace, a *Assumptions) (r *role, leftOut []string) {
	r = &role{
		name: name, kind: f.Roles[name].Kind, policy: f.Scaling(name), assumed: a.Roles[name],
		delays: a, trace: t, since: map[string]time.Time{},
	}
	all := r.policy.Metrics
	r.policy.Metrics = nil
	for i, m := range f.Roles[name].Scaling {
		if _, known := r.value(m.Kind, t.Times[0], 1); !known && !t.has(name, string(m.Kind)) {
			leftOut = append(leftOut, name+": "+m.Name())
			continue
		}
		r.policy.Metrics = append(r.policy.Metrics, all[i])
		r.metrics = append(r.metrics, m.Kind)
	}
	r.picture.Readings = make([][]decide.Sample, len(r.metrics))
	for range r.policy.Min {
		r.launch(time.Time{})
	}
	for i := range r.picture.Servers {
		r.picture.Servers[i].State = decide.Ready
	}
	return r, leftOut
}

func (r *role) launch(now time.Time) {
	r.launched++
	name := r.name + strconv.Itoa(r.launched)
	r.since[name] = now
	r.picture.Servers = append(r.picture.Servers, decide.Server{
		Name: name, State: decide.Launching, Primary: r.policy.Primary && r.launched == 1,
	})
}

// advance lets happen what was asked of the provider before now.
func (r *role) advance(now time.Time) {
	warm := r.delays.WarmUp
	if r.kind != farmfile.MySQLKind {
		warm = 0 // only a replica has something to catch up with
	}
	r.picture.Servers = slices.DeleteFunc(r.picture.Servers, func(s decide.Server) bool {
		gone := s.State == decide.Draining && now.Sub(r.since[s.Name]) >= r.delays.Drain
		if gone {
			r.picture.LastIn = now
			delete(r.since, s.Name)
		}
		return gone
	})
	for i := range r.picture.Servers {
		s := &r.picture.Servers[i]
		if s.State == decide.Launching && now.Sub(r.since[s.Name]) >= r.delays.Launch {
			s.State, r.since[s.Name] = decide.Warming, now
		}
		if s.State == decide.Warming && now.Sub(r.since[s.Name]) >= warm {
			s.State, s.ReadyAt = decide.Ready, now
		}
	}
}

// carriers is how many servers share the load: the primary has it only while
// nobody else can.
func (r *role) carriers() int {
	n := 0
	for _, s := range r.picture.Servers {
		if s.State == decide.Ready && !s.Primary {
			n++
		}
	}
	return max(n, 1)
}

// measure takes the metrics as they are now.
func (r *role) measure(now time.Time) {
	var known bool
	r.load, known = r.trace.loadAt(r.name, r.kind, now, r.load)
	carriers := r.carriers()
	for i, kind := range r.metrics {
		value, derived := r.value(kind, now, carriers)
		if !math.IsNaN(value) && (known || !derived) {
			r.picture.Readings[i] = append(r.picture.Readings[i], decide.Sample{At: now, Value: value})
		}
		from := now.Add(-r.policy.Metrics[i].Window)
		r.picture.Readings[i] = slices.DeleteFunc(r.picture.Readings[i], func(s decide.Sample) bool { return s.At.Before(from) })
	}
}

// value is what a metric shows, and whether it follows from the load.
func (r *role) value(kind farmfile.MetricKind, now time.Time, carriers int) (value float64, derived bool) {
	use := r.load.use(carriers, r.assumed.Capacity)
	switch kind {
	case farmfile.CPUMetric:
		return min(use, 1), true // no processor shows more
	case farmfile.LoadMetric:
		return use, true
	case farmfile.QueriesMetric:
		return min(use, 1) * r.assumed.Capacity, true
	}
	value = r.trace.at(r.name, string(kind), now)
	if shared := measured[kind]; shared {
		value /= float64(carriers)
	}
	return value, false
}

// decide decides and asks it of the provider.
func (r *role) decide(now time.Time) decide.Decision {
	d := decide.Decide(r.picture, r.policy, now)
	r.picture.Wanted = d.Wanted
	for _, a := range d.Actions {
		for range a.Count {
			r.launch(now)
		}
		for i := range r.picture.Servers {
			if s := &r.picture.Servers[i]; a.Kind == decide.Terminate && s.Name == a.Server {
				s.State, r.since[s.Name] = decide.Draining, now
			}
		}
	}
	return d
}

func (r *role) point(now time.Time) Point {
	p := Point{
		At: now, Load: r.load.shared, Servers: len(r.picture.Servers),
		Capacity: float64(r.carriers()) * max(0, r.assumed.Capacity-r.load.every),
	}
	for _, s := range r.picture.Servers {
		if s.State == decide.Ready {
			p.Ready++
		}
	}
	return p
}
