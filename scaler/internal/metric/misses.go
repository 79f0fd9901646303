package metric

import "farmhand/internal/cluster"

// misses is what part of the reads of all cache servers found nothing: one less its hit
// rate.
func misses(s *Seen) (value float64, silent int) {
	return ratio(s.Carriers, func(n Node) (part, whole float64, ok bool) {
		v, ok := s.says(n, cluster.LoadCacheMisses, cluster.LoadCacheReads)
		if !ok {
			return 0, 0, false
		}
		return v[0], v[1], true
	})
}
