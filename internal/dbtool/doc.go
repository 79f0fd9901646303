// Package dbtool runs the programs that come with a database server, as that server's
// account: what they read and write goes through pipes, and who they come in as is in a
// file that nobody else can read.
//
// Invariants: a program dies with the call and with this process; no password is in a
// program's arguments.
package dbtool
