// Package hook runs what the operator wants to be run when something happens to
// a host of the farm: the programs in hooks.d/EVENT/ and a webhook. docs/HOOKS.md
// describes them for people.
//
// It owns the node's state directory: the spool of events that are still to be
// delivered and the journal of what was. It does not decide what is an event,
// and gives no meaning to what a hook does: a hook that fails or hangs is
// journaled, and the next one runs.
//
// Invariant: an event that Put accepted stays in the spool until its hooks have
// run, however often the program is killed meanwhile (Attempts bounds that), and
// the events of one host begin in the order in which they were put.
package hook
