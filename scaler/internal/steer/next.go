package steer

import (
	"fmt"
	"slices"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
)

// Next says what the assignment is to be now. It is asked again at every change of
// what is seen, and from time to time.
func Next(v View, p Policy, now time.Time) Step {
	s := &state{View: v, p: p, now: now}
	switch {
	case v.Assignment == nil:
		s.begin()
	case v.Request != nil && v.Request.Kind == Restore:
		s.restore()
	case v.Request != nil && v.Request.Kind == Confirm:
		s.confirm()
	case v.Assignment.Phase == cluster.Electing:
		s.elect()
	case v.Assignment.Phase == cluster.Promoting:
		s.promote()
	case v.Assignment.Phase == cluster.Handing:
		s.hand()
	case v.Assignment.Phase == cluster.Yielding:
		s.yield()
	default:
		s.steady()
	}
	return s.step
}

// steady is the time in which nothing is changing: the primary is watched first, and
// looked after are the others only while it is well.
func (s *state) steady() {
	leader, ok := s.Assignment.Leader()
	if !ok {
		s.because("nobody leads")
		s.startElection("there is no primary", cluster.Server{})
		return
	}
	switch v := s.judge(leader); v.kind {
	case dead:
		s.because("primary %s is lost: %s", leader.Name, v.why)
		if s.failOver(leader, v.why); s.step.Assignment == nil {
			s.acknowledge(leader)
			s.durability(leader)
		}
		return
	case suspect:
		s.because("primary %s is suspect: %s", leader.Name, v.why)
		s.refuseWhile("the primary is suspect")
		return
	case stalled:
		s.because("primary %s is stalled: %s", leader.Name, v.why)
		s.refuseWhile("the primary is stalled")
		if s.step.Assignment == nil {
			s.care(leader)
		}
		return
	case well:
		s.because("%s leads: %s", leader.Name, v.why)
	}
	s.keptAside()
	if s.answer(leader) {
		return
	}
	s.care(leader)
}

// refuseWhile leaves a request for later.
func (s *state) refuseWhile(why string) {
	if s.Request != nil {
		if s.Request.Kind == Failover {
			if leader, ok := s.Assignment.Leader(); ok {
				s.forced(leader)
			}
			return
		}
		s.step.Answer.Text = "waits: " + why
	}
}

// answer begins what a person asks for; false if there is nothing to begin.
func (s *state) answer(leader cluster.Server) bool {
	if s.Request == nil {
		return false
	}
	switch s.Request.Kind {
	case Switchover:
		return s.startHandover(leader)
	case Failover:
		s.forced(leader)
		return s.step.Assignment != nil
	case Ack:
		s.step.Answer = Answer{Done: true, Text: "there was nothing to acknowledge"}
		if len(s.Assignment.Deposed) > 0 {
			s.next("a person has acknowledged the failovers so far").Deposed = nil
			s.step.Answer.Text = "acknowledged"
		}
		return s.step.Assignment != nil
	case Adopt:
		s.step.Answer = Answer{Refused: true, Text: "the cluster has a primary, " + leader.Name}
	}
	return false
}

// begin makes the first assignment: of a cluster without data, whoever comes first by name
// leads.
func (s *state) begin() {
	names := make([]string, 0, len(s.Servers))
	for name := range s.Servers {
		names = append(names, name)
	}
	slices.Sort(names)
	var first string
	for _, name := range names {
		r := s.fresh(name)
		switch {
		case s.Request != nil && s.Request.Kind == Adopt:
			if name == s.Request.To && r != nil {
				first = name
			}
		case r == nil:
			s.because("%s has not been heard of yet: it may have data", name)
			return
		case !r.Empty:
			s.because("%s has data, and the registry knows nothing of it: a person must say whose data the cluster begins with", name)
			return
		case first == "":
			first = name
		}
	}
	if first == "" {
		s.because("there is no server to begin with")
		return
	}
	server := cluster.Server{Name: first, Address: s.Servers[first].Address, ID: 1, Task: cluster.Lead}
	a := &cluster.Assignment{Epoch: 1, Term: s.Term, Serial: 1, NextID: 2, Why: "the cluster begins with " + first}
	if s.p.Begin != nil && s.Servers[first].Report.Empty {
		server.Restore = s.p.Begin
		// None that the cluster had that the backup is of: a server passes over what has its own.
		server.ID = restoredID
		a.NextID = restoredID + 1
		a.Why += fmt.Sprintf(", which gets the data of a backup of %s, as of %s", s.p.Begin.Cluster, moment(s.p.Begin))
	}
	a.Servers = []cluster.Server{server}
	s.phase(a, cluster.Promoting)
	s.step.Assignment = a
	s.because("%s", a.Why)
	if s.Request != nil && s.Request.Kind == Adopt {
		s.step.Answer = Answer{Done: true, Text: a.Why}
	}
}

// promote waits until the server that is to lead does.
func (s *state) promote() {
	leader, ok := s.Assignment.Leader()
	if !ok {
		s.startElection("nobody is to lead", cluster.Server{})
		return
	}
	if leader.Restore != nil && s.restoring(leader) {
		return
	}
	if r := s.done(leader); r != nil && r.Writable {
		a := s.next("%s has become the primary", leader.Name)
		if leader.Restore != nil {
			// Nobody without it can follow.
			a.Base = r.Executed
			edit(a, leader.Name, func(o *cluster.Server) { o.Restore = nil }) // once is enough
		}
		if r := s.Request; r != nil && (r.Kind == Switchover || r.Kind == Failover) && (r.To == "" || r.To == leader.Name) {
			s.step.Answer = Answer{Done: true, Text: leader.Name + " is the primary"}
		}
		a.Primary, a.Target, a.AllowLoss = leader.Name, "", false
		s.phase(a, cluster.Steady)
		s.event(farm.NewPrimary, leader, farm.Primary, map[string]string{"reason": s.Assignment.Why})
		return
	}
	s.because("%s is to lead, and does not yet: %s", leader.Name, s.condition(leader.Name))
	if len(s.Assignment.Servers) == 1 {
		return
	}
	// It may be gone again. Until it takes writes it has acknowledged none.
	r := s.fresh(leader.Name)
	lost, starting := r == nil || r.Process == cluster.Crashed, r != nil && r.Process == cluster.Starting
	if took := s.now.Sub(s.Assignment.Since); took > s.p.Silence && lost || took > s.p.Deadline && !starting {
		// An election that nobody can win only delays it, should it come back.
		if err := s.feasible(leader); err != nil {
			s.because("no other can be promoted without a loss: %v", err)
			s.refuseWhile("the server that is to lead is lost")
			return
		}
		s.startElection("the server that was to become the primary was lost on the way", leader)
	}
}

// condition says how a server is, in a few words.
func (s *state) condition(name string) string {
	seen, ok := s.Servers[name]
	switch r := s.fresh(name); {
	case !ok:
		return "there is no such instance"
	case seen.Report == nil:
		return "it has never reported"
	case r == nil:
		return "it has not reported for " + seen.Age.Round(time.Second).String()
	case r.Detail != "":
		return r.Detail
	case r.Serial < s.Assignment.Serial:
		return "it has not taken up its assignment"
	case !r.Answers:
		return "its process is " + string(r.Process) + " and does not answer"
	default:
		return "it is " + string(r.Process)
	}
}
