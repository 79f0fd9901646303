// Package checker judges what clients of a farm saw: from a recorded history of
// operations it says which reads were too old for each level of consistency,
// which acknowledged writes are lost, which happened twice, and which answers no
// state of the database can explain.
//
// It knows no database and no proxy; it is handed operations with their times,
// and the final state of every server. Its own tests run workloads against real
// farms under faults.
//
// The checks are exact and not a search, because the workloads are made so that
// the order of an object's states is known: a register has one writer, which
// counts up; a list grows at its end under a row lock; the whole of the
// registers is read by one statement. So whatever is reported did happen. The
// converse holds only for what the workload provoked.
//
// Invariant: an operation of unknown outcome may have happened or not, and is
// never held against the farm.
package checker
