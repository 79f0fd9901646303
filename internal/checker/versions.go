package checker

import (
	"cmp"
	"slices"
	"sort"
	"time"
)

// object is what has versions: a register, or a list, of which the version is
// its length.
type object struct {
	list   bool
	number int
}

// mark is a moment from which a version was known to somebody.
type mark struct {
	at      time.Duration
	version int64
	op      *Op
}

// states is what is known of the versions of one object.
type states struct {
	writes map[int64]*Op // by version
	acked  []mark        // by time, the versions rising
	shown  []mark        // the same, of reads
}

func newStates() *states { return &states{writes: map[int64]*Op{}} }

// wrote notes the operation that made a version.
func (s *states) wrote(version int64, op *Op) {
	s.writes[version] = op
	if op.Outcome == OK {
		s.acked = append(s.acked, mark{op.Complete, version, op})
	}
}

// finish makes the marks ready for since.
func (s *states) finish() { s.acked = rising(s.acked) }

// rising sorts marks by time and leaves those that are higher than all before.
func rising(marks []mark) []mark {
	slices.SortFunc(marks, func(a, b mark) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(b.version, a.version))
	})
	kept := marks[:0]
	for _, m := range marks {
		if len(kept) == 0 || m.version > kept[len(kept)-1].version {
			kept = append(kept, m)
		}
	}
	return kept
}

// before is the highest mark of a time before t; its version is 0 if there is
// none.
func before(marks []mark, t time.Duration) mark {
	n := sort.Search(len(marks), func(i int) bool { return marks[i].at >= t })
	if n == 0 {
		return mark{}
	}
	return marks[n-1]
}

// missed is the first mark of a version higher than v.
func missed(marks []mark, v int64) mark {
	n := sort.Search(len(marks), func(i int) bool { return marks[i].version > v })
	return marks[n]
}

// registers collects the versions of all registers.
func registers(history []Op) map[object]*states {
	found := map[object]*states{}
	for i := range history {
		op := &history[i]
		switch op.Action {
		case Write:
			get(found, object{number: op.Object}).wrote(op.Value, op)
		case ReadRegisters:
			for n := range op.Values {
				get(found, object{number: n})
			}
		}
	}
	return found
}

func get(found map[object]*states, o object) *states {
	s := found[o]
	if s == nil {
		s = newStates()
		found[o] = s
	}
	return s
}
