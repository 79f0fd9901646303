package safekeep

import (
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
)

// View is what is known.
type View struct {
	Term       int64
	Assignment *cluster.Assignment
	Plan       *cluster.BackupPlan // as it stands; nil for none
	Servers    map[string]Server
	// Stock is what the store has; nil while that is not known, and then StockError may
	// say why.
	Stock      *Assessment
	StockError string
	// Paused: nothing new is begun.
	Paused bool
	// NewID is a name that no backup and no drill had before.
	NewID string
	// Request is what a person asks for; nil for nothing.
	Request *Request
}

// Server is one database server.
type Server struct {
	Database    *cluster.Report
	DatabaseAge time.Duration
	Backup      *cluster.BackupReport
	BackupAge   time.Duration
	Member      bool
	Leaving     bool
}

// Request is a full backup or a drill that a person wants now.
type Request struct {
	Drill bool
	// Logical has a backup be statements, whatever the policy says.
	Logical bool
	// Node is the server that is to do it; empty for the best.
	Node string
	// By names the operation.
	By string
}

// Memory is what one leader leaves to the next.
type Memory struct {
	Full  Work `json:"full"`
	Drill Work `json:"drill"`
	// Proven are the backups of which a restore has been proven, by their IDs.
	Proven map[string]Proof `json:"proven,omitempty"`
}

// Work is what is remembered of one kind of task.
type Work struct {
	// Last is the last attempt that succeeded, Failure the last that did not, if that
	// was later.
	Last    *Attempt `json:"last,omitempty"`
	Failure *Attempt `json:"failure,omitempty"`
	// Failures counts those since, NotBefore is when the next may begin.
	Failures  int       `json:"failures,omitempty"`
	NotBefore time.Time `json:"not_before,omitzero"`
	// Waits is since when there is no replica for it; zero if there is.
	Waits time.Time `json:"waits,omitzero"`
	// Failed is when servers failed last.
	Failed map[string]time.Time `json:"failed,omitempty"`
	// By is the operation that the present attempt, or the last, is for; empty for none.
	By string `json:"by,omitempty"`
}

// Attempt is one that has ended.
type Attempt struct {
	ID    string    `json:"id"`
	Node  string    `json:"node"`
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended"`
	Error string    `json:"error,omitempty"`
}

// Proof is that a restore worked.
type Proof struct {
	At time.Time `json:"at"` // of the drill's end
	// Position is how far it went, and Until when the last transaction of that was
	// committed.
	Position string    `json:"position"`
	Until    time.Time `json:"until,omitzero"`
	Node     string    `json:"node"`
}

// Step is what a round makes.
type Step struct {
	// Plan is the next one; nil if it stays as it is. Why is what changed, and Minor that
	// only the place of the archiver or the settings did.
	Plan  *cluster.BackupPlan
	Why   string
	Minor bool
	// Memory is to be remembered, together with the plan.
	Memory Memory
	// Events are what has happened and no node can have told.
	Events []farm.Event
	// Reasons are what was thought, for people.
	Reasons []string
	// Look says that the store has something new.
	Look bool
	// Answer is how the request stands.
	Answer Answer
}

// Answer is how a request stands.
type Answer struct {
	Done, Refused bool
	Text          string
}
