package backup

import (
	"cmp"
	"slices"
	"time"
)

// Policy says which backups are kept: those that any of its rules keeps. One that
// has no rule keeps all.
type Policy struct {
	// Last is how many of the newest are kept, For how long each is.
	Last int
	For  time.Duration
	// The newest of each of the last so many hours, days, weeks (from Monday), months
	// and years that have a backup, in UTC.
	Hourly, Daily, Weekly, Monthly, Yearly int
}

// Candidate is a backup as a Policy sees it.
type Candidate struct {
	ID    string
	Ended time.Time
	// Good: it is there as a whole, as far as that is known. Only such ones are
	// counted; others are kept by Pinned and by Policy.For only.
	Good bool
	// Proven: a restore of it has been proven.
	Proven bool
	Pinned bool
}

// Verdict is what becomes of a backup.
type Verdict struct {
	ID   string
	Keep bool
	Why  []string // every rule that keeps it
}

// Decide says what becomes of each backup, the newest first. Whatever the rules
// say, these are kept: what is pinned, the newest good one, the newest proven one,
// what has a time that is yet to come, and all if none is good.
func (p Policy) Decide(all []Candidate, now time.Time) []Verdict {
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, func(a, b Candidate) int {
		return cmp.Or(b.Ended.Compare(a.Ended), cmp.Compare(b.ID, a.ID))
	})
	verdicts := make([]Verdict, len(sorted))
	keep := func(i int, why string) {
		verdicts[i].Keep = true
		verdicts[i].Why = append(verdicts[i].Why, why)
	}
	good, proven := 0, 0
	for i, c := range sorted {
		verdicts[i].ID = c.ID
		if c.Pinned {
			keep(i, "it is pinned")
		}
		if c.Ended.After(now) {
			keep(i, "its time is yet to come")
		}
		if p.For > 0 && now.Sub(c.Ended) < p.For {
			keep(i, "it is younger than "+p.For.String())
		}
		if !c.Good {
			continue
		}
		if good++; good == 1 {
			keep(i, "it is the newest good one")
		}
		if good <= p.Last {
			keep(i, "it is one of the last")
		}
		if c.Proven {
			if proven++; proven == 1 {
				keep(i, "it is the newest proven one")
			}
		}
	}
	for _, rule := range p.periods() {
		var last string
		for i, n := 0, 0; i < len(sorted) && n < rule.count; i++ {
			if period := rule.of(sorted[i].Ended.UTC()); sorted[i].Good && period != last {
				keep(i, rule.why)
				last = period
				n++
			}
		}
	}
	for i := range verdicts {
		switch {
		case p == (Policy{}):
			keep(i, "no rule says otherwise")
		case good == 0:
			keep(i, "there is no good one")
		}
	}
	return verdicts
}

// period is a rule that keeps the newest of each of some periods.
type period struct {
	count int
	why   string
	of    func(time.Time) string
}

func (p Policy) periods() []period {
	return []period{
		{p.Hourly, "it is the newest of its hour", func(t time.Time) string { return t.Format("2006-01-02 15") }},
		{p.Daily, "it is the newest of its day", func(t time.Time) string { return t.Format("2006-01-02") }},
		{p.Weekly, "it is the newest of its week", func(t time.Time) string {
			monday := t.AddDate(0, 0, -int(t.Weekday()+6)%7)
			return monday.Format("2006-01-02")
		}},
		{p.Monthly, "it is the newest of its month", func(t time.Time) string { return t.Format("2006-01") }},
		{p.Yearly, "it is the newest of its year", func(t time.Time) string { return t.Format("2006") }},
	}
}
