package backup_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"farmhand/internal/backup"
)

var now = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// kept are the ids of what is kept.
func kept(verdicts []backup.Verdict) map[string]bool {
	ids := map[string]bool{}
	for _, v := range verdicts {
		if v.Keep {
			ids[v.ID] = true
		}
	}
	return ids
}

func TestPolicies(t *testing.T) {
	// One a day at noon for 800 days; id N is N days old.
	var daily []backup.Candidate
	for age := range 800 {
		daily = append(daily, backup.Candidate{ID: fmt.Sprint(age), Ended: now.AddDate(0, 0, -age), Good: true})
	}
	for _, c := range []struct {
		name   string
		policy backup.Policy
		want   []int
	}{
		{"the last three", backup.Policy{Last: 3}, []int{0, 1, 2}},
		{"two days", backup.Policy{For: 48 * time.Hour}, []int{0, 1}},
		// 2026-11-28 is a Saturday; its week began on Monday, the 23rd.
		{"three weeks", backup.Policy{Weekly: 3}, []int{0, 6, 13}},
		{"three months", backup.Policy{Monthly: 3}, []int{0, 28, 59}},
		{"three years", backup.Policy{Yearly: 3}, []int{0, 332, 697}},
		{"grandfather, father and son", backup.Policy{Daily: 3, Weekly: 2, Monthly: 2}, []int{0, 1, 2, 6, 28}},
		{"hours without a backup do not count", backup.Policy{Hourly: 2}, []int{0, 1}},
	} {
		got := kept(c.policy.Decide(daily, now))
		want := map[string]bool{}
		for _, age := range c.want {
			want[fmt.Sprint(age)] = true
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: keeps %v, want %v", c.name, slices.Sorted(maps.Keys(got)), c.want)
		}
	}
}

func TestWhatIsKeptWhateverThePolicySays(t *testing.T) {
	old := func(id string, days int) backup.Candidate {
		return backup.Candidate{ID: id, Ended: now.AddDate(0, 0, -days), Good: true}
	}
	bad, pinned, proven, future := old("bad", 1), old("pinned", 40), old("proven", 30), old("future", -3)
	bad.Good, pinned.Pinned, proven.Proven = false, true, true
	all := []backup.Candidate{old("older", 50), pinned, proven, old("old", 20), old("good", 10), bad}
	p := backup.Policy{For: time.Hour}
	if got := slices.Sorted(maps.Keys(kept(p.Decide(all, now)))); !slices.Equal(got, []string{"good", "pinned", "proven"}) {
		t.Errorf("keeps %q", got)
	}
	if got := slices.Sorted(maps.Keys(kept(p.Decide(append(all, future), now)))); !slices.Equal(got, []string{"future", "pinned", "proven"}) {
		t.Errorf("with one that is yet to come: keeps %q", got)
	}
	if got := kept(p.Decide([]backup.Candidate{bad}, now)); !got["bad"] {
		t.Error("the only one was given up, though there is no good one")
	}
}

var (
	policies = rapid.Custom(func(t *rapid.T) backup.Policy {
		few := rapid.IntRange(0, 5)
		return backup.Policy{
			Last: few.Draw(t, "last"), For: time.Duration(few.Draw(t, "for")) * 36 * time.Hour, Hourly: few.Draw(t, "hourly"),
			Daily: few.Draw(t, "daily"), Weekly: few.Draw(t, "weekly"), Monthly: few.Draw(t, "monthly"), Yearly: few.Draw(t, "yearly"),
		}
	})
	candidates = rapid.Custom(func(t *rapid.T) []backup.Candidate {
		var all []backup.Candidate
		for i := range rapid.IntRange(0, 30).Draw(t, "n") {
			minutes := rapid.OneOf(rapid.IntRange(-100, 3000), rapid.IntRange(0, 60*24*900)).Draw(t, "minutes")
			all = append(all, backup.Candidate{
				ID: fmt.Sprint(i), Ended: now.Add(-time.Duration(minutes) * time.Minute), Good: rapid.IntRange(0, 3).Draw(t, "good") > 0,
				Proven: rapid.IntRange(0, 4).Draw(t, "proven") == 0, Pinned: rapid.IntRange(0, 9).Draw(t, "pinned") == 0,
			})
		}
		return all
	})
)

// TestRetentionHolds: what every policy must hold on all backups.
func TestRetentionHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, all := policies.Draw(t, "policy"), candidates.Draw(t, "backups")
		verdicts := p.Decide(all, now)
		keep := kept(verdicts)
		if len(verdicts) != len(all) {
			t.Fatalf("%d verdicts on %d backups", len(verdicts), len(all))
		}
		var newest, proven time.Time
		good := 0
		for _, c := range all {
			switch {
			case c.Pinned && !keep[c.ID]:
				t.Fatalf("%s is pinned and goes", c.ID)
			case p.For > 0 && now.Sub(c.Ended) < p.For && !keep[c.ID]:
				t.Fatalf("%s is young and goes", c.ID)
			}
			if c.Good {
				good++
				if c.Ended.After(newest) {
					newest = c.Ended
				}
				if c.Proven && c.Ended.After(proven) {
					proven = c.Ended
				}
			}
		}
		goodKept, days, daysKept := 0, map[string]bool{}, map[string]bool{}
		seenNewest, seenProven := newest.IsZero(), proven.IsZero()
		var rest []backup.Candidate
		for _, c := range all {
			day := c.Ended.Format(time.DateOnly)
			days[day] = days[day] || c.Good
			if !keep[c.ID] {
				continue
			}
			rest = append(rest, c)
			if c.Good {
				goodKept++
				daysKept[day] = true
				seenNewest = seenNewest || c.Ended.Equal(newest)
				seenProven = seenProven || c.Proven && c.Ended.Equal(proven)
			}
		}
		if !seenNewest || !seenProven {
			t.Fatalf("the newest good one is kept: %v, the newest proven one: %v", seenNewest, seenProven)
		}
		if goodKept < min(p.Last, good) {
			t.Fatalf("%d good ones of %d are kept, want %d", goodKept, good, p.Last)
		}
		maps.DeleteFunc(days, func(_ string, some bool) bool { return !some })
		if len(daysKept) < min(p.Daily, len(days)) {
			t.Fatalf("%d of %d days are kept, want %d", len(daysKept), len(days), p.Daily)
		}
		if again := kept(p.Decide(rest, now)); !maps.Equal(again, keep) {
			t.Fatalf("what was kept would go the next time: %v, then %v", keep, again)
		}
		slices.Reverse(all)
		if other := kept(p.Decide(all, now)); !maps.Equal(other, keep) {
			t.Fatalf("the order matters: %v, then %v", keep, other)
		}
		for _, v := range verdicts {
			if v.Keep != (len(v.Why) > 0) {
				t.Fatalf("%+v has no reason", v)
			}
		}
		// A stronger policy keeps all that this one does.
		if p != (backup.Policy{}) {
			q := p
			q.Last, q.Daily, q.For = q.Last+1, q.Daily+1, q.For+time.Hour
			stronger := kept(q.Decide(all, now))
			for id := range keep {
				if !stronger[id] {
					t.Fatalf("%s is kept by %+v but not by %+v", id, p, q)
				}
			}
		}
	})
}
