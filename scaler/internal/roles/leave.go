package roles

import (
	"strings"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/scaler/internal/decide"
)

// Leaving is how far a server is on its way out: a time for each step that was
// reached.
type Leaving struct {
	Why   string    `json:"why"`
	Since time.Time `json:"since"`
	// Asked says that a person asked for it; Stays, that it is to be drained only.
	Asked bool `json:"asked,omitempty"`
	Stays bool `json:"stays,omitempty"`
	// Lost says that it was given up: there is nothing to be drained.
	Lost bool `json:"lost,omitempty"`
	// Hooked is from when nothing waits any more for the hooks of its before-host-terminate.
	Hooked time.Time `json:"hooked,omitzero"`
	// Drained is when the assignment said that it takes no new reads, Serial of which
	// assignment that was.
	Drained time.Time `json:"drained,omitzero"`
	Serial  uint64    `json:"serial,omitempty"`
	// Retire is from when it is to be told to shut down, Told when the assignment said
	// so.
	Retire time.Time `json:"retire,omitzero"`
	Told   time.Time `json:"told,omitzero"`
	// Terminate is from when its instance is to be terminated.
	Terminate time.Time `json:"terminate,omitzero"`
}

// Step is the next step out.
type Step int

// The steps. What a caller does for each can be done again.
const (
	Stay      Step = iota
	Drain          // the proxies are told to let go of it
	Retire         // it is told to shut down
	Terminate      // its instance is terminated
)

// step is where it stands.
func (l *Leaving) step() Step {
	switch {
	case l == nil:
		return Stay
	case !l.Terminate.IsZero():
		return Terminate
	case !l.Retire.IsZero():
		return Retire
	}
	return Drain
}

// Leave returns the state in which the server is on its way out because a person
// asked for it; with stays it is drained only. False: there is no such server, or it
// leaves already.
func (s State) Leave(name, why string, stays bool, now time.Time) (State, bool) {
	server, ok := s.Servers[name]
	if !ok || server.Leaving != nil && !(server.Leaving.Stays && !stays) {
		return s, false
	}
	s = s.clone()
	server.Leaving = &Leaving{Why: why, Since: now, Asked: true, Stays: stays}
	s.Servers[name] = server
	return s, true
}

// Return returns the state in which the server stays. False: it does not leave, or it
// is too late.
func (s State) Return(name string) (State, bool) {
	server, ok := s.Servers[name]
	if !ok || server.Leaving == nil || server.Leaving.step() > Drain {
		return s, false
	}
	s = s.clone()
	server.Leaving = nil
	s.Servers[name] = server
	return s, true
}

// leave moves the servers on that leave, and begins with those that are lost.
func (n *next) leave() {
	ready := 0
	for _, s := range n.state.Servers {
		if s.phase() == decide.Ready {
			ready++
		}
	}
	for _, name := range n.names() {
		s, see := n.state.Servers[name], n.see(name)
		switch l := s.Leaving; {
		case l == nil:
			if n.discards(&s, see, ready) {
				s.Leaving = &Leaving{Why: s.Why, Since: n.now, Lost: true, Hooked: n.now, Drained: n.now, Retire: n.now}
				n.note("the instance of %s, which was lost, is to go", name)
			}
		case n.recall(name, l, see):
			s.Leaving = nil
		default:
			n.advance(name, &s, see)
		}
		n.state.Servers[name] = s
	}
}

// discards reports whether a lost server's instance is to go: one that was never
// ready, or whose disk another is to have, at once, any other when it was kept long enough and others do its work.
func (n *next) discards(s *Server, see sight, ready int) bool {
	switch {
	case s.Lost.IsZero() || see.leads || n.in.Paused || !see.there:
		return false
	case s.Ready.IsZero(), n.limits.Hand:
		return true
	}
	return n.now.Sub(s.Lost) > n.limits.Keep && ready >= n.state.Wanted
}

// recall reports whether a server stays after all: because it has become the primary,
// or because the others were lost since it was decided.
func (n *next) recall(name string, l *Leaving, see sight) bool {
	if see.leads {
		n.note("%s stays: it is the primary now", name)
		return true
	}
	if l.step() > Drain || l.Asked || !n.policy.Primary || n.others(name) > 0 || !n.settled() {
		return false
	}
	n.note("%s stays: no other replica is ready any more", name)
	return true
}

// others counts the replicas that are ready besides one server.
func (n *next) others(name string) int {
	count := 0
	for other, s := range n.state.Servers {
		if other != name && s.phase() == decide.Ready && !n.see(other).leads {
			count++
		}
	}
	return count
}

// advance moves one server on its way out.
func (n *next) advance(name string, s *Server, see sight) {
	l := s.Leaving
	if l.Drained.IsZero() && (!see.assigned || see.part.State != farm.Serving) {
		l.Drained = n.now
		if see.assigned {
			l.Serial = n.in.Assignment.Serial
		}
	}
	if l.Stays {
		return
	}
	n.awaitHooks(name, l)
	if l.Drained.IsZero() {
		return
	}
	if l.Retire.IsZero() {
		if l.Hooked.IsZero() || !n.letGo(s, see) {
			return
		}
		l.Retire = n.now
	}
	// While the leader of the cluster needs the server, it does not tell it to shut down.
	if l.Told.IsZero() && (!see.assigned || see.part.Task == cluster.Retire) {
		l.Told = n.now
	}
	if l.Terminate.IsZero() && !l.Told.IsZero() && n.ended(l, see) {
		l.Terminate = n.now
	}
}

// awaitHooks notes when the hooks before the server's end have ended, or have had the
// time to. They run while it is drained: they may want to use what still works.
func (n *next) awaitHooks(name string, l *Leaving) {
	if !l.Hooked.IsZero() {
		return
	}
	hooks, after := n.in.Hooks[name], ""
	if len(hooks.Failed) > 0 {
		after = "; not all ended well on " + strings.Join(hooks.Failed, ", ")
	}
	switch {
	case len(hooks.Pending) == 0:
		if hooks.Told {
			n.note("the hooks before the end of %s have ended%s", name, after)
		}
	case n.now.Sub(l.Since) < n.limits.Hooks:
		return
	case n.limits.Hooks > 0:
		n.note("the hooks before the end of %s have not ended within %v on %s: it goes on its way without them%s", name, n.limits.Hooks, strings.Join(hooks.Pending, ", "), after)
	}
	l.Hooked = n.now
}

// letGo reports whether nobody uses the server any more, or has had the time to stop
// it: every proxy that is heard of knows, and there are no clients. One that is
// silent has none that could be waited for.
func (n *next) letGo(s *Server, see sight) bool {
	l := s.Leaving
	if n.now.Sub(l.Drained) > n.limits.Drain || !s.Silent.IsZero() && n.now.Sub(s.Silent) > n.limits.Fresh {
		return true
	}
	for _, p := range n.in.Proxies {
		if n.now.Sub(p.Heard) <= n.limits.Fresh && p.Serial < l.Serial {
			return false
		}
	}
	// What leads clients to a web node has to hear of it first.
	if !see.assigned && n.now.Sub(l.Drained) < n.limits.Settle {
		return false
	}
	// The count must be from after the proxies were told.
	return see.fresh && see.report.Heard.After(l.Drained) && see.report.Clients != nil && *see.report.Clients == 0
}

// ended reports whether the server's process has ended or has had the time to.
func (n *next) ended(l *Leaving, see sight) bool {
	if see.leads {
		return false
	}
	return !see.assigned || !see.runs || see.fresh && see.report.Retired || n.now.Sub(l.Told) > n.limits.Retire
}
