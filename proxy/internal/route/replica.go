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
	// or has read before.
	Position gtid.Position
	// MaxLag is how old the server's data may be; 0 is any age.
	MaxLag time.Duration
	// Prefer is the server that the session's reads are on already.
	Prefer string
	// Avoid are servers that failed this read.
	Avoid []string
}

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

// Read chooses a server for a read. random is in [0, 1). The server is nil where
// none is fit; why then names each with its reason. onPrimary tells that the
// primary was chosen because no replica was fit.
func Read(v *monitor.View, n *Need, primary PrimaryReads, now time.Time, random float64) (chosen *monitor.Server, why Considered, onPrimary bool) {
	total := 0
	for _, s := range v.Replicas {
		if unfit(s, n, now) != "" {
			continue
		}
		if s.Name == n.Prefer {
			return s, nil, false
		}
		total += s.EffectiveWeight
	}
	usePrimary := v.Primary != nil && primary != Never && primaryUnfit(v.Primary, n) == ""
	if usePrimary && primary == Share {
		if v.Primary.Name == n.Prefer {
			return v.Primary, nil, false
		}
		total += defaultWeight
	}
	if total > 0 {
		left := int(random * float64(total))
		for _, s := range v.Replicas {
			if unfit(s, n, now) != "" {
				continue
			}
			if left -= s.EffectiveWeight; left < 0 {
				return s, nil, false
			}
		}
		return v.Primary, nil, false
	}
	if usePrimary {
		return v.Primary, nil, true
	}
	// The primary is away or must not be used. Nothing can have been committed
	// since it went, so the age of a replica's data no longer counts; what the
	// session has seen still does.
	if v.Primary == nil || v.Primary.Status == monitor.Down {
		relaxed := *n
		relaxed.MaxLag = 0
		var best *monitor.Server
		for _, s := range v.Replicas {
			if unfit(s, &relaxed, now) == "" && (best == nil || s.Name == n.Prefer || best.Name != n.Prefer && s.Position.Contains(best.Position)) {
				best = s
			}
		}
		if best != nil {
			return best, nil, false
		}
	}
	return nil, considered(v, n, primary, now), false
}

func considered(v *monitor.View, n *Need, primary PrimaryReads, now time.Time) Considered {
	var c Considered
	for _, s := range v.Replicas {
		c = append(c, Passed{s.Name, unfit(s, n, now)})
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

// unfit says why a replica cannot serve a read; empty if it can.
func unfit(s *monitor.Server, n *Need, now time.Time) string {
	for _, name := range n.Avoid {
		if name == s.Name {
			return "failed this read before"
		}
	}
	if !s.Eligible || s.EffectiveWeight <= 0 {
		if s.Reason != "" {
			return s.Reason
		}
		return "is " + s.Status.String()
	}
	if n.MaxLag > 0 {
		switch lag, known := s.LagAt(now); {
		case !known:
			return "its lag is unknown"
		case lag > n.MaxLag:
			return fmt.Sprintf("is %v behind, the limit is %v", lag.Round(time.Millisecond), n.MaxLag)
		}
	}
	if !n.Position.IsZero() && !s.Position.Contains(n.Position) {
		return "has not reached what the session has seen"
	}
	return ""
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
