package decide

import (
	"cmp"
	"slices"
)

// in decides which servers go, if any.
func (d *deciding) in(asks []ask, live int) Decision {
	decision := Decision{Wanted: d.wanted(live)}
	if to, why := d.fewer(asks, live); to < live && d.mayGo(asks) {
		for _, s := range d.chosen(live - to) {
			decision.Actions = append(decision.Actions, Action{Kind: Terminate, Server: s.Name, Why: why})
			live--
		}
	}
	decision.Wanted = min(decision.Wanted, live)
	decision.Reasons = d.reasons
	return decision
}

// wanted is the number that was decided last, if there are more servers than that
// now: one that was lost came back, or one did not go. It stays so until there are
// as many, or the load asks for more.
func (d *deciding) wanted(live int) int {
	if d.picture.Wanted == 0 {
		return min(live, d.policy.Max)
	}
	floor, _, _ := d.floor()
	return min(live, d.policy.Max, max(d.picture.Wanted, floor))
}

// fewer returns how many servers would do, and why.
func (d *deciding) fewer(asks []ask, live int) (to int, why string) {
	floor, kind, least := d.floor()
	switch {
	case len(asks) == 0 && live > floor: // only the file and the time say how many
		return live - 1, d.note(kind, "at least %d wanted", floor)
	case live > d.wanted(live):
		return d.surplus(asks, live)
	case len(asks) == 0, slices.ContainsFunc(asks, func(a ask) bool { return !a.in }):
		return live, ""
	}
	for _, a := range asks {
		if a.to > to {
			to, why = a.to, a.text
		}
	}
	if to < floor {
		d.note(kind, "%s", least)
		to = min(floor, live)
	}
	return to, why
}

// surplus is what is left of more servers than are wanted or allowed, if it can
// bear the load.
func (d *deciding) surplus(asks []ask, live int) (to int, why string) {
	wanted := d.wanted(live)
	for _, a := range asks {
		left := a.total / float64(d.policy.carriers(live-1))
		if a.to > live || a.need > live-1 || a.metric.Spread && left > a.metric.limit() {
			d.note(Projection, "%d are wanted, but fewer than %d would be too few for %s", wanted, live, a.metric.Name)
			return live, ""
		}
	}
	if wanted == d.policy.Max {
		return live - 1, d.note(Bound, "at most %d are allowed", wanted)
	}
	return live - 1, d.note(Replaced, "%d are wanted and %d there: what was lost is back, or what was to go did not", wanted, live)
}

// mayGo reports whether it is safe and soon enough that servers go.
func (d *deciding) mayGo(asks []ask) bool {
	may := true
	for _, a := range asks {
		if a.silent { // as it has said
			may = false
		} else if wait := a.metric.InCooldown - d.now.Sub(d.picture.lastChange()); wait > 0 {
			d.note(Cooldown, "%s waits for %s more: the number changed last at %s", a.metric.Name, span(wait), d.clock(d.picture.lastChange()))
			may = false
		}
	}
	if d.policy.Primary && d.picture.count(func(s *Server) bool { return s.Primary && s.State == Ready }) == 0 {
		d.note(Pending, "no primary is ready: none goes before there is one")
		may = false
	}
	for _, state := range []State{Launching, Warming, Unwell, Draining} {
		if n := d.picture.in(state); n > 0 {
			d.note(Pending, "%s %v: none goes before that is over", servers(n), state)
			may = false
		}
	}
	return may
}

// chosen returns at most n servers to terminate: those that are well, not the
// primary, not the last replica, and from which nobody copies. The one that was
// ready last goes first: the proxies share reads evenly, so what differs is the
// cache, and its is the coldest. Of servers that are for jobs those without one go
// first.
func (d *deciding) chosen(n int) []Server {
	var candidates []Server
	sources, replicas := 0, 0
	for _, s := range d.picture.Servers {
		if s.State != Ready || s.Primary {
			continue
		}
		replicas++
		if s.Source {
			sources++
			continue
		}
		candidates = append(candidates, s)
	}
	if sources > 0 && len(candidates) < n {
		d.note(Sources, "a backup or a new replica is copied from %s: not before that is over", servers(sources))
	}
	if spare := replicas - 1; spare < n {
		d.note(LastOne, "the last one that is ready stays")
		n = max(spare, 0)
	}
	jobs := slices.ContainsFunc(d.policy.Metrics, func(m Metric) bool { return m.Per > 0 })
	slices.SortFunc(candidates, func(a, b Server) int {
		idle := 0
		if jobs && a.Busy != b.Busy {
			if idle = -1; a.Busy {
				idle = 1
			}
		}
		return cmp.Or(idle, b.ReadyAt.Compare(a.ReadyAt), cmp.Compare(len(b.Name), len(a.Name)), cmp.Compare(b.Name, a.Name)) // db10 before db9
	})
	candidates = candidates[:min(n, len(candidates))]
	for _, s := range candidates {
		switch {
		case jobs && s.Busy:
			d.note(Chosen, "%s goes when it has done what it has begun: none is idle", s.Name)
			continue
		case jobs:
			d.note(Chosen, "%s goes: it is idle", s.Name)
			continue
		}
		d.note(Chosen, "%s goes: of those that may, it was ready last, and its cache is the coldest", s.Name)
	}
	return candidates
}
