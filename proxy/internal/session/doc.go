// Package session is one client's state and the only place where it changes:
// it reads the client's commands, has them classified and routed, brings the
// chosen server connection to the session's state, relays, and learns from the
// answer what the state is now.
//
// What a session is in the middle of comes from the server: its status flags
// and its session tracking, not from parsing. Where the text of a statement is
// looked at, it is to know what the server does not report (SET NAMES'
// collation, user variables, temporary tables).
//
// A session's goroutine owns its state. Others see the snapshot in Info, and
// may ask for its end (Kill).
//
// Invariant: a connection runs a statement of the session only after every
// piece of session state that could change the answer is equal on it; a
// statement that may write is sent at most once.
package session
