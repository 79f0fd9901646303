package daemon

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The collector's pace, as GOGC has it in percent. Every login leaves some
// kilobytes of garbage, and a proxy's live heap is small: at Go's 100 % a rush of
// connections has it collected all the time, for a few megabytes' sake.
const (
	leastPace = 100
	mostPace  = 400
	// spare is what the heap may grow by before it is collected, in bytes, as far as
	// the paces allow.
	spare = 48 << 20
	// paceInterval is how often the pace follows the heap.
	paceInterval = time.Second
)

// pace is the collector's for a live heap of so many bytes.
func pace(live uint64) int {
	return int(min(max(spare*100/max(live, 1), leastPace), mostPace))
}

// paceCollector keeps the collector's pace until ctx ends. Who sets GOGC has
// decided it.
func paceCollector(ctx context.Context) error {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	now := mostPace
	before := debug.SetGCPercent(now)
	defer debug.SetGCPercent(before)
	ticker := time.NewTicker(paceInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		metrics.Read(live)
		// Setting it stops the world for a moment: not for every little change.
		if p := pace(live[0].Value.Uint64()); p < now*4/5 || p > now*5/4 || p != now && (p == leastPace || p == mostPace) {
			now = p
			debug.SetGCPercent(now)
		}
	}
}
