package metric

import "farmhand/internal/cluster"

// queueWait is how long a statement waits for a connection in the proxies because
// of a limit, on average over all statements of all proxies.
func queueWait(s *Seen) (value float64, silent int) {
	return ratio(s.Proxies, func(n Node) (part, whole float64, ok bool) {
		v, ok := s.says(n, cluster.LoadWaitTime, cluster.LoadWaits, cluster.LoadStatements, cluster.LoadWaitingClients)
		if !ok {
			return 0, 0, false
		}
		// Of those that wait in vain there is no statement.
		time, statements := v[0], max(v[1], v[2])
		return time, statements, statements > 0 || v[3] == 0 // if all wait still, nobody knows for how long
	})
}
