package steer

import (
	"fmt"
	"strings"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/gtid"
)

// failOver begins a failover from the leader, if it may and if it can succeed as
// things look: otherwise the leader's own sidecar starts it again.
func (s *state) failOver(leader cluster.Server, why string) {
	if s.Request != nil && s.Request.Kind == Failover {
		s.forced(leader)
		return
	}
	s.refuseWhile("the primary is lost")
	switch since := s.now.Sub(s.Assignment.Deposed[leader.Name]); {
	case !s.p.Automatic:
		s.because("the policy leaves a failover to a person: scaler failover")
	case s.Paused:
		s.because("the farm is paused; scaler resume or scaler failover")
	case since < s.p.Quiet:
		s.because("it failed as the primary %v ago, and for %v it is not failed over from again; scaler ack or scaler failover", since.Round(time.Second), s.p.Quiet)
	default:
		if err := s.feasible(leader); err != nil {
			s.because("no replica can be promoted without a loss: %v", err)
			return
		}
		s.startElection(why, leader)
	}
}

// forced is a failover that a person asks for.
func (s *state) forced(leader cluster.Server) {
	if !s.Request.AllowLoss {
		if err := s.feasible(leader); err != nil {
			s.step.Answer = Answer{Refused: true, Text: fmt.Sprintf("no replica can be promoted without a loss: %v; --allow-loss promotes the best there is", err)}
			return
		}
	} else if len(s.electors(leader)) == 0 {
		s.step.Answer = Answer{Refused: true, Text: "no replica answers"}
		return
	}
	s.startElection("a person asked for a failover", leader)
	s.step.Assignment.AllowLoss, s.step.Assignment.Target = s.Request.AllowLoss, s.Request.To
	s.step.Answer = Answer{Text: "the failover has begun"}
}

// electors are the servers that can be asked how far they are.
func (s *state) electors(leader cluster.Server) []cluster.Server {
	var list []cluster.Server
	for _, server := range s.Assignment.Servers {
		if server.Name != leader.Name && (server.Task == cluster.Follow || server.Task == cluster.Hold) && s.answered(server.Name) != nil {
			list = append(list, server)
		}
	}
	return list
}

// feasible says why no replica could be promoted, judged by the reports so far.
func (s *state) feasible(leader cluster.Server) error {
	if !s.Assignment.Durable {
		return fmt.Errorf("some commits may be on no other server than %s", leader.Name)
	}
	for _, server := range s.Assignment.Servers {
		if server.Name == leader.Name || !server.Acknowledges {
			continue
		}
		if err := s.covers(server); err != nil {
			return err
		}
	}
	based := false
	for _, server := range s.electors(leader) {
		if _, all, err := position(s.answered(server.Name)); err == nil && s.contains(s.answered(server.Name), all) {
			based = true
		}
	}
	if !based {
		return fmt.Errorf("no replica has yet all that %s had when it was promoted (%s)", leader.Name, s.Assignment.Base)
	}
	if n := len(s.electors(leader)); n < max(1, s.p.MinReplicas) {
		return fmt.Errorf("%d replicas answer, and %d must", n, max(1, s.p.MinReplicas))
	}
	return nil
}

// contains reports whether a position has all that the last leader had when it
// was promoted.
func (s *state) contains(r *cluster.Report, at gtid.Position) bool {
	base, err := gtid.Parse(r.Flavor, s.Assignment.Base)
	if err != nil {
		s.because("the position at the last promotion: %v", err)
		return false
	}
	return at.Contains(base)
}

// covers says why a server that may have acknowledged commits cannot speak for
// them.
func (s *state) covers(server cluster.Server) error {
	r := s.answered(server.Name)
	switch {
	case r == nil:
		return fmt.Errorf("%s may have acknowledged commits that nobody else has, and does not answer: %s", server.Name, s.condition(server.Name))
	case !r.Intact:
		return fmt.Errorf("%s may have acknowledged commits and was restarted since, which loses what it had not applied", server.Name)
	}
	return nil
}

// startElection raises the epoch: from here on the server that led is told to
// stop, and replicas receive nothing more.
func (s *state) startElection(why string, from cluster.Server) {
	a := s.next("failover: %s", why)
	a.Epoch++
	a.Primary, a.Target = "", ""
	s.phase(a, cluster.Electing)
	for i := range a.Servers {
		server := &a.Servers[i]
		switch {
		case server.Name == from.Name:
			server.Task, server.Source, server.State, server.Weight, server.Acknowledges, server.Restore = cluster.Fence, "", "", 0, false, nil
			// What it gives up when it is started again, others have under its id; a
			// server takes no transactions of its own id from others.
			server.ID = a.NextID
			a.NextID++
		case server.Task == cluster.Follow, server.Task == cluster.Hold, server.Task == cluster.Yield, server.Task == cluster.Lead:
			server.Task, server.Source, server.Restore = cluster.Hold, "", nil
		}
	}
	if from.Name != "" {
		deposed := map[string]time.Time{from.Name: s.now.UTC()}
		for name, at := range a.Deposed {
			if _, again := deposed[name]; !again && s.now.Sub(at) < s.p.Quiet {
				deposed[name] = at
			}
		}
		a.Deposed = deposed
		s.event(farm.PrimaryLost, from, farm.Primary, map[string]string{"reason": why})
	}
}

// elect waits until those that have to have said how far they are, and promotes
// the one that has everything.
func (s *state) elect() {
	if r := s.Request; r != nil && r.Kind == Failover && r.AllowLoss && !s.Assignment.AllowLoss {
		s.next("a person allowed a loss").AllowLoss = true
		s.step.Answer = Answer{Text: "the failover goes on, though something may be lost"}
		return
	}
	held, best, err := s.count()
	if err == nil {
		if err = s.enough(held); s.Assignment.AllowLoss && len(held) > 0 {
			// What a vote that is missing would have shown, nothing but the end of the old
			// primary does.
			err = s.stopped(err)
		}
	}
	if err == nil {
		if s.choose(held, best); s.step.Assignment != nil {
			return
		}
	} else {
		s.because("the election goes on: %v", err)
	}
	if took := s.now.Sub(s.Assignment.Since); took > s.p.Deadline || err != nil && s.hopeless() {
		s.giveUp(took)
	}
}

// hopeless reports whether waiting is of no use: a server that may have acknowledged
// commits has answered, and has lost some of what it had received. It receives
// nothing that would bring that back.
func (s *state) hopeless() bool {
	for _, server := range s.Assignment.Servers {
		r := s.answered(server.Name)
		if server.Acknowledges && server.Task == cluster.Hold && r != nil && r.Task == cluster.Hold && r.Epoch == s.Assignment.Epoch && !r.Intact {
			return true
		}
	}
	return false
}

// stopped is missing, why the votes do not cover everything, unless the servers
// that are to stop are known to have: then the loss that was allowed is all that can
// happen.
func (s *state) stopped(missing error) error {
	if missing == nil {
		return nil
	}
	for _, server := range s.Assignment.Servers {
		if server.Task != cluster.Fence {
			continue
		}
		if r := s.fresh(server.Name); s.Servers[server.Name].Member && (r == nil || r.Task != cluster.Fence || !r.Done) {
			return fmt.Errorf("%w; and %s, which led, is not known to have stopped: %s", missing, server.Name, s.condition(server.Name))
		}
	}
	return nil
}

// voter is a server that has stopped receiving, and how far it is.
type voter struct {
	server        cluster.Server
	report        *cluster.Report
	executed, all gtid.Position
}

// count gathers who has answered, and the position that covers all of them. One that
// lacks something cannot lead, and yet shows up to where others must have it, as far
// as nothing may be lost.
func (s *state) count() (held []voter, best gtid.Position, err error) {
	for _, server := range s.Assignment.Servers {
		if server.Task != cluster.Hold {
			continue
		}
		r := s.done(server)
		if r == nil || r.Errant != "" || r.Missing != "" && s.Assignment.AllowLoss {
			continue
		}
		executed, all, err := position(r)
		if err != nil {
			return nil, best, err
		}
		held = append(held, voter{server, r, executed, all})
		best = best.Merge(all)
	}
	return held, best, nil
}

// enough says why the votes are too few: each server that may have acknowledged
// a commit must be among them.
func (s *state) enough(held []voter) error {
	if !s.Assignment.Durable {
		return fmt.Errorf("some commits may be on no other server than the one that led")
	}
	voted, based := map[string]bool{}, false
	for _, v := range held {
		voted[v.server.Name] = true
		based = based || whole(v.report) && s.contains(v.report, v.all)
		if v.server.Acknowledges && !v.report.Intact {
			return fmt.Errorf("%s was restarted, and may have lost what it had acknowledged", v.server.Name)
		}
	}
	for _, server := range s.Assignment.Servers {
		if server.Acknowledges && !voted[server.Name] {
			return fmt.Errorf("%s may have acknowledged commits and has not said how far it is: %s", server.Name, s.condition(server.Name))
		}
	}
	if len(held) > 0 && !based {
		return fmt.Errorf("nobody has all that the last primary had when it was promoted (%s)", s.Assignment.Base)
	}
	if len(held) < max(1, s.p.MinReplicas) {
		return fmt.Errorf("%d servers have answered, and %d must", len(held), max(1, s.p.MinReplicas))
	}
	return nil
}

// choose promotes a server that has received all and has executed it.
func (s *state) choose(held []voter, best gtid.Position) {
	var chosen *voter
	for i, v := range held {
		if !whole(v.report) || !v.all.Contains(best) {
			continue
		}
		if chosen == nil || better(v, *chosen, s.Assignment.Target) {
			chosen = &held[i]
		}
	}
	if chosen == nil {
		s.because("no server has all that the others have: %s", positions(held))
		return
	}
	if !chosen.executed.Contains(best) {
		s.because("%s is the most advanced, and has to apply what it received: it is at %s of %s", chosen.server.Name, chosen.report.Executed, best.String())
		return
	}
	s.crown(chosen.server, best, len(held) > 1, fmt.Sprintf("%s has all that was received (%s)", chosen.server.Name, best.String()))
	for _, v := range held {
		if v.server.Name != chosen.server.Name && whole(v.report) && v.all.Contains(best) {
			acknowledgesAtOnce(s.step.Assignment, v.server.Name)
		}
	}
}

// acknowledgesAtOnce has a server acknowledge from its first connection on, since it is
// as far as the one that is to lead. A receiver that comes to acknowledge later connects
// again for it, and asks for nothing that it has: where no other replica acknowledges, a
// commit waits for a second until its sidecar says it again.
func acknowledgesAtOnce(a *cluster.Assignment, name string) {
	edit(a, name, func(server *cluster.Server) { server.Acknowledges = true })
}

// better prefers the server that a person named, then one that has nothing left
// to apply, then one that serves.
func better(a, b voter, target string) bool {
	for _, prefer := range []func(voter) bool{
		func(v voter) bool { return v.server.Name == target },
		func(v voter) bool { return v.executed.Contains(v.all) },
		func(v voter) bool { return v.server.State == farm.Serving },
	} {
		if x, y := prefer(a), prefer(b); x != y {
			return x
		}
	}
	return false
}

func positions(held []voter) string {
	var parts []string
	for _, v := range held {
		parts = append(parts, v.server.Name+" "+v.all.String())
	}
	return strings.Join(parts, ", ")
}

// crown makes one server lead and the others follow it. Those that were to stop
// come back as replicas: started so, a server gives up what nobody acknowledged.
func (s *state) crown(chosen cluster.Server, base gtid.Position, others bool, why string) {
	a := s.next("%s: %s is to lead", why, chosen.Name)
	a.Primary, a.Target, a.Base = "", "", base.String()
	// Alone it would wait for ever; whether it may do without, the policy says.
	a.SemiSync = others || s.p.Lossless && len(a.Servers) > 1
	a.Durable = a.SemiSync
	s.phase(a, cluster.Promoting)
	for i := range a.Servers {
		server := &a.Servers[i]
		switch {
		case server.Name == chosen.Name:
			*server = cluster.Server{Name: server.Name, Address: server.Address, ID: server.ID, Task: cluster.Lead}
		case server.Task == cluster.Clone:
			// Its donor may be as good as before.
			if donor, ok := s.Assignment.Server(server.Source); !ok || donor.Task == cluster.Fence {
				s.source(server, chosen.Name)
			}
		case server.Task == cluster.Retire:
		default:
			server.Task, server.Source, server.Restore = cluster.Follow, chosen.Name, nil
		}
	}
}

// giveUp ends an election that nobody can win: the server that led is started
// again if its sidecar is there, since it has all that it acknowledged.
func (s *state) giveUp(took time.Duration) {
	for _, server := range s.Assignment.Servers {
		if _, deposed := s.Assignment.Deposed[server.Name]; !deposed || server.Task != cluster.Fence || s.fresh(server.Name) == nil {
			continue
		}
		a := s.next("the failover is given up after %v, since nobody has all that was acknowledged, and %s, which led before, is to lead again", took.Round(100*time.Millisecond), server.Name)
		a.Epoch++ // in this one others may have been asked to lead
		s.phase(a, cluster.Promoting)
		for i := range a.Servers {
			other := &a.Servers[i]
			switch {
			case other.Name == server.Name:
				other.Task = cluster.Lead
			case other.Task == cluster.Hold:
				other.Task, other.Source = cluster.Follow, server.Name
			}
		}
		return
	}
	s.because("the election has taken %v; a person can end it by scaler failover --allow-loss", took.Round(time.Second))
}
