// Package schedule reads when something comes again, and says when that is. It has no
// clock.
package schedule

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// Schedule says when something comes again: so long after the last time, or at the
// times of five cron fields (minute, hour, day of the month, month, day of the
// week). The zero value is never.
type Schedule struct {
	text   string
	every  time.Duration
	fields [5]uint64 // of cron: bit n is the value n
	// Cron takes a day that either of the two fields about days names, unless one of
	// them is *.
	anyDay, anyWeekday bool
}

// The bounds of a period.
const (
	minEvery = time.Minute
	maxEvery = 366 * 24 * time.Hour
)

var cronFields = [5]struct {
	name      string
	low, high int
	names     []string // of the values from low on
}{
	{"minute", 0, 59, nil},
	{"hour", 0, 23, nil},
	{"day of the month", 1, 31, nil},
	{"month", 1, 12, []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}},
	{"day of the week", 0, 7, []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}},
}

// Parse reads a period such as 6h, or five cron fields such as
// "30 3 * * sun"; empty is never.
func Parse(text string) (Schedule, error) {
	s := Schedule{text: strings.Join(strings.Fields(text), " ")}
	switch words := strings.Fields(text); len(words) {
	case 0:
		return Schedule{}, nil
	case 1:
		every, err := time.ParseDuration(words[0])
		if err != nil || every < minEvery || every > maxEvery {
			return Schedule{}, fmt.Errorf("%q is not a period from %v to %v", text, minEvery, maxEvery)
		}
		s.every = every
		return s, nil
	case len(cronFields):
		for i, word := range words {
			set, err := cronField(i, word)
			if err != nil {
				return Schedule{}, fmt.Errorf("%q: %w", text, err)
			}
			s.fields[i] = set
		}
		s.fields[4] |= s.fields[4] >> 7 & 1 // 7 is Sunday, too
		s.anyDay, s.anyWeekday = words[2] == "*", words[4] == "*"
		if s.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), time.UTC).IsZero() {
			return Schedule{}, fmt.Errorf("%q is a day that never comes", text)
		}
		return s, nil
	}
	return Schedule{}, fmt.Errorf("%q is neither a period such as 24h nor five cron fields such as \"30 3 * * *\"", text)
}

// cronField reads one field: *, values, ranges and steps, parted by commas.
func cronField(i int, word string) (set uint64, err error) {
	f := cronFields[i]
	wrong := fmt.Errorf("%q is not possible as the %s; expected %d to %d, *, ranges such as 1-5 and steps such as */2", word, f.name, f.low, f.high)
	value := func(text string) (int, error) {
		for n, name := range f.names {
			if strings.EqualFold(text, name) {
				return f.low + n, nil
			}
		}
		n, err := strconv.ParseUint(text, 10, 8)
		if err != nil || int(n) < f.low || int(n) > f.high {
			return 0, wrong
		}
		return int(n), nil
	}
	for part := range strings.SplitSeq(word, ",") {
		span, stepText, stepped := strings.Cut(part, "/")
		step := 1
		if stepped {
			n, err := strconv.ParseUint(stepText, 10, 8)
			if err != nil || n == 0 {
				return 0, wrong
			}
			step = int(n)
		}
		low, high := f.low, f.high
		if span != "*" {
			first, last, isRange := strings.Cut(span, "-")
			if low, err = value(first); err != nil {
				return 0, err
			}
			if high = low; isRange {
				if high, err = value(last); err != nil {
					return 0, err
				}
			} else if stepped {
				high = f.high
			}
			if high < low {
				return 0, wrong
			}
		}
		for n := low; n <= high; n += step {
			set |= 1 << n
		}
	}
	if bits.OnesCount64(set) == 0 {
		return 0, errors.New("it names no time")
	}
	return set, nil
}

// Never reports whether it names no time.
func (s Schedule) Never() bool { return s.text == "" }

// String is the schedule as it is read.
func (s Schedule) String() string { return s.text }

// lookAhead is how far a time that matches is looked for: 29 February on a Monday
// comes every 28 years, but for 2100.
const lookAhead = 41

// Next returns the first time after last that the schedule names; zero if there is
// none.
//
// Where a clock is put forward, a time that is left out comes as much later; where it
// is put back, a time that comes twice counts once, the first time. With the hour *
// the schedule goes by the time that passes instead, and neither leaves an hour out
// nor doubles up at the change.
func (s Schedule) Next(last time.Time, zone *time.Location) time.Time {
	switch {
	case s.Never():
		return time.Time{}
	case s.every > 0:
		return last.Add(s.every)
	}
	local := last.In(zone)
	for day := 0; day < lookAhead*366; day++ {
		d := time.Date(local.Year(), local.Month(), local.Day()+day, 12, 0, 0, 0, zone)
		if !s.has(3, int(d.Month())) || !s.onDay(s.has(2, d.Day()), s.has(4, int(d.Weekday()))) {
			continue
		}
		if t := s.nextOn(d, last); !t.IsZero() {
			return t
		}
	}
	return time.Time{}
}

// everyHour is the hours of *.
const everyHour = 1<<24 - 1

// nextOn is the first time after last on the day of d; zero if there is none.
func (s Schedule) nextOn(d, last time.Time) (first time.Time) {
	take := func(t time.Time) {
		if t.After(last) && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	changes := offset(d.Add(-13*time.Hour)) != offset(d.Add(13*time.Hour))
	for hour := range 24 {
		if !s.has(1, hour) {
			continue
		}
		for minute := range 60 {
			if !s.has(0, minute) {
				continue
			}
			t := time.Date(d.Year(), d.Month(), d.Day(), hour, minute, 0, 0, d.Location())
			if !changes {
				if take(t); !first.IsZero() {
					return first // the others are later
				}
				continue
			}
			s.onChange(t, hour, minute, take)
		}
	}
	return first
}

// onChange takes the times that an hour and a minute mean on a day on which the clock
// is changed. t is what [time.Date] makes of them: one of two, if there are two, and
// of none, one as far off as the clock was put forward.
func (s Schedule) onChange(t time.Time, hour, minute int, take func(time.Time)) {
	means := func(t time.Time) bool { return t.Hour() == hour && t.Minute() == minute }
	if !means(t) {
		if s.fields[1] != everyHour {
			take(t)
		}
		return
	}
	var both []time.Time
	for _, step := range []time.Duration{-time.Hour, -30 * time.Minute, 0, 30 * time.Minute, time.Hour} {
		if other := t.Add(step); means(other) {
			both = append(both, other)
		}
	}
	if s.fields[1] != everyHour {
		both = both[:1]
	}
	for _, t := range both {
		take(t)
	}
}

// offset is how far a clock is from UTC, in seconds.
func offset(t time.Time) int { _, o := t.Zone(); return o }

func (s Schedule) has(field, value int) bool { return s.fields[field]>>value&1 == 1 }

func (s Schedule) onDay(day, weekday bool) bool {
	if s.anyDay || s.anyWeekday {
		return day && weekday
	}
	return day || weekday
}
