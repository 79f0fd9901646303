package consistency

import (
	"sync"
	"time"

	"farmhand/internal/gtid"
	"farmhand/proxy/internal/monitor"
)

// Progress knows how far the servers have come since they were probed, by what
// waiting on them has shown. What it knows of a server holds until that is
// probed again: a probe that was sent later knows better, and notices if it is
// not the same server any more. Its methods may be called by any goroutine.
type Progress struct {
	mu      sync.RWMutex
	servers map[string]*progress // by address
}

type progress struct {
	reached gtid.Position
	at      time.Time // when reached was true
	late    time.Time // when a wait was in vain
}

// NewProgress returns a Progress that knows nothing.
func NewProgress() *Progress { return &Progress{servers: make(map[string]*progress)} }

// Reached tells whether the server is known to have executed position.
func (p *Progress) Reached(s *monitor.Server, position gtid.Position) bool {
	if s.Position.Contains(position) {
		return true
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	known := p.servers[s.Address]
	return known != nil && known.at.After(s.Probed) && known.reached.Contains(position)
}

// Late tells whether a wait on the server was in vain since it was probed, so
// that another one would most likely be too.
func (p *Progress) Late(s *monitor.Server) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	known := p.servers[s.Address]
	return known != nil && known.late.After(s.Probed)
}

// Saw notes that a server, of which s is the last that the monitor knows, had
// executed position at that time.
func (p *Progress) Saw(s *monitor.Server, position gtid.Position, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.of(s.Address)
	if known.at.After(s.Probed) && known.reached.Contains(position) {
		return
	}
	known.reached, known.at = position, at
}

// Waited notes that a wait on the server at address was in vain.
func (p *Progress) Waited(address string, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of(address).late = at
}

func (p *Progress) of(address string) *progress {
	known := p.servers[address]
	if known == nil {
		known = &progress{}
		p.servers[address] = known
	}
	return known
}
