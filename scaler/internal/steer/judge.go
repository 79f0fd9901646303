package steer

import (
	"fmt"
	"strings"
	"time"

	"farmhand/internal/cluster"
)

// verdict is what is thought of the primary.
type verdict struct {
	kind judgement
	why  string
}

type judgement int

const (
	well    judgement = iota // it takes writes, or can be left to itself
	stalled                  // it answers and cannot commit
	suspect                  // something is wrong; not yet proven
	dead                     // it takes no writes that anybody acknowledges
)

// judge weighs what is known of the server that leads. Its own sidecar is believed at
// once when it says that the process has ended. Otherwise no observer alone is:
// not our own probes, not the silence of the sidecar, but both, and with them
// the replicas, which receive nothing or see no heartbeat.
func (s *state) judge(leader cluster.Server) verdict {
	r := s.fresh(leader.Name)
	if r != nil && r.Epoch == s.Assignment.Epoch && (r.Process == cluster.Crashed || r.Process == cluster.Absent) && r.Task == cluster.Lead {
		return verdict{dead, "its sidecar says that the process has ended"}
	}
	deaf, hearing, unheard := s.replicas(leader)
	if r != nil && r.Answers {
		if r.Stalled < s.p.Silence {
			return verdict{well, "it answers its sidecar"}
		}
		why := fmt.Sprintf("it has not been able to commit for %v", r.Stalled.Round(100*time.Millisecond))
		if len(deaf) == 0 || len(hearing) > 0 {
			return verdict{stalled, why + s.others(deaf, hearing, unheard)}
		}
		return verdict{dead, why + s.others(deaf, hearing, unheard)}
	}
	var silent string
	switch seen := s.Servers[leader.Name]; {
	case r != nil:
		silent = fmt.Sprintf("its process (%s) does not answer its sidecar", r.Process)
	case seen.Report == nil:
		silent = "its sidecar has never been heard"
	default:
		silent = fmt.Sprintf("its sidecar has been silent for %v", seen.Age.Round(100*time.Millisecond))
	}
	switch {
	case s.Probe.Failed == 0:
		return verdict{well, silent + ", but it answers the scaler"}
	case s.Probe.Failed < s.p.Failures:
		return verdict{suspect, fmt.Sprintf("%s, and %d probes have failed (%s)", silent, s.Probe.Failed, s.Probe.Why)}
	}
	why := fmt.Sprintf("%s, %d probes have failed (%s)", silent, s.Probe.Failed, s.Probe.Why) + s.others(deaf, hearing, unheard)
	if len(hearing) > 0 || len(deaf) == 0 {
		return verdict{suspect, why}
	}
	return verdict{dead, why}
}

// replicas sorts the replicas that are to follow the leader: those that hear
// nothing of it, those that do, and those that nobody hears of.
func (s *state) replicas(leader cluster.Server) (deaf, hearing, unheard []string) {
	for _, server := range s.Assignment.Servers {
		if server.Name == leader.Name || server.Task != cluster.Follow {
			continue
		}
		r := s.answered(server.Name)
		switch {
		case r == nil:
			unheard = append(unheard, server.Name)
		case r.Replication == nil || r.Replication.Receiver != "Yes", s.silentSource(r):
			deaf = append(deaf, server.Name)
		default:
			hearing = append(hearing, server.Name)
		}
	}
	return deaf, hearing, unheard
}

// others is what the replicas have to say, for people.
func (s *state) others(deaf, hearing, unheard []string) string {
	var text strings.Builder
	for _, group := range []struct {
		names []string
		what  string
	}{{deaf, "hear nothing of it"}, {hearing, "still hear it"}, {unheard, "are not heard themselves"}} {
		if len(group.names) > 0 {
			fmt.Fprintf(&text, "; %s %s", strings.Join(group.names, ", "), group.what)
		}
	}
	if text.Len() == 0 {
		return "; there is no replica to ask"
	}
	return text.String()
}

// silentSource reports whether a replica whose receiver runs hears nothing all
// the same. Where the age of what it received is not known, that of what it has
// applied stands in.
func (s *state) silentSource(r *cluster.Report) bool {
	age := r.ReceivedAge
	if age == nil {
		age = r.Beat
	}
	return age != nil && *age > s.p.Silence
}
