// Package farmchaos holds the proof that a whole farm looks after itself: tests that
// run the real programs, a network namespace for each node where the machine
// allows it, and clients behind a proxy who write and read without a pause, while
// processes are killed and frozen and links are cut.
//
// It has no code of its own besides tests. docs/GUARANTEES.md has what the last run
// showed.
package farmchaos
