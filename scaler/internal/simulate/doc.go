// Package simulate owns the replay of a load trace through [decide.Decide] on
// servers that are only thought of: how many there would be, what they would cost
// against a fleet of a fixed size, and when they would be too few.
//
// It refuses to launch anything, to look at a clock and to guess: what it cannot
// know of a server (what it can do, what it costs) is an [Assumption] that
// somebody gave, and a metric that does not follow from the trace is left out and
// said to be.
//
// Invariant: the same trace, farm and assumptions give the same [Result].
//
// The format of a trace and the model of a server: docs/SCALING.md.
package simulate
