package daemon

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/pki"
	"farmhand/internal/registry"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/roles"
	"farmhand/scaler/internal/steer"
)

// leaves is how far steer is to take a database server out, by what is kept.
func (l *leader) leaves(name string) steer.Leave {
	switch l.steps[name] {
	case roles.Stay:
		return steer.Stay
	case roles.Drain:
		return steer.Drain
	}
	return steer.Retire
}

// carryOut does what is kept: it launches what is to be there and was never seen,
// terminates what may go, and takes the rights of what is gone. It is called in every
// round, so what failed, or another leader has left undone, is done again.
func (l *leader) carryOut(ctx context.Context) error {
	for role := range sortedRoles(l.farm) {
		state := l.memory.Roles[role]
		for _, name := range state.Names() {
			s := state.Servers[name]
			_, there := l.instance(name)
			switch {
			case l.doing[name] != "": // it may have ended since the instances were listed
			case !there && !s.Appeared && s.Lost.IsZero() && s.Leaving == nil && l.memory.Paused == "":
				l.launch(role, name)
			case there && l.steps[name] == roles.Terminate:
				why := s.Leaving.Why
				l.errands.do(name, name, "terminating", func(ctx context.Context) error {
					err := l.terminateNow(ctx, name, why)
					if err != nil && ctx.Err() == nil {
						l.log.Error("terminate failed", zap.String("instance", name), zap.Error(err))
					}
					return err
				})
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.memory.Gone)) {
		if err := l.gone(ctx, name, l.memory.Gone[name]); err != nil {
			return err
		}
	}
	return nil
}

// end lets go of the nodes whose machines are about to be taken away: others take their
// places while they are drained.
func (l *leader) end(m *moment) {
	for name, ending := range m.endings {
		s, role, known := l.known(name)
		if _, there := l.instance(name); !there || !known || s.Leaving != nil && !s.Leaving.Stays || primary(m.assignment, name) {
			continue
		}
		l.memory.Roles[role], _ = l.memory.Roles[role].Leave(name, ending.Why+" at "+ending.At.UTC().Format(time.TimeOnly), false, m.now)
		l.sized = time.Time{} // at once
	}
}

// gone ends what is left of an instance that the provider has no more: the node's
// rights.
func (l *leader) gone(ctx context.Context, name, role string) error {
	if !l.errands.due(name) {
		return nil
	}
	if err := l.fence(ctx, registry.Entry{Kind: string(farm.HostDown), Text: name + " is gone, and its rights are taken away", Fields: map[string]string{"host": name, "role": role}}); err != nil {
		return err
	}
	if err := l.client.Expel(ctx, name, pki.NodeLife); err != nil && !errors.Is(err, registry.ErrUnknownNode) {
		l.errands.putOff(name, err)
		return err
	}
	delete(l.memory.Gone, name)
	return nil
}

// terminate is asked by a person: the steps are those of what a decision lets go.
func (l *leader) terminate(m *moment, o registry.Operation, begun bool) answer {
	name := o.Args["name"]
	i, there := l.instance(name)
	s, role, known := l.known(name)
	leaves := s.Leaving != nil && !s.Leaving.Stays
	_, rights := l.memory.Gone[name]
	switch {
	case begun && !there && !known && !rights:
		return finished("%s is gone", name)
	case begun && there && known && !leaves:
		return refused("%s is not to leave any more", name)
	case begun:
		return waits("%s", l.leavingText(m, name))
	case !there:
		return refused("there is no instance %q; there are %s", name, l.instanceNames())
	case primary(m.assignment, name):
		return refused("%s is the primary: scaler switchover first", name)
	case !known:
		return refused("%s is of a role that the farm file has not", name)
	case leaves:
		return waits("%s", l.leavingText(m, name))
	}
	if o.Args["shrink"] == "true" {
		if err := l.pin(i.RoleName, live(l.servers[i.RoleName])-1); err != nil {
			return refused("%v", err)
		}
	}
	l.memory.Roles[role], _ = l.memory.Roles[role].Leave(name, "asked by "+o.By, false, m.now)
	l.sized = time.Time{} // at once
	return waits("%s is to leave", name)
}

// leavingText is how far an instance is on its way out, for people.
func (l *leader) leavingText(m *moment, name string) string {
	s, role, _ := l.known(name)
	part, assigned := m.assignment.Server(name)
	_, there := l.instance(name)
	switch leave := s.Leaving; {
	case !there || leave == nil:
		return name + " is stopped, and its rights are taken away"
	case l.errands.doing()[name] != "":
		return name + " is being terminated"
	case l.errands.failure(name) != "":
		return name + " is not terminated yet: " + l.errands.failure(name)
	case assigned && part.Task == cluster.Retire:
		return name + " shuts down"
	case !leave.Retire.IsZero() && leave.Told.IsZero():
		return name + " has no clients any more, and is kept while commits need it"
	case !leave.Stays && l.hooksText(m, role, name) != "":
		return name + " " + l.hooksText(m, role, name)
	case leave.Drained.IsZero():
		return name + " is drained"
	case leave.Stays:
		return name + " " + l.drained(role)
	}
	return name + " " + l.drained(role) + "; its clients may end what they do"
}

// drained is what a drained server of the role is, for people.
func (l *leader) drained(role string) string {
	if l.farm.Roles[role].Kind == farmfile.MySQLKind {
		return "takes no new reads"
	}
	return "is shown as leaving to what leads clients to it"
}

// drain is asked by a person: no new reads, or reads again; no new clients of a web
// node, or clients again.
func (l *leader) drain(m *moment, o registry.Operation, begun bool) answer {
	name := o.Args["name"]
	i, there := l.instance(name)
	s, role, known := l.known(name)
	switch leave := s.Leaving; {
	case !there:
		return refused("there is no instance %q; there are %s", name, l.instanceNames())
	case o.Args["undo"] == "true":
		if leave == nil {
			return finished("%s was not to leave", name)
		}
		next, ok := l.memory.Roles[role].Return(name)
		if !leave.Stays || !ok {
			return refused("%s is to be terminated", name)
		}
		l.memory.Roles[role] = next
		if i.Kind == farmfile.MySQLKind {
			return finished("%s takes reads again when it has caught up", name)
		}
		return finished("%s is shown as up again", name)
	case begun && leave != nil && !leave.Drained.IsZero() && l.balancing.holds(role, name):
		return waits("%s is drained by its target groups", name)
	case begun && leave != nil && !leave.Drained.IsZero():
		return finished("%s %s", name, l.drained(role))
	case primary(m.assignment, name):
		return refused("%s is the primary: scaler switchover first", name)
	case !known:
		return refused("%s is of a role that the farm file has not", name)
	case leave == nil:
		l.memory.Roles[role], _ = l.memory.Roles[role].Leave(name, "drained by "+o.By, true, m.now)
		l.sized = time.Time{} // at once
	}
	return waits("%s is drained", name)
}
