package load

import "time"

// rates turns counters into rates. The zero value is ready.
type rates struct {
	at     time.Time
	before map[string]float64
}

// next returns, for each counter that was there the last time too, what it has
// risen by per second. If one has gone back, all began anew.
func (r *rates) next(now time.Time, counters map[string]float64) map[string]float64 {
	per, seconds := map[string]float64{}, now.Sub(r.at).Seconds()
	for name, value := range counters {
		before, known := r.before[name]
		if value < before {
			per = map[string]float64{}
			break
		}
		if known && seconds > 0 {
			per[name] = (value - before) / seconds
		}
	}
	r.at, r.before = now, counters
	return per
}
