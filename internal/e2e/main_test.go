// Package e2e holds tests of applications in front of the proxy as a process of
// its own and real servers: unmodified WordPress, and PHP's two drivers.
//
// It sees what users see: the built program, its listeners and the servers' own
// counters and binlogs. Nothing of the proxy's inside is imported.
package e2e

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
