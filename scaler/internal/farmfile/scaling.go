package farmfile

import (
	"strings"
	"time"

	"farmhand/scaler/internal/decide"
)

var decideUnits = map[Unit]decide.Unit{Number: decide.Number, Percent: decide.Share, Seconds: decide.Seconds}

// Scaling returns what the file says about the size of a role, for
// [decide.Decide], which is to know nothing of files. Its metrics are those of the
// file, in their order.
func (f *Farm) Scaling(role string) decide.Policy {
	r := f.Roles[role]
	p := decide.Policy{Min: r.Count.Min, Max: r.Count.Max, Primary: r.Kind == MySQLKind, Zone: f.TimeZone.Location}
	for _, m := range r.Scaling {
		p.Metrics = append(p.Metrics, decide.Metric{
			Name: m.Name(), Unit: decideUnits[metricKinds[m.Kind].unit], Spread: metricKinds[m.Kind].spread, Per: float64(m.PerServer),
			Out: m.ScaleOut.Value, In: m.ScaleIn.Value, Window: time.Duration(m.Window),
			OutCooldown: time.Duration(m.OutCooldown), InCooldown: time.Duration(m.InCooldown),
			OutStep: m.OutStep, InStep: m.InStep,
		})
	}
	for _, s := range r.Schedule {
		schedule := s.decide()
		schedule.AtLeast = s.AtLeast
		p.Schedule = append(p.Schedule, schedule)
	}
	return p
}

// Name is the metric for people: its kind, or its command.
func (m *Metric) Name() string {
	if m.Kind == CommandMetric {
		return strings.Join(m.Command, " ")
	}
	return string(m.Kind)
}
