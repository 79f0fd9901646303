// Package backupagent has a database server's sidecar do what its cluster's plan of
// backups says (internal/cluster): archive the binlog while the server leads, take
// full backups, try restores out, and report. docs/BACKUPS.md describes it.
//
// It decides nothing, starts no server and has no part in who leads. What goes wrong
// here is reported and ends nothing else.
//
// Invariants: of full backups and drills one at a time is made, and none twice under
// one name, whatever dies in between; a binlog is archived only while both the
// assignment and the plan say that the server leads in one epoch; the archive goes on
// from what the store has, and where it cannot the report says so.
package backupagent
