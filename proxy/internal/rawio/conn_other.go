//go:build !linux

package rawio

import (
	"errors"
	"net"
)

// Wrap returns conn.
func Wrap(conn net.Conn) net.Conn { return conn }

// Adopt returns conn.
func Adopt(conn net.Conn) net.Conn { return conn }

// Listen returns l.
func Listen(l net.Listener) (net.Listener, error) { return l, nil }

// Serve accepts connections and gives them to take until there is an error.
func Serve(l net.Listener, take func(net.Conn)) error { return serve(l, take) }

// Watched is a connection that the poller watches.
type Watched struct{}

// Watch is not there.
func Watch(net.Conn, func(ended bool)) (*Watched, error) { return nil, errors.ErrUnsupported }

// Expect is not called.
func (*Watched) Expect(bool) {}

// End is not called.
func (*Watched) End() {}

// Soon calls f.
func Soon(f func()) { f() }

// Alone is nil: nothing is written soon.
func Alone() error { return nil }

// MakeWay does nothing.
func MakeWay() {}
