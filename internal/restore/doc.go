// Package restore makes data that a server can run on of what internal/backup
// describes. docs/BACKUPS.md tells of it.
//
// Which backup is restored, where, and what becomes of the data that was there before
// is for others. It stops no server of the node's.
//
// Invariants: a restore leaves a server's old data alone until Swap; restored data has
// been run on, and is precisely that of the position that is named. What cannot be so is
// refused, and the objects are named that are missing or altered.
package restore
