package safekeep

import (
	"time"

	"farmhand/internal/backup"
	"farmhand/scaler/internal/decide"
	"farmhand/scaler/internal/schedule"
)

// Policy is what is wanted of a cluster's backups.
type Policy struct {
	// Store is where they are, as objects.ParseURL reads it; empty for none at all.
	Store     string
	EncryptTo []string
	// Throttle is how much of a server's data a full backup reads in a second, in
	// bytes; 0 for no bound.
	Throttle int64
	// ArchiveEvery and ArchiveSize are when a piece of the binlog is stored.
	ArchiveEvery time.Duration
	ArchiveSize  int64

	// Full says when a full backup is taken. It begins only in one of Windows, if there
	// are any; the first one, and one after a gap in the archive, begin at once.
	Full    schedule.Schedule
	Windows []decide.Schedule
	Zone    *time.Location // of the schedules and windows; nil for UTC
	// FromPrimary allows a full backup of the primary while there is no replica that
	// can give one.
	FromPrimary bool
	// Logical has full backups be statements instead of a server's files.
	Logical bool
	// Alone says that there is to be no replica: then nobody waits for one.
	Alone bool

	// Retain says which full backups are kept. The archive is kept from the oldest of
	// them on or, if KeepArchive is not 0, from the newest of them that is older than
	// that.
	Retain      backup.Policy
	KeepArchive time.Duration

	// Drill says when a restore is tried out, IdentityFile where a node has the secret
	// keys for that; empty if backups are not encrypted.
	Drill        schedule.Schedule
	IdentityFile string
}

func (p *Policy) zone() *time.Location {
	if p.Zone == nil {
		return time.UTC
	}
	return p.Zone
}

// inWindow reports whether a scheduled full backup may begin.
func (p *Policy) inWindow(now time.Time) bool {
	for i := range p.Windows {
		if p.Windows[i].Active(now.In(p.zone())) {
			return true
		}
	}
	return len(p.Windows) == 0
}
