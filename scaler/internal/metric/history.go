package metric

import (
	"slices"
	"time"

	"farmhand/scaler/internal/decide"
	"farmhand/scaler/internal/farmfile"
)

// History is the samples of a role's metrics over their windows. The zero value is
// ready. It is not for several goroutines at once.
type History struct {
	samples map[key][]decide.Sample // in the order of time
}

// key is a metric as it stays itself when the farm file changes around it.
type key struct {
	name   string
	window time.Duration
}

func keyOf(m *farmfile.Metric) key { return key{m.Name(), time.Duration(m.Window)} }

// Bounds of what is kept of a metric: samples do not stand closer than the one,
// nor than the window in so many parts.
const (
	closest = time.Second
	parts   = 240
)

// Take adds a sample of each of the metrics that nodes report, and forgets metrics
// that are none of the role's any more.
func (h *History) Take(metrics []farmfile.Metric, seen *Seen) {
	for k := range h.samples {
		if !slices.ContainsFunc(metrics, func(m farmfile.Metric) bool { return keyOf(&m) == k }) {
			delete(h.samples, k)
		}
	}
	for i := range metrics {
		if measure, ok := kinds[metrics[i].Kind]; ok {
			value, silent := measure(seen)
			h.Add(&metrics[i], decide.Sample{At: seen.Now, Value: value, Silent: silent})
		}
	}
}

// Add adds a sample of one metric, such as what a command's program has printed.
// One that comes too soon after the last, or is older, is not needed.
func (h *History) Add(m *farmfile.Metric, s decide.Sample) {
	k := keyOf(m)
	list := h.samples[k]
	if n := len(list); n > 0 && s.At.Sub(list[n-1].At) < max(closest, k.window/parts) {
		return
	}
	if h.samples == nil {
		h.samples = map[key][]decide.Sample{}
	}
	from := s.At.Add(-k.window)
	list = slices.DeleteFunc(list, func(old decide.Sample) bool { return old.At.Before(from) })
	h.samples[k] = append(list, s)
}

// Readings returns the samples of each of the metrics, for a [decide.Picture]. They
// are the caller's.
func (h *History) Readings(metrics []farmfile.Metric) [][]decide.Sample {
	readings := make([][]decide.Sample, len(metrics))
	for i := range metrics {
		readings[i] = slices.Clone(h.samples[keyOf(&metrics[i])])
	}
	return readings
}

// Measure returns what makes the readings of a role whose servers are known: it takes
// a sample of what the nodes report now, and returns all. It is what package roles
// asks for.
func (h *History) Measure(now time.Time, metrics []farmfile.Metric, nodes map[string]Node, proxies []Node) func([]decide.Server) [][]decide.Sample {
	return func(servers []decide.Server) [][]decide.Sample {
		h.Take(metrics, See(now, servers, nodes, proxies))
		return h.Readings(metrics)
	}
}
