package drill

import (
	"fmt"
	"strings"
	"time"

	"farmhand/internal/backup"
	"farmhand/internal/dbserver"
	"farmhand/internal/objects"
)

// Config is a drill.
type Config struct {
	Install dbserver.Install
	// Server is the replica on this machine that what is restored is compared with. It
	// runs, and goes on replicating.
	Server dbserver.Config
	// Scratch is a directory for the drill alone, which is made, and removed at the end.
	// It must have room for the cluster's data and some more.
	Scratch string

	Store   objects.Store
	Cluster string
	// Backup is the ID of the full backup that is proven; empty: the newest good one.
	Backup string
	// Identities are the keys that encrypted backups may be read with.
	Identities []backup.Identity

	// Progress is told how many bytes of the store have been read, of about how many;
	// may be nil. It must not block.
	Progress func(done, total int64)
}

// Proof is what a drill has proven: the backup and the archive make at Position
// precisely the data that the replica had there.
type Proof struct {
	Backup   string    // the full backup's ID
	Position string    // a GTID position
	Time     time.Time // when the last transaction of it was committed
	Tables   int       // that were compared
	Rows     int64     // in them
	// Passed names tables that could not be compared, and why.
	Passed []string
	// Restoring and Comparing are how long that took.
	Restoring, Comparing time.Duration
}

// Difference is a table in which what was restored is not what the replica has.
type Difference struct {
	Table string // schema.table
	// Restored and Replica say what each has: "12 rows, checksum 123", or "no such
	// table".
	Restored, Replica string

	moving bool // it may be one only because the table was altered while it was read
}

// DiffersError: a restore works, and its data is not the replica's. One of both is
// wrong.
type DiffersError struct {
	Backup, Position string
	Differences      []Difference
}

func (e *DiffersError) Error() string {
	var all []string
	for _, d := range e.Differences {
		all = append(all, fmt.Sprintf("%s: restored %s, the replica has %s", d.Table, d.Restored, d.Replica))
	}
	return fmt.Sprintf("backup %s, restored to %s, is not what the replica has: %s", e.Backup, e.Position, strings.Join(all, "; "))
}
