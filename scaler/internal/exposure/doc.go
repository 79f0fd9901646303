// Package exposure looks at what of a farm others can get at on this machine: the
// sockets on which its processes listen, the files with its keys and passwords, and
// certificates that should have been renewed.
//
// It refuses to change anything and to know which address is right: who asks says
// which are meant to be reached.
//
// Invariant: what cannot be looked at is an error, never fine.
package exposure
