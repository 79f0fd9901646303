// Package safekeep decides about a cluster's backups: when a full one is taken and
// by which server, who archives the binlog, when a restore is tried out, what is
// kept, and what would be lost now. docs/BACKUPS.md explains it.
//
// It is pure: what is in the store, what servers report, what was remembered and
// the time come in, and a plan, what to remember and what to tell come out. It
// lists no store and deletes nothing.
//
// Invariants: of full backups and drills one at a time is wanted; an attempt that
// failed is tried again, later each time, elsewhere if there is another server;
// nothing is let go that a kept backup needs, nor while it is not known what there
// is.
package safekeep
