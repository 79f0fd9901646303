package cluster

import (
	"errors"
	"fmt"
	"time"

	"farmhand/internal/farm"
)

// BackupsRecord is the name of the plan of backups among a cluster's records in the
// registry, BackupReportName that of the report about it among what a node reports.
const (
	BackupsRecord    = "backups"
	BackupReportName = "backup"
)

// BackupPlan is what a cluster's servers are to do about its backups. It has no
// credentials: nodes find those of the store by themselves. Values are shared and
// not changed after they were made.
type BackupPlan struct {
	// Term is the leader's that wrote it; Serial rises with every change.
	Term   int64  `json:"term"`
	Serial uint64 `json:"serial"`
	// Store is where backups are, as objects.ParseURL reads it.
	Store string `json:"store"`
	// EncryptTo are age public keys that all is encrypted to; none: it is not.
	EncryptTo []string `json:"encrypt_to,omitempty"`
	// Throttle is how much of a server's data a full backup reads in a second, in
	// bytes; 0 for no bound.
	Throttle int64 `json:"throttle,omitempty"`
	// Every is how long a transaction waits at most for its segment, Size the bytes
	// after which one ends before.
	Every time.Duration `json:"archive_every"`
	Size  int64         `json:"archive_size"`

	// Archive is who archives its binlog; nil for nobody.
	Archive *ArchiveTask `json:"archive,omitempty"`
	// Full is the full backup that is wanted now, Drill the restore drill; nil for none.
	Full  *FullTask  `json:"full,omitempty"`
	Drill *DrillTask `json:"drill,omitempty"`
}

// ArchiveTask says which server's binlog is archived: that of the one which leads.
type ArchiveTask struct {
	Node  string     `json:"node"`
	Epoch farm.Epoch `json:"epoch"`
}

// FullTask is a full backup that is wanted. Its ID is the backup's; each attempt has
// another.
type FullTask struct {
	ID    string    `json:"id"`
	Node  string    `json:"node"`
	Since time.Time `json:"since"`
	Why   string    `json:"why"`
	// Logical has it be statements instead of the server's files.
	Logical bool `json:"logical,omitempty"`
}

// DrillTask is a restore drill that is wanted. Each attempt has another ID.
type DrillTask struct {
	ID    string    `json:"id"`
	Node  string    `json:"node"`
	Since time.Time `json:"since"`
	// IdentityFile is the path, on that node, of the age secret keys that the backups
	// can be read with; empty if they are not encrypted.
	IdentityFile string `json:"identity_file,omitempty"`
}

// Check says what is wrong with the plan.
func (p *BackupPlan) Check() error {
	var errs []error
	if p.Serial == 0 {
		errs = append(errs, errors.New("the serial is missing"))
	}
	if p.Store == "" {
		errs = append(errs, errors.New("the store is missing"))
	}
	if p.Every <= 0 || p.Size <= 0 || p.Throttle < 0 {
		errs = append(errs, fmt.Errorf("archive every %v or %d bytes, throttle %d", p.Every, p.Size, p.Throttle))
	}
	if a := p.Archive; a != nil && (farm.CheckName(a.Node) != nil || a.Epoch == 0) {
		errs = append(errs, fmt.Errorf("%q is to archive in epoch %d", a.Node, a.Epoch))
	}
	if f := p.Full; f != nil && (farm.CheckName(f.Node) != nil || f.ID == "") {
		errs = append(errs, fmt.Errorf("%q is to take the full backup %q", f.Node, f.ID))
	}
	if d := p.Drill; d != nil && (farm.CheckName(d.Node) != nil || d.ID == "") {
		errs = append(errs, fmt.Errorf("%q is to drill %q", d.Node, d.ID))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("plan of backups: %w", err)
	}
	return nil
}

// Encode returns the record's value. A wrong plan is an error.
func (p *BackupPlan) Encode() ([]byte, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	return encoded(p, "a plan of backups")
}

// DecodeBackupPlan reads the record's value; nil for no record is nil.
func DecodeBackupPlan(data []byte) (*BackupPlan, error) {
	if data == nil {
		return nil, nil
	}
	p, err := decoded[BackupPlan](data, "a plan of backups")
	if err != nil {
		return nil, err
	}
	if err := p.Check(); err != nil {
		return nil, err
	}
	return p, nil
}

// BackupReport is what a database server's sidecar says of backups, every second
// while it has to do with them and at every change.
type BackupReport struct {
	Name string    `json:"name"`
	Time time.Time `json:"time"` // by the node's clock
	// Serial is that of the plan that it goes by.
	Serial  uint64         `json:"serial"`
	Archive *ArchiveReport `json:"archive,omitempty"`
	// Full and Drill are the last of each that it was asked for.
	Full  *FullReport  `json:"full,omitempty"`
	Drill *DrillReport `json:"drill,omitempty"`
}

// ArchiveReport is how far a server's archive is. Where there is none the server
// archives nothing.
type ArchiveReport struct {
	Epoch farm.Epoch `json:"epoch"`
	// Position is the GTID position up to which all is stored.
	Position string `json:"position"`
	// Unstored is the age, at Time, of the oldest commit that may not be stored; nil is
	// unknown, as before the archiver has caught up with what it may have missed.
	Unstored *time.Duration `json:"unstored,omitempty"`
	// Bytes and Segments count what this archiver has stored.
	Bytes    int64 `json:"bytes"`
	Segments int64 `json:"segments"`
	// Lost says that the server could not give what came after the archive's position:
	// there is a gap.
	Lost string `json:"lost,omitempty"`
	// Error is why it does not go on at the moment.
	Error string `json:"error,omitempty"`
}

// WorkState is how a task stands.
type WorkState string

// The states of a task.
const (
	Working WorkState = "running"
	Done    WorkState = "done"
	Failed  WorkState = "failed"
)

// FullReport is how a full backup stands.
type FullReport struct {
	ID    string    `json:"id"`
	State WorkState `json:"state"`
	// Bytes have been read of the server's data, about Total are to be.
	Bytes    int64     `json:"bytes"`
	Total    int64     `json:"total"`
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended,omitzero"`
	Position string    `json:"position,omitempty"` // of one that is done
	Stored   int64     `json:"stored,omitempty"`   // bytes in the store, of one that is done
	Error    string    `json:"error,omitempty"`
}

// DrillReport is how a restore drill stands.
type DrillReport struct {
	ID    string    `json:"id"`
	State WorkState `json:"state"`
	Done  int64     `json:"done"` // bytes of Total
	Total int64     `json:"total"`
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended,omitzero"`
	// Backup is the full backup that was restored, Position how far the archive was
	// replayed on it, and Until when the last transaction of it was committed: what a
	// drill that is done has proven.
	Backup   string    `json:"backup,omitempty"`
	Position string    `json:"position,omitempty"`
	Until    time.Time `json:"until,omitzero"`
	// Differs is what was not as on the server that it was compared with.
	Differs string `json:"differs,omitempty"`
	Error   string `json:"error,omitempty"`
}

// Encode returns the report's value in the registry.
func (r *BackupReport) Encode() ([]byte, error) { return encoded(r, "a report about backups") }

// DecodeBackupReport reads a report's value.
func DecodeBackupReport(data []byte) (*BackupReport, error) {
	return decoded[BackupReport](data, "a report about backups")
}
