// Package backup takes a full backup of a running database server into an object
// store, and makes data of one that a server can run on. docs/BACKUPS.md describes
// both; the form of backups is internal/backup's.
//
// When backups are taken, which are kept, and which one is restored is for others.
// It stops no server of the node's. Nothing of the data is kept on this machine's
// disks while a backup is taken, and no more of it in memory than some parts.
//
// Invariants: only a backup counts whose program said that it is whole and whose
// position was found inside of it; a restore leaves a server's old data alone until
// Swap; restored data has been run on, and is precisely that of the manifest's
// position.
package backup
