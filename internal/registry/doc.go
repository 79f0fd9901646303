// Package registry is the farm's shared state on etcd: who is a member, who
// leads, each cluster's epoch, and the journal of what happened and what was
// decided.
//
// It owns the layout of the keys (keys.go), who may write which (access.go) and
// every use of etcd's client: no other package of the programs talks to etcd. It
// decides nothing and runs no goroutine that outlives a call; what takes time
// (holding a membership, leading, watching) is a function that runs for that
// time.
//
// Invariants:
//   - An epoch only ever rises, and each value has one winner.
//   - What is written under a term is written only while that term lasts: the
//     condition stands in the same transaction as the write.
//   - A node can write nothing but what is below its own name.
//   - What is not known is said: a watch that lost the registry says so, and
//     begins again with a whole snapshot, also after a compaction.
package registry
