package metric

import (
	"math"

	"farmhand/internal/cluster"
)

// queueAge is how long the message had waited that waited longest, of those that the
// workers of all nodes got last: what one of them sees waits for all.
func queueAge(s *Seen) (value float64, silent int) {
	value = math.NaN()
	for _, n := range s.Carriers {
		v, ok := s.says(n, cluster.LoadQueueAge)
		switch {
		case !ok:
			silent++
		case math.IsNaN(value) || v[0] > value:
			value = v[0]
		}
	}
	return value, silent
}
