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
	leastPace = 30
	mostPace  = 400
	// spare is what the heap may grow by before it is collected, in bytes, as far as
	// the paces allow.
	spare = 20 << 20
	// paceInterval is how often the pace follows the heap.
	paceInterval = time.Second
)

// pace is the collector's for a live heap of so many bytes.
func pace(live uint64) int {
	return int(min(max(spare*100/max(live, 1), leastPace), mostPace))
}

// A proxy that has become quiet gives back what a rush has left: the garbage, the
// stacks of sessions that wait, which only the collector makes smaller, and those
// of sessions that doze, which are free and still the proxy's.
const (
	left     = 4 << 20   // bytes free, or allocated since the last collection, that are worth one
	quietFor = 256 << 10 // bytes allocated in an interval at the most
)

// paceCollector keeps the collector's pace until ctx ends. Who sets GOGC has
// decided it.
func paceCollector(ctx context.Context) error {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	read := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/cycles/total:gc-cycles"}, {Name: "/memory/classes/heap/free:bytes"}}
	now := mostPace
	before := debug.SetGCPercent(now)
	defer debug.SetGCPercent(before)
	ticker := time.NewTicker(paceInterval)
	defer ticker.Stop()
	var cycles, collected, last uint64 // how many, bytes allocated by the last one seen and by the last tick
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		metrics.Read(read)
		live, allocated, free := read[0].Value.Uint64(), read[1].Value.Uint64(), read[3].Value.Uint64()
		if c := read[2].Value.Uint64(); c != cycles {
			cycles, collected = c, last // or a little later
		}
		if allocated-last < quietFor && (allocated-collected > left || free > left) {
			debug.FreeOSMemory()
		}
		last = allocated
		// Setting it stops the world for a moment: not for every little change.
		if p := pace(live); p < now*4/5 || p > now*5/4 || p != now && (p == leastPace || p == mostPace) {
			now = p
			debug.SetGCPercent(now)
		}
	}
}
