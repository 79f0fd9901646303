// Package farmtest gives tests real database servers and faulty networks: a
// primary with GTID replicas, each a child process on its own loopback
// address, and TCP links that can be cut, stalled, slowed and reset.
//
// It is imported by tests only. Nothing that it starts outlives the test that
// started it, not even when the test binary is killed. A test that asks for a
// server which the machine lacks is skipped with a message that names it.
package farmtest
