package page

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"farmhand/internal/registry"
)

// Source is where what is shown comes from. Each function tells until ctx ends, whose
// cause it returns, or tell returns an error.
type Source struct {
	// Farm tells how the farm is, at every change and every few seconds; or why that
	// cannot be known.
	Farm func(ctx context.Context, tell func(Farm, error) error) error
	// Journal tells the last entries and then every new one, and lost once that the
	// registry cannot be reached.
	Journal func(ctx context.Context, last int, tell func(registry.Entry) error, lost func(error)) error
	// Reports tells what nodes say of themselves.
	Reports func(ctx context.Context, tell func(registry.ReportsView) error) error
}

// Farm is how a farm is.
type Farm struct {
	// Shown is what the browser gets, as JSON; assets/app.js has what it makes of it.
	Shown any
	// Live is how many instances each role has.
	Live map[string]int
}

// journalKept is how many entries a browser is shown.
const journalKept = 400

// feed is what is shown just now. Browsers wait for its changes.
type feed struct {
	mu      sync.Mutex
	changed chan struct{} // closed at the next change, and made anew
	farm    json.RawMessage
	farmNo  int
	lost    string // why nothing is known just now; empty if it is
	entries []registry.Entry
	entryNo int // of those that were ever told
	samples samples
	live    map[string]int
}

func newFeed() *feed { return &feed{changed: make(chan struct{})} }

// change runs f, after which browsers are told.
func (f *feed) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *feed) tellFarm(farm Farm, lost error) error {
	if lost != nil {
		f.change(func() { f.lost, f.farmNo = lost.Error(), f.farmNo+1 })
		return nil
	}
	data, err := json.Marshal(farm.Shown)
	if err != nil {
		return fmt.Errorf("show the farm: %w", err)
	}
	f.change(func() { f.farm, f.live, f.lost, f.farmNo = data, farm.Live, "", f.farmNo+1 })
	return nil
}

func (f *feed) tellEntry(e registry.Entry) error {
	f.change(func() {
		f.entries, f.entryNo = append(f.entries, e), f.entryNo+1
		if over := len(f.entries) - journalKept; over > 0 {
			f.entries = append([]registry.Entry{}, f.entries[over:]...)
		}
	})
	return nil
}

func (f *feed) tellReports(v registry.ReportsView) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range v.Changed {
		f.samples.hear(r, time.Now())
	}
	return nil
}

// sample takes samples until ctx ends.
func (f *feed) sample(ctx context.Context) error {
	tick := time.NewTicker(samplePace)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			f.change(func() { f.samples.take(now, f.live) })
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// has is what a browser has been sent.
type has struct{ farm, entries, samples int }

// message is one that a browser is sent.
type message struct {
	event string
	data  any
}

// farmMessage is how the farm is, or was before it was lost.
type farmMessage struct {
	Lost string          `json:"lost,omitempty"`
	Farm json.RawMessage `json:"farm,omitempty"`
}

// after returns what a browser lacks, what it has then, and what is closed when there
// is more.
func (f *feed) after(h has) (list []message, now has, more <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.farmNo > h.farm {
		list = append(list, message{"farm", farmMessage{f.lost, f.farm}})
	}
	if n := min(f.entryNo-h.entries, len(f.entries)); n > 0 {
		list = append(list, message{"journal", append([]registry.Entry{}, f.entries[len(f.entries)-n:]...)})
	}
	if f.samples.count > h.samples {
		list = append(list, message{"load", f.samples.since(h.samples)})
	}
	return list, has{f.farmNo, f.entryNo, f.samples.count}, f.changed
}
