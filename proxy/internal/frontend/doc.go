// Package frontend is the side of the proxy that clients see, up to the point
// where a client is logged in: listening sockets and their hand-over to the
// next process, the PROXY protocol, TLS, limits and the handshake.
//
// It owns the listening sockets, and each accepted connection until its handler
// returns. It refuses to look at statements: what a logged-in client says is
// for package session.
//
// The invariant: a listening socket that works is never closed to make room for
// another. A successor gets the very sockets of its predecessor, so that there
// is no moment at which a connection would be refused, and what waits in a
// socket's queue is accepted by whoever is there.
package frontend
