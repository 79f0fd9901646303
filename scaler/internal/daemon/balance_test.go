package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"farmhand/internal/farmtest"
	"farmhand/scaler/internal/provider"
	"farmhand/scaler/internal/roles"
)

func TestWhereClientsAreLed(t *testing.T) {
	now := time.Now()
	up := roles.Server{Ready: now}
	unwell := roles.Server{Ready: now, Trouble: now}
	lost := roles.Server{Ready: now, Lost: now}
	discarded := roles.Server{Ready: now, Lost: now, Leaving: &roles.Leaving{Lost: true}}
	drained := roles.Server{Ready: now, Leaving: &roles.Leaving{Stays: true}}
	leaving := roles.Server{Ready: now, Leaving: &roles.Leaving{}}
	for name, c := range map[string]struct {
		servers        map[string]roles.Server
		serve, release []string
	}{
		"of nobody nothing is known":                         {nil, nil, nil},
		"one has never been ready":                           {map[string]roles.Server{"web1": up, "web2": {}}, []string{"web1"}, nil},
		"the load balancer sees itself that one is not well": {map[string]roles.Server{"web1": up, "web2": unwell}, []string{"web1", "web2"}, nil},
		"one is drained, one is to go":                       {map[string]roles.Server{"web1": drained, "web2": up, "web3": leaving}, []string{"web2"}, []string{"web1", "web3"}},
		"the last one is to go":                              {map[string]roles.Server{"web1": leaving}, nil, []string{"web1"}},
		"one is lost":                                        {map[string]roles.Server{"web1": lost, "web2": up, "web3": discarded}, []string{"web2"}, []string{"web1", "web3"}},
		"all are lost, as far as we can see":                 {map[string]roles.Server{"web1": lost, "web2": discarded}, nil, nil},
	} {
		serve, release := led(roles.State{Servers: c.servers})
		if !slices.Equal(serve, c.serve) || !slices.Equal(release, c.release) {
			t.Errorf("%s: %v, %v; want %v, %v", name, serve, release, c.serve, c.release)
		}
	}
}

// groups are load balancers that register and let go of as they are told, a round later.
type groups struct {
	mu      sync.Mutex
	targets []provider.Target
	fails   error
	asked   []string
}

func (*groups) Balances(role string) bool { return role == "web" }

func (g *groups) Balance(_ context.Context, role string, serve, release []string, change func(string) error) ([]provider.Target, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, fmt.Sprintf("%s %v %v", role, serve, release))
	if g.fails != nil {
		return nil, g.fails
	}
	was := slices.Clone(g.targets)
	for _, name := range serve {
		if !slices.ContainsFunc(g.targets, func(t provider.Target) bool { return t.Instance == name }) {
			if err := change("registers " + name); err != nil {
				return was, err
			}
			g.targets = append(g.targets, provider.Target{Instance: name, Group: "web", State: "healthy", Well: true})
		}
	}
	for i, t := range g.targets {
		if slices.Contains(release, t.Instance) && !t.Draining {
			if err := change("deregisters " + t.Instance); err != nil {
				return was, err
			}
			g.targets[i].State, g.targets[i].Well, g.targets[i].Draining = "draining", false, true
		}
	}
	return was, nil
}

func (g *groups) set(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
}

func TestLoadBalancersAreKept(t *testing.T) {
	g := &groups{}
	var mu sync.Mutex
	var allowed []string
	b := newBalancing(g, func(_ context.Context, role, text string) error {
		mu.Lock()
		defer mu.Unlock()
		allowed = append(allowed, role+" "+text)
		return nil
	}, func() {}, zaptest.NewLogger(t))
	if !b.holds("web", "web1") || b.holds("db", "db1") {
		t.Error("what is not known yet is held, and what has no load balancer is not")
	}
	b.aim("web", []string{"web1", "web2"}, nil)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.run(ctx) }()
	until := func(what string, is func(balanced) bool) {
		t.Helper()
		farmtest.Eventually(t, what, func() error {
			poke(b.changed) // as the next tick would
			if now := b.of("web"); !is(now) {
				return fmt.Errorf("%+v", now)
			}
			return nil
		})
	}
	well := func(s balanced) (n int) {
		for _, one := range s.targets {
			if one.Well {
				n++
			}
		}
		return n
	}
	until("both are led to", func(s balanced) bool { return well(s) == 2 && s.asked })
	b.aim("web", []string{"web2"}, []string{"web1"})
	if !b.holds("web", "web1") {
		t.Error("it is let go of before the load balancer was asked")
	}
	until("one is drained", func(s balanced) bool { return well(s) == 1 && s.asked })
	if !b.holds("web", "web1") {
		t.Error("it is let go of while it drains")
	}
	g.set(func() { g.fails = errors.New("AccessDenied") })
	until("the failure is told", func(s balanced) bool { return strings.Contains(s.failure, "AccessDenied") && well(s) == 1 })
	g.set(func() { g.fails, g.targets = nil, g.targets[1:] })
	until("it is drained", func(s balanced) bool { return s.failure == "" && len(s.targets) == 1 })
	if b.holds("web", "web1") || !b.holds("web", "web2") {
		t.Error("it is held though it was let go of")
	}
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if want := []string{"web registers web1", "web registers web2", "web deregisters web1"}; !slices.Equal(allowed, want) {
		t.Errorf("changes %q, want %q", allowed, want)
	}
	if !slices.Contains(g.asked, "web [web2] [web1]") {
		t.Errorf("asked for %q", g.asked)
	}
}
