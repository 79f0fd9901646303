package farmtest

import "testing"

// Long skips a test, or a part of one, in "make test", which is to end within a quarter of
// an hour on two processors; "make test-all" runs it.
func Long(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes long; make test-all runs it")
	}
}
