package steer

import (
	"fmt"
	"time"

	"farmhand/internal/cluster"
)

// Limits of a handover's steps.
const (
	// A web node that has not taken up that writes wait by then is not waited for.
	webLimit = 250 * time.Millisecond
	// yieldLimit bounds the time between the old primary's last write and the
	// moment at which the target has it.
	yieldLimit = 5 * time.Second
)

// startHandover begins a switchover; false if it cannot be.
func (s *state) startHandover(leader cluster.Server) bool {
	target, err := s.successor(leader)
	if err != nil {
		s.step.Answer = Answer{Refused: true, Text: err.Error()}
		return false
	}
	if target.Name == leader.Name {
		s.step.Answer = Answer{Done: true, Text: leader.Name + " leads already"}
		return false
	}
	a := s.next("switchover from %s to %s: new writes wait", leader.Name, target.Name)
	a.Primary, a.Target = "", target.Name
	s.phase(a, cluster.Handing)
	s.step.Answer = Answer{Text: a.Why}
	return true
}

// successor is the replica that a handover is to.
func (s *state) successor(leader cluster.Server) (cluster.Server, error) {
	if to := s.Request.To; to != "" {
		server, ok := s.Assignment.Server(to)
		if !ok {
			return server, fmt.Errorf("there is no server %q", to)
		}
		if server.Name == leader.Name {
			return server, nil
		}
		return server, s.fit(server)
	}
	var best *cluster.Server
	var why []error
	for i, server := range s.Assignment.Servers {
		if server.Name == leader.Name {
			continue
		}
		if err := s.fit(server); err != nil {
			why = append(why, err)
			continue
		}
		if best == nil || server.Weight > best.Weight {
			best = &s.Assignment.Servers[i]
		}
	}
	if best == nil {
		return cluster.Server{}, fmt.Errorf("no replica can take over: %v", why)
	}
	return *best, nil
}

// fit says why a replica cannot take over now.
func (s *state) fit(server cluster.Server) error {
	r := s.following(server)
	switch {
	case s.Servers[server.Name].Leave != Stay:
		return fmt.Errorf("%s is to leave", server.Name)
	case r == nil:
		return fmt.Errorf("%s does not follow: %s", server.Name, s.condition(server.Name))
	case !s.caughtUp(r):
		return fmt.Errorf("%s is behind", server.Name)
	}
	return nil
}

// hand waits until the proxies hold new writes back and the open transactions
// have ended. The primary goes on until then.
func (s *state) hand() {
	leader, ok := s.Assignment.Leader()
	if !ok {
		s.startElection("nobody is to lead", cluster.Server{})
		return
	}
	if v := s.judge(leader); v.kind == dead {
		if s.failOver(leader, v.why); s.step.Assignment == nil {
			s.back(leader, "it is lost and cannot be failed over from: "+v.why)
		}
		return
	}
	took := s.now.Sub(s.Assignment.Since)
	target, ok := s.Assignment.Server(s.Assignment.Target)
	if t := s.following(target); ok && t == nil && s.answered(target.Name) != nil && took <= s.p.Drain {
		s.because("%s does not follow just now: %s", target.Name, s.condition(target.Name))
		return
	} else if !ok || t == nil {
		s.back(leader, fmt.Sprintf("%s does not follow any more: %s", s.Assignment.Target, s.condition(s.Assignment.Target)))
		return
	}
	for _, web := range s.Webs {
		if web.Age < s.p.Silence && web.Serial < s.Assignment.Serial && took < webLimit {
			s.because("%s does not hold writes back yet", web.Name)
			return
		}
	}
	r := s.answered(leader.Name)
	if r == nil || r.Serial < s.Assignment.Serial {
		s.because("%s has not said how many transactions are open: %s", leader.Name, s.condition(leader.Name))
		if took > s.p.Drain {
			s.back(leader, leader.Name+" does not answer")
		}
		return
	}
	if force := s.Request != nil && s.Request.Force; r.Open > 0 && took < s.p.Drain || r.Open > 0 && !force {
		s.because("%d transactions are open", r.Open)
		if took >= s.p.Drain {
			s.back(leader, fmt.Sprintf("%d transactions were still open after %v; --force ends them", r.Open, s.p.Drain))
		}
		return
	}
	a := s.next("switchover from %s to %s: %s stops taking writes", leader.Name, target.Name, leader.Name)
	s.phase(a, cluster.Yielding)
	edit(a, leader.Name, func(server *cluster.Server) { server.Task = cluster.Yield })
}

// back ends a handover: the primary stays what it is.
func (s *state) back(leader cluster.Server, why string) {
	a := s.next("the switchover is given up: %s; %s stays the primary", why, leader.Name)
	a.Target = ""
	if leader.Task == cluster.Lead {
		a.Primary = leader.Name
		s.phase(a, cluster.Steady)
	} else {
		s.phase(a, cluster.Promoting)
		edit(a, leader.Name, func(server *cluster.Server) { server.Task = cluster.Lead })
	}
	s.step.Answer = Answer{Refused: true, Text: a.Why}
}

// yield waits until the old primary's last write is known and the target has
// it, and lets the target lead.
func (s *state) yield() {
	var old cluster.Server
	for _, server := range s.Assignment.Servers {
		if server.Task == cluster.Yield {
			old = server
		}
	}
	took := s.now.Sub(s.Assignment.Since)
	target, ok := s.Assignment.Server(s.Assignment.Target)
	if !ok || old.Name == "" {
		s.startElection("the handover has lost one of its two servers", old)
		return
	}
	r := s.done(old)
	if r == nil {
		s.because("%s has not yielded yet: %s", old.Name, s.condition(old.Name))
		if fresh := s.fresh(old.Name); fresh != nil && fresh.Process == cluster.Crashed || fresh == nil && took > s.p.Silence {
			// Whatever it had acknowledged, those that acknowledge have.
			s.startElection(old.Name+" was lost while it yielded", old)
		} else if took > yieldLimit {
			s.back(old, "it did not stop taking writes in time")
		}
		return
	}
	final, _, err := position(r)
	if err != nil {
		s.back(old, err.Error())
		return
	}
	t := s.following(target)
	if t == nil && s.answered(target.Name) != nil && took <= yieldLimit {
		s.because("%s does not follow just now: %s", target.Name, s.condition(target.Name))
		return
	}
	if t == nil {
		s.back(old, fmt.Sprintf("%s does not follow any more: %s", target.Name, s.condition(target.Name)))
		return
	}
	executed, _, err := position(t)
	if err != nil {
		s.back(old, err.Error())
		return
	}
	if !executed.Contains(final) {
		s.because("%s is at %s of %s", target.Name, t.Executed, r.Executed)
		if took > yieldLimit {
			s.back(old, target.Name+" did not catch up in time")
		}
		return
	}
	s.crown(target, final, true, fmt.Sprintf("%s has all that %s had written", target.Name, old.Name))
	acknowledgesAtOnce(s.step.Assignment, old.Name)
	s.step.Assignment.Epoch++
}
