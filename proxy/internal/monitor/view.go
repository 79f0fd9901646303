package monitor

import (
	"fmt"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
)

// Status is what the probes say about a server.
type Status uint8

// The statuses of a server.
const (
	Unknown Status = iota // not probed yet
	Up                    // answers
	Down                  // did not answer several times in a row, or refused the monitor's account
)

func (s Status) String() string {
	switch s {
	case Unknown:
		return "unknown"
	case Up:
		return "up"
	case Down:
		return "down"
	}
	return fmt.Sprintf("Status(%d)", uint8(s))
}

// View is what the monitor knows of the cluster at one moment. It and
// everything it points to is immutable.
type View struct {
	// Generation rises with every view published; see Monitor.Changed.
	Generation uint64
	// Joined rises when a replica begins to take reads, or its full share of them:
	// sessions that read from another one choose anew.
	Joined uint64
	// Epoch is the epoch of the topology that the view belongs to.
	Epoch farm.Epoch
	// Primary is nil while the topology names none.
	Primary *Server
	// Replicas are in the topology's order.
	Replicas []*Server
}

// Server returns the server of that name, or nil.
func (v *View) Server(name string) *Server {
	if v.Primary != nil && v.Primary.Name == name {
		return v.Primary
	}
	for _, s := range v.Replicas {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// Collations returns the collations of the primary or, while it was never
// reached, of a replica; nil if no server ever was.
func (v *View) Collations() *Collations {
	if v.Primary != nil && v.Primary.Collations != nil {
		return v.Primary.Collations
	}
	for _, s := range v.Replicas {
		if s.Collations != nil {
			return s.Collations
		}
	}
	return nil
}

// Server is what the monitor knows of one server. The facts of the last
// successful probe (greeting, flavor, position, variables …) stay while a
// server does not answer.
type Server struct {
	farm.Server           // name, address, weight and state as the topology has them
	Role        farm.Role // as the topology has it
	Status      Status
	Since       time.Time // when Status last changed
	// Reason says why the server serves nothing; empty if it serves. A primary
	// may be Writable and have a Reason that keeps reads from it, and the other
	// way round: read it where Eligible or Writable is false.
	Reason string
	// Silent: the last probe failed because nothing came in time. What is sent to
	// such a server gets no answer, nor an end.
	Silent bool
	// LastError is the text of the last failed probe or report, kept until the
	// next successful probe.
	LastError string

	// Eligible tells whether the server may take reads now, as far as its
	// health, its replication and its state in the topology go. Its lag is for
	// the caller to judge against the caller's limit.
	Eligible bool
	// Writable tells whether the server is the primary, answers and is not
	// read-only.
	Writable bool
	// ReadOnly is the server's own setting (read_only).
	ReadOnly bool

	// Lag is an upper bound, at the time Probed, of how old the server's data
	// are: everything that was committed on the primary by Probed − Lag is
	// there. It is 0 on the primary. See LagAt.
	Lag time.Duration
	// LagKnown is false while no bound can be given. Lag is then only what the
	// server says itself, for people; it may be far too small.
	LagKnown bool
	// Probed is when the last successful probe was answered.
	Probed time.Time
	// Position is what the server showed at Probed, at the least.
	Position gtid.Position
	// AheadOfXA: a wait for a position on this replica tells only what it shows
	// if no XA transaction is prepared there afterwards. Branches is how many
	// were at Probed. See mysqladmin.State.
	AheadOfXA bool
	Branches  int
	// EffectiveWeight is the weight with the slow start taken into account: at
	// least 1 on a server that is eligible, 0 on one that is not.
	EffectiveWeight int

	// Replication is the replication that the judgement rests on; nil if the
	// server replicates from nowhere.
	Replication *Replication

	Greeting      Greeting
	Flavor        farm.Flavor
	VersionNumber int // 101114 for 10.11.14, 90700 for 9.7.0; 0 unknown
	ServerID      uint32
	ServerUUID    string // MySQL only
	// Variables are global variables whose values new sessions start with, by
	// the name the server has for them, and facts that routing needs:
	// see the names in variables.go. Nil until they have been read once.
	Variables map[string]string
	// Processors is how many the server has, as far as it tells; 0 until it was asked.
	Processors int
	// DiskReads is how many pages a statement has had the server read from its disk of
	// late, on average; 0 where that is not known, as of MySQL.
	DiskReads float64
	// Collations are those that the server's version has; nil until known.
	Collations *Collations
}

// LagAt returns an upper bound of the age of the server's data at the time now,
// and whether there is one: the bound of the last probe and the time since.
func (s *Server) LagAt(now time.Time) (time.Duration, bool) {
	if !s.LagKnown || s.Role == farm.Primary {
		return s.Lag, s.LagKnown
	}
	return s.Lag + max(0, now.Sub(s.Probed)), true
}

// Replication is one replica's replication as its server describes it.
type Replication struct {
	Source     string // host:port
	Receiver   string // state of the thread that receives: Yes, No, Connecting …
	Applier    string // state of the thread that applies: Yes, No
	Following  bool   // it is this cluster's primary's
	Error      string // the receiver's or the applier's error, if any
	Delay      time.Duration
	SelfReport time.Duration // Seconds_Behind; negative if the server says NULL
}

// Greeting is what a server says to a client before it knows who that is; the
// proxy's own greeting is made from it.
type Greeting struct {
	Version      string // "10.11.14-MariaDB-0+deb12u2-log"; the 5.5.5- prefix is taken off
	Capabilities uint64 // CLIENT_* in the lower 32 bits, MariaDB's extended ones in the upper
	Collation    uint8  // default collation's id, its low byte
	AuthPlugin   string
}
