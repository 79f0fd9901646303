package daemon

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/registry"
	"farmhand/scaler/internal/decide"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
	"farmhand/scaler/internal/roles"
)

// silent is how long a node may take to speak when we have just begun to listen.
const silent = 2500 * time.Millisecond

// sizes goes on with the number of servers of each role. What comes of it is done
// once it is kept: see carryOut.
func (l *leader) sizes(ctx context.Context, m *moment) error {
	if m.now.Sub(l.sized) < sizesPace {
		return nil
	}
	l.sized = m.now
	decisions := map[string]decide.Decision{}
	for role := range sortedRoles(l.farm) {
		policy, held := l.policy(role), l.held(m, role)
		limits := l.limits(role)
		limits.Hand = pinned(l.farm.Roles[role].Storage)
		r := roles.Role{Name: role, Policy: policy, Limits: limits, Measure: l.measured.measure(l.farm, role, len(policy.Metrics) > 0, m)}
		in := l.inputs(m, role)
		in.Paused, in.Hooks = held != "", l.hooks(m, role)
		result := r.Next(l.memory.Roles[role], in, m.now)
		l.memory.take(role, result.State)
		l.servers[role] = result.Servers
		for _, note := range result.Notes {
			l.journal.put(registry.Entry{Kind: registry.Decision, Text: note, Fields: map[string]string{"role": role}})
		}
		if held == "" {
			decisions[role] = result.Decision
		}
		v := RoleView{
			Kind: l.farm.Roles[role].Kind, Min: policy.Min, Max: policy.Max, Pinned: l.memory.Pinned[role],
			Wanted: result.Decision.Wanted, Live: live(result.Servers), Reasons: result.Decision.Reasons, Failure: l.errands.failure(role),
		}
		v.Outdated, v.OutdatedKeys = l.outdated(role)
		if len(result.Decision.Actions) > 0 {
			v.Held = held
		}
		l.roles[role] = v
	}
	if err := l.remember(ctx); err != nil {
		return err
	}
	for role, d := range decisions {
		l.announce(role, d)
	}
	return nil
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

// announce says what was decided. A launch is journaled when it is begun.
func (l *leader) announce(role string, d decide.Decision) {
	for _, a := range d.Actions {
		switch a.Kind {
		case decide.Launch:
			l.whys[role] = a.Why
		case decide.Terminate:
			l.journal.put(registry.Entry{Kind: registry.Decision, Text: a.Server + " is to leave: " + a.Why, Fields: map[string]string{"role": role, "instance": a.Server}})
		}
	}
}

// inputs is what there is to see of a role.
func (l *leader) inputs(m *moment, role string) roles.Inputs {
	in := roles.Inputs{Members: map[string]bool{}, Reports: map[string]roles.Report{}}
	for name := range m.members {
		in.Members[name] = true
	}
	database := l.farm.Roles[role].Kind == farmfile.MySQLKind
	if database {
		in.Assignment = m.assignment
	}
	only := l.farm.Roles[role].Kind == farmfile.StorageServerKind // there is no other of the role that could be heard of
	for _, i := range l.instances {
		node, isNode := m.nodes[i.Name]
		if only && i.RoleName != role {
			_, member := m.members[i.Name]
			in.Elsewhere = in.Elsewhere || member || isNode && node.age(m.now) <= roles.DefaultLimits().Fresh
		}
		if i.RoleName == role {
			in.Instances = append(in.Instances, roles.Instance{Name: i.Name, Launched: i.Launched, Slot: i.Slot, Runs: i.State == provider.Running})
			if db, ok := m.databases[i.Name]; ok && database {
				in.Reports[i.Name] = roles.DatabaseReport(db.report, db.at)
			} else if isNode && !database {
				in.Reports[i.Name] = nodeReport(i.Kind, node.report, node.at)
			}
		}
		if isNode && database && i.Kind == farmfile.WebKind && l.clusterOf(i.RoleName) == role {
			in.Proxies = append(in.Proxies, roles.Proxy{Serial: node.report.Serial, Heard: node.at})
		}
	}
	return in
}

// nodeReport is what the report of a node of the kind, which came at heard, says of it.
func nodeReport(kind farmfile.RoleKind, r *cluster.NodeReport, heard time.Time) roles.Report {
	report := roles.Report{Heard: heard, Well: r.Well}
	clients, known := r.Load[cluster.LoadClients]
	begun, counted := r.Load[cluster.LoadNewClients]
	if known && (counted || kind != farmfile.WebKind) {
		if begun > 0 { // PHP's sessions are short: most of the time there may be none
			clients = max(clients, 1)
		}
		report.Clients = &clients
	}
	if jobs, known := r.Load[cluster.LoadJobs]; known {
		report.Jobs = &jobs
	}
	return report
}

// live is how many of the servers are, or soon will be, the role's.
func live(servers []decide.Server) int {
	n := 0
	for _, s := range servers {
		if s.State >= decide.Launching && s.State <= decide.Unwell {
			n++
		}
	}
	return n
}

// countsAs is what an instance is for the size of its role; empty before that is known.
func (l *leader) countsAs(i provider.Instance) string {
	at := slices.IndexFunc(l.servers[i.RoleName], func(s decide.Server) bool { return s.Name == i.Name })
	if at < 0 {
		return ""
	}
	return l.servers[i.RoleName][at].State.String()
}

// primary reports whether the server leads, or is to.
func primary(a *cluster.Assignment, name string) bool {
	leader, ok := a.Leader()
	return ok && leader.Name == name
}

// known is what is known of a server of any role.
func (l *leader) known(name string) (s roles.Server, role string, ok bool) {
	for _, role := range slices.Sorted(maps.Keys(l.memory.Roles)) {
		if s, ok := l.memory.Roles[role].Servers[name]; ok {
			return s, role, true
		}
	}
	return roles.Server{}, "", false
}

func servers(n int) string {
	if n == 1 {
		return "1 server"
	}
	return fmt.Sprintf("%d servers", n)
}
