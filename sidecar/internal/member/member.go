// Package member keeps a node a member of its farm for as long as the process
// runs: it renews the node's lease in the registry and its certificate.
//
// Invariant: when it ends in order the node has left, and when it is killed the
// node is gone once the lease has lapsed.
package member

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/enrol"
	"farmhand/internal/registry"
	"farmhand/internal/service"
)

// Options are what a membership is like.
type Options struct {
	Dir     string // of the node, as enrol.Join left it
	Address string // where the node's service is reached; may be empty
	Lease   time.Duration
	Out     io.Writer // gets a line at every change, for people and for who waits
	Log     *zap.Logger
}

// Run is a member until ctx ends.
func Run(ctx context.Context, o Options) (err error) {
	node, err := enrol.Read(o.Dir)
	if err != nil {
		return err
	}
	client, err := registry.Open(registry.Options{Farm: node.Farm, Endpoints: node.Endpoints, Files: enrol.RegistryFiles(o.Dir), Log: o.Log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	if client.Name() != node.Name {
		return fmt.Errorf("the certificate in %s is for %q, the node is %q", o.Dir, client.Name(), node.Name)
	}
	group := service.NewGroup(ctx)
	group.Go("membership", func(ctx context.Context) error {
		state := &state{o: o, name: node.Name, farm: node.Farm, diagnose: func() {
			// Not here, in the way of the next attempt.
			group.Go("diagnosis", func(ctx context.Context) error {
				if err := client.Diagnose(ctx); err != nil && ctx.Err() == nil {
					o.Log.Warn("registry cannot be reached", zap.Error(err))
				}
				return nil
			})
		}}
		member := registry.Member{Name: node.Name, Role: node.Role, Address: o.Address}
		err := client.HoldMembership(ctx, member, o.Lease, state.told)
		if err == nil {
			state.say("left")
		}
		return err
	})
	group.Go("certificate", func(ctx context.Context) error {
		return enrol.KeepRenewed(ctx, o.Dir, func(err error) {
			if err != nil {
				o.Log.Warn("certificate not renewed", zap.Error(err))
				return
			}
			o.Log.Info("certificate renewed")
		})
	})
	return group.Wait()
}

// state makes a story of the attempts: only what changes is told.
type state struct {
	o          Options
	name, farm string
	diagnose   func()
	last       string
}

func (s *state) told(h registry.Holding) {
	now := "member"
	switch {
	case h.Waiting:
		now = "waiting"
	case h.Until.IsZero():
		now = "not a member"
	case h.Err != nil:
		return // it is one still, and the next attempt may succeed
	}
	if now == s.last {
		return
	}
	s.last = now
	s.say(now)
	if h.Err == nil {
		return
	}
	s.o.Log.Warn("no membership", zap.String("state", now), zap.Error(h.Err))
	if errors.Is(h.Err, registry.ErrUnavailable) {
		s.diagnose()
	}
}

func (s *state) say(what string) {
	if _, err := fmt.Fprintf(s.o.Out, "%s: %s of farm %s\n", what, s.name, s.farm); err != nil {
		s.o.Log.Debug("nobody reads what is said", zap.Error(err))
	}
}
