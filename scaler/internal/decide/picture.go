package decide

import (
	"math"
	"time"
)

// State is what a server does.
type State int

// The states of a server.
const (
	// Launching: asked of the provider, not heard from yet. One that takes too
	// long must be shown as Lost, or the role would wait for it for ever.
	Launching State = iota + 1
	// Warming: there, but it must catch up before it gets load.
	Warming
	// Ready: it has its share of the load.
	Ready
	// Unwell: it has trouble that its sidecar may still end.
	Unwell
	// Draining: it is on its way out, by an earlier decision.
	Draining
	// Lost: given up.
	Lost
)

var stateNames = map[State]string{
	Launching: "launching", Warming: "warming up", Ready: "ready", Unwell: "unwell", Draining: "draining", Lost: "lost",
}

func (s State) String() string { return stateNames[s] }

// counts reports whether the server is, or soon will be, one of the role's.
func (s State) counts() bool { return s >= Launching && s <= Unwell }

// Server is one of the role's servers.
type Server struct {
	Name    string
	State   State
	Primary bool
	Source  bool // a backup or a new replica is being copied from it
	Busy    bool // it has something to do that its end would cut short
	// ReadyAt is when it was ready for the first time, or again after it was lost;
	// zero if it was not yet. What was unwell for a while is no change.
	ReadyAt time.Time
}

// Sample is one measurement of a metric, over all servers that share the load.
type Sample struct {
	At    time.Time
	Value float64 // their average; NaN for none
	// Silent is the number of servers that did not say theirs. A value without
	// them may ask for more servers, never for fewer.
	Silent int
}

// Picture is what was observed of a role.
type Picture struct {
	Servers []Server
	// Wanted is the number of servers of the last decision, or of a person; 0 if
	// there was none. When there are fewer, some were lost; when there are more,
	// some are back.
	Wanted int
	// LastIn is when the last server that was to go was gone; zero if none was.
	LastIn time.Time
	// Readings are the samples of each of the policy's metrics, in their order
	// and in that of time. A metric of which none are there is unknown.
	Readings [][]Sample
}

// count returns how many servers are as the function says.
func (p *Picture) count(is func(*Server) bool) int {
	n := 0
	for i := range p.Servers {
		if is(&p.Servers[i]) {
			n++
		}
	}
	return n
}

func (p *Picture) in(state State) int {
	return p.count(func(s *Server) bool { return s.State == state })
}

func (p *Picture) live() int {
	return p.count(func(s *Server) bool { return s.State.counts() })
}

// lastReady is when the server that was ready last was it.
func (p *Picture) lastReady() time.Time {
	var last time.Time
	for _, s := range p.Servers {
		if s.ReadyAt.After(last) {
			last = s.ReadyAt
		}
	}
	return last
}

// lastChange is when the number of servers that share the load changed last.
func (p *Picture) lastChange() time.Time {
	if last := p.lastReady(); last.After(p.LastIn) {
		return last
	}
	return p.LastIn
}

// average is a metric over its window.
type average struct {
	value  float64
	recent float64 // over the last quarter of it
	known  bool    // there is a value for every part of the window
	silent int     // the most servers that a sample lacks
	most   float64 // the highest value
}

// averageOf wants a sample in every half of a window: with longer gaps nobody
// knows what was.
func averageOf(samples []Sample, window time.Duration, now time.Time) average {
	var a average
	var sum, recent float64
	n, quarter, last := 0, 0, now.Add(-window)
	for _, s := range samples {
		if s.At.Before(now.Add(-window)) || s.At.After(now) || math.IsNaN(s.Value) {
			continue
		}
		if s.At.Sub(last) > window/2 {
			return average{}
		}
		if now.Sub(s.At) < window/4 {
			recent, quarter = recent+s.Value, quarter+1
		}
		sum, n, last = sum+s.Value, n+1, s.At
		a.silent, a.most = max(a.silent, s.Silent), max(a.most, s.Value)
	}
	if n == 0 || now.Sub(last) > window/2 {
		return average{}
	}
	a.value, a.known = sum/float64(n), true
	a.recent = a.value
	if quarter > 0 {
		a.recent = recent / float64(quarter)
	}
	return a
}
