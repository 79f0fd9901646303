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
	"farmhand/scaler/internal/provider"
	"farmhand/scaler/internal/steer"
)

// drainTime is how long reads that run on a replica may take to end once it gets no
// new ones.
const drainTime = 5 * time.Second

// leaves is how far steer is to take a database server out.
func (l *leader) leaves(m *moment, name string) steer.Leave {
	leave, ok := l.memory.Leaving[name]
	switch {
	case !ok:
		return steer.Stay
	case leave.Stays || leave.Drained.IsZero() || m.now.Sub(leave.Drained) < drainTime:
		return steer.Drain
	}
	return steer.Retire
}

// leave takes those that are to go a step further.
func (l *leader) leave(ctx context.Context, m *moment) error {
	l.giveUpLost(m)
	for _, name := range slices.Sorted(maps.Keys(l.memory.Leaving)) {
		leave := l.memory.Leaving[name]
		i, there := l.instance(name)
		switch {
		case l.doing[name] != "": // it may have ended since the instances were listed
		case !there:
			if err := l.gone(ctx, m, name); err != nil {
				return err
			}
		case i.Kind == farmfile.MySQLKind && leave.Drained.IsZero() && drained(m.assignment, name):
			leave.Drained = m.now.UTC()
			l.memory.Leaving[name] = leave
		case !leave.Stays && l.free(m, i, leave):
			l.errands.do(name, name, "terminating", func(ctx context.Context) error {
				err := l.terminateNow(ctx, name, leave.Why)
				if err != nil && ctx.Err() == nil {
					l.log.Error("terminate failed", zap.String("instance", name), zap.Error(err))
				}
				return err
			})
		}
	}
	return nil
}

// drained reports whether the proxies send a server no new reads, as far as it was
// assigned.
func drained(a *cluster.Assignment, name string) bool {
	s, known := a.Server(name)
	return !known || s.Task != cluster.Lead && (s.State == "" || s.State == farm.Draining)
}

// free reports whether an instance can be taken away without harm: a database server
// has been shut down, or nothing of it is needed.
func (l *leader) free(m *moment, i provider.Instance, leave leaving) bool {
	if i.Kind != farmfile.MySQLKind || i.State == provider.Terminating {
		return true
	}
	s, known := m.assignment.Server(i.Name)
	switch {
	case !known:
		return true
	case s.Task == cluster.Lead:
		return false
	case leave.Lost:
		return true
	case s.Task != cluster.Retire:
		return false
	}
	r, age := m.report(i.Name)
	return r == nil || age > lostAfter || r.Task == cluster.Retire && r.Done && r.Serial >= m.assignment.Serial-1
}

// gone ends what is left of an instance that the provider has no more: the node's
// rights, and its place in the memory. Its name is free when its certificate has
// expired.
func (l *leader) gone(ctx context.Context, m *moment, name string) error {
	if !l.errands.due(name) {
		return nil
	}
	role := ""
	for candidate := range l.farm.Roles {
		if _, ok := provider.Number(candidate, name); ok {
			role = candidate
		}
	}
	if err := l.fence(ctx, registry.Entry{Kind: string(farm.HostDown), Text: name + " is gone: " + l.memory.Leaving[name].Why, Fields: map[string]string{"host": name, "role": role}}); err != nil {
		return err
	}
	if err := l.client.Expel(ctx, name, pki.NodeLife); err != nil && !errors.Is(err, registry.ErrUnknownNode) {
		l.errands.putOff(name, err)
		return err
	}
	l.banned[name] = true
	delete(l.memory.Leaving, name)
	delete(l.readyAt, name)
	l.memory.LastIn[role] = m.now.UTC()
	return nil
}

// neverCame is how long an instance may take from its launch until it has joined.
const neverCame = 10 * time.Minute

// giveUpLost lets instances go that were launched and never came: the token that
// they would join with has lapsed.
func (l *leader) giveUpLost(m *moment) {
	if l.memory.Paused != "" {
		return
	}
	for _, i := range l.instances {
		_, leaves := l.memory.Leaving[i.Name]
		_, member := m.members[i.Name]
		_, database := m.databases[i.Name]
		_, web := m.webs[i.Name]
		_, known := m.assignment.Server(i.Name)
		if leaves || member || database || web || known || m.now.Sub(i.Launched) < neverCame || m.now.Sub(l.began) < neverCame {
			continue
		}
		why := "it was launched " + m.now.Sub(i.Launched).Round(time.Minute).String() + " ago and has never joined the farm"
		l.memory.Leaving[i.Name] = leaving{Why: why, Since: m.now.UTC(), Lost: true}
		l.journal.put(registry.Entry{Kind: registry.Decision, Text: i.Name + " is given up: " + why, Fields: map[string]string{"role": i.RoleName, "instance": i.Name}})
	}
}
