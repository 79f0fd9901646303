package simulate

import (
	"fmt"
	"time"

	"farmhand/scaler/internal/farmfile"
)

// Assumption is what is assumed of the servers of a role.
type Assumption struct {
	Capacity float64 // queries or requests per second that a server can do
	Price    float64 // of a server for an hour
}

// Assumptions are what neither the trace nor the farm file says.
type Assumptions struct {
	Launch time.Duration // from asking for a server to its being there
	WarmUp time.Duration // from then to when a replica has caught up
	Drain  time.Duration // from deciding that a server goes to its being gone
	Roles  map[string]Assumption
}

// Bounds of what can be assumed.
const (
	maxDelay    = 24 * time.Hour
	maxCapacity = 1e9
	MaxPrice    = 1e6 // of a server for an hour
)

// check wants that every role that the trace is about can be thought of.
func (a *Assumptions) check(f *farmfile.Farm, t *Trace) error {
	for name, d := range map[string]time.Duration{"launch": a.Launch, "warm-up": a.WarmUp, "drain": a.Drain} {
		if d < 0 || d > maxDelay {
			return fmt.Errorf("--%s %v is out of bounds; expected 0 to %v", name, d, maxDelay)
		}
	}
	for name, r := range a.Roles {
		switch _, ok := f.Roles[name]; {
		case !ok:
			return fmt.Errorf("something is assumed of %s, but the farm has no such role", name)
		case !(r.Capacity >= 0 && r.Capacity <= maxCapacity):
			return fmt.Errorf("--capacity %s=%g is out of bounds; expected more than 0 and at most %g", name, r.Capacity, maxCapacity)
		case !(r.Price >= 0 && r.Price <= MaxPrice):
			return fmt.Errorf("--price %s=%g is out of bounds; expected 0 to %g", name, r.Price, MaxPrice)
		}
	}
	for _, name := range t.roles(f) {
		if a.Roles[name].Capacity == 0 {
			return fmt.Errorf("what a server of %s can do is not known; expected --capacity %[1]s=N, its %s per second", name, unitOf(f.Roles[name].Kind))
		}
	}
	return nil
}

// unitOf is what the load of a role is counted in.
func unitOf(kind farmfile.RoleKind) string {
	if kind == farmfile.MySQLKind {
		return "queries"
	}
	return "requests"
}
