package metric

import "farmhand/internal/cluster"

// requests are the requests per second that each server has answered.
func requests(s *Seen) (value float64, silent int) { return s.averageOf(cluster.LoadRequests) }
