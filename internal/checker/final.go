package checker

import (
	"fmt"
	"maps"
	"slices"
)

// checkAccounts holds that no snapshot of the accounts, and no server in the
// end, has more or less money than there was.
func checkAccounts(r *Report, history []Op, final []State, rules Rules) {
	total := sum(rules.Balances)
	for i := range history {
		op := &history[i]
		if op.Action == ReadAccounts && op.Outcome == OK && sum(op.Values) != total {
			r.add(Violation{WrongSum, fmt.Sprintf("%v is %d, there was %d", op.Values, sum(op.Values), total), op, nil})
		}
	}
	if len(final) == 0 {
		return
	}
	want := slices.Clone(rules.Balances)
	for i := range history {
		op := &history[i]
		if op.Action == Transfer && final[0].Ledger[op.Value] > 0 {
			want[op.Values[0]] -= op.Values[2]
			want[op.Values[1]] += op.Values[2]
		}
	}
	if !slices.Equal(want, final[0].Balances) {
		r.add(Violation{WrongSum, fmt.Sprintf("in the end the accounts have %v; by the transfers in the ledger it must be %v", final[0].Balances, want), nil, nil})
	}
}

func sum(values []int64) (s int64) {
	for _, v := range values {
		s += v
	}
	return s
}

// checkFinal looks for the acknowledged writes in what is left in the end.
func checkFinal(r *Report, history []Op, final []State, lists map[int]*list) {
	if len(final) == 0 {
		return
	}
	end := &final[0]
	for i := range history {
		op := &history[i]
		switch op.Action {
		case Insert, Transfer:
			checkOnce(r, op, end.Ledger[op.Value], "ledger entry")
		case Append:
			n := 0
			if slices.Contains(end.Lists[op.Object], op.Value) {
				n = 1 // orderLists counts duplicates
			}
			checkOnce(r, op, n, fmt.Sprintf("list %d: element", op.Object))
		case Write:
			if op.Outcome == OK && end.Registers[op.Object] < op.Value {
				r.Lost++
				r.add(Violation{Lost, fmt.Sprintf("register %d ends with version %d; version %d was acknowledged", op.Object, end.Registers[op.Object], op.Value), op, nil})
			}
		}
	}
	for i := range final[1:] {
		if why := end.differs(&final[1+i]); why != "" {
			r.add(Violation{Diverged, fmt.Sprintf("%s and %s: %s", end.Server, final[1+i].Server, why), nil, nil})
		}
	}
}

// checkOnce holds that a write of an outcome is there as often as it may be.
func checkOnce(r *Report, op *Op, rows int, what string) {
	switch {
	case op.Outcome == OK && rows == 0:
		r.Lost++
		r.add(Violation{Lost, fmt.Sprintf("%s %d", what, op.Value), op, nil})
	case op.Outcome == Failed && rows > 0:
		r.add(Violation{Raised, fmt.Sprintf("%s %d", what, op.Value), op, nil})
	case rows > 1:
		r.Duplicated++
		r.add(Violation{Duplicated, fmt.Sprintf("%s %d is there %d times", what, op.Value, rows), op, nil})
	}
}

// differs says in what two states differ; empty if in nothing.
func (s *State) differs(o *State) string {
	switch {
	case !slices.Equal(s.Registers, o.Registers):
		return fmt.Sprintf("registers %v and %v", s.Registers, o.Registers)
	case !slices.Equal(s.Balances, o.Balances):
		return fmt.Sprintf("balances %v and %v", s.Balances, o.Balances)
	case !maps.Equal(s.Ledger, o.Ledger):
		return fmt.Sprintf("ledgers of %d and %d entries", len(s.Ledger), len(o.Ledger))
	case !maps.EqualFunc(s.Lists, o.Lists, slices.Equal):
		return "lists"
	}
	return ""
}
