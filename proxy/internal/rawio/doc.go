// Package rawio makes reading from and writing to a socket cheap for a program
// with a goroutine a connection: on Linux a [Conn] and a [Socket] make their system
// calls without telling the scheduler, which they may because the descriptors never
// block. Elsewhere they are the plain connection.
//
// With plain connections every system call lets the scheduler start another
// thread and wake its monitor: at the rates of a proxy that costs more than
// the calls themselves.
//
// A Conn waits for Go's own poller when there is nothing to read or no room to
// write. A Socket, which a listener has accepted, has another, which tells of input
// when it comes and forgets nothing: so a read is tried only where there is
// something to read, and nobody need wait for it in a goroutine (Notify, Watch,
// Serve). It runs while there are such sockets. A Socket in which a goroutine waits most
// of the time is better off with Go's (Settle), and can come back (Unsettle).
//
// Invariant: what they return, they return as the connection underneath would: the
// same errors, deadlines and counts. An end that came is never lost, whoever reads
// when.
package rawio
