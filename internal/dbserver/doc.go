// Package dbserver runs one real MariaDB or MySQL server as a process of its own:
// finds the installed programs, initialises a data directory, starts the
// server on its own address, port and socket, waits until it answers, makes it
// follow another server, and stops it.
//
// It owns the server's directory and its process, from Start to the process's
// end. It does not decide which server is the primary, does not restart a
// server that died (its owner watches Done and does) and never touches a
// server that it did not start, except one that an earlier run of the same
// directory left behind.
//
// Invariant: at most one server process works on a directory. A process left
// by a crashed run is recognised by pid, start time and boot, and is adopted, or
// stopped before a new one starts.
package dbserver
