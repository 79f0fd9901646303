// Package control is the control node's registry: an embedded etcd server, or
// the way to an external one, and beside it the endpoint at which machines join
// the farm. It owns the directory in which both keep their keys and data.
//
// It decides nothing about the farm. Everything that it serves is on mutual TLS
// with the farm's own authority, except for the joining itself, where a token
// stands in for the certificate; and on loopback unless the configuration names
// other addresses.
package control
