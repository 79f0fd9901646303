package steer

import (
	"fmt"
	"slices"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/gtid"
)

// Policy is what the farm file says about a cluster's primary.
type Policy struct {
	// Automatic is set if a lost primary is replaced without a person.
	Automatic bool
	// Failures is how many probes in a row must fail before the primary is suspect.
	Failures int
	// Silence is the age from which a report or a heartbeat counts as missing.
	Silence time.Duration
	// Deadline is how long a change of primary may take before it is given up.
	Deadline time.Duration
	// Quiet is how long a server that was failed over from is not failed over from again.
	Quiet time.Duration
	// MinReplicas must answer for one of them to be promoted.
	MinReplicas int
	// Lossless has writes wait for as long as no replica acknowledges them; else
	// they wait for AvailableAfter and then go on without.
	Lossless       bool
	AvailableAfter time.Duration
	// CaughtUp is how far behind a replica may be that begins to serve.
	CaughtUp time.Duration
	// Ramp is how long a replica that begins to serve takes to its full share.
	Ramp time.Duration
	// Broken is how long a replica may stand still with an error before it is copied
	// anew.
	Broken time.Duration
	// Drain is how long open transactions may take to end in a handover.
	Drain time.Duration
	// Begin is what a cluster that has no data begins with; nil for an empty server.
	Begin *cluster.Restore
}

// DefaultPolicy is what applies where the farm file says nothing.
func DefaultPolicy() Policy {
	return Policy{
		Automatic: true, Failures: 3, Silence: 2500 * time.Millisecond, Deadline: 30 * time.Second, Quiet: 15 * time.Minute, MinReplicas: 1,
		AvailableAfter: 30 * time.Second, CaughtUp: time.Second, Ramp: 20 * time.Second, Broken: 30 * time.Second, Drain: 2 * time.Second,
	}
}

// View is what was seen of a cluster. Nothing in it is changed.
type View struct {
	// Term is that of the leader who asks.
	Term int64
	// Assignment is the newest; nil if there has never been one.
	Assignment *cluster.Assignment
	// Servers are the instances that the provider has, by name.
	Servers map[string]Seen
	// Probe is what the leader itself saw of the server that leads.
	Probe Probe
	// Webs are the web nodes that report.
	Webs []Web
	// Paused keeps what is not under way from being begun.
	Paused bool
	// Request is what a person asks for; nil for nothing.
	Request *Request
	// Stored is a backup that data can be made of instead of copying a server; nil for
	// none.
	Stored *Stored
}

// Stored is a backup and an archive that go on to just now, without a gap.
type Stored struct {
	Restore cluster.Restore // for who makes its data of it
	// Data is how much data the backup has, Bytes how much of the store is read for it and
	// for what the archive has since.
	Data, Bytes int64
}

// Seen is one server as it was seen.
type Seen struct {
	Address string
	// Report is the last one; nil if there was none.
	Report *cluster.Report
	// Age is how long ago the report arrived here; of one that was there before
	// we looked nobody knows, which is given as an hour or more.
	Age time.Duration
	// Member is set while the node's lease in the registry has not lapsed.
	Member bool
	// Leave is set for a server that is to go.
	Leave Leave
	// Inherits is set for one whose disk another server of the cluster had.
	Inherits bool
}

// Leave is how far a server is on its way out.
type Leave int

// The steps out.
const (
	Stay   Leave = iota
	Drain        // no new reads
	Retire       // shut down
)

// Probe is what the leader saw by asking the primary itself.
type Probe struct {
	// Failed is the number of probes in a row that got no answer at all. One that
	// was refused by the server, for want of connections, is an answer.
	Failed int
	// Why is the last failure.
	Why string
}

// Web is a web node: which assignment its proxy's topology is from.
type Web struct {
	Name   string
	Serial uint64
	Age    time.Duration
}

// Request is what a person asks for.
type Request struct {
	Kind Kind
	// To is the server that shall take the writes; empty for the best one.
	To string
	// Force cuts open transactions off in a switchover.
	Force bool
	// AllowLoss promotes though something that was acknowledged may be lost.
	AllowLoss bool
	// Restore is what the cluster is taken back to.
	Restore *cluster.Restore
}

// Kind is the kind of a request.
type Kind string

// The kinds of requests.
const (
	Switchover Kind = "switchover"
	Failover   Kind = "failover"
	Ack        Kind = "ack"     // forget which servers have failed as primaries
	Adopt      Kind = "adopt"   // begin the cluster with the data of the server To
	Restore    Kind = "restore" // have the whole cluster's data made of a backup
	Confirm    Kind = "confirm" // remove the data from before the last restore
)

// Step is what is to be done.
type Step struct {
	// Assignment is the next one; nil for no change.
	Assignment *cluster.Assignment
	// Minor says that all of the change is of a kind that comes often and is of no
	// interest by itself, such as a replica that gets more of the reads.
	Minor bool
	// Events are what becomes of it, for hooks and for the journal.
	Events []farm.Event
	// Reasons say what was seen and why nothing more is done, for people.
	Reasons []string
	// Answer is how the request stands; empty if there is none.
	Answer Answer
}

// Answer is how a request stands.
type Answer struct {
	Done, Refused bool
	Text          string
}

// state is one call's working memory.
type state struct {
	View
	p    Policy
	now  time.Time
	step Step
}

func (s *state) because(format string, args ...any) {
	s.step.Reasons = append(s.step.Reasons, fmt.Sprintf(format, args...))
}

// next returns a copy of the assignment to be changed, and makes it the step's.
func (s *state) next(format string, args ...any) *cluster.Assignment {
	why := fmt.Sprintf(format, args...)
	s.because("%s", why)
	s.step.Minor = false
	if a := s.step.Assignment; a != nil {
		a.Why += "; " + why
		return a
	}
	a := s.Assignment.Clone()
	a.Serial++
	a.Term, a.Why = s.Term, why
	s.step.Assignment = a
	return a
}

// minor is next for a change that is [Step.Minor].
func (s *state) minor(format string, args ...any) *cluster.Assignment {
	only := s.step.Assignment == nil || s.step.Minor
	a := s.next(format, args...)
	s.step.Minor = only
	return a
}

func (s *state) phase(a *cluster.Assignment, p cluster.Phase) {
	a.Phase, a.Since = p, s.now.UTC()
}

func (s *state) event(kind farm.EventKind, server cluster.Server, role farm.Role, fields map[string]string) {
	s.step.Events = append(s.step.Events, farm.Event{Kind: kind, Time: s.now.UTC(), Host: farm.EventHost{Name: server.Name, Role: string(role), Address: server.Address}, Fields: fields})
}

// fresh returns the server's report if it is from just now.
func (s *state) fresh(name string) *cluster.Report {
	seen, ok := s.Servers[name]
	if !ok || seen.Report == nil || seen.Age > s.p.Silence {
		return nil
	}
	return seen.Report
}

// answered returns the fresh report of a server whose process answers.
func (s *state) answered(name string) *cluster.Report {
	if r := s.fresh(name); r != nil && r.Answers && r.Process == cluster.Running {
		return r
	}
	return nil
}

// done returns the report of a server that has carried out what the present
// assignment asks of it.
func (s *state) done(server cluster.Server) *cluster.Report {
	r := s.answered(server.Name)
	if r == nil || !r.Done || r.Task != server.Task || r.Epoch != s.Assignment.Epoch || r.Serial < s.Assignment.Serial {
		return nil
	}
	return r
}

// following returns the report of a replica that does follow as it is to.
func (s *state) following(server cluster.Server) *cluster.Report {
	r := s.answered(server.Name)
	if r == nil || server.Task != cluster.Follow || !r.Done || r.Task != cluster.Follow || r.Epoch != s.Assignment.Epoch || !whole(r) || r.Replication == nil {
		return nil
	}
	return r
}

// whole reports whether a server is known to differ from its source in nothing but
// how far it is.
func whole(r *cluster.Report) bool { return r.Errant == "" && r.Missing == "" }

// caughtUp reports whether a following replica is close enough to its primary.
func (s *state) caughtUp(r *cluster.Report) bool {
	return r != nil && r.Beat != nil && *r.Beat <= s.p.CaughtUp
}

// position is what a server has executed or at least received. A position that
// cannot be read is none.
func position(r *cluster.Report) (executed, all gtid.Position, err error) {
	if executed, err = gtid.Parse(r.Flavor, r.Executed); err != nil {
		return executed, executed, fmt.Errorf("executed position of %s: %w", r.Name, err)
	}
	received, err := gtid.Parse(r.Flavor, r.Received)
	if err != nil {
		return executed, executed, fmt.Errorf("received position of %s: %w", r.Name, err)
	}
	return executed, executed.Merge(received), nil
}

// edit changes one server of an assignment.
func edit(a *cluster.Assignment, name string, change func(*cluster.Server)) {
	if i := slices.IndexFunc(a.Servers, func(s cluster.Server) bool { return s.Name == name }); i >= 0 {
		change(&a.Servers[i])
	}
}
