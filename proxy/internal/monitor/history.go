package monitor

import (
	"slices"
	"sort"
	"time"

	"farmhand/internal/gtid"
)

// maxSamples bounds the history. At two samples a second its newer half covers
// two minutes exactly; the older half thins out and reaches back for hours.
const maxSamples = 512

// sample says that everything that the primary had acknowledged by at is in
// position.
type sample struct {
	position gtid.Position
	at       time.Time
}

// history is where the primary was when: an ascending chain of positions. Each
// contains the ones before it.
type history struct{ samples []sample }

// add records a position of the primary's. It returns false if the position
// does not continue the chain (another primary that lacks transactions, a
// rebuilt or reset one, GTIDs turned off): then the chain starts anew and
// nothing measured against the old one holds.
func (h *history) add(position gtid.Position, at time.Time) (continued bool) {
	n := len(h.samples)
	continued = n == 0 || position.Contains(h.samples[n-1].position)
	switch {
	case position.IsZero():
		// Every replica contains the empty position, so it would make all of them
		// look fresh.
		h.samples = nil
		return n == 0
	case !continued:
		h.samples = []sample{{position, at}}
		return false
	case n > 0 && h.samples[n-1].position.Contains(position):
		h.samples[n-1].at = at
		return true
	}
	h.samples = append(h.samples, sample{position, at})
	if len(h.samples) > maxSamples {
		h.thin()
	}
	return true
}

// addEmpty records that the primary had logged nothing at all: a new MariaDB
// farm, whose replicas have everything there is. It is for servers whose every
// logged transaction has a GTID; of others an empty position says nothing.
func (h *history) addEmpty(at time.Time) (continued bool) {
	if n := len(h.samples); n > 0 && !h.samples[n-1].position.IsZero() {
		return h.add(gtid.Position{}, at) // it was reset
	}
	h.samples = []sample{{at: at}}
	return true
}

// thin drops every second sample of the older half. A sample's absence makes a
// replica look older than it is, never younger.
func (h *history) thin() {
	half := len(h.samples) / 2
	kept := h.samples[:0]
	for i, s := range h.samples {
		if i >= half || i%2 == 1 {
			kept = append(kept, s)
		}
	}
	clear(h.samples[len(kept):])
	h.samples = slices.Clip(kept)
}

// fresh returns the time up to which a replica at position has everything, and
// whether the history reaches back far enough to tell.
func (h *history) fresh(position gtid.Position) (time.Time, bool) {
	i := sort.Search(len(h.samples), func(i int) bool {
		return !position.Contains(h.samples[i].position)
	})
	if i == 0 {
		return time.Time{}, false
	}
	return h.samples[i-1].at, true
}
