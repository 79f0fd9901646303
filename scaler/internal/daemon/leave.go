package daemon

import (
	"context"
	"errors"
	"maps"
	"slices"

	"go.uber.org/zap"

	"farmhand/internal/farm"
	"farmhand/internal/pki"
	"farmhand/internal/registry"
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
