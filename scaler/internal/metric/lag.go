package metric

// lag is how far the replicas are behind: how much older the newest heartbeat is
// there than on the primary. While the primary cannot commit, all are as old and
// nobody is behind; when nobody knows of the primary, nobody knows the lag either.
func lag(s *Seen) (value float64, silent int) {
	beat := func(n Node) (float64, bool) {
		if _, heard := s.says(n); !heard || n.Beat == nil || !possible(*n.Beat) {
			return 0, false
		}
		return *n.Beat, true
	}
	var primary float64
	known := false
	if s.Primary != nil {
		primary, known = beat(*s.Primary)
	}
	return average(s.Replicas, func(n Node) (float64, bool) {
		own, ok := beat(n)
		return max(own-primary, 0), ok && known
	})
}
