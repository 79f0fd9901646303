package schedule

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func parse(t interface{ Fatal(...any) }, text string) Schedule {
	s, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSchedules(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ schedule, last, next string }{
		{"6h", "2026-11-28T17:00:30Z", "2026-11-28T23:00:30Z"},
		{"30 3 * * *", "2026-11-28T02:29:00Z", "2026-11-28T02:30:00Z"}, // 3:30 in Berlin
		{"30 3 * * *", "2026-11-28T02:30:00Z", "2026-11-29T02:30:00Z"},
		{"0 0 1 * *", "2026-11-28T12:00:00Z", "2026-11-30T23:00:00Z"},
		{"0 4 * * sun", "2026-11-28T12:00:00Z", "2026-11-29T03:00:00Z"},
		{"0 4 * * 7", "2026-11-28T12:00:00Z", "2026-11-29T03:00:00Z"},
		{"0 4 13 * fri", "2026-11-28T12:00:00Z", "2026-12-04T03:00:00Z"}, // either
		{"*/20 9-10,22 * * mon-fri", "2026-11-27T09:41:00Z", "2026-11-27T21:00:00Z"},
		{"5/30 * * * *", "2026-11-27T09:06:00Z", "2026-11-27T09:35:00Z"},
		{"0 0 29 2 *", "2026-11-28T00:00:00Z", "2028-02-28T23:00:00Z"},
		// The clock is put forward from 2 to 3 on 28 March 2027, and back on 31 October.
		{"30 2 * * *", "2027-03-27T12:00:00Z", "2027-03-28T01:30:00Z"},
		{"30 2 * * *", "2027-03-28T01:30:00Z", "2027-03-29T00:30:00Z"},
		{"0 12 * * *", "2027-10-30T11:00:00Z", "2027-10-31T11:00:00Z"},
		// What comes twice counts once, unless the hour is *.
		{"30 2 * * *", "2027-10-30T12:00:00Z", "2027-10-31T00:30:00Z"},
		{"30 2 * * *", "2027-10-31T00:30:00Z", "2027-11-01T01:30:00Z"},
		{"*/30 2 * * *", "2027-10-31T00:30:00Z", "2027-11-01T01:00:00Z"},
		{"*/30 * * * *", "2027-10-31T00:30:00Z", "2027-10-31T01:00:00Z"},
		{"*/30 * * * *", "2027-10-31T01:00:00Z", "2027-10-31T01:30:00Z"},
		{"*/30 * * * *", "2027-10-31T01:30:00Z", "2027-10-31T02:00:00Z"},
		{"*/30 * * * *", "2027-03-28T00:30:00Z", "2027-03-28T01:00:00Z"},
		{"*/30 * * * *", "2027-03-28T01:00:00Z", "2027-03-28T01:30:00Z"},
	} {
		last, err := time.Parse(time.RFC3339, x.last)
		if err != nil {
			t.Fatal(err)
		}
		if got := parse(t, x.schedule).Next(last, berlin).UTC().Format(time.RFC3339); got != x.next {
			t.Errorf("%q after %s is %s; want %s", x.schedule, x.last, got, x.next)
		}
	}
	if s := parse(t, " "); !s.Never() || !s.Next(time.Now(), berlin).IsZero() {
		t.Errorf("no schedule is %+v", s)
	}
	for text, why := range map[string]string{
		"1s": "period", "10000h": "period", "soon": "period", "0 3 * *": "neither", "60 3 * * *": "minute", "0 24 * * *": "hour",
		"0 0 0 * *": "day of the month", "0 0 * foo *": "month", "0 0 * * 8": "week", "5-3 * * * *": "minute", "*/0 * * * *": "minute",
		"0 0 30 2 *": "never comes", ", * * * *": "minute",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v; want something about %q", text, err, why)
		}
	}
}

// TestTimesOfASchedule: each is after the one before, on a minute that the fields
// name, and none between was passed over.
func TestTimesOfASchedule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		minute := rapid.SampledFrom([]string{"*", "0", "*/7", "3,59"}).Draw(t, "minute")
		hour := rapid.SampledFrom([]string{"*", "5", "*/6", "20-23"}).Draw(t, "hour")
		s := parse(t, minute+" "+hour+" * * *")
		last := time.Unix(rapid.Int64Range(1.7e9, 1.9e9).Draw(t, "last"), 0).UTC()
		next := s.Next(last, time.UTC)
		if !next.After(last) || next.Second() != 0 {
			t.Fatalf("%v after %v", next, last)
		}
		fits := func(at time.Time) bool {
			return s.fields[0]>>at.Minute()&1 == 1 && s.fields[1]>>at.Hour()&1 == 1
		}
		if !fits(next) {
			t.Fatalf("%v is none of %s", next, s)
		}
		for at := last.Truncate(time.Minute).Add(time.Minute); at.Before(next); at = at.Add(time.Minute) {
			if fits(at) {
				t.Fatalf("%v was passed over between %v and %v", at, last, next)
			}
		}
	})
}

// TestByTheTimeThatPasses: with the hour *, nothing is left out nor doubled by a clock
// that is changed, in any zone.
func TestByTheTimeThatPasses(t *testing.T) {
	for _, name := range []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "UTC"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		s := parse(t, "*/15 * * * *")
		end := time.Date(2028, 1, 1, 0, 0, 0, 0, time.UTC)
		for at := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC); at.Before(end); {
			next := s.Next(at, zone)
			if next.Sub(at) != 15*time.Minute {
				t.Fatalf("%s: after %v comes %v", name, at, next)
			}
			at = next
		}
	}
}

// TestOnceADay: whatever the hour and the zone.
func TestOnceADay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		zone, err := time.LoadLocation(rapid.SampledFrom([]string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe"}).Draw(t, "zone"))
		if err != nil {
			t.Fatal(err)
		}
		s := parse(t, rapid.SampledFrom([]string{"0", "15", "30", "59"}).Draw(t, "minute")+" "+rapid.SampledFrom([]string{"0", "1", "2", "3", "23"}).Draw(t, "hour")+" * * *")
		at := time.Date(2027, 1, 1, 23, 59, 30, 0, zone)
		for day := 2; day <= 365; day++ {
			at = s.Next(at, zone)
			if want := time.Date(2027, 1, day, 12, 0, 0, 0, zone); at.Format(time.DateOnly) != want.Format(time.DateOnly) {
				t.Fatalf("%s on day %d is %v", s, day, at)
			}
		}
	})
}
