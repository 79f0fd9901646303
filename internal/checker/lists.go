package checker

import (
	"fmt"
	"slices"
)

// list is one append-only list.
type list struct {
	order   []int64         // its elements, as in the longest read
	version map[int64]int64 // element to its place, from 1
	appends map[int64]*Op
	states  *states
}

// orderLists finds the order of every list's elements and reports the reads
// that contradict it.
func orderLists(r *Report, history []Op, final []State) map[int]*list {
	lists := map[int]*list{}
	of := func(n int) *list {
		l := lists[n]
		if l == nil {
			l = &list{version: map[int64]int64{}, appends: map[int64]*Op{}, states: newStates()}
			lists[n] = l
		}
		return l
	}
	if len(final) > 0 {
		for n, elements := range final[0].Lists {
			of(n).order = elements
		}
	}
	for i := range history {
		op := &history[i]
		switch op.Action {
		case Append:
			of(op.Object).appends[op.Value] = op
		case ReadList:
			if l := of(op.Object); op.Outcome == OK && len(op.Values) > len(l.order) {
				l.order = op.Values
			}
		}
	}
	for n, l := range lists {
		l.finish(r, n)
	}
	for i := range history {
		op := &history[i]
		if op.Action != ReadList || op.Outcome != OK {
			continue
		}
		if l := lists[op.Object]; !slices.Equal(op.Values, l.order[:len(op.Values)]) {
			r.add(Violation{Forked, fmt.Sprintf("list %d: %v is no beginning of %v", op.Object, op.Values, l.order), op, nil})
		}
	}
	return lists
}

// finish gives every element its version.
func (l *list) finish(r *Report, n int) {
	for i, element := range l.order {
		version := int64(i + 1)
		op := l.appends[element]
		switch {
		case l.version[element] != 0:
			r.Duplicated++
			r.add(Violation{Duplicated, fmt.Sprintf("list %d holds element %d in places %d and %d", n, element, l.version[element], version), op, nil})
		case op == nil: // a read that shows it is reported as a phantom
		default:
			l.version[element] = version
		}
		if op != nil {
			// A second place of an element counts as written too, so that it is
			// reported once, as a duplicate.
			l.states.wrote(version, op)
		}
	}
}
