// Package pki is a farm's own certificate authority and what is signed by it:
// who may speak to whom inside the farm.
//
// A certificate's common name is its holder's name, and the registry lets each
// name do what its role allows; so the authority's key is the key to the farm.
// Keys are ECDSA P-256 and live in files of mode 0600 in directories of mode
// 0700. A key never leaves the machine that made it: nodes send a request to be
// signed.
//
// Invariants: a node's certificate can be used by a client only and carries no
// host name, so that it can neither pose as a server nor as a member of the
// registry's cluster; a renewed certificate keeps its key, so that renewal is
// one rename and a crash leaves a pair that fits.
package pki
