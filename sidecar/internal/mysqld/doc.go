// Package mysqld makes the node's database server do what its cluster's
// assignment says of it, and reports how far it is.
//
// It owns the server's directory and process. It decides nothing about the
// cluster: who leads, who follows whom and what proxies are told stands in the
// assignment (package cluster), which it watches. It acts on its own in one case
// only: a primary that may have been replaced, because its lease has lapsed and
// nobody acknowledges its commits, is killed (selffence.go).
//
// How it works: the loop (loop.go) looks at the picture (picture.go), which says
// what is wanted and what there is, has next (next.go) name the one thing to be
// done, does it, and looks again. A new order ends what contradicts it. Beside the
// loop, one goroutine each watches the assignment, reports (report.go), writes the
// heartbeat of a primary (heartbeat.go), compares a follower's history with its
// source's (errant.go) and looks after the lease (selffence.go).
//
// Invariants:
//   - The server is made writable in one place, last, after the assignment was read
//     again and said so, and while the lease holds (lead.go).
//   - Both replication threads are never stopped while something that was received
//     is not applied, if it can still be applied: MariaDB would throw it away.
//   - The server's process outlives this one, and the next run adopts it.
//   - What is reported as done was done before the facts beside it were asked for.
package mysqld
