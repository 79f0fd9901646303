// Command sidecar is a farm node's agent. Today it runs the role "mysql" in
// the foreground: it owns a data directory, starts the database server on it,
// makes it the primary or a follower of a given primary, reports its state and
// starts it again when it ends. It also makes the machine a node of a farm
// ("join") and holds its membership ("member").
package main
