// Package topology owns the topology file: its format, what makes it valid, how
// it is replaced without a reader ever seeing half of it, and how a reader keeps
// up with it. docs/TOPOLOGY.md describes the file for people and
// docs/topology.schema.json for tools.
//
// It refuses to guess: a file is taken as a whole or not at all, and what was in
// force stays in force. It knows nothing of health, lag or connections.
//
// Invariant: within one [Watcher] the epoch of a cluster never falls, and one
// epoch never has two primaries.
package topology
