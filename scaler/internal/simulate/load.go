package simulate

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"farmhand/scaler/internal/farmfile"
)

// The loads that a trace can have, each for a kind of role.
const (
	reads    = "reads"    // per second, over all servers
	writes   = "writes"   // per second; each server has them all
	requests = "requests" // per second, over all servers
)

var loads = map[farmfile.RoleKind][]string{
	farmfile.MySQLKind:         {reads, writes},
	farmfile.WebKind:           {requests},
	farmfile.BaseKind:          {requests},
	farmfile.LBKind:            {requests},
	farmfile.MemcachedKind:     {requests},
	farmfile.WorkerKind:        {requests},
	farmfile.StorageServerKind: {requests},
}

// measured are metrics that a trace can have because they do not follow from the
// load: those that servers share as the sum over all of them.
var measured = map[farmfile.MetricKind]bool{
	farmfile.ConnectionsMetric: true,
	farmfile.LagMetric:         false, farmfile.QueueWaitMetric: false, farmfile.ForcedReadsMetric: false,
	farmfile.RequestsMetric: true, farmfile.MissesMetric: false, farmfile.QueueAgeMetric: false,
}

// whats are what the columns of a trace can be about.
func whats() []string {
	list := []string{reads, writes, requests}
	for kind := range measured {
		list = append(list, string(kind))
	}
	slices.Sort(list[3:])
	return list
}

// roles are the farm's that the trace is about, in order.
func (t *Trace) roles(f *farmfile.Farm) []string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(f.Roles)) {
		if slices.ContainsFunc(loads[f.Roles[name].Kind], func(what string) bool { return t.has(name, what) }) {
			list = append(list, name)
		}
	}
	return list
}

// check wants that every column is about a role of the farm.
func (t *Trace) check(f *farmfile.Farm) error {
	for _, column := range slices.Sorted(maps.Keys(t.columns)) {
		name, what, _ := strings.Cut(column, ".")
		r, ok := f.Roles[name]
		_, isMetric := measured[farmfile.MetricKind(what)]
		switch {
		case !ok:
			return fmt.Errorf("the trace has %s, but the farm has no role %s (it has %s)", column, name, strings.Join(slices.Sorted(maps.Keys(f.Roles)), ", "))
		case !slices.Contains(loads[r.Kind], what) && !(isMetric && r.Kind == farmfile.MySQLKind):
			return fmt.Errorf("the trace has %s, but %s is of kind %s; expected %s", column, name, r.Kind, strings.Join(loads[r.Kind], ", "))
		}
	}
	if len(t.roles(f)) == 0 {
		return fmt.Errorf("the trace has no load of a role; expected a column such as db.reads")
	}
	return nil
}

// load is what a role has to do at a time, per second.
type load struct {
	shared float64 // divided among the servers that share it
	every  float64 // done by each server: the writes, which replicas apply
}

// loadAt returns the load and whether it was measured; where it was not, it is
// what it was before.
func (t *Trace) loadAt(role string, kind farmfile.RoleKind, now time.Time, before load) (l load, ok bool) {
	if kind == farmfile.MySQLKind {
		l = load{t.at(role, reads, now), t.at(role, writes, now)}
	} else {
		l.shared = t.at(role, requests, now)
	}
	if math.IsNaN(l.shared) || math.IsNaN(l.every) {
		return before, false
	}
	return l, true
}

// use is what part of its capacity each of n servers that share the load needs;
// above 1 it has too much to do.
func (l load) use(n int, capacity float64) float64 {
	return (l.shared/float64(n) + l.every) / capacity
}

// excess is what n servers cannot do, per second.
func (l load) excess(n int, capacity float64) float64 {
	return min(max(0, l.shared+float64(n)*(l.every-capacity)), l.shared)
}
