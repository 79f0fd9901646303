package decide

import (
	"math"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC) // a Friday

// TestWhatIsNotMeasuredIsUnknown: over a minute, with a gap of half of it at most.
func TestWhatIsNotMeasuredIsUnknown(t *testing.T) {
	type at struct {
		second int // before noon
		value  float64
	}
	for name, c := range map[string]struct {
		samples []at
		want    average
	}{
		"none":                    {nil, average{}},
		"every ten seconds":       {[]at{{60, 1}, {50, 1}, {40, 1}, {30, 1}, {20, 1}, {10, 4}, {0, 5}}, average{2, 4.5, true, 0, 5}},
		"two":                     {[]at{{30, 1}, {0, 3}}, average{2, 3, true, 0, 3}},
		"none in the last half":   {[]at{{60, 1}, {45, 1}, {31, 1}}, average{}},
		"none in the first half":  {[]at{{29, 1}, {15, 1}, {0, 1}}, average{}},
		"a gap":                   {[]at{{60, 1}, {45, 1}, {14, 1}, {0, 1}}, average{}},
		"a gap that just is none": {[]at{{60, 1}, {40, 1}, {10, 4}}, average{2, 4, true, 0, 4}},
		"no numbers":              {[]at{{60, 1}, {40, math.NaN()}, {20, math.NaN()}, {0, 1}}, average{}},
		"old ones do not count":   {[]at{{90, 100}, {30, 2}, {10, 4}}, average{3, 4, true, 0, 4}},
		"nor those of the future": {[]at{{30, 2}, {10, 4}, {-10, 100}}, average{3, 4, true, 0, 4}},
		"nothing lately":          {[]at{{50, 2}, {20, 4}}, average{3, 3, true, 0, 4}},
	} {
		var samples []Sample
		for _, s := range c.samples {
			samples = append(samples, Sample{At: noon.Add(-time.Duration(s.second) * time.Second), Value: s.value})
		}
		if got := averageOf(samples, time.Minute, noon); got != c.want {
			t.Errorf("%s: %+v; want %+v", name, got, c.want)
		}
	}
	silent := []Sample{{At: noon.Add(-30 * time.Second), Value: 1, Silent: 2}, {At: noon, Value: 1}}
	if got := averageOf(silent, time.Minute, noon); got != (average{1, 1, true, 2, 1}) {
		t.Errorf("got %+v", got)
	}
}

// TestSchedules: on the clock of the farm, over midnight, and by the day on which
// they begin.
func TestSchedules(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	const h = 60
	friday := []time.Weekday{time.Friday}
	for _, c := range []struct {
		schedule Schedule
		now      string // UTC
		want     bool
	}{
		{Schedule{From: 10 * h, To: 12 * h}, "2026-11-27T09:00:00Z", true},
		{Schedule{From: 10 * h, To: 12 * h}, "2026-11-27T08:59:59Z", false},
		{Schedule{From: 10 * h, To: 12 * h}, "2026-11-27T10:59:59Z", true},
		{Schedule{From: 10 * h, To: 12 * h}, "2026-11-27T11:00:00Z", false},
		{Schedule{From: 10 * h, To: 12 * h}, "2026-07-27T08:00:00Z", true}, // an hour earlier in summer
		{Schedule{From: 10 * h, To: 12 * h}, "2026-07-27T10:00:00Z", false},
		{Schedule{Days: friday, From: 22 * h, To: 2 * h}, "2026-11-27T21:30:00Z", true},
		{Schedule{Days: friday, From: 22 * h, To: 2 * h}, "2026-11-28T00:30:00Z", true},
		{Schedule{Days: friday, From: 22 * h, To: 2 * h}, "2026-11-28T01:00:00Z", false},
		{Schedule{Days: friday, From: 22 * h, To: 2 * h}, "2026-11-27T00:30:00Z", false}, // of Thursday
		{Schedule{Days: friday, From: 0, To: 24 * h}, "2026-11-26T23:00:00Z", true},
		{Schedule{Days: friday, From: 0, To: 24 * h}, "2026-11-27T23:00:00Z", false},
		{Schedule{Days: friday, From: 22 * h, To: 0}, "2026-11-27T22:59:59Z", true},
		{Schedule{Days: friday, From: 22 * h, To: 0}, "2026-11-27T23:00:00Z", false},
	} {
		now, err := time.Parse(time.RFC3339, c.now)
		if err != nil {
			t.Fatal(err)
		}
		p := Policy{Schedule: []Schedule{c.schedule}, Zone: berlin}
		if got := p.scheduled(now) != nil; got != c.want {
			t.Errorf("%+v at %s: %v", c.schedule, c.now, got)
		}
	}
	p := Policy{Schedule: []Schedule{{To: 24 * h, AtLeast: 3}, {To: 24 * h, AtLeast: 5}, {To: 24 * h, AtLeast: 4}}}
	if got := p.scheduled(noon); got == nil || got.AtLeast != 5 {
		t.Errorf("of three, %+v", got)
	}
}
