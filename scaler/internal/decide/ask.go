package decide

import (
	"fmt"
	"time"
)

// ask is what one metric asks for.
type ask struct {
	metric *Metric
	to     int     // how many servers; as many as there are if it asks for nothing
	in     bool    // fewer would do
	silent bool    // it cannot say whether fewer would do
	total  float64 // what all servers have together, if they share it
	need   int     // how many servers it takes, if that is what the metric says
	text   string  // for people
}

// asks lets each metric speak about n servers, and notes what it says.
func (d *deciding) asks(n int) []ask {
	list := make([]ask, 0, len(d.policy.Metrics))
	for i := range d.policy.Metrics {
		var samples []Sample
		if i < len(d.picture.Readings) {
			samples = d.picture.Readings[i]
		}
		list = append(list, d.ask(&d.policy.Metrics[i], samples, n))
	}
	return list
}

func (d *deciding) ask(m *Metric, samples []Sample, n int) ask {
	nothing := ask{metric: m, to: n, silent: true}
	a := averageOf(samples, m.Window, d.now)
	if !a.known {
		d.note(Unknown, "%s is unknown: there are no measurements for all of the last %s", m.Name, span(m.Window))
		return nothing
	}
	if m.Per > 0 {
		return d.askJobs(m, a, n)
	}
	is := m.Name + " is " + m.Unit.apart(a.value, m.Out, m.In)
	if change := d.picture.lastChange(); d.now.Sub(change) < m.Window {
		d.note(Window, "%s, but its last %s began before the last change, at %s", is, span(m.Window), d.clock(change))
		return nothing
	}
	stay := ask{metric: m, to: n, total: a.value * float64(d.carrying()), silent: a.silent > 0}
	switch {
	case a.value > m.Out:
		return d.askOut(stay, is, max(a.value, a.recent))
	case a.silent > 0:
		d.note(Unknown, "%s is unknown for %s: what is missing is no reason for fewer", m.Name, servers(a.silent))
		return nothing
	case a.value < m.In:
		return d.askIn(stay, is)
	}
	d.note(Asked, "%s, between %s and %s: it asks for nothing", is, m.Unit.text(m.In), m.Unit.text(m.Out))
	return stay
}

// askJobs says how many servers it takes for what there is to do: for as much as there
// was lately, or fewer if there was less all the time. How many servers there are does not
// change what there is to do, so nothing waits for a window without a change.
func (d *deciding) askJobs(m *Metric, a average, n int) ask {
	lately, most := d.policy.need(a.recent, m.Per), d.policy.need(a.most, m.Per)
	s := ask{metric: m, to: n, need: max(lately, most)}
	is := fmt.Sprintf("%s is %s lately, at most %s in the last %s, and a server is for %s",
		m.Name, m.Unit.text(a.recent), m.Unit.text(a.most), span(m.Window), m.Unit.text(m.Per))
	switch {
	case lately > n:
		s.to = min(lately, n+m.OutStep)
		s.text = d.note(Asked, "%s: it asks for %d", is, lately)
		if lately > s.to {
			d.note(Step, "%s may launch %d at a time", m.Name, m.OutStep)
		}
	case most < n:
		s.to, s.in = max(n-m.InStep, most), true
		s.text = d.note(Asked, "%s: %d would do", is, most)
	default:
		d.note(Asked, "%s: it asks for nothing", is)
	}
	return s
}

// askOut says how many more. The average decides whether, and it is below what
// there is while the load rises: how many is by the end of the window, if that is
// more. value is the higher of both.
func (d *deciding) askOut(a ask, is string, value float64) ask {
	m, n := a.metric, a.to
	is += ", above " + m.Unit.text(m.Out)
	a.to = n + m.OutStep
	if !m.Spread {
		a.text = d.note(Asked, "%s: it asks for %d", is, a.to)
		return a
	}
	carrying := float64(d.carrying())
	if lately := m.Unit.text(value); lately != m.Unit.text(a.total/carrying) {
		is += ", and lately " + lately
	}
	a.total = value * carrying
	// Servers that are unwell now may be enough when they are back.
	need := max(d.policy.need(a.total, m.target()), n)
	a.text = d.note(Asked, "%s: it asks for %d, which would have %s each", is, need, d.each(m, a.total, need))
	if need > a.to {
		d.note(Step, "%s may launch %d at a time", m.Name, m.OutStep)
	}
	a.to = min(a.to, need)
	return a
}

func (d *deciding) askIn(a ask, is string) ask {
	m, n := a.metric, a.to
	is += ", below " + m.Unit.text(m.In)
	a.to, a.in = max(n-m.InStep, 1), true
	if !m.Spread {
		a.text = d.note(Asked, "%s: %d would do", is, a.to)
		return a
	}
	a.to = max(a.to, min(d.policy.need(a.total, m.limit()), n))
	if a.to == n {
		d.note(Projection, "%s, but %s would have %s each, which is not %d%% below %s", is,
			servers(n-1), d.each(m, a.total, n-1), int(margin*100), m.Unit.text(m.Out))
		return a
	}
	a.text = d.note(Asked, "%s: %d would do, with %s each", is, a.to, d.each(m, a.total, a.to))
	return a
}

// each is what each of n servers would have of the total, for people.
func (d *deciding) each(m *Metric, total float64, n int) string {
	return m.Unit.text(total / float64(d.policy.carriers(n)))
}

// carrying is how many servers share the load as it was measured.
func (d *deciding) carrying() int {
	n := d.picture.count(func(s *Server) bool {
		return s.State == Ready && !(d.policy.Primary && s.Primary)
	})
	return max(n, 1) // the primary serves when nobody else does
}

// clock is a time of day where the farm is.
func (d *deciding) clock(t time.Time) string {
	if d.policy.Zone != nil {
		t = t.In(d.policy.Zone)
	}
	return t.Format("15:04:05")
}

// note adds a reason and returns its text.
func (d *deciding) note(kind ReasonKind, format string, values ...any) string {
	text := fmt.Sprintf(format, values...)
	d.reasons = append(d.reasons, Reason{kind, text})
	return text
}
