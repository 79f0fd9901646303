package metric

import "farmhand/internal/cluster"

// queries are the statements per second that clients send to each server. The
// farm's own, a few dozen, are among them: the server counts them alike.
func queries(s *Seen) (value float64, silent int) { return s.averageOf(cluster.LoadQueries) }
