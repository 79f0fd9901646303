// Package differential holds the proxy against the server that it stands for:
// its tests make sessions at random, run each on a server directly and through
// the proxy, in front of a farm whose replicas lag, and compare every packet.
//
// It owns the generator of sessions, their comparison and the list of what may
// differ (allowed_test.go), each with its reason. It refuses to know how the
// proxy decides: a session is bytes in and bytes out. All of it is test code.
//
// Invariant: a session is a function of a seed and a number, so what failed
// can be run again, and is: a failure is reduced to the few commands that show
// it.
//
// FARMHAND_DIFFERENTIAL_SEED, FARMHAND_DIFFERENTIAL_STATEMENTS and
// FARMHAND_DIFFERENTIAL_SESSION choose the seed, the number of commands and one
// single session; FARMHAND_DIFFERENTIAL_TIME goes on for as long (make soak).
package differential
