//go:build linux

package rawio

import "testing"

// AllowRings has pollers that are made from now on send together, or not, until the
// test ends. There must be no sockets yet.
func AllowRings(t *testing.T, allowed bool) {
	ringsAllowed = allowed
	t.Cleanup(func() {
		ringsAllowed = true
		alone.Store(nil)
	})
}

// Lastly is for what the poller calls.
var Lastly = lastly

// HasRing tells whether the poller sends together. It is for what the poller calls.
func HasRing() bool {
	watched.Lock()
	defer watched.Unlock()
	return watched.p.together.submissions != nil
}
