// Command sidecar is a farm node's agent. It runs the node's role in the
// foreground, such as "mysql": it owns a data directory, starts the database
// server on it, makes it the primary or a follower of a given primary, reports
// its state and starts it again when it ends; or "web": it keeps the proxy
// running and writes the files that follow the farm's membership. Beside that it
// runs the operator's hooks when something happens to a host.
// It also makes the machine a node of a farm ("join") and holds its membership
// ("member").
package main
