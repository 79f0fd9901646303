package checker

import (
	"cmp"
	"slices"
)

// forks calls found for reads of the registers that cannot be put in an order
// in which no register falls. With the sums rising it is enough to compare
// neighbours.
func forks(reads []*Op, found func(a, b *Op)) {
	sum := func(op *Op) (s int64) {
		for _, v := range op.Values {
			s += v
		}
		return s
	}
	slices.SortStableFunc(reads, func(a, b *Op) int { return cmp.Compare(sum(a), sum(b)) })
	for i := 1; i < len(reads); i++ {
		a, b := reads[i-1], reads[i]
		for n := range a.Values {
			if n < len(b.Values) && a.Values[n] > b.Values[n] {
				found(a, b)
				break
			}
		}
	}
}
