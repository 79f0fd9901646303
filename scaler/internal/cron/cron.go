package cron

import (
	"fmt"
	"time"

	"farmhand/scaler/internal/schedule"
)

// CatchUp is what becomes of ticks that nobody was there for.
type CatchUp string

// The choices.
const (
	None CatchUp = "none" // they are left out
	One  CatchUp = "one"  // the newest is made up for
	All  CatchUp = "all"  // as many as Limit says, the newest ones, in their order
)

// Unsure is what becomes of a tick when nobody can know whether its message was sent.
type Unsure string

// The choices.
const (
	Repeat Unsure = "repeat" // it is sent, perhaps for the second time
	Skip   Unsure = "skip"   // it is not sent, perhaps never
)

// Job is what the farm file says.
type Job struct {
	Name     string
	Schedule schedule.Schedule
	Zone     *time.Location
	CatchUp  CatchUp
	Limit    int // of All
	Unsure   Unsure
	// FIFO says that the queue drops a message that it has had in the last five minutes.
	FIFO bool
}

const (
	// Grace is how late a tick may be and not count as missed.
	Grace = time.Minute
	// Sure is for how long after a tick was claimed a FIFO queue knows for sure that it
	// has its message already. SQS remembers for five minutes from the first message on;
	// what is left is for clocks that differ and for a send that takes long.
	Sure = 4 * time.Minute
	// pause is how long is waited after a send that failed; doubled with each.
	pause, longestPause = time.Second, time.Minute
)

// State is what is remembered of a job.
type State struct {
	// Spec is the schedule and zone that Last belongs to: with another one the job
	// begins anew.
	Spec string `json:"spec"`
	// Last is the last tick that was settled, or when the job began.
	Last time.Time `json:"last"`
	// Claim is the tick that is being sent; nil for none.
	Claim *Claim `json:"claim,omitempty"`
	// Run is the operation by which a person asks for one more message; empty for none.
	// It is claimed like a tick.
	Run string `json:"run,omitempty"`
	// Ran is the last such operation that was settled.
	Ran string `json:"ran,omitempty"`
	// Told is how the last one was settled, for people.
	Told string `json:"told,omitempty"`
	// Sent is the last tick whose message is in the queue, and SentAt when that was known.
	Sent   time.Time `json:"sent,omitzero"`
	SentAt time.Time `json:"sent_at,omitzero"`
}

// Claim is a message that is being sent.
type Claim struct {
	// Tick is the time that it is for; of a message that a person asks for, when it was
	// asked for.
	Tick time.Time `json:"tick"`
	// Key names it: a message with the same key is the same message.
	Key string    `json:"key"`
	At  time.Time `json:"at"` // when it was claimed first
	// Tried says that a send may have begun that is not known to have failed.
	Tried bool `json:"tried,omitempty"`
	// Doubt says so of a try before that.
	Doubt bool `json:"doubt,omitempty"`
	// Run says that a person asked for it.
	Run string `json:"run,omitempty"`
}

// Next is what is to be done about a job now: what is to be remembered, and the claim
// whose message is to be sent once that is written; nil for none. notes are for people.
// What is returned unchanged need not be written.
func Next(j Job, s State, now time.Time) (next State, send *Claim, notes []string) {
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	if spec := j.spec(); s.Spec != spec {
		// Of what was never a tick none can have been missed.
		if s.Spec != "" {
			note("cron %s goes by %s now", j.Name, spec)
		}
		s.Spec, s.Last = spec, now.Truncate(time.Second)
	}
	if s.Claim == nil {
		s.claim(j, now, note)
	}
	c := s.Claim
	if c == nil {
		return s, nil, notes
	}
	// The queue itself says so, if it is asked soon enough.
	known := !c.Tried || j.FIFO && now.Sub(c.At) < Sure && !now.Before(c.At)
	if !known && j.Unsure == Skip {
		note("cron %s: it is not known whether the message of %s was sent, and it is not sent again", j.Name, c.text(j))
		return s.Settled(false, "perhaps sent: nobody knows", now), nil, notes
	}
	if !known {
		note("cron %s: it is not known whether the message of %s was sent; it is sent again", j.Name, c.text(j))
	}
	claimed := *c
	if !c.Tried { // nothing was sent before
		claimed.At = now
	}
	claimed.Tried, claimed.Doubt = true, c.Tried
	s.Claim = &claimed
	return s, &claimed, notes
}

// claim takes the next tick that is due, if one is.
func (s *State) claim(j Job, now time.Time, note func(string, ...any)) {
	if s.Run != "" {
		s.Claim = &Claim{Tick: now, Key: j.Name + "/run/" + s.Run, At: now, Run: s.Run}
		return
	}
	var due []time.Time // the newest, as many as can be wanted
	keep, missed := 1, 0
	if j.CatchUp == All {
		keep = max(j.Limit, 1)
	}
	for t := j.Schedule.Next(s.Last, zoneOf(j)); !t.IsZero() && !t.After(now); t = j.Schedule.Next(t, zoneOf(j)) {
		if due = append(due, t); len(due) > keep {
			due = due[1:]
			missed++
		}
		if missed >= mostMissed { // after years without a scaler nobody counts
			due = []time.Time{now.Truncate(time.Minute)}
			break
		}
	}
	if len(due) == 0 {
		return
	}
	last := due[len(due)-1]
	late := now.Sub(last) > Grace
	switch {
	case j.CatchUp == All:
	case j.CatchUp == None && late:
		missed += len(due)
		due = nil
	default: // the newest is on time, or is the one that is made up for
		missed += len(due) - 1
		due = due[len(due)-1:]
	}
	if missed > 0 {
		note("cron %s: %d ticks until %s were missed and are left out", j.Name, missed, last.In(zoneOf(j)).Format(time.DateTime))
	}
	if due == nil {
		s.Last, s.Told = last, "missed, and left out"
		return
	}
	// The ticks before it are settled by that.
	s.Claim = &Claim{Tick: due[0], Key: j.Name + "/" + due[0].UTC().Format(time.RFC3339), At: now}
}

// mostMissed bounds how many missed ticks are looked through.
const mostMissed = 100_000

// Failed is the state after a send of which it is known that it sent nothing.
func (s State) Failed(why string) State {
	if s.Claim != nil {
		c := *s.Claim
		c.Tried = c.Doubt
		s.Claim = &c
	}
	s.Told = "not sent yet: " + why
	return s
}

// Settled is the state after a claim's end: its message is in the queue, or it is
// given up.
func (s State) Settled(sent bool, told string, now time.Time) State {
	c := s.Claim
	if c == nil {
		return s
	}
	s.Claim, s.Told = nil, told
	if sent {
		s.Sent, s.SentAt = c.Tick, now
	}
	if c.Run != "" {
		s.Run, s.Ran = "", c.Run
	} else {
		s.Last = c.Tick
	}
	return s
}

// Pause is how long to wait after so many sends in a row have failed.
func Pause(failures int) time.Duration {
	return min(pause<<min(max(failures-1, 0), 10), longestPause)
}

// Upcoming is the next tick after now, for people; zero for none.
func (j Job) Upcoming(s State, now time.Time) time.Time {
	from := now
	if s.Spec == j.spec() && s.Last.After(now) { // a clock was wrong: nothing comes twice
		from = s.Last
	}
	return j.Schedule.Next(from, zoneOf(j))
}

func (j Job) spec() string { return j.Schedule.String() + " " + zoneOf(j).String() }

func zoneOf(j Job) *time.Location {
	if j.Zone == nil {
		return time.UTC
	}
	return j.Zone
}

func (c *Claim) text(j Job) string {
	if c.Run != "" {
		return "operation " + c.Run
	}
	return c.Tick.In(zoneOf(j)).Format(time.DateTime)
}
