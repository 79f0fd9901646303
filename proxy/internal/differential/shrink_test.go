package differential

import (
	"slices"
	"testing"
)

// shrink removes steps from a session that fails, as long as what is left still
// fails: chunks first, smaller and smaller, then one at a time until none can
// go. The first fixed steps stay. fails may be asked limit times.
func shrink(steps []step, fixed, limit int, fails func([]step) bool) []step {
	units := divide(steps[fixed:])
	join := func(units [][]step) []step {
		out := append([]step(nil), steps[:fixed]...)
		for _, u := range units {
			out = append(out, u...)
		}
		return out
	}
	for size := max(1, len(units)/2); ; {
		removed := false
		for at := 0; at < len(units) && limit > 0; {
			end := min(at+size, len(units))
			fewer := append(append([][]step(nil), units[:at]...), units[end:]...)
			limit--
			if fails(join(fewer)) {
				units, removed = fewer, true
			} else {
				at = end
			}
		}
		switch {
		case limit <= 0:
			return join(units)
		case size > 1:
			size /= 2
		case !removed:
			return join(units)
		}
	}
}

// divide splits steps into what can be removed at once: single steps, or the
// neighbours of a group.
func divide(steps []step) [][]step {
	var units [][]step
	for i, s := range steps {
		if i > 0 && s.group != 0 && s.group == steps[i-1].group {
			units[len(units)-1] = append(units[len(units)-1], s)
			continue
		}
		units = append(units, []step{s})
	}
	return units
}

func TestShrinkLeavesWhatFails(t *testing.T) {
	var steps []step
	for i := range 200 {
		steps = append(steps, step{number: i})
	}
	steps[120].group, steps[121].group = 1, 1
	asked := 0
	small := shrink(steps, 2, 1000, func(s []step) bool {
		asked++
		found := map[int]bool{}
		for _, x := range s {
			found[x.number] = true
		}
		return found[0] && found[17] && found[121] && found[180]
	})
	var left []int
	for _, s := range small {
		left = append(left, s.number)
	}
	if want := []int{0, 1, 17, 120, 121, 180}; !slices.Equal(left, want) {
		t.Errorf("left %v of the steps after %d tries, want %v", left, asked, want)
	}
}
