// Package roles owns what is known of each role's servers over time: from what the
// provider, the registry and the assignment show ([Inputs]) and what was known
// before ([State]), [Next] makes what each server is, lets package decide say how many
// there are to be, and says what to do: which instances to launch, which servers
// to lead out and how far they are, which instances to terminate.
//
// It has no clock, network, file or logger. What must outlast a leader is in State,
// which the caller keeps before it does what was said.
//
// Invariants:
//   - An instance is terminated only when its server was told to shut down, or is none
//     of the cluster's, and never while it is the primary or is becoming it.
//   - A server is told to shut down only after the proxies were told to let go of it,
//     unless it was lost.
//   - A name is given once.
//   - A server is given up only after it was looked at without a break for as long
//     as that takes: a leader that has just begun gives up nobody.
package roles
