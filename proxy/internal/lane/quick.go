package lane

import (
	"sync"
	"time"
)

// Quick knows statements, by fingerprint, that have been quick. Its methods may
// be called by any goroutine.
type Quick struct{ shards [16]quickShard }

type quickShard struct {
	mu    sync.Mutex
	texts map[uint64]*habit
}

// habit is what a statement has been like.
type habit struct {
	quick  uint8     // how often it was, at most trusted
	lapses uint8     // how often it was not, though trusted
	runs   uint32    // since it was not
	until  time.Time // it is not trusted before
}

const (
	trusted   = 3                      // times that a statement must have been quick
	quickTime = 2 * time.Millisecond   // what is quick, the network included
	maxTexts  = 4096 / 16              // in a shard
	firstBan  = 100 * time.Millisecond // after a lapse; twice as long after the next
	maxLapses = 12
	rarely    = 1000 // runs between lapses after which they are the machine's fault
)

// Trusts tells whether a statement has been quick.
func (q *Quick) Trusts(print uint64, now time.Time) bool {
	s := &q.shards[print%16]
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.texts[print]
	if h == nil || h.quick < trusted || h.lapses > 0 && now.Before(h.until) {
		return false
	}
	h.runs++
	return true
}

// Saw takes note of how long a statement took on a connection of its own, and how
// long its answer was.
func (q *Quick) Saw(print uint64, took time.Duration, size int64) {
	if took > quickTime || size > MaxAnswer/2 {
		return
	}
	s := &q.shards[print%16]
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.texts[print]
	if h == nil {
		if s.texts == nil || len(s.texts) >= maxTexts {
			s.texts = map[uint64]*habit{} // what is still in use comes back
		}
		h = &habit{}
		s.texts[print] = h
	}
	h.quick = min(h.quick+1, trusted)
}

// Lapsed takes note of a statement that was not quick.
func (q *Quick) Lapsed(print uint64, now time.Time) {
	s := &q.shards[print%16]
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.texts[print]; h != nil {
		if h.runs >= rarely {
			h.lapses = 0
		}
		h.until, h.runs = now.Add(firstBan<<h.lapses), 0
		h.lapses = min(h.lapses+1, maxLapses)
	}
}
