// Package semantics holds the tests of what a read/write split must get right,
// one test or more for each line of that list, named after the line's number:
// TestSemantics02LockingReads is about line 2.
//
// It has tests only. Each says the same to a server directly and to a proxy in
// front of a farm of such servers, compares the packets of every answer, and
// looks into the servers' general logs for who served it. The scripts in the
// tests are read by (*pair).run.
//
// Invariant: a difference that a script allows is written in the script, and
// docs/COMPATIBILITY.md has its reason.
package semantics
