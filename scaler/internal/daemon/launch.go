package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.uber.org/zap"

	"farmhand/internal/registry"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
)

// ActionField is the field of a decision that says what it does with an instance, which
// is another field's; its values are LaunchAction and TerminateAction. Who counts what
// instances have cost goes by it.
const (
	ActionField     = "action"
	LaunchAction    = "launch"
	TerminateAction = "terminate"
)

// launching counts the role's instances that were asked for and have not been seen
// yet. One whose launch has failed may never come.
func (l *leader) launching(role string) int {
	n := 0
	for name, s := range l.memory.Roles[role].Servers {
		if !s.Appeared && (l.doing[name] != "" || l.errands.failure(role) == "") {
			n++
		}
	}
	return n
}

// launch begins an instance that is to be there.
func (l *leader) launch(role, name string) {
	why := l.whys[role]
	if why == "" {
		why = "the scaler that led before has decided it"
	}
	if l.awaitsDisk(role) {
		return
	}
	server := l.memory.Roles[role].Servers[name]
	spec := provider.Spec{Name: name, RoleName: role, Role: l.farm.Roles[role], Cluster: l.clusterOf(role), Slot: server.Slot, Asked: server.Launched}
	l.errands.doInTurn(name, role, "launching "+role, func(ctx context.Context) error {
		err := l.launchNow(ctx, spec, why)
		if err != nil && ctx.Err() == nil {
			l.log.Error("launch failed", zap.String("instance", name), zap.Error(err))
			l.journal.put(registry.Entry{Kind: "launch-failed", Text: fmt.Sprintf("%s was not launched: %v", name, err), Fields: map[string]string{"role": role, "instance": name}})
		}
		return err
	})
}

// clusterOf is the database cluster that an instance of the role belongs to or
// connects to.
func (l *leader) clusterOf(role string) string {
	switch r := l.farm.Roles[role]; {
	case r.Parameters.Web != nil:
		return r.Parameters.Web.Database
	case r.Kind == farmfile.MySQLKind:
		return role
	}
	return l.database
}

func (l *leader) launchNow(ctx context.Context, spec provider.Spec, why string) error {
	if err := l.fence(ctx, registry.Entry{
		Kind: registry.Decision, Text: fmt.Sprintf("%s is launched: %s", spec.Name, why),
		Fields: map[string]string{ActionField: LaunchAction, "role": spec.RoleName, "instance": spec.Name},
	}); err != nil {
		return err
	}
	token, err := l.token(ctx, string(spec.Role.Kind), spec.Name)
	if err != nil {
		return err
	}
	spec.Token = token
	if spec.Volume, err = l.volumeFor(ctx, spec); err != nil {
		return err
	}
	i, err := l.provider.Launch(ctx, spec)
	if errors.Is(err, provider.ErrExists) {
		return nil // the leader before has done it
	}
	if err != nil {
		return err
	}
	l.log.Info("launched", zap.String("instance", i.Name), zap.Stringer("address", i.Address))
	return nil
}

// terminateNow takes an instance away, and its rights with it.
func (l *leader) terminateNow(ctx context.Context, name, why string) error {
	if err := l.fence(ctx, registry.Entry{
		Kind: registry.Decision, Text: fmt.Sprintf("%s is terminated: %s", name, why), Fields: map[string]string{ActionField: TerminateAction, "instance": name},
	}); err != nil {
		return err
	}
	if err := l.provider.Terminate(ctx, name); err != nil {
		return err
	}
	l.log.Info("terminated", zap.String("instance", name))
	return nil
}

// checkRole says what is wrong with the name of a role.
func (l *leader) checkRole(name string) error {
	if _, ok := l.farm.Roles[name]; ok {
		return nil
	}
	var names []string
	for role := range sortedRoles(l.farm) {
		names = append(names, role)
	}
	return fmt.Errorf("the farm has no role %q; it has %s", name, strings.Join(names, ", "))
}
