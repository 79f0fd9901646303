// Package backup takes a full backup of a running database server into an object
// store. docs/BACKUPS.md describes it; the form of backups is internal/backup's, and
// internal/restore makes data of them again.
//
// When backups are taken and which are kept is for others. It stops no server. Nothing
// of the data is kept on this machine's disks, and no more of it in memory than some
// parts.
//
// Invariant: only a backup counts whose program said that it is whole and whose
// position was found inside of it.
package backup
