package mysqld

import (
	"testing"
	"time"

	"farmhand/internal/cluster"
)

// TestNews: what others wait for is told at once, also of a primary that is being
// replaced; the same again is not, however often the server is looked at.
func TestNews(t *testing.T) {
	was := cluster.Report{Task: cluster.Lead, Done: true, Executed: "0-1-5", Open: 2, Serial: 3}
	for _, c := range []struct {
		what         string
		change       func(*cluster.Report)
		quiet, while bool // is news while nothing, or the primary, is being changed
	}{
		{"nothing but the time", func(r *cluster.Report) { r.Time, r.Stalled = time.Now(), time.Second }, false, false},
		{"a transaction has ended", func(r *cluster.Report) { r.Open = 1 }, false, true},
		{"an assignment was taken up", func(r *cluster.Report) { r.Serial = 4 }, true, true},
		{"it has gone", func(r *cluster.Report) { r.Process = cluster.Crashed }, true, true},
	} {
		now := was
		c.change(&now)
		if got := news(&was, &now, false); got != c.quiet {
			t.Errorf("%s, while nothing changes: news %v", c.what, got)
		}
		if got := news(&was, &now, true); got != c.while {
			t.Errorf("%s, while the primary changes: news %v", c.what, got)
		}
	}
	if !news(nil, &was, false) {
		t.Error("the first report is no news")
	}
}
