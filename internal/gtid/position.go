// Package gtid holds GTID positions of MariaDB and MySQL behind one small
// value, [Position]: what a server has executed, or what a reader needs to have
// been executed.
//
// It imports the standard library only and allocates nothing in the common
// cases (one MariaDB domain; one MySQL source without gaps), so that it may be
// used for every statement. It asks no server anything and keeps no history.
//
// The invariant: positions form a lattice. Merge is the least upper bound and
// Contains its order, for every pair of positions, of different flavors too.
//
// Text forms: https://mariadb.com/kb/en/gtid/ and
// https://dev.mysql.com/doc/refman/9.7/en/replication-gtids-concepts.html.
package gtid

import (
	"cmp"
	"slices"

	"farmhand/internal/farm"
)

// mixed is the flavor of a position that was merged from positions of both
// flavors. It is the lattice's top: no server's position contains it.
const mixed = ^farm.Flavor(0)

// source is whose sequence numbers a run counts: a MySQL server's UUID with an
// optional tag, or a MariaDB replication domain (in lo).
type source struct {
	hi, lo uint64
	tag    string
}

func (s source) compare(t source) int {
	if c := cmp.Compare(s.hi, t.hi); c != 0 {
		return c
	}
	if c := cmp.Compare(s.lo, t.lo); c != 0 {
		return c
	}
	return cmp.Compare(s.tag, t.tag)
}

// run is the transactions first to last of a source, both included.
//
// A MariaDB position says "domain D is at sequence number N", which is the run
// 1..N: that makes one algebra serve both flavors. MariaDB's server id plays no
// part in it; it is only kept for the text.
type run struct {
	source
	first, last uint64
	server      uint32 // MariaDB: who wrote last
}

// compareLast orders runs by source, then by their end.
func compareLast(r, s run) int {
	if c := r.compare(s.source); c != 0 {
		return c
	}
	return cmp.Compare(r.last, s.last)
}

// Position is a set of executed transactions. It is an immutable value that may
// be shared between goroutines and copied freely; compare with Equal, not ==.
// The zero value is the empty position: "nothing executed" or "nothing needed".
type Position struct {
	flavor farm.Flavor
	one    [1]run // the only run, while many is nil and flavor is set
	many   []run  // two or more runs, ordered by source and first, never touching
}

// newPosition takes ownership of runs, which are in the order of a Position.
func newPosition(flavor farm.Flavor, runs []run) Position {
	switch len(runs) {
	case 0:
		return Position{}
	case 1:
		return Position{flavor: flavor, one: [1]run{runs[0]}}
	}
	return Position{flavor: flavor, many: runs}
}

// runs returns the position's runs; the caller must not change them.
func (p *Position) runs() []run {
	if p.many != nil {
		return p.many
	}
	if p.flavor == farm.UnknownFlavor || p.flavor == mixed {
		return nil
	}
	return p.one[:]
}

// Flavor tells whose position it is; UnknownFlavor for the empty position and
// for one that was merged from both flavors.
func (p Position) Flavor() farm.Flavor {
	if p.flavor == mixed {
		return farm.UnknownFlavor
	}
	return p.flavor
}

// IsZero tells whether the position is empty: every position contains it.
func (p Position) IsZero() bool { return p.flavor == farm.UnknownFlavor }

// Contains tells whether p is at or past q: whether a server at p has executed
// everything that q names. Sequence numbers are compared within a MariaDB
// domain, whoever wrote them, and as sets within a MySQL source. A position of
// one flavor never contains a non-empty one of the other.
func (p Position) Contains(q Position) bool {
	switch {
	case q.flavor == farm.UnknownFlavor || p.flavor == mixed:
		return true
	case p.flavor != q.flavor:
		return false
	}
	have := p.runs()
	for _, want := range q.runs() {
		// Runs do not touch, so only the first one that ends at or after the
		// wanted one's end can cover it.
		i := 0
		if len(have) > 1 {
			i, _ = slices.BinarySearchFunc(have, want, compareLast)
			if i == len(have) {
				return false
			}
		}
		if h := &have[i]; h.source != want.source || h.first > want.first || h.last < want.last {
			return false
		}
	}
	return true
}

// Equal tells whether p and q contain each other. Which server wrote a MariaDB
// position's last transaction makes no difference.
func (p Position) Equal(q Position) bool { return p.Contains(q) && q.Contains(p) }

// Merge returns the least position that contains both p and q. No server's
// position contains the merger of a MariaDB and a MySQL position.
func (p Position) Merge(q Position) Position {
	switch {
	case q.flavor == farm.UnknownFlavor || p.flavor == mixed:
		return p
	case p.flavor == farm.UnknownFlavor || q.flavor == mixed:
		return q
	case p.flavor != q.flavor:
		return Position{flavor: mixed}
	}
	if p.many == nil && q.many == nil {
		if r, ok := join(p.one[0], q.one[0]); ok {
			return Position{flavor: p.flavor, one: [1]run{r}}
		}
	}
	runs := make([]run, 0, len(p.runs())+len(q.runs()))
	runs = append(append(runs, p.runs()...), q.runs()...)
	return newPosition(p.flavor, normalize(runs))
}

// Compact returns a position that contains p and takes one run for each source:
// everything up to the last transaction of each. It bounds the size of a
// position that is gathered from many single MySQL transactions; a server
// without gaps contains it as soon as it contains p.
func (p Position) Compact() Position {
	if p.flavor != farm.MySQL {
		return p
	}
	runs := slices.Clone(p.runs())
	for i := range runs {
		runs[i].first = 1
	}
	return newPosition(p.flavor, normalize(runs))
}

// Domains is the number of MariaDB replication domains that the position names;
// 0 for a MySQL position.
func (p Position) Domains() int {
	if p.flavor != farm.MariaDB {
		return 0
	}
	return len(p.runs()) // one for each
}

// join returns the union of two runs if that is one run.
func join(a, b run) (run, bool) {
	if a.source != b.source || a.last+1 < b.first || b.last+1 < a.first {
		return run{}, false
	}
	if a.last < b.last || a.last == b.last && a.server < b.server {
		a, b = b, a
	}
	a.first = min(a.first, b.first)
	return a, true
}

// normalize sorts runs in place and joins those that overlap or touch.
func normalize(runs []run) []run {
	slices.SortFunc(runs, func(a, b run) int {
		if c := a.compare(b.source); c != 0 {
			return c
		}
		return cmp.Compare(a.first, b.first)
	})
	out := runs[:0]
	for _, r := range runs {
		if n := len(out); n > 0 {
			if j, ok := join(out[n-1], r); ok {
				out[n-1] = j
				continue
			}
		}
		out = append(out, r)
	}
	return out
}
