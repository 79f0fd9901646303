package roles

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"farmhand/scaler/internal/decide"
)

// observe brings what is known of the servers up to date.
func (n *next) observe() {
	if n.state.looked.IsZero() || n.now.Sub(n.state.looked) > n.limits.Silent/2 {
		n.state.since = n.now
	}
	n.state.looked = n.now
	anybody := n.in.Elsewhere
	for name := range n.instances {
		if _, known := n.state.Servers[name]; !known {
			n.state.Servers[name] = Server{Launched: n.instances[name].Launched, Slot: n.instances[name].Slot}
		}
		if i := number(n.role, name); i > n.state.Last {
			n.state.Last = i
		}
		anybody = anybody || n.see(name).heard
	}
	for _, name := range n.names() {
		s := n.state.Servers[name]
		if n.gone(name, &s, n.see(name)) {
			delete(n.state.Servers, name)
			continue
		}
		n.look(name, &s, n.see(name), anybody)
		n.state.Servers[name] = s
	}
}

// settled reports whether we have looked for long enough to say what is not there.
func (n *next) settled() bool { return n.now.Sub(n.state.since) >= n.limits.Silent }

// number is the number in a server's name; 0 for another name.
func number(role, name string) int {
	digits, ok := strings.CutPrefix(name, role)
	i, err := strconv.Atoi(digits)
	if !ok || err != nil || i < 1 {
		return 0
	}
	return i
}

// since notes in at when something began that is so.
func (n *next) since(at *time.Time, so bool) {
	switch {
	case !so:
		*at = time.Time{}
	case at.Before(n.state.since): // in the break nobody knows what was
		*at = n.now
	}
}

// gone reports whether the server is none of the role's any more.
func (n *next) gone(name string, s *Server, see sight) bool {
	s.Appeared = s.Appeared || see.there
	n.since(&s.Missing, !see.there)
	switch {
	case see.there:
		return false
	case s.Leaving != nil && !s.Leaving.Terminate.IsZero():
		if !s.Leaving.Lost {
			n.state.LastIn = n.now
		}
		n.note("%s is gone, as it was to: %s", name, s.Leaving.Why)
		return true
	case n.now.Sub(s.Missing) <= n.limits.Appear:
		return false
	case s.Appeared:
		n.note("the instance of %s is gone, and nobody here asked for it", name)
		return true
	}
	n.note("%s was to be launched %v ago, and the provider has no such instance: it is asked for again", name, n.limits.Appear)
	return true
}

// look notes what a server does, and gives it up if that has taken too long.
func (n *next) look(name string, s *Server, see sight, anybody bool) {
	if see.heard && s.Heard.IsZero() {
		s.Heard = n.now
	}
	n.since(&s.Silent, !see.heard || !see.runs)
	if see.ready && (s.Ready.IsZero() || !s.Lost.IsZero()) {
		if !s.Lost.IsZero() {
			n.note("%s is back", name)
		}
		s.Ready, s.Lost, s.Why = n.now, time.Time{}, ""
		if s.Leaving != nil && s.Leaving.Lost && s.Leaving.Terminate.IsZero() {
			s.Leaving = nil
		}
	}
	n.since(&s.Trouble, !s.Ready.IsZero() && !see.ready && s.Leaving == nil)
	if why := n.late(s, see, anybody); why != "" && s.Lost.IsZero() {
		s.Lost, s.Why = n.now, why
		n.note("%s is given up: %s", name, why)
	}
}

// replaced reports whether others have taken the place of all that were given up: of
// servers that are heard of and not well, one is given up at a time, for what ails them
// may not be theirs.
func (n *next) replaced() bool {
	there := 0
	for _, s := range n.state.Servers {
		if phase := s.phase(); phase == decide.Ready || phase == decide.Unwell {
			there++
		}
	}
	return there >= n.state.Wanted
}

// late is why a server is to be given up; empty if it is not.
func (n *next) late(s *Server, see sight, anybody bool) string {
	if !n.settled() {
		return ""
	}
	over := func(at time.Time, limit time.Duration) bool { return !at.IsZero() && n.now.Sub(at) > limit }
	silent := n.limits.Silent
	if !anybody {
		silent = n.limits.AllSilent
	}
	switch {
	case s.Heard.IsZero() && over(s.Launched, n.limits.Launch):
		return fmt.Sprintf("it was launched %v ago, and nothing was heard of it", n.limits.Launch)
	case s.Heard.IsZero():
		return ""
	case over(s.Silent, silent):
		if see.heard {
			return fmt.Sprintf("its instance has not run for %v", silent)
		}
		return fmt.Sprintf("nothing was heard of it for %v", silent)
	case s.Ready.IsZero() && over(s.Heard, n.limits.Warm):
		return fmt.Sprintf("it has been there for %v, and was never ready", n.limits.Warm)
	case over(s.Trouble, n.limits.Trouble) && n.replaced():
		return fmt.Sprintf("it has not been ready for %v", n.limits.Trouble)
	}
	return ""
}
