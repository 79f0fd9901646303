package child

import "time"

// Bounds of a Backoff.
const (
	backoffFirst = 500 * time.Millisecond
	backoffMost  = 30 * time.Second
	backoffCalm  = time.Minute // who ran so long had recovered
)

// Backoff says how long to wait before something that ended is started again.
// The zero value is ready; it is for one goroutine.
type Backoff struct{ last time.Duration }

// Next returns the wait after a run that lasted ran: half a second at first,
// twice as long each time, at most half a minute.
func (b *Backoff) Next(ran time.Duration) time.Duration {
	if ran >= backoffCalm {
		b.last = 0
	}
	b.last = min(max(2*b.last, backoffFirst), backoffMost)
	return b.last
}
