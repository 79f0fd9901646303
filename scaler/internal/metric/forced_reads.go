package metric

import "farmhand/internal/cluster"

// forcedReads is what part of the reads went to the primary because no replica
// could serve them.
func forcedReads(s *Seen) (value float64, silent int) {
	return ratio(s.Proxies, func(n Node) (part, whole float64, ok bool) {
		v, ok := s.says(n, cluster.LoadForcedReads, cluster.LoadReplicaReads)
		if !ok {
			return 0, 0, false
		}
		return v[0], v[0] + v[1], true
	})
}
