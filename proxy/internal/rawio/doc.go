// Package rawio makes reading from and writing to a socket cheap for a program
// with a goroutine a connection: on Linux a [Conn] makes its system calls
// without telling the scheduler, which it may because the descriptors never
// block, and waits for the poller only when there is nothing to read or no room
// to write. Elsewhere it is the plain connection.
//
// With plain connections every system call lets the scheduler start another
// thread and wake its monitor: at the rates of a proxy that costs more than
// the calls themselves.
//
// Invariant: what a Conn returns, it returns as the connection underneath
// would: the same errors, deadlines and counts.
package rawio
