// Package share makes a directory of one node the directory of others, by GlusterFS, and
// keeps it so while the one that has it is killed, or another takes its place.
//
//	application, FUSE, glusterfs (client) -> door == mutual TLS ==> gate -> glusterfsd (brick), disk
//
// Both of GlusterFS's processes are in the foreground, by a volfile of ours, and speak on
// unix sockets that only their own node can reach. What is between nodes is a door on the
// node that uses the directory and a gate on the one that has it, processes of this
// program, each with its node's certificate. There is no glusterd, and with it no state
// of its own that a node which takes another's place would have to be made to agree to.
//
// The door leads to whom the farm's membership names, as long as it does. Who has the disk is not decided
// here: package volume of the scaler gives it to one only.
package share
