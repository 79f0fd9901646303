package farmtest

import (
	"testing"
	"time"
)

// Eventually calls check until it returns nil; after a generous limit it fails
// the test with the last error. For what gives no event to wait for.
func Eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("it does not come about that %s: %v", what, err)
		}
	}
}
