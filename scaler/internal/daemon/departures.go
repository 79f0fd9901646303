package daemon

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
	"farmhand/scaler/internal/roles"
)

// departures are the servers on their way out, as the nodes are to know them. One that
// was given up is none: what there would be to do with it in order is too late.
func (l *leader) departures(m *moment) *cluster.Departures {
	d := &cluster.Departures{Term: l.term.Number, Hosts: []cluster.Departure{}}
	for role := range sortedRoles(l.farm) {
		state := l.memory.Roles[role]
		for _, name := range state.Names() {
			leave := state.Servers[name].Leaving
			if leave == nil || leave.Lost {
				continue
			}
			one := cluster.Departure{Host: l.eventHost(m, role, name), Since: leave.Since.UTC(), Why: leave.Why}
			if !leave.Stays {
				one.Event = departureID(l.farm.Name, name, leave.Since)
			}
			d.Hosts = append(d.Hosts, one)
		}
	}
	slices.SortFunc(d.Hosts, func(a, b cluster.Departure) int { return cmp.Compare(a.Host.Name, b.Host.Name) })
	return d
}

// departureID is the id of the event that a server is to be terminated: the same for
// every leader.
func departureID(farm, name string, since time.Time) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %d", farm, name, since.UnixNano()))
	return hex.EncodeToString(sum[:12])
}

// eventHost is a server as an event names it.
func (l *leader) eventHost(m *moment, role, name string) farm.EventHost {
	host := farm.EventHost{Name: name, Role: string(l.farm.Roles[role].Kind), Address: m.members[name].Address}
	if l.farm.Roles[role].Kind == farmfile.MySQLKind {
		host.Role = string(farm.Replica)
		if primary(m.assignment, name) {
			host.Role = string(farm.Primary)
		}
	}
	if server, ok := m.assignment.Server(name); ok {
		host.Address = server.Address
	}
	host.Address = cmp.Or(host.Address, name) // as membership has it of who serves at no address
	return host
}

// depart tells the nodes who is on the way out, once that is kept.
func (l *leader) depart(ctx context.Context, m *moment) error {
	if l.database == "" {
		return nil // such a farm has no nodes
	}
	data, err := l.departures(m).Encode()
	if err != nil || bytes.Equal(data, l.departed) {
		return err
	}
	if err := l.client.Write(ctx, l.term, l.departing, data); err != nil {
		return err
	}
	l.departed = data
	return nil
}

// hooks are how far the hooks are that run before the end of a role's servers, on all
// nodes that are there to run them.
func (l *leader) hooks(m *moment, role string) map[string]roles.Hooks {
	all := map[string]roles.Hooks{}
	for name, s := range l.memory.Roles[role].Servers {
		if s.Leaving == nil || s.Leaving.Stays || s.Leaving.Lost {
			continue
		}
		event := departureID(l.farm.Name, name, s.Leaving.Since)
		var hooks roles.Hooks
		for _, i := range l.instances {
			mode := l.farm.Roles[i.RoleName].Hooks.Of(farmfile.EventKind(farm.BeforeHostTerminate)).Mode
			if _, member := m.members[i.Name]; !member || i.State != provider.Running || mode == farmfile.Async {
				continue
			}
			hooks.Told = true
			switch ended, ok := m.hooks[i.Name].Of(event); {
			case !ok:
				hooks.Pending = append(hooks.Pending, i.Name)
			case ended.Failed > 0:
				hooks.Failed = append(hooks.Failed, i.Name)
			}
		}
		all[name] = hooks
	}
	return all
}

// hooksText is which nodes' hooks a server on its way out waits for; empty for none.
func (l *leader) hooksText(m *moment, role, name string) string {
	s := l.memory.Roles[role].Servers[name]
	if s.Leaving == nil || !s.Leaving.Hooked.IsZero() {
		return ""
	}
	pending := l.hooks(m, role)[name].Pending
	if len(pending) == 0 {
		return ""
	}
	until := s.Leaving.Since.Add(l.limits(role).Hooks)
	return fmt.Sprintf("waits for hooks of %s on %s, until %s at most", farm.BeforeHostTerminate, strings.Join(pending, ", "), until.Local().Format(time.TimeOnly))
}

// limits are how long things may take that concern a role's servers.
func (l *leader) limits(role string) roles.Limits {
	limits := roles.DefaultLimits()
	r := l.farm.Roles[role]
	limits.Hooks = time.Duration(r.Hooks.Wait)
	if f := r.Frame(); f != nil {
		limits.Trouble, limits.Drain = time.Duration(f.ReplaceAfter), time.Duration(f.DrainLimit)
	}
	if s := r.Parameters.StorageServer; s != nil {
		limits.Silent = time.Duration(s.LostAfter)
	}
	return limits
}
