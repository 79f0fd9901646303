// Package metric owns the metrics of the farm file: what each kind is of what a
// role's nodes report ([Seen]), and the samples of the last while ([History]) in
// the form in which decide wants them. A metric of kind command is what an
// operator's program prints, and one of kind queue what its queue says ([Poll]).
//
// It refuses to decide and to have a clock. But for those two it does no I/O: it
// is given what was reported, and when that came.
//
// Invariants: a node that does not say its value, or said it too long ago, is
// counted as silent and never taken for one without load. What a node says is
// believed only if it is a number that can be: finite and not below zero. What is
// kept is bounded.
package metric
