package decide

import (
	"math"
	"slices"
	"time"
)

// Policy is what the farm file says about the size of a role.
type Policy struct {
	Min, Max int
	// Primary is set if one of the servers is the primary, which does not share
	// the load of the others as long as there are others.
	Primary  bool
	Metrics  []Metric
	Schedule []Schedule
	Zone     *time.Location // of the schedule; nil for UTC
}

// Metric is one thing to scale by: out if one metric asks for it, in if all do.
type Metric struct {
	Name string
	Unit Unit
	// Spread is set if the servers share what is measured, so that one more
	// lowers it for each.
	Spread bool
	// Per is set if the metric is how much there is to do for all servers together, and
	// how much of that one server is for: it asks for as many as that takes, and Out and
	// In are not used.
	Per         float64
	Out, In     float64       // more servers above Out, fewer below In
	Window      time.Duration // how long the average must be beyond one of them
	OutCooldown time.Duration // from when the last launched server is ready
	InCooldown  time.Duration // from any change of the number
	OutStep     int           // servers that may be launched at a time
	InStep      int           // servers that may be terminated at a time
}

// target is what each server is to have after scaling out: the middle between the
// thresholds, as far from the next scaling out as from the next scaling in.
func (m *Metric) target() float64 { return (m.Out + m.In) / 2 }

// margin is the part of Out that is kept free when servers go: the load must be
// that far from making the role grow again.
const margin = 0.1

// limit is what each server may have after scaling in.
func (m *Metric) limit() float64 { return m.Out * (1 - margin) }

// Schedule is a time in which there are more servers than Min.
type Schedule struct {
	Days     []time.Weekday // on which it begins; none for every day
	From, To int            // minutes since midnight; To before From is on the day after
	AtLeast  int
}

// Active reports whether t, which is in the time zone of the schedule, is in it.
func (s *Schedule) Active(t time.Time) bool {
	minute := t.Hour()*60 + t.Minute()
	on := func(day time.Weekday) bool { return len(s.Days) == 0 || slices.Contains(s.Days, day) }
	if s.From < s.To {
		return on(t.Weekday()) && s.From <= minute && minute < s.To
	}
	yesterday := (t.Weekday() + 6) % 7
	return on(t.Weekday()) && s.From <= minute || on(yesterday) && minute < s.To
}

// scheduled returns the schedule that asks for the most servers now, if there is
// one.
func (p *Policy) scheduled(now time.Time) *Schedule {
	zone := p.Zone
	if zone == nil {
		zone = time.UTC
	}
	var most *Schedule
	for i := range p.Schedule {
		s := &p.Schedule[i]
		if s.Active(now.In(zone)) && (most == nil || s.AtLeast > most.AtLeast) {
			most = s
		}
	}
	return most
}

// carriers returns how many of n servers share the load.
func (p *Policy) carriers(n int) int {
	if p.Primary {
		n--
	}
	return max(n, 1)
}

// need returns the least number of servers of which none has more than each of
// the total.
func (p *Policy) need(total, each float64) int {
	n := int(min(math.Ceil(total/each), mostServers))
	if n > 1 && p.Primary {
		n++
	}
	return max(n, 1)
}

// mostServers is more than any role can have.
const mostServers = 100_000
