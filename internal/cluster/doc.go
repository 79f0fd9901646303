// Package cluster is what the scaler that leads and the database servers of one
// cluster say to each other: the Assignment, which says what each server is to
// do, and the Report, in which a server's sidecar says how far it is.
//
// The assignment is one record in the registry, written under the leader's term;
// every change of it has a new serial, every change of primary a new epoch. A
// sidecar carries out the newest that it knows, and nothing of an older epoch.
// There are no commands beside it: whoever leads next finds in it, and in the
// reports, how far a failover has come, and goes on from there.
//
// It imports the standard library and the farm's vocabulary only, does no I/O
// and decides nothing.
package cluster
