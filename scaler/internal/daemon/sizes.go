package daemon

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/registry"
	"farmhand/scaler/internal/decide"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
)

const (
	// silent is the age from which a report is missing.
	silent = 2500 * time.Millisecond
	// lostAfter is how long nothing may be heard of an instance before it is given
	// up and replaced. Its provider and its own machine start it again much sooner.
	lostAfter = 5 * time.Minute
)

// sizes has the number of servers of each role decided, and begins what comes of
// it. While a change of primary goes on it waits.
func (l *leader) sizes(m *moment) {
	if m.now.Sub(l.sized) < sizesPace {
		return
	}
	l.sized = m.now
	for _, role := range slices.Sorted(maps.Keys(l.farm.Roles)) {
		picture := l.picture(m, role)
		l.measured.take(l.farm, role, picture.Servers, m)
		picture.Readings = l.measured.readings(l.farm, role)
		policy := l.policy(role)
		if len(policy.Metrics) == 0 {
			picture.Readings = nil
		}
		d := decide.Decide(picture, policy, m.now)
		v := RoleView{Kind: l.farm.Roles[role].Kind, Min: policy.Min, Max: policy.Max, Wanted: d.Wanted, Live: live(picture.Servers), Reasons: d.Reasons}
		if n, ok := l.memory.Pinned[role]; ok {
			v.Pinned = n
		}
		held := l.held(m, role)
		switch {
		case len(d.Actions) == 0:
			l.memory.Wanted[role] = d.Wanted
		case held != "":
			v.Held = held
		default:
			l.memory.Wanted[role] = d.Wanted
			for _, a := range d.Actions {
				l.act(role, a)
			}
		}
		v.Failure = l.errands.failure(role)
		l.roles[role] = v
	}
}

// held is why the number of servers is not changed now; empty if it may be.
func (l *leader) held(m *moment, role string) string {
	switch {
	case l.memory.Paused != "":
		return "the farm is paused: " + l.memory.Paused
	case role == l.database && m.assignment != nil && m.assignment.Phase != cluster.Steady:
		return "a change of primary goes on"
	}
	return ""
}

// act begins one action of a decision.
func (l *leader) act(role string, a decide.Action) {
	switch a.Kind {
	case decide.Launch:
		for range a.Count {
			l.launch(role, a.Why)
		}
	case decide.Terminate:
		if _, already := l.memory.Leaving[a.Server]; !already {
			l.memory.Leaving[a.Server] = leaving{Why: a.Why, Since: time.Now().UTC()}
			l.journal.put(registry.Entry{Kind: registry.Decision, Text: a.Server + " is to leave: " + a.Why, Fields: map[string]string{"role": role, "instance": a.Server}})
		}
	}
}

func live(servers []decide.Server) int {
	n := 0
	for _, s := range servers {
		if s.State >= decide.Launching && s.State <= decide.Unwell {
			n++
		}
	}
	return n
}

// picture is what was observed of a role.
func (l *leader) picture(m *moment, role string) decide.Picture {
	p := decide.Picture{Wanted: l.memory.Wanted[role], LastIn: l.memory.LastIn[role]}
	seen := map[string]bool{}
	for _, i := range l.instances {
		if i.RoleName != role {
			continue
		}
		seen[i.Name] = true
		s := decide.Server{Name: i.Name, State: l.state(m, i)}
		if i.Kind == farmfile.MySQLKind {
			s.Primary, s.Source = primary(m.assignment, i.Name), source(m.assignment, i.Name)
		}
		if s.State == decide.Ready && l.readyAt[i.Name].IsZero() {
			l.readyAt[i.Name] = m.now
		}
		if s.State == decide.Lost {
			delete(l.readyAt, i.Name)
		}
		s.ReadyAt = l.readyAt[i.Name]
		p.Servers = append(p.Servers, s)
	}
	for _, name := range l.launches(role) {
		if !seen[name] {
			p.Servers = append(p.Servers, decide.Server{Name: name, State: decide.Launching})
		}
	}
	return p
}

// primary reports whether the server leads, or is to.
func primary(a *cluster.Assignment, name string) bool {
	leader, ok := a.Leader()
	return ok && leader.Name == name
}

// source reports whether another server copies the server's data.
func source(a *cluster.Assignment, name string) bool {
	return a != nil && slices.ContainsFunc(a.Servers, func(s cluster.Server) bool { return s.Task == cluster.Clone && s.Source == name })
}

// state is what an instance does, for the number of servers.
func (l *leader) state(m *moment, i provider.Instance) decide.State {
	if leave, ok := l.memory.Leaving[i.Name]; ok && !leave.Stays || i.State == provider.Terminating {
		if leave.Lost {
			return decide.Lost
		}
		return decide.Draining
	}
	heard, age := false, longAgo
	switch i.Kind {
	case farmfile.MySQLKind:
		var r *cluster.Report
		r, age = m.report(i.Name)
		heard = r != nil
	case farmfile.WebKind:
		if a, ok := m.webs[i.Name]; ok {
			heard, age = true, a.age(m.now)
		}
	}
	fresh := heard && age <= silent
	if !fresh && l.quiet(m, i, heard, age) > lostAfter {
		return decide.Lost
	}
	switch {
	case !heard:
		return decide.Launching
	case !fresh:
		return decide.Unwell
	case i.Kind == farmfile.MySQLKind:
		return databaseState(m, i.Name)
	}
	if web := m.webs[i.Name].report; web.PID == 0 {
		return decide.Warming
	}
	return decide.Ready
}

// quiet is for how long nothing has been heard of an instance for certain.
func (l *leader) quiet(m *moment, i provider.Instance, heard bool, age time.Duration) time.Duration {
	if heard && age < longAgo {
		return age
	}
	since := l.began // we have only listened since then
	if i.Launched.After(since) {
		since = i.Launched
	}
	return m.now.Sub(since)
}

// databaseState is what a database server that is heard does.
func databaseState(m *moment, name string) decide.State {
	s, known := m.assignment.Server(name)
	r := m.databases[name].report
	switch {
	case !known:
		return decide.Warming
	case s.Task == cluster.Lead && r.Answers, s.Task == cluster.Follow && s.State == farm.Serving && r.Answers:
		return decide.Ready
	case s.Task == cluster.Follow && s.State != farm.Serving, s.Task == cluster.Clone:
		return decide.Warming
	case s.Task == cluster.Retire:
		return decide.Draining
	}
	return decide.Unwell
}

func servers(n int) string {
	if n == 1 {
		return "1 server"
	}
	return fmt.Sprintf("%d servers", n)
}
