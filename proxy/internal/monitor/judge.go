package monitor

import (
	"fmt"
	"slices"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
	"farmhand/internal/mysqladmin"
)

// defaultWeight is what a weight of 0 in a topology means.
const defaultWeight = 100

// identity is by what a replica's source is recognised as the primary. It
// outlives the primary: its replicas say what it called itself when they last
// reached it.
type identity struct {
	name string
	id   uint32 // 0 while unknown
	uuid string
}

// cluster is what the judgement of one server needs to know beyond it.
type cluster struct {
	primary *subject // nil if the topology names none
	last    identity // of the primary, or of the last one while there is none
}

// gone tells whether the primary is known not to answer. One that was not asked
// yet is not.
func (c cluster) gone() bool {
	return c.primary == nil || c.primary.status == Down || c.primary.doubt != nil
}

// known tells whether replicas can be compared with the primary's identity.
func (c cluster) known() bool {
	return c.last.id != 0 && (c.primary == nil || c.primary.Name == c.last.name)
}

// judge says of one server what it may be used for and why not. It is a pure
// function of what is remembered and the time.
func judge(s *subject, c cluster, now time.Time, slowStart time.Duration) *Server {
	v := &Server{
		Server:    s.Server,
		Role:      s.role,
		Status:    s.status,
		Since:     s.since,
		LastError: s.lastError, Silent: s.silent,
		Probed: s.probed,
	}
	if v.Weight == 0 {
		v.Weight = defaultWeight
	}
	if f := s.facts; f != nil {
		v.Greeting = Greeting(f.greeting)
		v.Flavor = f.greeting.Flavor()
		v.VersionNumber = f.greeting.VersionNumber()
		v.ServerID, v.ServerUUID = f.state.ServerID, f.state.UUID
		v.ReadOnly = f.state.ReadOnly || f.state.SuperReadOnly
		v.Variables, v.Collations = f.variables, f.collations
		v.Processors, v.DiskReads = processors(f.variables), f.diskReads
	}
	if s.role == farm.Primary {
		judgePrimary(v, s)
	} else {
		judgeReplica(v, s, c)
	}
	if v.Eligible {
		v.EffectiveWeight = ramped(v.Weight, s.ramp, now, slowStart)
	}
	return v
}

func judgePrimary(v *Server, s *subject) {
	v.LagKnown = true
	if s.facts != nil {
		v.Position = s.facts.state.Executed
	}
	if v.Reason = unwell(s); v.Reason != "" {
		return
	}
	v.Writable = !v.ReadOnly
	v.Eligible = true
	if !v.ReadOnly {
		return
	}
	v.Reason = "it is the primary but read-only (read_only is set): takes no writes"
	// A server that still applies another's transactions is not yet the primary
	// it was named: it may lack what a session has written.
	for _, ch := range s.facts.channels {
		if mysqladmin.Running(ch.Applier) {
			v.Eligible = false
			v.Reason = fmt.Sprintf("it is named primary but still read-only and a replica of %s", ch.Source)
		}
	}
}

func judgeReplica(v *Server, s *subject, c cluster) {
	if s.facts != nil {
		v.Position = s.shown
		v.AheadOfXA, v.Branches = s.facts.state.AheadOfXA, s.facts.branches
	}
	following, reason := replicates(s, c)
	if ch := channel(s, c); ch != nil {
		v.Replication = replicationOf(ch, following)
		if ch.BehindKnown {
			v.Lag = ch.Behind
		}
	}
	if following && !s.fresh.IsZero() {
		v.Lag, v.LagKnown = max(0, s.probed.Sub(s.fresh)), true
	}
	switch why := unwell(s); {
	case why != "":
		v.Reason = why
	case s.State == farm.Warming:
		v.Reason = "the topology has it as warming"
	case s.State == farm.Draining:
		v.Reason = "the topology has it as draining"
	default:
		v.Reason = reason
	}
	v.Eligible = v.Reason == ""
}

// unwell says what speaks against a server's health; empty if nothing does.
func unwell(s *subject) string {
	switch {
	case s.status == Down:
		return "it is down: " + s.lastError
	case s.doubt != nil:
		return "it failed and has not answered a probe since: " + s.doubt.Error()
	case s.status == Unknown && s.lastError != "":
		return "it was never reached: " + s.lastError
	case s.status == Unknown:
		return "it has not been probed yet"
	}
	return ""
}

// channel returns the replication that counts: the one from the primary, or the
// first.
func channel(s *subject, c cluster) *mysqladmin.Channel {
	if s.facts == nil || len(s.facts.channels) == 0 {
		return nil
	}
	channels := s.facts.channels
	i := slices.IndexFunc(channels, func(ch mysqladmin.Channel) bool { return follows(&ch, s, c) })
	return &channels[max(0, i)]
}

// follows tells whether a channel's source is the cluster's primary. What the
// source called itself is better evidence than where the replica was told to
// find it: one server has many addresses.
func follows(ch *mysqladmin.Channel, s *subject, c cluster) bool {
	switch {
	case c.known() && c.last.uuid != "" && ch.SourceUUID != "":
		return ch.SourceUUID == c.last.uuid
	case c.known() && ch.SourceID != 0:
		return ch.SourceID == c.last.id
	case s.verified != "" && ch.Source == s.verified:
		return true
	case c.primary == nil:
		// Nothing names a primary to compare with, and none was ever seen.
		return c.last.id == 0
	}
	return ch.Source == c.primary.Address
}

// verifies tells whether a channel's source is recognised by what it called
// itself.
func verifies(ch *mysqladmin.Channel, c cluster) bool {
	return c.known() && (ch.SourceID != 0 || ch.SourceUUID != "")
}

// replicates tells whether a server follows the primary and, if it must not
// serve for its replication's sake, why.
//
// A dead primary is not a replica's fault: its receiver cannot connect, or was
// stopped by who is promoting another. That replica's data are as good as they
// were, and their age is known or grows.
func replicates(s *subject, c cluster) (following bool, reason string) {
	if s.facts == nil {
		return false, ""
	}
	if s.facts.channelErr != "" {
		return false, s.facts.channelErr
	}
	ch := channel(s, c)
	if ch == nil {
		return false, "it is not a replica: it replicates from nowhere"
	}
	if !follows(ch, s, c) {
		of := "the primary"
		if c.primary != nil {
			of += " " + c.primary.Name
		}
		return false, fmt.Sprintf("it follows %s (server id %d), which is not %s", ch.Source, ch.SourceID, of)
	}
	switch {
	case !mysqladmin.Running(ch.Applier) && ch.ApplierError.Code != 0:
		return true, "its replication is broken: the applier stopped with " + ch.ApplierError.String()
	case !mysqladmin.Running(ch.Applier) && !c.gone():
		return true, "its replication is stopped: the applier does not run"
	case ch.Receiver != "No": // Yes, Connecting, Preparing
		return true, ""
	case ch.ReceiverError.Code != 0 && !(c.gone() && unreachable(ch.ReceiverError.Code)):
		return true, "its replication is broken: the receiver stopped with " + ch.ReceiverError.String()
	case !c.gone():
		return true, "its replication is stopped: the receiver does not run"
	}
	return true, ""
}

// unreachable tells whether an error of a receiver says no more than that its
// source is away: the client library's connection errors and a server's own
// goodbye.
func unreachable(code uint16) bool {
	switch code {
	case 2002, 2003, 2005, 2006, 2013, // CR_*: cannot connect, unknown host, gone, lost
		1053, 1159, 1161: // ER_SERVER_SHUTDOWN, ER_NET_READ_INTERRUPTED, ER_NET_WRITE_INTERRUPTED
		return true
	}
	return false
}

func replicationOf(ch *mysqladmin.Channel, following bool) *Replication {
	r := &Replication{
		Source:     ch.Source,
		Receiver:   ch.Receiver,
		Applier:    ch.Applier,
		Following:  following,
		Error:      ch.ApplierError.String(),
		Delay:      ch.Delay,
		SelfReport: -1,
	}
	if r.Error == "" {
		r.Error = ch.ReceiverError.String()
	}
	if ch.BehindKnown {
		r.SelfReport = ch.Behind
	}
	return r
}

// applied returns what a server is known to have applied.
func (s *subject) applied() gtid.Position {
	if s.facts == nil {
		return gtid.Position{}
	}
	return s.facts.state.Applied
}
