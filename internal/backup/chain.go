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
// Of two segments that contradict each other that of the newer epoch is the
// cluster's history: the other one has what a primary that was replaced wrote and
// nobody had acknowledged, and is left out as a whole; so is what Overruled names. An
// error means that a segment's position cannot be read.
func Follow(flavor farm.Flavor, base gtid.Position, segments []Segment) (Chain, error) {
	gone, err := Overruled(segments)
	if err != nil {
		return Chain{}, err
	}
	left := make([]link, 0, len(segments))
	for _, s := range segments {
		l := link{Segment: s}
		if l.after, err = gtid.Parse(flavor, s.After); err == nil {
			l.position, err = gtid.Parse(flavor, s.Position)
		}
		if err != nil {
			return Chain{}, fmt.Errorf("segment %s: %w", s.Key, err)
		}
		if !gone[s.Key] && !base.Contains(l.position) {
			left = append(left, l)
		}
	}
	// What comes first in a gap, and among those that fit.
	slices.SortFunc(left, func(a, b link) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), a.First.Compare(b.First), cmp.Compare(a.Key, b.Key))
	})
	for {
		c, overruled := walk(base, left)
		if overruled == "" {
			return c, nil
		}
		left = slices.DeleteFunc(left, func(l link) bool { return l.Key == overruled })
	}
}

// link is a segment that may become part of a chain.
type link struct {
	Segment
	after, position gtid.Position
}

// walk goes from base along links as far as they go. It stops at one that is
// overruled by a newer epoch, and returns its key.
func walk(base gtid.Position, links []link) (c Chain, overruled string) {
	c = Chain{Reached: base}
	at, last, whole := base, time.Time{}, true // beyond Reached once there is a gap
	used, first, count := make([]bool, len(links)), 0, 0
	var known history
	for count < len(links) {
		for used[first] {
			first++
		}
		i := -1
		for j := first; j < len(links) && i < 0; j++ {
			if !used[j] && at.Contains(links[j].after) {
				i = j
			}
		}
		if i < 0 {
			// The next after the gap: one that no other one comes before.
			i = first
			for j := first; j < len(links); j++ {
				if !used[j] && links[i].after.Contains(links[j].after) && !links[j].after.Contains(links[i].after) {
					i = j
				}
			}
			c.Gaps = append(c.Gaps, Gap{After: at.String(), Until: links[i].After, From: last, To: links[i].First})
			at, whole = at.Merge(links[i].after), false
		}
		next := links[i]
		used[i] = true
		count++
		if whole {
			// Also of one that seems to bring nothing: another server's transactions can have
			// the same numbers.
			if domain, number, is := known.contradicts(next.Lines); is {
				other := writerOf(c.Segments, domain, number, next.Lines)
				if other.Epoch != next.Epoch {
					if other.Epoch > next.Epoch {
						return c, next.Key
					}
					return c, other.Key
				}
				c.Fork = &Fork{Domain: domain, Number: number, A: other.Key, B: next.Key}
				return c, ""
			}
		}
		if at.Contains(next.position) {
			continue // what it has others had
		}
		if whole {
			known.add(next.Lines)
			c.Segments = append(c.Segments, next.Segment)
			c.Reached, c.Until = c.Reached.Merge(next.position), next.Last
		}
		at, last = at.Merge(next.position), next.Last
	}
	return c, ""
}

// history is who wrote what, by domain: in ascending order, without overlaps, and
// joined where one line goes on with the last.
type history map[uint32][]Line

// contradicts finds the first transaction that somebody else wrote.
func (h history) contradicts(lines []Line) (domain uint32, number uint64, is bool) {
	for _, l := range lines {
		all := h[l.Domain]
		for i := len(all) - 1; i >= 0 && all[i].Last >= l.First; i-- {
			if both := max(all[i].First, l.First); all[i].Server != l.Server && both <= l.Last && (!is || both < number) {
				domain, number, is = l.Domain, both, true
			}
		}
		if is {
			return domain, number, true
		}
	}
	return 0, 0, false
}

// add adds lines that contradict nothing.
func (h *history) add(lines []Line) {
	if *h == nil {
		*h = history{}
	}
	for _, l := range lines {
		all := (*h)[l.Domain]
		if n := len(all); n > 0 && all[n-1].Server == l.Server && l.First >= all[n-1].First && l.First <= all[n-1].Last+1 {
			all[n-1].Last = max(all[n-1].Last, l.Last)
			continue
		}
		i, _ := slices.BinarySearchFunc(all, l, func(a, b Line) int { return cmp.Compare(a.First, b.First) })
		if i > 0 {
			l.First = max(l.First, all[i-1].Last+1)
		}
		if i < len(all) {
			l.Last = min(l.Last, all[i].First-1)
		}
		if l.First <= l.Last {
			(*h)[l.Domain] = slices.Insert(all, i, l)
		}
	}
}

// writerOf is the segment that has a transaction from another server than lines
// have it.
func writerOf(segments []Segment, domain uint32, number uint64, lines []Line) Segment {
	has := func(lines []Line, server func(uint32) bool) bool {
		return slices.ContainsFunc(lines, func(l Line) bool {
			return l.Domain == domain && l.First <= number && number <= l.Last && server(l.Server)
		})
	}
	i := slices.IndexFunc(segments, func(s Segment) bool {
		return has(s.Lines, func(server uint32) bool {
			return !has(lines, func(other uint32) bool { return other == server })
		})
	})
	return segments[i] // there is one: history is made of them
}
