package steer

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
)

// care looks after the replicas while the primary is well: one change at a time
// of what costs something, all at once of what does not.
func (s *state) care(leader cluster.Server) {
	s.depart(leader)
	s.acknowledge(leader)
	s.durability(leader)
	s.serve(leader)
	s.mend(leader)
	s.welcome(leader)
}

// current is the server as the step has it so far.
func (s *state) current(name string) cluster.Server {
	server, _ := s.sofar().Server(name)
	return server
}

// sofar is the assignment as the step has it so far.
func (s *state) sofar() *cluster.Assignment {
	if s.step.Assignment != nil {
		return s.step.Assignment
	}
	return s.Assignment
}

// replica calls do for every server that does not lead.
func (s *state) eachReplica(leader cluster.Server, do func(cluster.Server)) {
	for _, server := range s.Assignment.Servers {
		if server.Name != leader.Name {
			do(s.current(server.Name))
		}
	}
}

// depart lets go of servers that are to leave, and forgets those that are gone.
func (s *state) depart(leader cluster.Server) {
	s.eachReplica(leader, func(server cluster.Server) {
		seen, there := s.Servers[server.Name]
		switch {
		case !there && server.Acknowledges && s.Assignment.Durable:
			s.because("%s is gone, and counts until another has what it may have acknowledged", server.Name)
		case !there:
			a := s.next("%s has left the cluster", server.Name)
			a.Servers = slices.DeleteFunc(a.Servers, func(other cluster.Server) bool { return other.Name == server.Name })
			for i := range a.Servers {
				if a.Servers[i].Source == server.Name {
					s.source(&a.Servers[i], leader.Name)
				}
			}
			s.event(farm.HostDown, server, farm.Replica, nil)
		case seen.Leave >= Drain && server.State != farm.Draining && server.State != "":
			edit(s.next("%s is to leave: it takes no new reads", server.Name), server.Name, func(o *cluster.Server) { o.State = farm.Draining })
			s.event(farm.BeforeHostTerminate, server, farm.Replica, nil)
		case seen.Leave == Retire && server.Task != cluster.Retire && !s.lastAcknowledger(server):
			edit(s.next("%s is to leave: it shuts down", server.Name), server.Name, func(o *cluster.Server) {
				o.Task, o.Source, o.State, o.Weight = cluster.Retire, "", "", 0
			})
		}
	})
}

// lastAcknowledger reports whether writes would wait without the server.
func (s *state) lastAcknowledger(server cluster.Server) bool {
	if !s.Assignment.SemiSync || !server.Acknowledges {
		return false
	}
	for _, other := range s.sofar().Servers {
		if other.Name != server.Name && other.Acknowledges && other.Task == cluster.Follow {
			return false
		}
	}
	return true
}

// acknowledge keeps who may have acknowledged a commit. Whoever is connected to
// receive counts. One that the primary says is not stops counting only when
// another that counts has received all that the primary had written by then: what
// the one alone had acknowledged is there, too.
func (s *state) acknowledge(leader cluster.Server) {
	primary := s.answered(leader.Name)
	if primary == nil || primary.Epoch != s.Assignment.Epoch {
		return
	}
	covered := s.covered(leader, primary)
	s.eachReplica(leader, func(server cluster.Server) {
		connected := slices.Contains(primary.Receivers, server.ID)
		r := s.following(server)
		switch {
		case server.Acknowledges && !connected && r == nil && (covered || !s.Assignment.Durable):
			edit(s.next("%s receives nothing and cannot acknowledge", server.Name), server.Name, func(o *cluster.Server) { o.Acknowledges = false })
		case !server.Acknowledges && connected && r != nil && (r.Replication.Acknowledges || s.caughtUp(r) || s.hasAll(r, primary)):
			edit(s.minor("%s is close enough to acknowledge", server.Name), server.Name, func(o *cluster.Server) { o.Acknowledges = true })
		case !server.Acknowledges && connected && server.Task == cluster.Follow && s.fresh(server.Name) == nil:
			edit(s.next("%s receives, though nobody hears of it: it may acknowledge", server.Name), server.Name, func(o *cluster.Server) { o.Acknowledges = true })
		}
	})
}

// covered reports whether a replica that counts, and is connected, has received
// all that the primary had written when it said who is connected.
func (s *state) covered(leader cluster.Server, primary *cluster.Report) bool {
	for _, server := range s.Assignment.Servers {
		r := s.following(server)
		if server.Name == leader.Name || !server.Acknowledges || r == nil || !r.Intact || !slices.Contains(primary.Receivers, server.ID) {
			continue
		}
		if s.hasAll(r, primary) {
			return true
		}
	}
	return false
}

// hasAll reports whether a replica has received all that the primary had written when
// that was last heard of. Where commits wait for a replica that does not acknowledge
// yet, nothing else shows that it is close: heartbeats are commits, too.
func (s *state) hasAll(replica, primary *cluster.Report) bool {
	_, written, err := position(primary)
	if err != nil {
		s.because("%v", err)
		return false
	}
	_, all, err := position(replica)
	return err == nil && all.Contains(written)
}

// durability has commits wait for an acknowledgement as soon as there is one who
// gives it, and no more when the policy says so and there is none.
func (s *state) durability(leader cluster.Server) {
	primary := s.answered(leader.Name)
	if primary == nil {
		return
	}
	acknowledging := 0
	s.eachReplica(leader, func(server cluster.Server) {
		if r := s.following(server); r != nil && server.Acknowledges && r.Replication.Acknowledges {
			acknowledging++
		}
	})
	switch {
	case !s.Assignment.SemiSync && acknowledging > 0:
		s.next("commits wait for an acknowledgement from now on").SemiSync = true
	case s.Assignment.SemiSync && !s.Assignment.Durable && primary.SemiSync && primary.Epoch == s.Assignment.Epoch && s.covered(leader, primary):
		s.next("what is committed is on two servers from now on").Durable = true
	case s.Assignment.SemiSync && acknowledging == 0 && !s.p.Lossless && (primary.Stalled >= s.p.AvailableAfter || len(s.Assignment.Servers) == 1):
		a := s.next("no replica acknowledges; commits go on without")
		a.SemiSync, a.Durable = false, false
	case s.Assignment.SemiSync && acknowledging == 0:
		s.because("no replica acknowledges: writes wait")
	}
}

// rampSteps are the weights of a replica that begins to serve.
var rampSteps = []int{10, 30, 60, farm.DefaultWeight}

// serve tells the proxies of replicas that are good for reads, a share at a time, and
// of those that are not. (Proxies look at lag and health themselves; this is
// about servers that are not to be asked at all.)
func (s *state) serve(leader cluster.Server) {
	s.eachReplica(leader, func(server cluster.Server) {
		if server.Task == cluster.Retire || s.Servers[server.Name].Leave != Stay {
			return
		}
		r := s.following(server)
		seen := s.Servers[server.Name]
		ramp := func() (int, bool) {
			i := slices.Index(rampSteps, server.Weight)
			if i < 0 || i == len(rampSteps)-1 {
				return 0, false
			}
			return rampSteps[i+1], s.now.Sub(s.Assignment.Ramps[server.Name]) >= s.p.Ramp/time.Duration(len(rampSteps)-1)
		}
		switch weight, due := ramp(); {
		case r != nil && server.State == "":
			edit(s.minor("%s follows: the proxies are told of it", server.Name), server.Name, func(o *cluster.Server) { o.State, o.Weight = farm.Warming, rampSteps[0] })
			s.event(farm.BeforeHostUp, server, farm.Replica, nil)
		case r != nil && server.State == farm.Draining:
			edit(s.next("%s is not to leave any more", server.Name), server.Name, func(o *cluster.Server) { o.State, o.Weight = farm.Warming, rampSteps[0] })
		case r != nil && server.State == farm.Warming && s.caughtUp(r):
			a := s.next("%s has caught up: it serves reads", server.Name)
			edit(a, server.Name, func(o *cluster.Server) { o.State = farm.Serving })
			s.ramped(a, server.Name)
			s.event(farm.HostUp, server, farm.Replica, nil)
		case r != nil && server.State == farm.Serving && due:
			a := s.minor("%s takes a larger share", server.Name)
			edit(a, server.Name, func(o *cluster.Server) { o.Weight = weight })
			s.ramped(a, server.Name)
		case r == nil && server.State == farm.Serving && (seen.Report == nil || seen.Age > 2*s.p.Silence || !whole(seen.Report) || server.Task != cluster.Follow):
			edit(s.next("%s does not follow (%s): it serves no reads", server.Name, s.condition(server.Name)), server.Name, func(o *cluster.Server) { o.State = farm.Warming })
		}
	})
}

// ramped remembers when a server's share was changed.
func (s *state) ramped(a *cluster.Assignment, name string) {
	ramps := maps.Clone(a.Ramps)
	if ramps == nil {
		ramps = map[string]time.Time{}
	}
	ramps[name] = s.now.UTC()
	a.Ramps = ramps
}

// mend has a replica's data copied anew that cannot follow as it is.
func (s *state) mend(leader cluster.Server) {
	if s.Paused || s.answered(leader.Name) == nil {
		return
	}
	s.eachReplica(leader, func(server cluster.Server) {
		if s.Servers[server.Name].Leave != Stay {
			return
		}
		why := s.unfit(server)
		switch {
		case server.Task == cluster.Hold && !server.Acknowledges:
			s.copyFrom(leader, server, "it was set aside")
		case why == "":
		case server.Acknowledges:
			s.setAside(leader, server, why)
		default:
			s.copyFrom(leader, server, why)
		}
	})
}

// unfit is why a replica cannot follow with the data that it has; empty if it can, or that is
// not known.
func (s *state) unfit(server cluster.Server) string {
	r := s.fresh(server.Name)
	if r == nil || server.Task != cluster.Follow || r.Task != cluster.Follow || r.Epoch != s.Assignment.Epoch {
		return ""
	}
	if r.Broken != "" {
		return "no server can be started on its data: " + r.Broken
	}
	if s.answered(server.Name) == nil {
		return ""
	}
	switch broken := r.Replication != nil && (r.Replication.ApplierError != "" || r.Replication.ReceiverError != "" && r.Replication.Receiver == "No"); {
	case r.Errant != "":
		return "it has transactions that its primary has not: " + r.Errant
	case r.Missing != "":
		return "it lacks transactions that its position says it has: " + r.Missing
	case broken && r.Beat != nil && *r.Beat > s.p.Broken:
		return "its replication has stopped: " + r.Replication.ApplierError + r.Replication.ReceiverError
	}
	return ""
}

// setAside has a server receive nothing more whose data is to be thrown away, and
// may hold what it alone has acknowledged. It counts until another has all that
// (acknowledge), and is copied anew then. Where there is no other, the primary's account
// has it, which then cannot be failed over from.
func (s *state) setAside(leader, server cluster.Server, why string) {
	a := s.next("%s is set aside: %s", server.Name, why)
	edit(a, server.Name, func(o *cluster.Server) { o.Task, o.Source, o.State, o.Weight = cluster.Hold, "", "", 0 })
	for _, other := range a.Servers {
		if other.Name != server.Name && other.Task == cluster.Follow && other.Acknowledges {
			return
		}
	}
	a.Durable = false
}

// donor is the server that another can copy: a healthy replica, or the primary
// where there is none. One copies at a time from each.
func (s *state) donor(leader cluster.Server, name string) (string, error) {
	busy := map[string]bool{}
	for _, server := range s.sofar().Servers {
		if server.Task == cluster.Clone && server.Restore == nil {
			busy[server.Source] = true
		}
	}
	var replicas, free []string
	s.eachReplica(leader, func(other cluster.Server) {
		if r := s.following(other); other.Name != name && s.Servers[other.Name].Leave == Stay && s.caughtUp(r) && r.CloneAt != "" {
			if replicas = append(replicas, other.Name); !busy[other.Name] {
				free = append(free, other.Name)
			}
		}
	})
	if len(replicas) == 0 {
		if r := s.answered(leader.Name); r == nil || r.CloneAt == "" {
			return "", fmt.Errorf("no server gives its data")
		}
		if replicas = []string{leader.Name}; !busy[leader.Name] {
			free = replicas
		}
	}
	if len(free) == 0 {
		return "", fmt.Errorf("%s is being copied by another already", strings.Join(replicas, ", "))
	}
	return free[0], nil
}

// source has a server follow or copy another one than before.
func (s *state) source(server *cluster.Server, name string) {
	server.Source = name
	if server.Task == cluster.Clone {
		server.CloneAt = s.cloneAt(name)
	}
}

// cloneAt is where a server says that it gives its data.
func (s *state) cloneAt(name string) string {
	if r := s.answered(name); r != nil {
		return r.CloneAt
	}
	return ""
}

// copyFrom has a server copy the data of another. It has acknowledged nothing that
// nobody else has.
func (s *state) copyFrom(leader, server cluster.Server, why string) {
	from, err := s.origin(leader, server)
	if err != nil {
		s.because("%s is to be copied anew (%s), and waits: %v", server.Name, why, err)
		return
	}
	edit(s.next("%s copies %s: %s", server.Name, from.text, why), server.Name, func(o *cluster.Server) {
		o.State, o.Weight, o.Acknowledges = "", 0, false
		from.give(o)
	})
}

// welcome takes in servers that are new, and lets those follow that were copied.
func (s *state) welcome(leader cluster.Server) {
	s.eachReplica(leader, func(server cluster.Server) {
		r := s.answered(server.Name)
		donor, _ := s.Assignment.Server(server.Source)
		switch {
		case server.Task == cluster.Clone && r != nil && r.Done && r.Task == cluster.Clone && r.Epoch == s.Assignment.Epoch:
			edit(s.next("%s has the data of %s and follows", server.Name, had(server)), server.Name, func(o *cluster.Server) {
				o.Task, o.Source, o.CloneAt, o.Restore = cluster.Follow, leader.Name, "", nil
			})
		case server.Task == cluster.Clone && server.Restore != nil && s.unrestored(server) != "":
			s.copyFrom(leader, server, "its data cannot be made of a backup: "+s.unrestored(server))
		case server.Task == cluster.Clone && s.answered(donor.Name) == nil && s.Servers[donor.Name].Age > 2*s.p.Silence:
			s.copyFrom(leader, server, donor.Name+", which it copied from, is lost")
		case server.Task == cluster.Fence && s.fresh(server.Name) != nil:
			edit(s.next("%s is back and follows", server.Name), server.Name, func(o *cluster.Server) { o.Task, o.Source = cluster.Follow, leader.Name })
		}
	})
	if s.Paused {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(s.Servers)) {
		seen := s.Servers[name]
		if _, known := s.Assignment.Server(name); known || s.fresh(name) == nil || seen.Leave != Stay {
			continue
		}
		server := cluster.Server{Name: name, Address: seen.Address, Task: cluster.Follow, Source: leader.Name}
		if !seen.Inherits || seen.Report.Empty {
			from, err := s.origin(leader, server)
			if err != nil {
				s.because("%s is new, and waits: %v", name, err)
				continue
			}
			s.next("%s is new: it copies %s", name, from.text)
			from.give(&server)
		} else {
			// If its data does not lead to the primary's, mend has it copied.
			s.next("%s is new, and has the disk of one that is gone: it follows", name)
		}
		a := s.sofar()
		server.ID = a.NextID
		a.NextID++
		at, _ := slices.BinarySearchFunc(a.Servers, name, func(o cluster.Server, name string) int { return strings.Compare(o.Name, name) })
		a.Servers = slices.Insert(a.Servers, at, server)
		s.event(farm.HostInit, server, farm.Replica, nil)
	}
}
