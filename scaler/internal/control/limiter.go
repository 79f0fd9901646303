package control

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// What one address may ask for, and all of them at a time.
const (
	perAddress     = rate.Limit(1) // a second
	addressBurst   = 10
	maxConcurrent  = 16
	addressesKnown = 4096
)

// limiter keeps strangers from making the scaler and the registry work.
type limiter struct {
	slots chan struct{}

	mu        sync.Mutex
	addresses map[string]*rate.Limiter
}

func newLimiter() *limiter {
	return &limiter{slots: make(chan struct{}, maxConcurrent), addresses: map[string]*rate.Limiter{}}
}

// enter reports whether a request from host may be worked on now; release ends
// that.
func (l *limiter) enter(host string, now time.Time) (release func(), ok bool) {
	if !l.of(host, now).AllowN(now, 1) {
		return nil, false
	}
	select {
	case l.slots <- struct{}{}:
		return func() { <-l.slots }, true
	default:
		return nil, false
	}
}

func (l *limiter) of(host string, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if found, ok := l.addresses[host]; ok {
		return found
	}
	if len(l.addresses) >= addressesKnown {
		// Those that have all of their burst again are as good as unknown; if all are
		// busy, that is an attack from everywhere, and slots is what bounds it.
		for address, other := range l.addresses {
			if other.TokensAt(now) >= addressBurst {
				delete(l.addresses, address)
			}
		}
		if len(l.addresses) >= addressesKnown {
			clear(l.addresses)
		}
	}
	created := rate.NewLimiter(perAddress, addressBurst)
	l.addresses[host] = created
	return created
}
