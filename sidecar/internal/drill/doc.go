// Package drill proves that a cluster can be restored: it restores the newest data
// that the store has into a scratch server on a replica's machine, and compares that
// with the replica at the same position. docs/BACKUPS.md describes it.
//
// When that is done, and what is made of its outcome, is for others.
package drill
