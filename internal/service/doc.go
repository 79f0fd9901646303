// Package service is the process shell that Farmhand's programs share:
// configuration files, secrets, logging, signals, the group of a program's
// goroutines, the admin endpoints and the conversation with systemd.
//
// It refuses to know what a program does: it reads no flags and no environment,
// holds nothing global and never exits; main passes in what it needs.
//
// Invariant: what it starts, it stops and waits for.
package service
