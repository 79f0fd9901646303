package farmfile

import (
	"reflect"
	"testing"
	"time"

	"farmhand/scaler/internal/decide"
)

// TestScalingIsWhatTheFileSays: of the example, every value.
func TestScalingIsWhatTheFileSays(t *testing.T) {
	f, err := Load("../../../testdata/farm.example.yaml")
	must(t, err)
	berlin, err := time.LoadLocation("Europe/Berlin")
	must(t, err)
	const h = 60
	want := decide.Policy{
		Min: 3, Max: 8, Primary: true, Zone: berlin,
		Metrics: []decide.Metric{
			{
				Name: "cpu", Unit: decide.Share, Spread: true, Out: 0.7, In: 0.25,
				Window: 2 * time.Minute, OutCooldown: 5 * time.Minute, InCooldown: 30 * time.Minute, OutStep: 2, InStep: 1,
			},
			{
				Name: "forced_reads", Unit: decide.Share, Spread: false, Out: 0.1, In: 0.01,
				Window: time.Minute, OutCooldown: 3 * time.Minute, InCooldown: 15 * time.Minute, OutStep: 2, InStep: 1,
			},
			{
				Name: "queue_wait", Unit: decide.Seconds, Spread: false, Out: 0.1, In: 0.005,
				Window: time.Minute, OutCooldown: 3 * time.Minute, InCooldown: 15 * time.Minute, OutStep: 3, InStep: 1,
			},
			{
				Name: "/usr/local/bin/carts-open --per-server", Unit: decide.Number, Spread: false, Out: 400, In: 100,
				Window: time.Minute, OutCooldown: 3 * time.Minute, InCooldown: 15 * time.Minute, OutStep: 2, InStep: 1,
			},
		},
		Schedule: []decide.Schedule{
			{Days: []time.Weekday{time.Thursday}, From: 17*h + 30, To: 23 * h, AtLeast: 6},
			{Days: []time.Weekday{time.Friday, time.Saturday, time.Sunday}, From: 10 * h, To: 30, AtLeast: 5},
		},
	}
	if got := f.Scaling("db"); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := f.Scaling("web"); got.Primary || got.Min != 2 || got.Max != 6 || len(got.Metrics) != 1 || !got.Metrics[0].Spread {
		t.Errorf("got %+v", got)
	}
}
