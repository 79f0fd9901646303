package simulate

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"farmhand/scaler/internal/decide"
	"farmhand/scaler/internal/farmfile"
)

const (
	// Tick is the time between two decisions.
	Tick = 10 * time.Second
	// leadIn is how long the farm has had the trace's first load when the trace
	// begins, so that it begins with as many servers as it would have.
	leadIn = 3 * time.Hour
	// headroom is what a fleet of a fixed size has on top of the peak.
	headroom = 1.5
	// mostFixed bounds the search for that size.
	mostFixed = 10_000
)

// Run replays the trace.
func Run(f *farmfile.Farm, t *Trace, a Assumptions) (*Result, error) {
	if err := t.check(f); err != nil {
		return nil, err
	}
	if err := a.check(f, t); err != nil {
		return nil, err
	}
	result := &Result{From: t.Times[0].In(f.TimeZone.Location), To: t.Times[len(t.Times)-1].In(f.TimeZone.Location), LeftOut: []string{}}
	roles := t.roles(f)
	for _, name := range slices.Sorted(maps.Keys(f.Roles)) {
		if !slices.Contains(roles, name) {
			result.LeftOut = append(result.LeftOut, name)
			continue
		}
		r, leftOut := newRole(name, f, t, &a)
		result.LeftOut = append(result.LeftOut, leftOut...)
		count, err := r.fixed()
		if err != nil {
			return nil, err
		}
		result.Roles = append(result.Roles, r.run(result, count))
	}
	return result, nil
}

// fixed returns how many servers a fleet needs that has headroom at the peak.
func (r *role) fixed() (int, error) {
	var last load
	most := r.policy.Min
	for _, at := range r.trace.Times {
		last, _ = r.trace.loadAt(r.name, r.kind, at, last)
		l := load{last.shared * headroom, last.every * headroom}
		if l.every >= r.assumed.Capacity && l.every > 0 {
			return 0, fmt.Errorf("at %s %s has %.0f writes per second: with half as many again that is more than the %g of --capacity, and every server has them all; no number of servers is enough",
				at.Format(time.RFC3339), r.name, last.every, r.assumed.Capacity)
		}
		for l.use(r.share(most), r.assumed.Capacity) > 1 {
			if most++; most > mostFixed {
				return 0, fmt.Errorf("at %s %s needs more than %d servers of --capacity %g", at.Format(time.RFC3339), r.name, mostFixed, r.assumed.Capacity)
			}
		}
	}
	return most, nil
}

// share returns how many of n servers share the load.
func (r *role) share(n int) int {
	if r.policy.Primary {
		n--
	}
	return max(n, 1)
}

func (r *role) run(result *Result, count int) RoleResult {
	out := RoleResult{Name: r.name, Count: count, Fewest: math.MaxInt, Steps: []Step{}, Unit: loads[r.kind][0]}
	var scaled, fixed fleet
	for now := result.From.Add(-leadIn); now.Before(result.To); now = now.Add(Tick) {
		r.advance(now)
		r.measure(now)
		d := r.decide(now)
		if now.Before(result.From) {
			continue
		}
		part := min(Tick, result.To.Sub(now))
		n := len(r.picture.Servers)
		scaled.add(part, n, r.carriers(), r.load, r.assumed.Capacity)
		fixed.add(part, count, r.share(count), r.load, r.assumed.Capacity)
		out.Fewest, out.Most = min(out.Fewest, n), max(out.Most, n)
		p := r.point(now)
		if p.overloaded() && p.Ready >= r.policy.Max {
			out.AtMax += part.Seconds()
		}
		out.take(p, d)
	}
	out.Fleet, out.Fixed = scaled.result(r.assumed.Price), fixed.result(r.assumed.Price)
	return out
}

// take notes what is and what was decided.
func (r *RoleResult) take(p Point, d decide.Decision) {
	var lines []Line
	for _, reason := range d.Reasons {
		lines = append(lines, Line(reason))
	}
	before := Point{}
	if len(r.Points) > 0 {
		before = r.Points[len(r.Points)-1]
	}
	r.Points = append(r.Points, p)
	if p.overloaded() && !before.overloaded() {
		r.Steps = append(r.Steps, Step{
			At: p.At, What: "overloaded", Reasons: lines,
			Why: fmt.Sprintf("%.0f %s per second are more than the %.0f that the ready servers can do", p.Load, r.Unit, p.Capacity),
		})
	}
	for _, a := range d.Actions {
		s := Step{At: p.At, What: string(a.Kind) + " " + a.Server, Why: a.Why, Reasons: lines}
		if a.Kind == decide.Launch {
			s.What = string(a.Kind) + " " + strconv.Itoa(a.Count)
			r.Launched += a.Count
		} else {
			r.Terminated++
		}
		r.Steps = append(r.Steps, s)
	}
}
