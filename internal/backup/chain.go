package backup

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
)

// Chain is what can be replayed on a position without leaving anything out.
type Chain struct {
	// Segments are to be replayed in this order. They can overlap: a transaction that
	// was there before is passed over by its GTID.
	Segments []Segment
	// Reached is how far that goes, and Until when the last transaction of it was
	// committed; zero if there is none.
	Reached gtid.Position
	Until   time.Time
	// Gaps are what is missing after Reached: point-in-time recovery is unsafe there.
	Gaps []Gap
	// Fork is not nil if two servers wrote transactions of the same number. Nothing
	// after Reached is known to be the cluster's history then.
	Fork *Fork
}

// Gap is transactions that no segment has.
type Gap struct {
	After, Until string    // GTID positions
	From, To     time.Time // about when they were committed; From is zero if that is not known
}

func (g Gap) String() string {
	return fmt.Sprintf("nothing is known from %s (%s) to %s (%s)", g.After, g.From.UTC().Format(time.RFC3339), g.Until, g.To.UTC().Format(time.RFC3339))
}

// Fork is two segments with different transactions of the same number.
type Fork struct {
	Domain uint32
	Number uint64 // the first one
	A, B   string // the keys of the segments
}

func (f Fork) String() string {
	return fmt.Sprintf("%s and %s have different transactions %d of domain %d", f.A, f.B, f.Number, f.Domain)
}

// Follow finds what can be replayed on base. Continuity is judged by GTIDs alone.
// An error means that a segment's position cannot be read.
func Follow(flavor farm.Flavor, base gtid.Position, segments []Segment) (Chain, error) {
	type link struct {
		Segment
		after, position gtid.Position
	}
	var left []link
	for _, s := range segments {
		l := link{Segment: s}
		var err error
		if l.after, err = gtid.Parse(flavor, s.After); err == nil {
			l.position, err = gtid.Parse(flavor, s.Position)
		}
		if err != nil {
			return Chain{}, fmt.Errorf("segment %s: %w", s.Key, err)
		}
		if !base.Contains(l.position) {
			left = append(left, l)
		}
	}
	// What comes first in a gap, and among those that fit.
	slices.SortFunc(left, func(a, b link) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), a.First.Compare(b.First), cmp.Compare(a.Key, b.Key))
	})
	c := Chain{Reached: base}
	at, last, whole := base, time.Time{}, true // beyond Reached once there is a gap
	for len(left) > 0 {
		i := slices.IndexFunc(left, func(l link) bool { return at.Contains(l.after) })
		if i < 0 {
			// The next after the gap: one that no other one comes before.
			i = 0
			for j, l := range left {
				if left[i].after.Contains(l.after) && !l.after.Contains(left[i].after) {
					i = j
				}
			}
			c.Gaps = append(c.Gaps, Gap{After: at.String(), Until: left[i].After, From: last, To: left[i].First})
			at, whole = at.Merge(left[i].after), false
		}
		next := left[i]
		left = slices.Delete(left, i, i+1)
		if at.Contains(next.position) {
			continue // what it has others had
		}
		if whole {
			if c.Fork = forkOf(c.Segments, next.Segment); c.Fork != nil {
				return c, nil
			}
			c.Segments = append(c.Segments, next.Segment)
			c.Reached, c.Until = c.Reached.Merge(next.position), next.Last
		}
		at, last = at.Merge(next.position), next.Last
	}
	return c, nil
}

// forkOf finds where a segment contradicts one of others.
func forkOf(others []Segment, s Segment) *Fork {
	for _, o := range others {
		for _, a := range o.Lines {
			for _, b := range s.Lines {
				if first := max(a.First, b.First); a.Domain == b.Domain && a.Server != b.Server && first <= min(a.Last, b.Last) {
					return &Fork{Domain: a.Domain, Number: first, A: o.Key, B: s.Key}
				}
			}
		}
	}
	return nil
}
