// Package rollout decides which of a role's servers get a release next, and when all go back.
//
// It is pure: what servers say, whether the farm is paused and the time come in as values, and the plan that
// comes out is what the next leader goes on with. It moves nothing itself.
//
// Invariant: servers that have the new release while a batch is not well are those of that batch and of batches
// that were; after the end all that serve have the same one.
package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"farmhand/internal/cluster"
	"farmhand/scaler/internal/decide"
)

// Phase is how far a roll-out is.
type Phase string

// The phases, in their order; Back may be left out.
const (
	Going Phase = "going" // batches of servers get the release
	Back  Phase = "back"  // those that got it are to have the one before again
	Ended Phase = "ended" // Text is what came of it
)

// Plan is a roll-out, as far as it is.
type Plan struct {
	Operation string `json:"operation"`
	Phase     Phase  `json:"phase"`
	// To is the version, From the one that was in force before; empty for none.
	To   string `json:"to"`
	From string `json:"from,omitempty"`
	// Batch is how many get it at a time, Within how long they may take to be well with it.
	Batch  int           `json:"batch"`
	Within time.Duration `json:"within"`
	// Given are the servers that are to have it.
	Given []string `json:"given,omitempty"`
	// Unwell is since when not all of them are well with it; zero while they are.
	Unwell time.Time `json:"unwell,omitzero"`
	// Why is what it goes back for.
	Why string `json:"why,omitempty"`
	// Done and Text are what came of it.
	Done bool   `json:"done,omitempty"`
	Text string `json:"text,omitempty"`
}

// Server is one of the role's.
type Server struct {
	Name    string
	State   decide.State
	Leaving bool
	// Release is what it says of its release; nil if it is not heard of.
	Release *cluster.ReleaseReport
}

// counts reports whether a server is one to wait for: one that leaves or is lost is none.
func (s Server) counts() bool {
	return !s.Leaving && s.State != decide.Lost && s.State != decide.Draining
}

// has reports whether visitors of the server get a version.
func (s Server) has(version string) bool { return s.Release != nil && s.Release.Version == version }

// serves reports whether visitors come to the server, with any release or none.
func (s Server) serves() bool { return s.State == decide.Ready || s.State == decide.Unwell }

// Stop has a roll-out go back that was not decided yet.
func (p Plan) Stop(why string) Plan {
	if p.Phase == Going {
		p.Phase, p.Why, p.Unwell = Back, why, time.Time{}
	}
	return p
}

// Next goes on with the plan, and says for people what is waited for. held is why nothing is begun now; empty if
// it may be.
func (p Plan) Next(servers []Server, held string, now time.Time) (Plan, string) {
	servers = slices.DeleteFunc(slices.Clone(servers), func(s Server) bool { return !s.counts() })
	switch p.Phase {
	case Going:
		return p.going(servers, held, now)
	case Back:
		return p.back(servers, now)
	default:
		return p, p.Text
	}
}

// present leaves out who is gone, which is not waited for.
func (p Plan) present(servers []Server) []string {
	return slices.DeleteFunc(slices.Clone(p.Given), func(name string) bool {
		return !slices.ContainsFunc(servers, func(s Server) bool { return s.Name == name })
	})
}

// atOnce is how many may change at a time: a server whose PHP begins anew is left alone by load balancers for a
// moment, so there has to be another one.
func atOnce(servers []Server) int {
	n := 0
	for _, s := range servers {
		if s.serves() {
			n++
		}
	}
	return max(1, n-1)
}

func (p Plan) going(servers []Server, held string, now time.Time) (Plan, string) {
	p.Given = p.present(servers)
	for _, s := range servers {
		if r := s.Release; r != nil && r.Attempt == p.Operation && r.Refused == p.To {
			p = p.Stop(fmt.Sprintf("%s refuses it: %s", s.Name, r.Why))
			return p, "it goes back: " + p.Why
		}
	}
	if why := p.unwell(servers); why != "" {
		switch {
		case held != "":
			p.Unwell = time.Time{}
			return p, why + "; " + held
		case p.Unwell.IsZero():
			p.Unwell = now
		case now.Sub(p.Unwell) > p.Within:
			p = p.Stop(fmt.Sprintf("%s, %v after it should have begun to", why, p.Within))
			return p, "it goes back: " + p.Why
		}
		return p, why
	}
	p.Unwell = time.Time{}
	next, silent := p.candidates(servers)
	switch {
	case len(next) == 0 && len(silent) > 0:
		return p, fmt.Sprintf("%s: nothing is heard of its release", strings.Join(silent, ", "))
	case len(next) == 0:
		return p.end(true, fmt.Sprintf("%s is in force: %s", p.To, all(servers, p.To)))
	case held != "":
		return p, fmt.Sprintf("%d left to get %s; %s", len(next), p.To, held)
	}
	most := p.Batch
	if p.From != "" { // visitors are there
		most = min(most, atOnce(servers))
	}
	batch := next[:min(most, len(next))]
	p.Given = append(p.Given, batch...)
	return p, fmt.Sprintf("%s to get %s; %d left", strings.Join(batch, ", "), p.To, len(next)-len(batch))
}

// unwell is what is wrong with the servers that were given the release; empty if nothing is.
func (p Plan) unwell(servers []Server) string {
	for _, s := range servers {
		switch {
		case !slices.Contains(p.Given, s.Name):
		case s.Release == nil:
			return s.Name + " is not heard of"
		case !s.has(p.To) || s.Release.Doing != "":
			return fmt.Sprintf("%s does not have %s yet: %s", s.Name, p.To, cmp.Or(s.Release.Doing, "it has "+cmp.Or(s.Release.Version, "none")))
		case s.State != decide.Ready:
			return fmt.Sprintf("%s has %s and is %s", s.Name, p.To, s.State)
		}
	}
	return ""
}

// candidates are those that were not given it, those first that are well, and those of which nothing is known: who
// has what is not guessed. One that is on its way into the farm gets what is in force then.
func (p Plan) candidates(servers []Server) (next, silent []string) {
	var others []string
	for _, s := range servers {
		switch {
		case slices.Contains(p.Given, s.Name) || !s.serves():
		case s.Release == nil:
			silent = append(silent, s.Name)
		case s.State == decide.Ready:
			next = append(next, s.Name)
		default:
			others = append(others, s.Name) // it may be what helps
		}
	}
	slices.Sort(next)
	slices.Sort(others)
	slices.Sort(silent)
	return append(next, others...), silent
}

func (p Plan) back(servers []Server, now time.Time) (Plan, string) {
	if p.From == "" {
		return p.end(false, fmt.Sprintf("%s is not in force: %s; there was none before", p.To, p.Why))
	}
	// Who never had it is not told of it any more.
	p.Given = slices.DeleteFunc(p.present(servers), func(name string) bool {
		return slices.ContainsFunc(servers, func(s Server) bool { return s.Name == name && s.Release != nil && !s.has(p.To) })
	})
	var waiting []string
	for _, s := range servers {
		if !slices.Contains(p.Given, s.Name) && s.serves() && (s.Release == nil || s.has(p.To)) {
			waiting = append(waiting, s.Name)
		}
	}
	slices.Sort(waiting)
	// One that does not get away from it holds the others up for so long, and no longer.
	late := !p.Unwell.IsZero() && now.Sub(p.Unwell) > p.Within
	switch {
	case len(p.Given) > 0 && (len(waiting) == 0 || late):
		next := p.Given[:min(atOnce(servers), len(p.Given))]
		p.Given, p.Unwell = p.Given[len(next):], now
		return p, fmt.Sprintf("%s to go back to %s, because %s; %d left", strings.Join(next, ", "), p.From, p.Why, len(p.Given))
	case len(waiting) > 0:
		return p, fmt.Sprintf("%s to go back to %s, because %s; %d left", strings.Join(waiting, ", "), p.From, p.Why, len(p.Given))
	}
	return p.end(false, fmt.Sprintf("%s is taken back: %s; %s is in force: %s", p.To, p.Why, p.From, all(servers, p.From)))
}

func (p Plan) end(done bool, text string) (Plan, string) {
	p.Phase, p.Done, p.Text, p.Given = Ended, done, text, nil
	return p, text
}

// all says who has a version.
func all(servers []Server, version string) string {
	var names []string
	for _, s := range servers {
		if s.has(version) {
			names = append(names, s.Name)
		}
	}
	if len(names) == 0 {
		return "no server has it yet"
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
