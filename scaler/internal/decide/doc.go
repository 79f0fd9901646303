// Package decide owns the choice of how many servers a role has: [Decide] makes
// of what was observed ([Picture]), what the farm file says ([Policy]) and the
// time a [Decision]: what to launch, what to terminate, and why.
//
// It refuses to have a clock, a network, a file or a logger, and remembers
// nothing: the daemon, a dry run and a simulation get the same answer to the same
// question. It does not say who is primary, and it does not repair a server.
//
// Invariants, whatever the picture: nothing is launched beyond the most that the
// policy allows, nor terminated below the least; nothing is terminated while a
// metric is unknown, nor is the primary, the last replica, a backup's source or a
// server that is not well. More load never gives fewer servers, and a load that
// stays leads to a number that stays.
//
// How it decides, for people: docs/SCALING.md.
package decide
