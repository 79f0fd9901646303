package cron

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"farmhand/scaler/internal/schedule"
)

var start = time.Date(2026, 11, 28, 17, 0, 30, 0, time.UTC)

func job(text string, j Job) Job {
	s, err := schedule.Parse(text)
	if err != nil {
		panic(err)
	}
	j.Name, j.Schedule = "report", s
	return j
}

// begun is the state of a job at the start.
func begun(t *testing.T, j Job) State {
	s, send, notes := Next(j, State{}, start)
	if send != nil || notes != nil || !s.Last.Equal(start) {
		t.Fatalf("a new job: %+v, sends %+v, says %q", s, send, notes)
	}
	return s
}

// through settles all that is due now, and returns the ticks.
func through(t *testing.T, j Job, s State, now time.Time) (State, string, []string) {
	var ticks, notes []string
	for range 100 {
		next, send, said := Next(j, s, now)
		notes, s = append(notes, said...), next
		if send == nil {
			return s, strings.Join(ticks, " "), notes
		}
		ticks = append(ticks, send.Tick.Format("15:04"))
		s = s.Settled(true, "sent", now)
	}
	t.Fatal("it never ends")
	return s, "", nil
}

func TestCatchUp(t *testing.T) {
	for _, c := range []struct {
		policy CatchUp
		limit  int
		after  time.Duration // that nobody looked
		ticks  string
		says   string
	}{
		{None, 0, 20 * time.Second, "", ""},
		{None, 0, 10*time.Minute - 30*time.Second, "17:10", ""},
		{None, 0, 11*time.Minute - 30*time.Second, "17:10", ""}, // not late
		{None, 0, 11 * time.Minute, "", "1 ticks"},
		{None, 0, 30 * time.Minute, "17:30", "2 ticks"},
		{One, 0, 37 * time.Minute, "17:30", "2 ticks"},
		{All, 2, 37 * time.Minute, "17:20 17:30", "1 ticks"},
		{All, 9, 37 * time.Minute, "17:10 17:20 17:30", ""},
		{One, 0, 20 * 365 * 24 * time.Hour, start.Add(20 * 365 * 24 * time.Hour).Format("15:04"), "100000 ticks"},
	} {
		j := job("*/10 * * * *", Job{CatchUp: c.policy, Limit: c.limit})
		s, ticks, notes := through(t, j, begun(t, j), start.Add(c.after))
		if ticks != c.ticks || c.says == "" && len(notes) > 0 || c.says != "" && !strings.Contains(strings.Join(notes, ""), c.says) {
			t.Errorf("%s, %d, after %v: ticks %q, want %q; says %q", c.policy, c.limit, c.after, ticks, c.ticks, notes)
		}
		if _, again, _ := through(t, j, s, start.Add(c.after)); again != "" {
			t.Errorf("%s, after %v: %s once more", c.policy, c.after, again)
		}
	}
}

// TestClocksThatAreSet: what was sent does not come again when the clock is set back, and
// a schedule that is another one begins anew.
func TestClocksThatAreSet(t *testing.T) {
	j := job("*/10 * * * *", Job{CatchUp: All, Limit: 10})
	s, ticks, _ := through(t, j, begun(t, j), start.Add(21*time.Minute))
	if ticks != "17:10 17:20" {
		t.Fatal(ticks)
	}
	s, ticks, _ = through(t, j, s, start.Add(-2*time.Hour))
	if ticks != "" {
		t.Errorf("set back: %s", ticks)
	}
	if up := j.Upcoming(s, start.Add(-2*time.Hour)); up.Format("15:04") != "17:30" {
		t.Errorf("the next is at %v", up)
	}
	s, ticks, _ = through(t, j, s, start.Add(30*time.Minute))
	if ticks != "17:30" {
		t.Errorf("and on: %s", ticks)
	}
	other := job("*/7 * * * *", Job{CatchUp: All, Limit: 10})
	if _, ticks, notes := through(t, other, s, start.Add(59*time.Minute)); ticks != "" || len(notes) != 1 {
		t.Errorf("another schedule: %s, %q", ticks, notes)
	}
}

// TestTheHourThatComesTwice: a tick at the hour that comes twice is one tick; see package schedule.
func TestTheHourThatComesTwice(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]int{"30 2 * * *": 1, "*/30 * * * *": 10} {
		j := job(text, Job{CatchUp: All, Limit: 100, Zone: berlin})
		s, _, _ := Next(j, State{}, time.Date(2027, 10, 30, 22, 0, 0, 0, time.UTC)) // 0:00 there
		_, ticks, _ := through(t, j, s, time.Date(2027, 10, 31, 3, 0, 0, 0, time.UTC))
		if n := len(strings.Fields(ticks)); n != want {
			t.Errorf("%s: %d ticks, want %d: %s", text, n, want, ticks)
		}
	}
}

// TestRunNow: a person's message has no part in the ticks.
func TestRunNow(t *testing.T) {
	j := job("*/10 * * * *", Job{CatchUp: None, Unsure: Skip})
	s := begun(t, j)
	s.Run = "7"
	s, send, _ := Next(j, s, start.Add(time.Minute))
	if send == nil || send.Key != "report/run/7" {
		t.Fatalf("%+v", send)
	}
	s = s.Settled(true, "sent", start)
	if s.Run != "" || s.Ran != "7" || !s.Last.Equal(start) {
		t.Errorf("%+v", s)
	}
}

// TestWhatLeadersDo: leaders that end at any moment, and sends that are lost, refused or
// not answered. What is in the queue is what is promised.
func TestWhatLeadersDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		j := job("*/10 * * * *", Job{
			CatchUp: All, Limit: 1000, FIFO: rapid.Bool().Draw(t, "fifo"),
			Unsure: rapid.SampledFrom([]Unsure{Repeat, Skip}).Draw(t, "unsure"),
		})
		now := start
		kept, _, _ := Next(j, State{}, now)
		sent := map[string]int{}
		first := map[string]time.Time{}
		put := func(key string) {
			if at, ok := first[key]; ok && j.FIFO && now.Sub(at) < 5*time.Minute {
				return
			}
			sent[key]++
			first[key] = now
		}
		slow := false // somebody took longer than a FIFO queue remembers
		for range rapid.IntRange(5, 60).Draw(t, "rounds") {
			step := time.Duration(rapid.IntRange(1, 180).Draw(t, "seconds")) * time.Second
			if rapid.IntRange(0, 19).Draw(t, "long") == 0 {
				step = 6 * time.Minute
			}
			if now = now.Add(step); kept.Claim != nil && now.Sub(kept.Claim.At) >= Sure {
				slow = true
			}
			next, send, _ := Next(j, kept, now)
			if rapid.IntRange(0, 9).Draw(t, "ends before it is kept") == 0 {
				continue
			}
			kept = next
			if send == nil {
				continue
			}
			switch rapid.IntRange(0, 5).Draw(t, "what happens") {
			case 0: // it ends before it sends
			case 1: // or after, or hears nothing
				put(send.Key)
			case 2:
				kept = kept.Failed("refused")
			default:
				put(send.Key)
				kept = kept.Settled(true, "sent", now)
			}
		}
		for range 1000 {
			next, send, _ := Next(j, kept, now)
			if kept = next; send == nil {
				break
			}
			if kept.Claim != nil && now.Sub(kept.Claim.At) >= Sure {
				slow = true
			}
			put(send.Key)
			kept = kept.Settled(true, "sent", now)
		}
		for tick := start.Truncate(10 * time.Minute).Add(10 * time.Minute); !tick.After(now); tick = tick.Add(10 * time.Minute) {
			n, what := sent["report/"+tick.Format(time.RFC3339)], fmt.Sprintf("%v, fifo %v, unsure %s, slow %v", tick, j.FIFO, j.Unsure, slow)
			switch {
			case j.FIFO && !slow && n != 1:
				t.Errorf("%s: %d messages, want exactly one", what, n)
			case j.Unsure == Skip && n > 1:
				t.Errorf("%s: %d messages, want at most one", what, n)
			case j.Unsure == Repeat && n < 1:
				t.Errorf("%s: %d messages, want at least one", what, n)
			}
		}
	})
}
