//go:build !linux

package rawio

import "net"

// Wrap returns conn.
func Wrap(conn net.Conn) net.Conn { return conn }

// Listen returns l.
func Listen(l net.Listener) (net.Listener, error) { return l, nil }
