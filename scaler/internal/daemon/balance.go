package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/registry"
	"farmhand/scaler/internal/provider"
	"farmhand/scaler/internal/roles"
)

// balancePace is the time between two looks at the provider's load balancers; a change of
// what they are to do is carried out at once.
const balancePace = 5 * time.Second

// balancing has the provider's load balancers lead clients to the servers that are up. It
// goes on beside the leader's loop: a load balancer that does not answer holds nothing up.
type balancing struct {
	balancer provider.Balancer
	allow    func(ctx context.Context, role, text string) error // journals a change, unless the term is over
	wake     func()
	log      *zap.Logger
	changed  chan struct{} // one slot

	mu    sync.Mutex
	roles map[string]balanced
}

// balanced is one role.
type balanced struct {
	serve, release []string
	// targets are what the load balancers said last, and since which request; failure is
	// why the last round did not succeed.
	targets []provider.Target
	asked   bool // a round has succeeded since serve and release are what they are
	failure string
}

func newBalancing(b provider.Balancer, allow func(ctx context.Context, role, text string) error, wake func(), log *zap.Logger) *balancing {
	return &balancing{balancer: b, allow: allow, wake: wake, log: log, changed: make(chan struct{}, 1), roles: map[string]balanced{}}
}

// led are the servers of a role to which clients are led, and those to which they are not
// any more. Of one that was never ready, or of which nothing is known, it says nothing. A
// lost one is let go of only while there is another: if all are lost, it may be us.
func led(s roles.State) (serve, release []string) {
	var lost []string
	for _, name := range s.Names() {
		switch server := s.Servers[name]; {
		case server.Leaving != nil && !server.Leaving.Lost:
			release = append(release, name)
		case !server.Lost.IsZero():
			lost = append(lost, name)
		case !server.Ready.IsZero():
			serve = append(serve, name)
		}
	}
	if len(serve) > 0 {
		release = append(release, lost...)
	}
	slices.Sort(release)
	return serve, release
}

// aim says where a role's clients are to be led.
func (b *balancing) aim(role string, serve, release []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	is, known := b.roles[role]
	if known && slices.Equal(is.serve, serve) && slices.Equal(is.release, release) {
		return
	}
	is.serve, is.release, is.asked = serve, release, false
	b.roles[role] = is
	poke(b.changed)
}

// of is a role as it was seen last.
func (b *balancing) of(role string) balanced {
	if b == nil {
		return balanced{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.roles[role]
}

// holds reports whether a load balancer still leads clients to a server of a role, or
// ends what it has begun; so does one of which that is not known.
func (b *balancing) holds(role, name string) bool {
	if b == nil || !b.balancer.Balances(role) {
		return false
	}
	is := b.of(role)
	return !is.asked || slices.ContainsFunc(is.targets, func(t provider.Target) bool { return t.Instance == name && (t.Well || t.Starting || t.Draining) })
}

// run keeps the load balancers until ctx ends.
func (b *balancing) run(ctx context.Context) error {
	tick := time.NewTicker(balancePace)
	defer tick.Stop()
	for {
		b.mu.Lock()
		names := slices.Sorted(maps.Keys(b.roles))
		b.mu.Unlock()
		for _, role := range names {
			b.round(ctx, role)
		}
		select {
		case <-b.changed:
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (b *balancing) round(ctx context.Context, role string) {
	want := b.of(role)
	made := false
	targets, err := b.balancer.Balance(ctx, role, want.serve, want.release, func(text string) error {
		made = true
		return b.allow(ctx, role, text)
	})
	if ctx.Err() != nil {
		return
	}
	b.mu.Lock()
	is := b.roles[role]
	was := is
	if is.failure = ""; err != nil {
		is.failure = err.Error()
	} else {
		is.targets = targets
		is.asked = is.asked || slices.Equal(is.serve, want.serve) && slices.Equal(is.release, want.release)
	}
	b.roles[role] = is
	b.mu.Unlock()
	if err != nil && is.failure != was.failure && !errors.Is(err, registry.ErrDeposed) {
		b.log.Error("load balancers are not as they should be; tried again", zap.String("role", role), zap.Error(err))
	}
	if made || is.asked != was.asked || is.failure != was.failure || !slices.Equal(is.targets, was.targets) {
		b.wake()
	}
}

// balance has the load balancers go by what is kept of the roles' servers.
func (l *leader) balance() {
	if l.balancing == nil {
		return
	}
	for role := range sortedRoles(l.farm) {
		if !l.balancing.balancer.Balances(role) {
			continue
		}
		serve, release := led(l.memory.Roles[role])
		l.balancing.aim(role, serve, release)
	}
}

// allowBalance journals a change of a role's load balancers under the term.
func (l *leader) allowBalance(ctx context.Context, role, text string) error {
	err := l.fence(ctx, registry.Entry{Kind: registry.Decision, Text: text, Fields: map[string]string{"role": role, registry.Minor: "true"}})
	if err != nil {
		return fmt.Errorf("not done: %w", err)
	}
	return nil
}
