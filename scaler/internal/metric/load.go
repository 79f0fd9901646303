package metric

import "farmhand/internal/cluster"

// loadAverage is the load average over a minute for each processor.
func loadAverage(s *Seen) (value float64, silent int) {
	return average(s.Carriers, func(n Node) (float64, bool) {
		values, ok := s.says(n, cluster.Load1, cluster.LoadProcessors)
		if !ok || values[1] < 1 {
			return 0, false
		}
		return values[0] / values[1], true
	})
}
