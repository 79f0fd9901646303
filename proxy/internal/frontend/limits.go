package frontend

import (
	"container/list"
	"errors"
	"sync"
	"time"
)

// What Gate refuses a client for. The texts and codes that clients get are the
// caller's.
var (
	ErrTooManyConnections = errors.New("too many connections")                  // ER_CON_COUNT_ERROR, 1040
	ErrTooManyHandshakes  = errors.New("too many logins in progress")           // 1040 too
	ErrTooManyOfUser      = errors.New("the user has too many connections")     // ER_TOO_MANY_USER_CONNECTIONS, 1203
	ErrEvicted            = errors.New("the login took long while others wait") // the connection was closed for it
)

// Bounds are a gate's limits; 0 means none.
type Bounds struct {
	Connections int // in all
	PerUser     int // that are logged in as one user
	Handshakes  int // not logged in yet
}

// handshakeGrace is how long a login may take without being in anybody's way.
const handshakeGrace = time.Second

// Gate counts clients and refuses those above its limits. A client that has not
// logged in within a second gives way to a new one when too many are logging
// in, oldest first: so clients that connect and say nothing keep nobody out.
type Gate struct {
	mu      sync.Mutex
	bounds  Bounds
	total   int
	users   map[string]int
	waiting list.List // of *Ticket, the longest first
}

// NewGate returns a gate that nobody has passed.
func NewGate(bounds Bounds) *Gate { return &Gate{bounds: bounds, users: make(map[string]int)} }

// SetBounds changes the limits. Clients above a lowered one stay.
func (g *Gate) SetBounds(bounds Bounds) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.bounds = bounds
}

// Counts returns how many clients there are, and how many of them are logging
// in.
func (g *Gate) Counts() (connections, handshakes int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.total, g.waiting.Len()
}

// Ticket is one client's passage. Its methods may be called by any goroutine.
type Ticket struct {
	gate    *Gate
	entered time.Time
	evict   func() // called without the gate's lock

	// Guarded by the gate's mutex.
	waiting *list.Element // nil once logged in
	user    string
	counted bool // in users, under user
	evicted bool
	left    bool
}

// Enter counts a new client in. Every ticket must be given back with Leave.
// evict, which must not block, is called at most once, before the client is
// logged in, to make it go; it should close the connection.
func (g *Gate) Enter(now time.Time, evict func()) (*Ticket, error) {
	t := &Ticket{gate: g, entered: now, evict: evict}
	loser, err := g.enter(t, now)
	if loser != nil {
		loser.evict()
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

func (g *Gate) enter(t *Ticket, now time.Time) (loser *Ticket, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	full := ErrTooManyHandshakes
	if g.bounds.Connections > 0 && g.total >= g.bounds.Connections {
		full = ErrTooManyConnections
	} else if g.bounds.Handshakes == 0 || g.waiting.Len() < g.bounds.Handshakes {
		full = nil
	}
	if full != nil {
		oldest := g.waiting.Front()
		if oldest == nil || now.Sub(oldest.Value.(*Ticket).entered) < handshakeGrace {
			return nil, full
		}
		loser = oldest.Value.(*Ticket)
		loser.evicted = true
		g.remove(loser)
	}
	g.total++
	t.waiting = g.waiting.PushBack(t)
	return loser, nil
}

// EvictWaiting makes every client go that is not logged in.
func (g *Gate) EvictWaiting() {
	g.mu.Lock()
	var losers []*Ticket
	for g.waiting.Len() > 0 {
		t := g.waiting.Front().Value.(*Ticket)
		t.evicted = true
		g.remove(t)
		losers = append(losers, t)
	}
	g.mu.Unlock()
	for _, t := range losers {
		t.evict()
	}
}

// LoggedIn ends a client's login as a user, or changes the user of one that was
// logged in. On an error the ticket is as it was.
func (t *Ticket) LoggedIn(user string) error {
	g := t.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.evicted || t.left {
		return ErrEvicted
	}
	if t.counted && t.user == user {
		return nil
	}
	if g.bounds.PerUser > 0 && g.users[user] >= g.bounds.PerUser {
		return ErrTooManyOfUser
	}
	g.forget(t)
	if t.waiting != nil {
		g.waiting.Remove(t.waiting)
		t.waiting = nil
	}
	g.users[user]++
	t.user, t.counted = user, true
	return nil
}

// Leave counts the client out. It may be called more than once.
func (t *Ticket) Leave() {
	t.gate.mu.Lock()
	defer t.gate.mu.Unlock()
	if !t.evicted {
		t.gate.remove(t)
	}
	t.left = true
}

// Evicted says whether the client had to go before it was logged in.
func (t *Ticket) Evicted() bool {
	t.gate.mu.Lock()
	defer t.gate.mu.Unlock()
	return t.evicted
}

// remove takes a client out of the counts, once.
func (g *Gate) remove(t *Ticket) {
	if t.left {
		return
	}
	t.left = true
	g.total--
	if t.waiting != nil {
		g.waiting.Remove(t.waiting)
		t.waiting = nil
	}
	g.forget(t)
}

// forget takes a client out of its user's count.
func (g *Gate) forget(t *Ticket) {
	if !t.counted {
		return
	}
	if g.users[t.user]--; g.users[t.user] == 0 {
		delete(g.users, t.user)
	}
	t.counted = false
}
