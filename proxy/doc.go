// Proxy is Farmhand's MySQL proxy: it stands where PHP expects the database
// server, sends writes to the cluster's primary and reads to its replicas.
//
// The way of a command through its packages:
//
//	client -> frontend -> session -> classify -> route -> backend -> relay -> client
//
// See docs/ARCHITECTURE.md.
package main
