package decide

import (
	"fmt"
	"strings"
	"time"
)

// Decide says what is to be done about a role now. The same picture, policy and
// time give the same decision, and neither is changed.
func Decide(picture Picture, policy Policy, now time.Time) Decision {
	d := &deciding{picture: &picture, policy: &policy, now: now}
	live := picture.live()
	d.see(live)
	// Whatever the cooldown and the step: this is no answer to the load.
	if least, why := d.least(live); least > live {
		return d.launch(live, least, why)
	}
	asks := d.asks(live)
	if to, why := d.out(asks, live); to > live {
		return d.launch(live, to, why)
	}
	return d.in(asks, live)
}

// deciding is one decision being made.
type deciding struct {
	picture *Picture
	policy  *Policy
	now     time.Time
	reasons []Reason
}

func (d *deciding) see(live int) {
	var parts []string
	for state := Launching; state <= Lost; state++ {
		if n := d.picture.in(state); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %v", n, state))
		}
	}
	text := servers(live)
	if len(parts) > 0 {
		text += " (" + strings.Join(parts, ", ") + ")"
	}
	d.note(Seen, "%s, %d to %d are allowed", text, d.policy.Min, d.policy.Max)
}

// floor is the least number of servers at this time, and why.
func (d *deciding) floor() (least int, kind ReasonKind, why string) {
	if s := d.policy.scheduled(d.now); s != nil && s.AtLeast > d.policy.Min {
		least = min(s.AtLeast, d.policy.Max)
		return least, Scheduled, fmt.Sprintf("the schedule wants at least %d now", least)
	}
	return d.policy.Min, Bound, fmt.Sprintf("at least %d wanted", d.policy.Min)
}

// least returns how many servers there must be whatever the load is, and why.
func (d *deciding) least(live int) (least int, why string) {
	least, kind, why := d.floor()
	wanted := min(d.picture.Wanted, d.policy.Max)
	if len(d.policy.Metrics) == 0 {
		wanted = min(wanted, least) // only the file and the time say how many
	}
	if live < least && wanted < least {
		d.note(kind, "%s", why)
	}
	if live < wanted {
		why = d.note(Replaced, "%d wanted and %d there: what was lost is replaced at once, whatever the cooldown", wanted, live)
	}
	return max(least, wanted), why
}

// out returns how many servers the load needs, and why; not more than live if it
// needs no more, or if something holds it back.
func (d *deciding) out(asks []ask, live int) (to int, why string) {
	to = live
	for _, a := range asks {
		if a.to <= live {
			continue
		}
		if n := d.picture.in(Launching) + d.picture.in(Warming); n > 0 {
			d.note(Pending, "%s on the way, and the cooldown of %s, %s, begins after that", servers(n), a.metric.Name, span(a.metric.OutCooldown))
			continue
		}
		if wait := a.metric.OutCooldown - d.now.Sub(d.picture.lastReady()); wait > 0 {
			d.note(Cooldown, "%s waits for %s more: the last server was ready at %s", a.metric.Name, span(wait), d.clock(d.picture.lastReady()))
			continue
		}
		if a.to > to {
			to, why = a.to, a.text
		}
	}
	if to > d.policy.Max {
		d.note(Bound, "at most %d are allowed", d.policy.Max)
		to = d.policy.Max
	}
	return to, why
}

func (d *deciding) launch(live, to int, why string) Decision {
	return Decision{
		Wanted:  to,
		Actions: []Action{{Kind: Launch, Count: to - live, Why: why}},
		Reasons: d.reasons,
	}
}
