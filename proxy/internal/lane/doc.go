// Package lane sends short reads of different sessions back to back on a few
// shared connections to a server, and hands the answers out in order. A server
// answers what has arrived together without waiting for the network between, so
// both it and the proxy make fewer system calls a statement.
//
// Nobody need wait for an answer: the poller that tells of it hands it out (Start).
// What is prepared is prepared by the lane, once for all its sessions.
//
// A lane gives a clean answer or none: an error, a warning, a change of the
// session, a long answer, one that is late or a connection that breaks all come
// out as "not answered", and the statement, which only reads, runs again on a
// connection of the session's own, as if there were no lanes.
//
// Who shares a lane has equal state: login, capabilities, schema and settings.
// Between statements a lane lends its connection to the pool as a session does,
// so nobody waits for a connection that only lies ready.
package lane
