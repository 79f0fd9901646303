package cluster

import (
	"time"

	"farmhand/internal/farm"
)

// ReportName is the name of the report among what a node reports.
const ReportName = "mysql"

// Report is what a sidecar says of its database server, about twice a second and
// at every change. What it could not learn is left out, which is not zero.
type Report struct {
	Name    string      `json:"name"`
	Address string      `json:"address"` // host:port of the database server
	Flavor  farm.Flavor `json:"flavor"`
	Time    time.Time   `json:"time"` // by the node's clock, for people
	// CloneAt is host:port at which the sidecar gives its server's data to the one
	// that is to be cloned from it.
	CloneAt string `json:"clone_at,omitempty"`

	// Epoch and Serial are those of the assignment that the rest was seen under.
	Epoch  farm.Epoch `json:"epoch"`
	Serial uint64     `json:"serial"`
	Task   Task       `json:"task,omitempty"`
	// Done says that the task of that serial is carried out, as far as the rest of
	// the report shows it. (A clone is done when it follows.)
	Done bool `json:"done"`
	// Detail says what is being done, or why it cannot be.
	Detail string `json:"detail,omitempty"`

	Process Process `json:"process"`
	PID     int     `json:"pid,omitempty"`
	// Empty says that there is no data yet.
	Empty bool `json:"empty,omitempty"`
	// Broken is how a server on the data ends each time that it is started, though one on
	// empty data can be; empty where that is not known.
	Broken string `json:"broken,omitempty"`
	// Answers says that the server answered the sidecar's questions just now; the
	// rest is from its last answer.
	Answers bool `json:"answers"`

	// Writable says that the server takes writes.
	Writable bool `json:"writable"`
	// Executed and Received are GTID positions: what was executed, and what the
	// receiver has got, applied or not.
	Executed string `json:"executed,omitempty"`
	Received string `json:"received,omitempty"`
	// Intact says that the server has lost nothing of what it has acknowledged: since
	// its process began it has reached its source, or it led. A replica that has
	// been killed throws away what it had received and not applied.
	Intact bool `json:"intact"`
	// Errant are the transactions that the server has and its source has not, as a
	// GTID position or set; empty for none.
	Errant string `json:"errant,omitempty"`
	// Missing are transactions that the server lacks though its position says that it
	// has executed them, as GTIDs of which each is the last one that is lacking of those
	// of its server, or as a set; empty for none. They never come by themselves.
	Missing string `json:"missing,omitempty"`

	Replication *Replication `json:"replication,omitempty"`

	// ReceivedAge is for how long the receiver has got nothing new, while it was connected and
	// looked at; the primary's heartbeat alone gives it something twice a second. Nil is unknown.
	ReceivedAge *time.Duration `json:"received_age,omitempty"`
	// Beat is the age of the newest heartbeat that can be read on the server: on a
	// replica how far it is behind, or for how long its primary has not been able to
	// commit. Nil is unknown.
	Beat *time.Duration `json:"beat,omitempty"`
	// Stalled is, on a primary, for how long its own heartbeat has been waiting to
	// be committed; zero if it is not.
	Stalled time.Duration `json:"stalled,omitempty"`
	// Open is the number of transactions that have begun and whose client does nothing just
	// now: they end when it goes on.
	Open int `json:"open"`
	// SemiSync says that commits wait for an acknowledgement now.
	SemiSync bool `json:"semi_sync"`
	// Receivers are the server ids of the replicas that are connected to receive.
	Receivers []uint32 `json:"receivers,omitempty"`
	// Lease says that the node's lease in the registry had not lapsed.
	Lease bool `json:"lease"`

	// Restored is the ID of the last restore that was done here. RestoreError is why one
	// that is wanted cannot be done, if trying again is of no use.
	Restored     string `json:"restored,omitempty"`
	RestoreError string `json:"restore_error,omitempty"`
	// Aside is where data from before a restore is kept; empty for none.
	Aside string `json:"aside,omitempty"`
	// Copied is how the data that the server has was copied last; nil if it was not, or
	// nobody remembers.
	Copied *Copied `json:"copied,omitempty"`

	// Load is what the server has to do, by the name of the measurement; what is not
	// there is not known.
	Load map[string]float64 `json:"load,omitempty"`
}

// Replication is how a server follows.
type Replication struct {
	Source   string `json:"source"`   // host:port
	Receiver string `json:"receiver"` // Yes, No, Connecting
	Applier  string `json:"applier"`  // Yes, No
	// ReceiverError and ApplierError are why one of them has stopped.
	ReceiverError string `json:"receiver_error,omitempty"`
	ApplierError  string `json:"applier_error,omitempty"`
	// Acknowledges says that what is received is acknowledged.
	Acknowledges bool `json:"acknowledges"`
}

// Copied is a copy of a server's data that was made.
type Copied struct {
	Stored bool          `json:"stored"` // of a backup; else of a server
	Bytes  int64         `json:"bytes"`  // that came in
	Took   time.Duration `json:"took"`
}

// Process is what the server's process does.
type Process string

// The states of the process.
const (
	Absent   Process = "absent"   // it was not started, or was stopped because it is not to run
	Starting Process = "starting" // it does not answer yet
	Running  Process = "running"
	Crashed  Process = "crashed" // it ended unasked, and has not been started again
	Copying  Process = "copying" // its data is being made or copied
)

// Encode returns the report's value in the registry.
func (r *Report) Encode() ([]byte, error) {
	return encoded(r, "a report")
}

// DecodeReport reads a report's value.
func DecodeReport(data []byte) (*Report, error) {
	return decoded[Report](data, "a report")
}
