package route

import (
	"fmt"
	"strings"
	"time"

	"farmhand/internal/gtid"
	"farmhand/proxy/internal/monitor"
)

// PrimaryReads says when the primary serves reads.
type PrimaryReads string

// The choices for the primary.
const (
	WhenNeeded PrimaryReads = "when_needed" // no replica is fit
	Share      PrimaryReads = "share"       // as if it were one more replica, with the default weight
	Never      PrimaryReads = "never"       // reads fail when no replica is fit
)

// defaultWeight is the primary's share where it takes part.
const defaultWeight = 100

// Need is what a read asks of the server that serves it.
type Need struct {
	// Position is what the server must have executed: what the session wrote,
	// or has read before, or what the farm had when it began to read.
	Position gtid.Position
	// Progress knows more of the servers' positions than their last probes. Nil:
	// the probes count.
	Progress Progress
	// Wait is how long a server may be waited for that has not executed Position
	// yet; 0 is not at all.
	Wait time.Duration
	// MaxLag is how old the server's data may be; 0 is any age.
	MaxLag time.Duration
	// Prefer is the address of the server that the session's reads are on already.
	Prefer string
	// Only is the address of the one replica that may serve the read; empty for
	// any.
	Only string
	// Avoid are servers that failed this read.
	Avoid []string
}

// Progress is what is known of how far servers have come.
type Progress interface {
	// Reached tells whether the server is known to have executed a position.
	Reached(s *monitor.Server, p gtid.Position) bool
	// Late tells whether it was waited for in vain since it was probed.
	Late(s *monitor.Server) bool
}

// Choice is the server for a read.
type Choice struct {
	// Server is nil where none is fit; Considered then names each with its reason.
	Server *monitor.Server
	// Wait: the server must be waited for until it has executed what the read
	// needs.
	Wait bool
	// ForWant is why the primary was chosen though it is not to share reads.
	ForWant    Want
	Considered Considered
}

// Want is what the replicas lacked when the primary had to serve a read.
type Want uint8

// The reasons for which the primary serves reads.
const (
	Nothing   Want = iota // it was not for want of anything
	Fitness               // no replica was fit
	Freshness             // a replica was fit, but for its position
)

// Passed says why a server was passed over.
type Passed struct{ Server, Why string }

// Considered are the servers that were passed over.
type Considered []Passed

func (c Considered) String() string {
	if len(c) == 0 {
		return "the topology names no server"
	}
	parts := make([]string, len(c))
	for i, p := range c {
		parts[i] = p.Server + ": " + p.Why
	}
	return strings.Join(parts, "; ")
}

// candidate is a replica that fits a read; wait: it must be waited for.
type candidate struct {
	server *monitor.Server
	wait   bool
}

// Read chooses a server for a read. random is in [0, 1). It allocates nothing
// where it finds one among up to 16 replicas that fit.
func Read(v *monitor.View, n *Need, primary PrimaryReads, now time.Time, random float64) Choice {
	if n.Prefer != "" {
		for _, s := range v.Replicas {
			if s.Address != n.Prefer {
				continue
			}
			if f, wait, _ := fit(s, n, now); f == fits {
				return Choice{Server: s, Wait: wait}
			}
		}
	}
	return choose(v, n, primary, now, random)
}

// choose is Read where no preferred replica fits.
func choose(v *monitor.View, n *Need, primary PrimaryReads, now time.Time, random float64) Choice {
	var room [16]candidate
	candidates, total, behind := room[:0], 0, false
	for _, s := range v.Replicas {
		switch f, wait, _ := fit(s, n, now); {
		case f == lacksPosition:
			behind = true
		case f == fits:
			candidates = append(candidates, candidate{s, wait})
			total += s.EffectiveWeight
		}
	}
	usePrimary := v.Primary != nil && primary != Never && n.Only == "" && primaryUnfit(v.Primary, n) == ""
	if usePrimary && primary == Share {
		if v.Primary.Address == n.Prefer {
			return Choice{Server: v.Primary}
		}
		total += defaultWeight
	}
	if total > 0 {
		left := int(random * float64(total))
		for _, c := range candidates {
			if left -= c.server.EffectiveWeight; left < 0 {
				return Choice{Server: c.server, Wait: c.wait}
			}
		}
		return Choice{Server: v.Primary}
	}
	if usePrimary {
		if behind {
			return Choice{Server: v.Primary, ForWant: Freshness}
		}
		return Choice{Server: v.Primary, ForWant: Fitness}
	}
	// The primary is away or must not be used. Nothing can have been committed
	// since it went, so the age of a replica's data no longer counts; what the
	// session has seen still does.
	if v.Primary == nil || v.Primary.Status == monitor.Down {
		relaxed := *n
		relaxed.MaxLag = 0
		var best Choice
		for _, s := range v.Replicas {
			f, wait, _ := fit(s, &relaxed, now)
			if f == fits && (best.Server == nil || s.Address == n.Prefer || best.Server.Address != n.Prefer && s.Position.Contains(best.Server.Position)) {
				best = Choice{Server: s, Wait: wait}
			}
		}
		if best.Server != nil {
			return best
		}
	}
	return Choice{Considered: considered(v, n, primary, now)}
}

func considered(v *monitor.View, n *Need, primary PrimaryReads, now time.Time) Considered {
	var c Considered
	for _, s := range v.Replicas {
		_, _, why := fit(s, n, now)
		c = append(c, Passed{s.Name, why})
	}
	switch {
	case v.Primary == nil:
		c = append(c, Passed{"primary", "the topology names none"})
	case primary == Never:
		c = append(c, Passed{v.Primary.Name, "is the primary, which reads.primary: never keeps reads from"})
	default:
		c = append(c, Passed{v.Primary.Name, primaryUnfit(v.Primary, n)})
	}
	return c
}

// fitness of a replica for a read.
type fitness uint8

const (
	unfit fitness = iota
	lacksPosition
	fits
)

// fit tells whether a replica can serve a read, and, where it can, whether it
// must be waited for; else why it cannot.
func fit(s *monitor.Server, n *Need, now time.Time) (f fitness, wait bool, why string) {
	if n.Only != "" && s.Address != n.Only {
		return unfit, false, "may be behind what the session has seen, and there is no primary to ask"
	}
	for _, name := range n.Avoid {
		if name == s.Name {
			return unfit, false, "failed this read before"
		}
	}
	if !s.Eligible || s.EffectiveWeight <= 0 {
		if s.Reason != "" {
			return unfit, false, s.Reason
		}
		return unfit, false, "is " + s.Status.String()
	}
	if n.MaxLag > 0 {
		switch lag, known := s.LagAt(now); {
		case !known:
			return unfit, false, "its lag is unknown"
		case lag > n.MaxLag:
			return unfit, false, fmt.Sprintf("is %v behind, the limit is %v", lag.Round(time.Millisecond), n.MaxLag)
		}
	}
	if n.Position.IsZero() || s.Position.Contains(n.Position) || n.Progress != nil && n.Progress.Reached(s, n.Position) {
		return fits, false, ""
	}
	// What it lacked when it was probed says how long the wait would be.
	delayed := s.Replication != nil && s.Replication.Delay > n.Wait
	if n.Wait > 0 && s.LagKnown && s.Lag <= n.Wait && !delayed && (n.Progress == nil || !n.Progress.Late(s)) {
		return fits, true, ""
	}
	return lacksPosition, false, "has not reached what the read must see"
}

func primaryUnfit(s *monitor.Server, n *Need) string {
	for _, name := range n.Avoid {
		if name == s.Name {
			return "failed this read before"
		}
	}
	if s.Status == monitor.Up || s.Status == monitor.Unknown && s.LastError == "" {
		return ""
	}
	if s.Reason != "" {
		return s.Reason
	}
	return "is " + s.Status.String()
}
