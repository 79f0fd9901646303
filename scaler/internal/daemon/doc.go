// Package daemon is the scaler that runs: it serves the control node's registry,
// and while it leads it observes the farm, has the decisions made and carries them
// out.
//
//	observe (world.go, probe.go, measure.go) -> decide (steer, roles) -> act (cluster.go, launch.go, leave.go)
//
// It makes no decision of its own: what a database's servers do chooses package
// steer; what each server counts as, how many there are and which go, package roles,
// by package decide (sizes.go); what an operator asks is put before them (requests.go).
//
// Invariants:
//   - Only in its term does a leader do anything, and every step of it says so to
//     the registry: assignments and notes are written under the term, and what
//     cannot be taken back is journaled under the term before it is done.
//   - While the registry cannot be reached, nothing is decided.
//   - What must outlast a leader stands in the registry, in the assignment and in the
//     records of memory.go, or with the provider; not in a leader's memory.
package daemon
