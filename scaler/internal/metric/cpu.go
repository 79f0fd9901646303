package metric

import "farmhand/internal/cluster"

// cpu is what part of the processors is in use.
func cpu(s *Seen) (value float64, silent int) { return s.averageOf(cluster.LoadCPUShare) }
