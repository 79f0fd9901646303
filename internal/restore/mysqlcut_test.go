package restore

import (
	"strings"
	"testing"
	"time"

	"farmhand/internal/binlog"
	"farmhand/internal/farm"
	"farmhand/internal/gtid"
)

const (
	a1 = "aaaaaaaa-0000-0000-0000-000000000001"
	b2 = "bbbbbbbb-0000-0000-0000-000000000002"
)

func setAt(t *testing.T, text string) gtid.Position {
	t.Helper()
	p, err := gtid.Parse(farm.MySQL, text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestOfASetOnlyWhatWasAMomentIsTaken replays transactions, a second apart, in the order in
// which they were committed.
func TestOfASetOnlyWhatWasAMomentIsTaken(t *testing.T) {
	all := []string{a1 + ":5", a1 + ":6", a1 + ":tag:1", a1 + ":7", b2 + ":1", b2 + ":2"}
	for name, c := range map[string]struct {
		base, to string
		until    int64 // seconds; the first is of second 0
		at       string
		why      string // an error that has this
	}{
		"all":                            {base: a1 + ":1-4", at: a1 + ":1-7:tag:1," + b2 + ":1-2"},
		"what is not there yet":          {base: a1 + ":1-6", at: a1 + ":1-7:tag:1," + b2 + ":1-2"},
		"up to a set":                    {base: a1 + ":1-4", to: a1 + ":1-7:tag:1," + b2 + ":1", at: a1 + ":1-7:tag:1," + b2 + ":1"},
		"up to what is there":            {base: a1 + ":1-4", to: a1 + ":1-4", at: a1 + ":1-4"},
		"a set that leaves one out":      {base: a1 + ":1-4", to: a1 + ":1-7", why: a1 + ":7 was committed after " + a1 + ":tag:1"},
		"a set with one that is nowhere": {base: a1 + ":1-4", to: a1 + ":1-6," + b2 + ":9", why: "no such moment"},
		"up to a time":                   {base: a1 + ":1-4", until: 2, at: a1 + ":1-6:tag:1"},
		"up to a time before all":        {base: a1 + ":1-4", until: -1, at: a1 + ":1-4"},
		"what the backup holds is later": {base: a1 + ":1-6", until: -1, why: "holds " + a1 + ":5"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &set{base: setAt(t, c.base), at: setAt(t, c.base), to: setAt(t, c.to)}
			cut := &cutter{has: s, aimed: c.to != ""}
			cut.done = cut.aimed && s.reached()
			if c.until != 0 {
				cut.until = time.Unix(c.until, 0)
			}
			var err error
			for i, text := range all {
				x := binlog.Transaction{Position: setAt(t, text), Time: time.Unix(int64(i), 0)}
				if _, err = cut.take(&x); err != nil {
					break
				}
			}
			if err == nil {
				err = cut.ended()
			}
			switch {
			case c.why != "" && (err == nil || !strings.Contains(err.Error(), c.why)):
				t.Errorf("it says %v, not %q", err, c.why)
			case c.why == "" && (err != nil || s.position() != c.at):
				t.Errorf("it is at %s, %v; want %s", s.position(), err, c.at)
			}
		})
	}
}
