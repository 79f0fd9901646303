package mysqld

import (
	"fmt"
	"testing"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/gtid"
	"farmhand/internal/mysqladmin"
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

// TestForHowLongNothingWasReceived: it counts from when something was, from when the receiver
// connected, and from when somebody looked again.
func TestForHowLongNothingWasReceived(t *testing.T) {
	o := &observer{}
	now := time.Unix(1000, 0)
	received := uint64(1)
	look := func(after time.Duration, receiver string, age time.Duration) {
		t.Helper()
		now = now.Add(after)
		position, err := gtid.Parse(farm.MariaDB, fmt.Sprintf("0-1-%d", received))
		if err != nil {
			t.Fatal(err)
		}
		o.arrived(facts{channel: &mysqladmin.Channel{Receiver: receiver}, received: position}, now)
		if got := now.Sub(o.receivedAt); got != age {
			t.Errorf("with %s and %d received it is %v, not %v", receiver, received, got, age)
		}
	}
	const tick = 500 * time.Millisecond
	look(0, "Connecting", 0)
	look(tick, "Connecting", tick)
	look(tick, "Yes", 0)
	look(tick, "Yes", tick)
	look(tick, "Yes", 2*tick)
	received++
	look(tick, "Yes", 0)
	for n := range 10 {
		look(tick, "Yes", time.Duration(n+1)*tick)
	}
	look(tick, "Connecting", 11*tick)
	look(tick, "Yes", 0)
	look(tick, "Yes", tick)
	look(4*tick, "Yes", 0) // the node stood still
	look(tick, "Yes", tick)
	o.arrived(facts{}, now)
	if !o.receivedAt.IsZero() {
		t.Error("it follows nobody, and receives")
	}
	look(tick, "Yes", 0)
}
