package metric

import "farmhand/internal/cluster"

// connections are the sessions of clients on each server. The farm's own are none,
// or a server that nobody uses would never look so.
func connections(s *Seen) (value float64, silent int) { return s.averageOf(cluster.LoadClients) }
