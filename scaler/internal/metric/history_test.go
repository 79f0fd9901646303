package metric

import (
	"math"
	"testing"
	"time"

	"farmhand/scaler/internal/decide"
	"farmhand/scaler/internal/farmfile"
)

func metricOf(kind farmfile.MetricKind, window time.Duration) farmfile.Metric {
	return farmfile.Metric{Kind: kind, Window: farmfile.Duration(window)}
}

// TestHistory: what decide is given covers the window, and is bounded.
func TestHistory(t *testing.T) {
	for _, window := range []time.Duration{10 * time.Second, time.Minute, time.Hour} {
		metrics := []farmfile.Metric{metricOf(farmfile.CPUMetric, window), metricOf(farmfile.LoadMetric, window)}
		var h History
		for at := start; at.Before(start.Add(2 * window)); at = at.Add(500 * time.Millisecond) {
			s := seen(everything("db2", 1))
			s.Now = at
			for i := range s.Replicas {
				s.Replicas[i].Heard = at
			}
			h.Take(metrics, s)
			if n := len(h.Readings(metrics)[0]); n > parts+1 {
				t.Fatalf("%d samples of %v", n, window)
			}
		}
		readings := h.Readings(metrics)
		if len(readings) != 2 {
			t.Fatalf("%d readings", len(readings))
		}
		for _, samples := range readings {
			first, last := samples[0].At, samples[len(samples)-1].At
			if last.Sub(first) < window*9/10 || last.Sub(first) > window {
				t.Errorf("%d samples from %v to %v of %v", len(samples), first, last, window)
			}
			for i, s := range samples[1:] {
				if gap := s.At.Sub(samples[i].At); gap <= 0 || gap > window/8 {
					t.Errorf("a gap of %v in %v", gap, window)
				}
			}
		}
		readings[0][0].Value = 99 // they are the caller's
		if h.Readings(metrics)[0][0].Value == 99 {
			t.Error("the readings are shared")
		}
	}
}

// TestDecideKnows: of what is told here, decide makes an average.
func TestDecideKnows(t *testing.T) {
	metrics := []farmfile.Metric{metricOf(farmfile.CPUMetric, time.Minute)}
	policy := decide.Policy{Min: 2, Max: 5, Primary: true, Metrics: []decide.Metric{{
		Name: "cpu", Unit: decide.Share, Spread: true, Out: 0.75, In: 0.3, Window: time.Minute, OutStep: 1, InStep: 1,
	}}}
	servers := []decide.Server{{Name: "db1", State: decide.Ready, Primary: true}, {Name: "db2", State: decide.Ready}, {Name: "db3", State: decide.Ready}}
	decided := func(second Node) decide.Decision {
		var h History
		var readings [][]decide.Sample
		now := start
		for ; now.Before(start.Add(2 * time.Minute)); now = now.Add(time.Second) {
			first := everything("db2", 0.1)
			if first.Heard = now; !second.Heard.IsZero() {
				second.Heard = now
			}
			readings = h.Measure(now, metrics, map[string]Node{"db2": first, "db3": second}, nil)(servers)
		}
		return decide.Decide(decide.Picture{Servers: servers, Wanted: 3, Readings: readings}, policy, now)
	}
	if d := decided(everything("db3", 0.1)); len(d.Actions) != 1 || d.Actions[0].Kind != decide.Terminate {
		t.Errorf("idle servers: %+v", d)
	}
	if d := decided(Node{Name: "db3"}); len(d.Actions) != 0 {
		t.Errorf("with one that is silent: %+v", d)
	}
	if d := decided(everything("db3", 20)); len(d.Actions) != 1 || d.Actions[0].Kind != decide.Launch {
		t.Errorf("busy servers: %+v", d)
	}
}

// TestFileChanges: what is known of a metric stays while the metric does.
func TestFileChanges(t *testing.T) {
	cpu, load := metricOf(farmfile.CPUMetric, time.Minute), metricOf(farmfile.LoadMetric, time.Minute)
	var h History
	s := seen(everything("db2", 1))
	h.Take([]farmfile.Metric{cpu}, s)
	s.Now = s.Now.Add(time.Second)
	h.Take([]farmfile.Metric{load, cpu}, s)
	if r := h.Readings([]farmfile.Metric{load, cpu}); len(r[0]) != 1 || len(r[1]) != 2 {
		t.Errorf("after a metric was put before it: %v", r)
	}
	s.Now = s.Now.Add(time.Second)
	h.Take([]farmfile.Metric{load}, s)
	if len(h.samples) != 1 {
		t.Errorf("a metric that went is still there: %v", h.samples)
	}
	h.Add(&load, decide.Sample{At: s.Now.Add(-time.Hour), Value: math.NaN()})
	if r := h.Readings([]farmfile.Metric{load}); len(r[0]) != 2 {
		t.Errorf("with an old sample: %v", r)
	}
}
