package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/registry"
	"farmhand/scaler/internal/decide"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
	"farmhand/scaler/internal/steer"
)

// drift is what an instance runs by that the farm file has otherwise; nothing of one
// that leaves.
func (l *leader) drift(i provider.Instance) []provider.Change {
	now, ok := l.wanted[i.RoleName]
	if s, _, known := l.known(i.Name); !ok || i.State == provider.Terminating || known && s.Leaving != nil && !s.Leaving.Stays {
		return nil
	}
	changes := i.Configuration.Changes(now)
	for n := range changes {
		changes[n].Live = changes[n].Live && !l.fixed
	}
	return changes
}

// isLive and isNot tell a change that a running instance can take from one for which
// another has to take its place.
func isLive(c provider.Change) bool { return c.Live }
func isNot(c provider.Change) bool  { return !c.Live }

// configure has one instance take what it can while it runs, if all others of its role
// are well: a configuration that does no good stops with the first.
func (l *leader) configure(m *moment) {
	if l.memory.Paused != "" || l.configuring != nil && !l.configuring.back(m) {
		return
	}
	l.configuring = nil
	for _, i := range l.instances {
		changes := slices.DeleteFunc(l.drift(i), isNot)
		if len(changes) == 0 || i.State != provider.Running || l.doing[i.Name] != "" || l.unsettled(i.RoleName) != "" {
			continue
		}
		spec := provider.Spec{Name: i.Name, RoleName: i.RoleName, Role: l.farm.Roles[i.RoleName], Cluster: l.clusterOf(i.RoleName)}
		if l.errands.do(i.Name, i.Name, "taking another configuration", func(ctx context.Context) error {
			err := l.configureNow(ctx, spec, changes)
			if err != nil && ctx.Err() == nil {
				l.log.Error("instance not configured", zap.String("instance", spec.Name), zap.Error(err))
			}
			return err
		}) {
			l.configuring = &configuring{name: i.Name, kind: i.Kind, since: time.Now()}
			return
		}
	}
}

func (l *leader) configureNow(ctx context.Context, spec provider.Spec, changes []provider.Change) error {
	if err := l.fence(ctx, registry.Entry{
		Kind: registry.Decision, Text: fmt.Sprintf("%s takes what the farm file says now: %s", spec.Name, changesText(changes)),
		Fields: map[string]string{"role": spec.RoleName, "instance": spec.Name},
	}); err != nil {
		return err
	}
	return l.provider.Configure(ctx, spec)
}

// maxChangesText is how many changes are named.
const maxChangesText = 5

func changesText(changes []provider.Change) string {
	var list []string
	for i, c := range changes {
		if i == maxChangesText {
			list = append(list, fmt.Sprintf("and %d more", len(changes)-i))
			break
		}
		list = append(list, c.String())
	}
	return strings.Join(list, ", ")
}

// configuring is the instance that takes another configuration.
type configuring struct {
	name  string
	kind  farmfile.RoleKind
	since time.Time
}

// back reports whether the instance has said since that it works.
func (c *configuring) back(m *moment) bool {
	if c.kind == farmfile.MySQLKind {
		db, ok := m.databases[c.name]
		return !ok || db.at.After(c.since) && db.report.Answers
	}
	node, ok := m.nodes[c.name]
	return !ok || node.at.After(c.since) && node.report.Well
}

// unsettled is why the servers of a role are to be left as they are now; empty if they
// are not.
func (l *leader) unsettled(role string) string {
	for _, s := range l.servers[role] {
		switch s.State {
		case decide.Ready, decide.Lost:
		default:
			return fmt.Sprintf("%s is %s", s.Name, s.State)
		}
	}
	if len(l.servers[role]) == 0 {
		return "nothing is known of its servers yet"
	}
	return ""
}

// outdated are the instances of a role in whose place others have to come, and by
// which keys.
func (l *leader) outdated(role string) (names, keys []string) {
	for _, i := range l.instances {
		if i.RoleName != role {
			continue
		}
		changes := slices.DeleteFunc(l.drift(i), isLive)
		if len(changes) > 0 {
			names = append(names, i.Name)
		}
		for _, c := range changes {
			if !slices.Contains(keys, c.Key) {
				keys = append(keys, c.Key)
			}
		}
	}
	slices.Sort(keys)
	return names, keys
}

// renew is asked by a person: other instances take the place of those that run an
// older configuration, one at a time, and only while all is well; the primary is the
// last, and hands over first.
func (l *leader) renew(m *moment, o registry.Operation, begun bool) answer {
	digest, err := RolesDigest(l.farm)
	if role := o.Args["role"]; role != "" && err == nil {
		err = l.checkRole(role)
	}
	switch {
	case err != nil:
		return refused("%v", err)
	case o.Args["roles"] == "" || o.Args["roles"] == digest:
	case m.now.Sub(o.Asked) > requestLimit:
		return refused("the scaler that leads goes by another farm file")
	default:
		return waits("the scaler that leads does not go by that farm file yet")
	}
	left := 0
	var waiting string
	for role := range sortedRoles(l.farm) {
		if only := o.Args["role"]; only != "" && only != role {
			continue
		}
		names, _ := l.outdated(role)
		left += len(names)
		switch {
		case waiting != "":
		case len(names) == 0 && (!begun || l.unsettled(role) == ""):
		default:
			if waiting = l.unfit(role); waiting != "" {
				continue
			}
			next, a := l.renewNext(m, o, role, names)
			if a.refused {
				return a
			}
			waiting = next
		}
	}
	if waiting == "" && left == 0 {
		return finished("every instance runs what the farm file says")
	}
	return waits("%s left to be replaced; %s", instances(left), waiting)
}

// unfit is why none of a role's servers is replaced just now; empty if the next may be.
func (l *leader) unfit(role string) string {
	switch why := l.unsettled(role); {
	case l.memory.Paused != "":
		return "the farm is paused: " + l.memory.Paused
	case why != "":
		return why
	case live(l.servers[role]) < l.roles[role].Wanted:
		return fmt.Sprintf("%s has %d of %s", role, live(l.servers[role]), servers(l.roles[role].Wanted))
	}
	return ""
}

// replace has a server leave, in whose place another comes.
func (l *leader) replace(role, name, by string, now time.Time) {
	l.memory.Roles[role], _ = l.memory.Roles[role].Leave(name, fmt.Sprintf("another with the farm file's configuration takes its place, as asked by %s", by), false, now)
	l.sized = time.Time{} // at once
}

// renewNext begins with the next instance of a role, and says so.
func (l *leader) renewNext(m *moment, o registry.Operation, role string, names []string) (string, answer) {
	for _, name := range names {
		if primary(m.assignment, name) || l.farm.Roles[role].Kind == farmfile.MySQLKind && (m.assignment == nil || m.assignment.Phase != cluster.Steady) {
			continue
		}
		l.replace(role, name, o.By, m.now)
		return name + " is to leave", answer{}
	}
	if m.assignment == nil || m.assignment.Phase != cluster.Steady {
		return "a change of primary goes on", answer{}
	}
	// Only the primary is left.
	if l.handover.id != "" {
		for _, asked := range m.operations {
			switch {
			case asked.ID != l.handover.id:
			case asked.State == registry.OperationDone:
				l.handover = handover{}
			case asked.HasEnded():
				l.handover = handover{}
				return "", refused("%s, the primary, did not hand its part over (operation %s): %s", names[0], asked.ID, asked.Error)
			}
		}
		return names[0] + " hands its part over", answer{}
	}
	to := ""
	for _, s := range m.assignment.Servers {
		if s.Task == cluster.Follow && s.State == farm.Serving && !slices.Contains(names, s.Name) {
			to = s.Name
		}
	}
	if to == "" {
		return "", refused("%s is the primary, and there is no replica that could take its place; scaler launch %s makes one", names[0], role)
	}
	if _, under := m.operation(func(o registry.Operation) bool { return slices.Contains(steerKinds, o.Kind) }); under {
		return "another change of primary is asked for", answer{}
	}
	l.handover.to = to
	return fmt.Sprintf("%s hands its part over to %s", names[0], to), answer{}
}

// handover is the switchover without which a primary could not be replaced: the
// server that it is to, until it is asked for, and then its operation.
type handover struct{ to, id string }

// askForHandover asks for the switchover that a renewal needs, as a person would.
func (l *leader) askForHandover(ctx context.Context) error {
	if l.handover.to == "" {
		return nil
	}
	o, err := l.client.Ask(ctx, registry.Operation{Kind: string(steer.Switchover), Args: map[string]string{"to": l.handover.to}, By: l.journal.who})
	if err != nil {
		return err
	}
	l.handover = handover{id: o.ID}
	return nil
}

func instances(n int) string {
	if n == 1 {
		return "1 instance is"
	}
	return fmt.Sprintf("%d instances are", n)
}
