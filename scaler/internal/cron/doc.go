// Package cron decides when messages are put into queues by the farm file's schedules:
// which tick is due, whether one that was missed is made up for, and what is to be done
// about one of which it is not known whether its message was sent. docs/ROLES.md, cron,
// says what is promised.
//
// It is pure: what was remembered and the time come in, what to do and to remember
// comes out. Who carries it out writes what is to be remembered, under its term,
// before it sends.
//
// Invariants: the ticks of a job are settled in their order, each once, and none that
// is not later than the last one; one of which a send may have begun is never given up
// for another.
package cron
