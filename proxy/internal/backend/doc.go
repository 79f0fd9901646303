// Package backend owns the proxy's connections to database servers: it dials
// them, logs in with a client's credential, keeps warm ones in a pool and
// cleans them before another session may have them.
//
// Invariant: a connection that the pool hands out carries nothing of an earlier
// session: it is new, or was reset by COM_RESET_CONNECTION since and answered.
// What is not known to be clean is closed.
package backend
