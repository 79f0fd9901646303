package roles

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"farmhand/internal/cluster"
	"farmhand/scaler/internal/decide"
)

// Result is what is known now, and what is to be done.
type Result struct {
	State    State
	Servers  []decide.Server // by name
	Decision decide.Decision
	// Launch are the names of the instances to launch, each said once.
	Launch []string
	// Leave are the servers on their way out and their next step, said until it is done.
	Leave map[string]Step
	// Notes are what has happened to servers, for people.
	Notes []string
}

// Role is what is to be known of a role to go on with it.
type Role struct {
	Name   string
	Policy decide.Policy
	Limits Limits
	// Measure returns the readings of the policy's metrics, as the servers are now;
	// package metric makes it.
	Measure func([]decide.Server) [][]decide.Sample
}

// Next goes on with a role. The state must be kept before the rest is done.
func (r *Role) Next(state State, in Inputs, now time.Time) Result {
	n := &next{role: r.Name, policy: &r.Policy, limits: &r.Limits, in: &in, now: now, state: state.clone(), instances: map[string]Instance{}}
	for _, i := range in.Instances {
		n.instances[i.Name] = i
	}
	n.observe()
	n.leave()
	servers := n.servers()
	d := decide.Decide(decide.Picture{
		Servers: servers, Wanted: n.state.Wanted, LastIn: n.state.LastIn, Readings: r.Measure(servers),
	}, r.Policy, now)
	result := Result{Servers: servers, Decision: d}
	if !in.Paused {
		result.Launch = n.apply(&d)
	}
	result.State, result.Leave, result.Notes = n.state, n.state.Steps(), n.notes
	return result
}

// next is one step being made.
type next struct {
	role      string
	policy    *decide.Policy
	limits    *Limits
	in        *Inputs
	now       time.Time
	instances map[string]Instance
	state     State // being changed
	notes     []string
}

func (n *next) names() []string { return n.state.Names() }

func (n *next) note(format string, values ...any) {
	n.notes = append(n.notes, fmt.Sprintf(format, values...))
}

// servers are those of the picture.
func (n *next) servers() []decide.Server {
	var list []decide.Server
	for _, name := range n.names() {
		s := n.state.Servers[name]
		list = append(list, decide.Server{
			Name: name, State: s.phase(), ReadyAt: s.Ready,
			Primary: n.policy.Primary && n.see(name).leads && n.in.Assignment.Primary == name,
			Source:  n.in.Sources[name] || n.copied(name),
			Busy:    n.in.Reports[name].busy(),
		})
	}
	return list
}

// copied reports whether another server's data is being made from this one's.
func (n *next) copied(name string) bool {
	return n.in.Assignment != nil && slices.ContainsFunc(n.in.Assignment.Servers, func(s cluster.Server) bool {
		return s.Task == cluster.Clone && s.Source == name
	})
}

// freeSlot is the lowest place that no server has which stays.
func (n *next) freeSlot() int {
	taken := map[int]bool{}
	for _, s := range n.state.Servers {
		if s.Lost.IsZero() && (s.Leaving == nil || s.Leaving.Stays) {
			taken[s.Slot] = true
		}
	}
	slot := 1
	for taken[slot] {
		slot++
	}
	return slot
}

// apply takes the decision into the state and returns the names of new servers.
func (n *next) apply(d *decide.Decision) (launch []string) {
	n.state.Wanted = d.Wanted
	for _, a := range d.Actions {
		switch a.Kind {
		case decide.Launch:
			for range a.Count {
				n.state.Last++
				name := n.role + strconv.Itoa(n.state.Last)
				n.state.Servers[name] = Server{Launched: n.now, Slot: n.freeSlot()}
				launch = append(launch, name)
			}
		case decide.Terminate:
			s := n.state.Servers[a.Server]
			s.Leaving = &Leaving{Why: a.Why, Since: n.now}
			n.state.Servers[a.Server] = s
		}
	}
	return launch
}
