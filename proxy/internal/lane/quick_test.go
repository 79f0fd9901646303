package lane

import (
	"testing"
	"time"
)

func TestQuick(t *testing.T) {
	now := time.Unix(1000, 0)
	var q Quick
	see := func(n int, took time.Duration, size int64) {
		for range n {
			q.Saw(7, took, size)
		}
	}
	check := func(want bool, after time.Duration, when string) {
		t.Helper()
		if got := q.Trusts(7, now.Add(after)); got != want {
			t.Errorf("%s: trusted %v", when, got)
		}
	}
	check(false, 0, "never seen")
	see(10, quickTime+1, 100)
	check(false, 0, "never quick")
	see(10, time.Microsecond, MaxAnswer)
	check(false, 0, "its answers are long")
	see(trusted-1, quickTime, 100)
	check(false, 0, "not often enough")
	see(1, quickTime, 100)
	check(true, 0, "often enough")
	q.Lapsed(7, now)
	check(false, firstBan-1, "after a lapse")
	check(true, firstBan, "a while after a lapse")
	q.Lapsed(7, now)
	check(false, 2*firstBan-1, "after another lapse")
	check(true, 2*firstBan, "longer after another lapse")
	for range rarely {
		q.Trusts(7, now.Add(time.Hour))
	}
	q.Lapsed(7, now)
	check(true, firstBan, "a while after a lapse that came after many runs")
	for range 100 {
		q.Lapsed(7, now)
	}
	check(false, time.Minute, "after many lapses")
	check(true, 10*time.Minute, "ten minutes after many lapses")
	if q.Trusts(8, now) {
		t.Error("another statement is trusted")
	}
}

// TestQuickIsBounded: however many statements there are, few are remembered.
func TestQuickIsBounded(t *testing.T) {
	var q Quick
	for print := range uint64(50 * maxTexts) {
		q.Saw(print, 0, 0)
	}
	for i := range q.shards {
		if n := len(q.shards[i].texts); n > maxTexts {
			t.Errorf("shard %d remembers %d", i, n)
		}
	}
}

func TestTrustAllocatesNothing(t *testing.T) {
	var q Quick
	now := time.Now()
	q.Saw(1, 0, 0)
	if n := testing.AllocsPerRun(100, func() { q.Saw(1, 0, 0); q.Trusts(1, now) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
