package mysqld

import (
	"farmhand/internal/cluster"
)

// order is an assignment as this server sees it.
type order struct {
	assignment *cluster.Assignment
	part       cluster.Server // this server's; without a task if it is not in it
	source     cluster.Server // that the part names
	// heard: the registry said so since this process began. One that is only
	// remembered from the run before is nothing to act on, but tells that the server
	// may be leading.
	heard bool
}

func newOrder(a *cluster.Assignment, name string, heard bool) *order {
	o := &order{assignment: a, heard: heard}
	o.part, _ = a.Server(name)
	o.source, _ = a.Server(o.part.Source)
	return o
}

// restore is the ID of the restore that the data is to come from; empty for none.
func (o *order) restore() string {
	if o == nil || o.part.Restore == nil {
		return ""
	}
	return o.part.Restore.ID
}

// task is empty for no order.
func (o *order) task() cluster.Task {
	if o == nil {
		return ""
	}
	return o.part.Task
}

// alone: there is no other server that could take this one's place.
func (o *order) alone() bool {
	return o != nil && o.part.Name != "" && len(o.assignment.Servers) == 1
}

// sameWork reports whether two orders ask the same of the server. What concerns
// the proxies only, and other servers, makes no difference.
func sameWork(o, p *order) bool {
	if o == nil || p == nil {
		return o == p
	}
	if o.heard != p.heard || o.part.Task != p.part.Task || o.part.ID != p.part.ID || o.restore() != p.restore() {
		return false
	}
	switch o.part.Task {
	case cluster.Lead:
		return o.assignment.Epoch == p.assignment.Epoch && o.assignment.SemiSync == p.assignment.SemiSync && o.assignment.Durable == p.assignment.Durable
	case cluster.Follow, cluster.Clone:
		return o.part.Source == p.part.Source && o.source.Address == p.source.Address && o.part.CloneAt == p.part.CloneAt && o.part.Acknowledges == p.part.Acknowledges
	}
	return true
}

// sameStart reports whether a process that is started for one order serves the
// other one too.
func sameStart(o, p *order) bool {
	needs := func(o *order) bool {
		switch o.task() {
		case cluster.Lead, cluster.Yield, cluster.Hold, cluster.Follow:
			return true
		}
		return false
	}
	return needs(o) && needs(p) && (o.task() == cluster.Lead) == (p.task() == cluster.Lead) && o.restore() == p.restore()
}
