// Package steer owns the choice of what each server of a database cluster does:
// who takes the writes, who follows whom, who is copied anew, and what the proxies are
// told. Next makes of what was seen (View), what the farm file says (Policy) and
// the time the next cluster.Assignment.
//
// It has no clock, network, file or logger, and remembers nothing: all that a
// change of primary has come to stands in the assignment and the reports, so that
// another scaler can go on with it in the middle.
//
// Invariants, whatever the view:
//   - The epoch never falls, and rises with every change of primary.
//   - In an epoch at most one server is ever told to lead.
//   - A server is promoted only when every server that may have acknowledged a commit
//     on its own has stopped receiving and said how far it is, and it has
//     executed all that any of them had received; unless a person allowed a loss.
//     So the server that is deposed can get no acknowledgement any more, and none that it
//     got is lost.
//   - Nobody is promoted on one observer's word.
//
// docs/FAILOVER.md explains it to people.
package steer
