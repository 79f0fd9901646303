package checker

import (
	"testing"
	"time"
)

// at makes an operation of a session that took from one second to another.
func at(session int, from, to float64, op Op) Op {
	op.Session = session
	op.Invoke, op.Complete = time.Duration(from*float64(time.Second)), time.Duration(to*float64(time.Second))
	return op
}

func write(register int, version int64) Op {
	return Op{Action: Write, Object: register, Value: version}
}

func reads(versions ...int64) Op  { return Op{Action: ReadRegisters, Values: versions} }
func appends(element int64) Op    { return Op{Action: Append, Value: element} }
func listed(elements ...int64) Op { return Op{Action: ReadList, Values: elements} }
func insert(id int64) Op          { return Op{Action: Insert, Value: id} }
func transfer(id, from, to, amount int64) Op {
	return Op{Action: Transfer, Value: id, Values: []int64{from, to, amount}}
}

func accounts(balances ...int64) Op              { return Op{Action: ReadAccounts, Values: balances} }
func with(o Outcome, op Op) Op                   { op.Outcome = o; return op }
func end(ledger map[int64]int, l ...int64) State { return ends(nil, ledger, []int64{100, 100}, l...) }

func ends(registers []int64, ledger map[int64]int, balances []int64, l ...int64) State {
	return State{Server: "primary", Registers: registers, Ledger: ledger, Balances: balances, Lists: map[int][]int64{0: l}}
}

func TestEveryAnomalyIsFound(t *testing.T) {
	const pause = 5 * time.Second
	for _, test := range []struct {
		name    string
		history []Op
		final   []State
		stale   [levels]int // eventual, session, farm, strict
		undone  int
		// wrong are the problems that are held against the farm at a level.
		level Level
		wrong map[Problem]int
	}{
		{
			name:    "a fresh read",
			level:   Strict,
			history: []Op{at(1, 0, 1, write(0, 1)), at(1, 2, 3, reads(1)), at(2, 2, 3, reads(1))},
		}, {
			name:    "a read at the same time as the write may show it or not",
			level:   Strict,
			history: []Op{at(1, 0, 5, write(0, 1)), at(2, 1, 2, reads(0)), at(3, 1, 6, reads(1)), at(4, 1, 6, reads(0))},
		}, {
			name:    "a session misses its own write",
			level:   Strict,
			history: []Op{at(1, 0, 1, write(0, 1)), at(1, 2, 3, reads(0))},
			stale:   [levels]int{0, 1, 1, 1},
			wrong:   map[Problem]int{OwnMissed: 1, FarmMissed: 1, StrictMissed: 1},
		}, {
			name:    "the same is no wrong at eventual",
			history: []Op{at(1, 0, 1, write(0, 1)), at(1, 2, 3, reads(0))},
			stale:   [levels]int{0, 1, 1, 1},
			level:   Eventual, wrong: map[Problem]int{},
		}, {
			name:    "a session's reads go back, over a write that nobody was told of",
			history: []Op{at(1, 0, 9, with(Unknown, write(0, 1))), at(2, 2, 3, reads(1)), at(2, 4, 5, reads(0))},
			stale:   [levels]int{0, 1, 1, 1},
			level:   Session, wrong: map[Problem]int{WentBack: 1},
		}, {
			name:    "another session's acknowledged write is missed by a first read",
			history: []Op{at(1, 0, 1, write(0, 1)), at(2, 2, 3, reads(0))},
			stale:   [levels]int{0, 0, 1, 1},
			level:   Farm, wrong: map[Problem]int{FarmMissed: 1},
		}, {
			name:    "the same is no wrong at session",
			history: []Op{at(1, 0, 1, write(0, 1)), at(2, 2, 3, reads(0))},
			stale:   [levels]int{0, 0, 1, 1},
			level:   Session, wrong: map[Problem]int{},
		}, {
			name:    "what was committed after the first read is missed by the second",
			level:   Strict,
			history: []Op{at(2, 0, 1, reads(0)), at(1, 2, 3, write(0, 1)), at(2, 4, 5, reads(0))},
			stale:   [levels]int{0, 0, 0, 1},
			wrong:   map[Problem]int{StrictMissed: 1},
		}, {
			name:    "the same is no wrong at farm",
			history: []Op{at(2, 0, 1, reads(0)), at(1, 2, 3, write(0, 1)), at(2, 4, 5, reads(0))},
			stale:   [levels]int{0, 0, 0, 1},
			level:   Farm, wrong: map[Problem]int{},
		}, {
			name:    "after a pause a read counts as a first one",
			history: []Op{at(2, 0, 1, reads(0)), at(1, 2, 3, write(0, 1)), at(2, 6, 7, reads(0))},
			stale:   [levels]int{0, 0, 1, 1},
			level:   Farm, wrong: map[Problem]int{FarmMissed: 1},
		}, {
			name:    "a write after the pause does not end the wait for the first read",
			history: []Op{at(2, 0, 1, reads(0, 0)), at(1, 2, 3, write(0, 1)), at(2, 6, 7, write(1, 1)), at(2, 8, 9, reads(0, 1))},
			stale:   [levels]int{0, 0, 1, 1},
			level:   Farm, wrong: map[Problem]int{FarmMissed: 1},
		}, {
			name:    "what was missed by the first read stays to be seen",
			level:   Strict,
			history: []Op{at(1, 0, 1, write(0, 1)), at(2, 2, 3, insert(1)), at(2, 4, 5, reads(1)), at(2, 6, 7, listed())},
		}, {
			name:    "a read misses what nobody but another session was shown",
			level:   Strict,
			history: []Op{at(1, 0, 9, write(0, 1)), at(2, 1, 2, reads(1)), at(3, 3, 4, reads(0))},
			undone:  1,
		}, {
			name:    "a version that was never written",
			level:   Strict,
			history: []Op{at(1, 0, 1, reads(1))},
			wrong:   map[Problem]int{Phantom: 1},
		}, {
			name:    "a version before it was written",
			level:   Strict,
			history: []Op{at(1, 0, 1, reads(1)), at(2, 2, 3, write(0, 1))},
			wrong:   map[Problem]int{Phantom: 1},
		}, {
			name:    "a write that failed for sure is shown",
			level:   Strict,
			history: []Op{at(1, 0, 1, with(Failed, write(0, 1))), at(2, 2, 3, reads(1))},
			wrong:   map[Problem]int{Raised: 1},
		}, {
			name:    "a write of unknown outcome is shown",
			level:   Strict,
			history: []Op{at(1, 0, 1, with(Unknown, write(0, 1))), at(2, 2, 3, reads(1))},
		}, {
			name:    "a write of unknown outcome is never shown",
			level:   Strict,
			history: []Op{at(1, 0, 1, with(Unknown, write(0, 1))), at(1, 2, 3, reads(0))},
		}, {
			name:    "a read that failed is not judged",
			level:   Strict,
			history: []Op{at(1, 0, 1, write(0, 1)), at(1, 2, 3, with(Failed, reads()))},
		}, {
			name:    "two servers took the writes in different orders",
			history: []Op{at(1, 0, 9, write(0, 1)), at(2, 0, 9, write(1, 1)), at(3, 1, 2, reads(1, 0)), at(4, 1, 2, reads(0, 1))},
			level:   Eventual, wrong: map[Problem]int{Forked: 1},
		}, {
			name:    "a list without an acknowledged element",
			history: []Op{at(1, 0, 1, appends(7)), at(1, 1, 2, appends(8)), at(2, 3, 4, listed(7)), at(1, 5, 6, listed(7, 8))},
			stale:   [levels]int{0, 0, 1, 1},
			level:   Farm, wrong: map[Problem]int{FarmMissed: 1},
		}, {
			name:    "a session misses its own element",
			history: []Op{at(1, 0, 1, appends(7)), at(1, 1, 2, appends(8)), at(1, 3, 4, listed(7)), at(2, 5, 6, listed(7, 8))},
			stale:   [levels]int{0, 1, 1, 1},
			level:   Session, wrong: map[Problem]int{OwnMissed: 1},
		}, {
			name:    "a list that is no beginning of another",
			history: []Op{at(1, 0, 9, appends(7)), at(2, 0, 9, appends(8)), at(3, 1, 2, listed(8)), at(4, 1, 3, listed(7, 8))},
			level:   Eventual, wrong: map[Problem]int{Forked: 1},
		}, {
			name:    "an element that nobody appended",
			level:   Strict,
			history: []Op{at(1, 0, 1, listed(7))},
			wrong:   map[Problem]int{Phantom: 1},
		}, {
			name:    "an element twice",
			level:   Strict,
			history: []Op{at(1, 0, 1, appends(7)), at(1, 2, 3, listed(7, 7))},
			wrong:   map[Problem]int{Duplicated: 1},
		}, {
			name:    "an acknowledged element is lost",
			level:   Strict,
			history: []Op{at(1, 0, 1, appends(7)), at(1, 2, 3, appends(8))},
			final:   []State{end(nil, 8)},
			wrong:   map[Problem]int{Lost: 1},
		}, {
			name:    "an acknowledged version is lost",
			level:   Strict,
			history: []Op{at(1, 0, 1, write(0, 1)), at(1, 1, 2, write(0, 2))},
			final:   []State{ends([]int64{1}, nil, []int64{100, 100})},
			wrong:   map[Problem]int{Lost: 1},
		}, {
			name:    "the ledger holds what was acknowledged, once, and what is unknown or not",
			level:   Strict,
			history: []Op{at(1, 0, 1, insert(1)), at(1, 1, 2, with(Unknown, insert(2))), at(1, 2, 3, with(Unknown, insert(3))), at(1, 3, 4, with(Failed, insert(4)))},
			final:   []State{end(map[int64]int{1: 1, 2: 1})},
		}, {
			name:    "an acknowledged entry is lost",
			history: []Op{at(1, 0, 1, insert(1))},
			final:   []State{end(nil)},
			level:   Eventual, wrong: map[Problem]int{Lost: 1},
		}, {
			name:    "an entry is there twice",
			history: []Op{at(1, 0, 1, insert(1))},
			final:   []State{end(map[int64]int{1: 2})},
			level:   Eventual, wrong: map[Problem]int{Duplicated: 1},
		}, {
			name:    "an entry of unknown outcome is there twice",
			history: []Op{at(1, 0, 1, with(Unknown, insert(1)))},
			final:   []State{end(map[int64]int{1: 2})},
			level:   Eventual, wrong: map[Problem]int{Duplicated: 1},
		}, {
			name:    "an entry that failed for sure is there",
			history: []Op{at(1, 0, 1, with(Failed, insert(1)))},
			final:   []State{end(map[int64]int{1: 1})},
			level:   Eventual, wrong: map[Problem]int{Raised: 1},
		}, {
			name:    "money is moved",
			level:   Strict,
			history: []Op{at(1, 0, 1, transfer(1, 0, 1, 10)), at(1, 1, 2, with(Unknown, transfer(2, 0, 1, 5))), at(2, 0, 1, accounts(90, 110))},
			final:   []State{ends(nil, map[int64]int{1: 1}, []int64{90, 110})},
		}, {
			name:    "a snapshot in the middle of a transfer",
			history: []Op{at(1, 0, 1, transfer(1, 0, 1, 10)), at(2, 0, 1, accounts(90, 100))},
			level:   Eventual, wrong: map[Problem]int{WrongSum: 1},
		}, {
			name:    "half a transfer happened",
			history: []Op{at(1, 0, 1, transfer(1, 0, 1, 10))},
			final:   []State{ends(nil, map[int64]int{1: 1}, []int64{100, 100})},
			level:   Eventual, wrong: map[Problem]int{WrongSum: 1},
		}, {
			name:    "servers differ in the end",
			history: []Op{at(1, 0, 1, insert(1))},
			final:   []State{end(map[int64]int{1: 1}), end(map[int64]int{})},
			level:   Eventual, wrong: map[Problem]int{Diverged: 1},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.wrong == nil {
				test.wrong = map[Problem]int{}
			}
			r := Check(test.history, test.final, Rules{Level: test.level, Pause: pause, Balances: []int64{100, 100}})
			if r.Stale != test.stale {
				t.Errorf("stale by level: %v, want %v", r.Stale, test.stale)
			}
			if r.Undone != test.undone {
				t.Errorf("%d reads undone, want %d", r.Undone, test.undone)
			}
			for p, n := range test.wrong {
				if r.Wrong[p] != n {
					t.Errorf("%q found %d times, want %d", p, r.Wrong[p], n)
				}
			}
			for p, n := range r.Wrong {
				if _, ok := test.wrong[p]; !ok {
					t.Errorf("%q found %d times, want none: %v", p, n, r.Violations)
				}
			}
		})
	}
}
