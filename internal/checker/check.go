package checker

import (
	"slices"
	"time"
)

// Rules say what a history is held to.
type Rules struct {
	// Level is what the farm promises.
	Level Level
	// Pause is how long a session must have done nothing for its next read to
	// count as a first one again, at level Farm.
	Pause time.Duration
	// Balances are those of all accounts at the beginning.
	Balances []int64
}

// Check judges a history. final are the states of all servers after it, of
// which the first is the primary's; none if they are not known. history is put
// in order of Invoke.
func Check(history []Op, final []State, rules Rules) *Report {
	r := &Report{Level: rules.Level, ByServer: map[uint32]int{}}
	slices.SortStableFunc(history, func(a, b Op) int { return int(a.Invoke - b.Invoke) })
	count(r, history)
	lists := orderLists(r, history, final)
	objects := registers(history)
	for n, l := range lists {
		objects[object{list: true, number: n}] = l.states
	}
	for _, s := range objects {
		s.finish()
	}
	checkReads(r, history, objects, lists, rules)
	checkForks(r, history)
	checkAccounts(r, history, final, rules)
	checkFinal(r, history, final, lists)
	return r
}

func count(r *Report, history []Op) {
	for i := range history {
		op := &history[i]
		if op.Action.Reads() {
			r.Reads++
			if op.Server != 0 {
				r.ByServer[op.Server]++
			}
		} else {
			r.Writes++
		}
		switch op.Outcome {
		case Failed:
			r.Failed++
		case Unknown:
			r.Unknown++
		}
	}
}
