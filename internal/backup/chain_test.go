package backup_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"farmhand/internal/backup"
	"farmhand/internal/farm"
	"farmhand/internal/gtid"
)

// piece is a segment of transactions first to last of server and epoch.
func piece(key string, epoch farm.Epoch, server uint32, first, last uint64) backup.Segment {
	at := func(n uint64) time.Time { return now.Add(time.Duration(n) * time.Second) }
	s := backup.Segment{
		Key: key, Epoch: epoch, Position: fmt.Sprintf("0-%d-%d", server, last), First: at(first), Last: at(last),
		Lines: []backup.Line{{Domain: 0, Server: server, First: first, Last: last}},
	}
	if first > 1 {
		s.After = fmt.Sprintf("0-%d-%d", server, first-1)
	}
	return s
}

func position(t interface{ Fatal(...any) }, text string) gtid.Position {
	p, err := gtid.Parse(farm.MariaDB, text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestChains(t *testing.T) {
	a, b, c := piece("a", 1, 1, 1, 10), piece("b", 1, 1, 11, 20), piece("c", 2, 2, 21, 30)
	for _, x := range []struct {
		name     string
		base     string
		segments []backup.Segment
		use      string // keys
		reached  string
		gaps     []string // "after until"
		fork     uint64
	}{
		{"in a row, over a change of primary", "", []backup.Segment{a, b, c}, "abc", "0-2-30", nil, 0},
		{"listed in any order", "0-1-5", []backup.Segment{c, b, a}, "abc", "0-2-30", nil, 0},
		{"what the base has is left out", "0-1-20", []backup.Segment{a, b, c}, "c", "0-2-30", nil, 0},
		{"one is missing", "0-1-5", []backup.Segment{a, c}, "a", "0-1-10", []string{"0-1-10 0-2-20"}, 0},
		{"the first is missing", "0-1-5", []backup.Segment{b, c}, "", "0-1-5", []string{"0-1-5 0-1-10"}, 0},
		{"two are missing", "", []backup.Segment{a, c, piece("e", 2, 2, 41, 50)}, "a", "0-1-10", []string{"0-1-10 0-2-20", "0-2-30 0-2-40"}, 0},
		{"they overlap", "", []backup.Segment{a, piece("x", 1, 1, 5, 15), b}, "axb", "0-1-20", nil, 0},
		{"one is there twice", "", []backup.Segment{a, piece("x", 1, 1, 1, 10), b}, "ab", "0-1-20", nil, 0},
		{"there is none", "0-1-7", nil, "", "0-1-7", nil, 0},
		{"two servers wrote in one epoch", "", []backup.Segment{a, piece("x", 1, 1, 11, 23), piece("y", 1, 2, 21, 30)}, "ax", "0-1-23", nil, 21},
		{"the old primary went on, and the new one is archived from before that", "", []backup.Segment{a, b, piece("x", 1, 1, 21, 23), c}, "abc", "0-2-30", nil, 0},
		{"the old primary went on, in a piece that is needed", "", []backup.Segment{a, piece("x", 1, 1, 11, 23), c}, "a", "0-1-10", []string{"0-1-10 0-2-20"}, 0},
		{"the old primary went on as far as the new one", "", []backup.Segment{a, b, piece("x", 1, 1, 21, 30), c}, "abc", "0-2-30", nil, 0},
		{"or further", "", []backup.Segment{a, b, piece("x", 1, 1, 21, 35), c}, "abc", "0-2-30", nil, 0},
		{"an old epoch comes late", "", []backup.Segment{a, piece("y", 2, 2, 11, 14), piece("x", 1, 1, 13, 17)}, "ay", "0-2-14", nil, 0},
	} {
		t.Run(x.name, func(t *testing.T) {
			got, err := backup.Follow(farm.MariaDB, position(t, x.base), x.segments)
			if err != nil {
				t.Fatal(err)
			}
			var keys []string
			for _, s := range got.Segments {
				keys = append(keys, s.Key)
			}
			var gaps []string
			for _, g := range got.Gaps {
				gaps = append(gaps, g.After+" "+g.Until)
			}
			if strings.Join(keys, "") != x.use || got.Reached.String() != x.reached || !slices.Equal(gaps, x.gaps) {
				t.Errorf("%q up to %s, gaps %q", keys, got.Reached, gaps)
			}
			if (got.Fork == nil) != (x.fork == 0) || got.Fork != nil && got.Fork.Number != x.fork {
				t.Errorf("the fork is %v", got.Fork)
			}
		})
	}
}

// TestChainsHaveNoHole: whatever is missing, listed in whatever order, every
// transaction up to Reached is there, and the next one is not.
func TestChainsHaveNoHole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := rapid.Uint64Range(0, 20).Draw(t, "base")
		var segments []backup.Segment
		have := map[uint64]bool{}
		for i := range rapid.IntRange(0, 12).Draw(t, "n") {
			first := rapid.Uint64Range(1, 60).Draw(t, "first")
			last := first + rapid.Uint64Range(0, 9).Draw(t, "length")
			segments = append(segments, piece(fmt.Sprint(i), 1, 1, first, last))
			for n := first; n <= last; n++ {
				have[n] = true
			}
		}
		start := gtid.Position{}
		if base > 0 {
			start = position(t, fmt.Sprintf("0-1-%d", base))
		}
		c, err := backup.Follow(farm.MariaDB, start, segments)
		if err != nil {
			t.Fatal(err)
		}
		want := base
		for have[want+1] {
			want++
		}
		if reached := fmt.Sprintf("0-1-%d", want); want > 0 && c.Reached.String() != reached {
			t.Fatalf("reached %v, want %s", c.Reached, reached)
		}
		at := base
		for _, s := range c.Segments {
			if s.Lines[0].First > at+1 || s.Lines[0].Last <= at {
				t.Fatalf("after %d comes %+v", at, s)
			}
			at = s.Lines[0].Last
		}
		beyond := false
		for n := range have {
			beyond = beyond || n > want
		}
		if beyond != (len(c.Gaps) > 0) {
			t.Fatalf("there is more: %v, and the gaps are %v", beyond, c.Gaps)
		}
	})
}
