package frontend

import (
	"errors"
	"sync"
	"testing"
	"time"
)

// at is a moment, in seconds after the tests' first.
func at(seconds float64) time.Time {
	return time.Unix(1_700_000_000, 0).Add(time.Duration(seconds * float64(time.Second)))
}

func enter(t *testing.T, g *Gate, now time.Time) *Ticket {
	t.Helper()
	ticket, err := g.Enter(now, func() { t.Error("evicted") })
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

func counts(t *testing.T, g *Gate, connections, handshakes int) {
	t.Helper()
	if c, h := g.Counts(); c != connections || h != handshakes {
		t.Errorf("%d connections, %d of them logging in; want %d and %d", c, h, connections, handshakes)
	}
}

func mustFail(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%v, want: %v", err, want)
	}
}

func TestGateConnections(t *testing.T) {
	g := NewGate(Bounds{Connections: 2})
	one, two := enter(t, g, at(0)), enter(t, g, at(0))
	mustFail(t, one.LoggedIn("a"), nil)
	mustFail(t, two.LoggedIn("a"), nil)
	ticket, err := g.Enter(at(100), nil)
	if mustFail(t, err, ErrTooManyConnections); ticket != nil {
		t.Error("a ticket all the same")
	}
	counts(t, g, 2, 0)
	one.Leave()
	one.Leave()
	counts(t, g, 1, 0)
	enter(t, g, at(0)).Leave() // without having logged in
	counts(t, g, 1, 0)
	// A lower limit throws nobody out and lets nobody in.
	enter(t, g, at(0))
	g.SetBounds(Bounds{Connections: 1})
	two.Leave()
	_, err = g.Enter(at(0), nil)
	mustFail(t, err, ErrTooManyConnections)
	g.SetBounds(Bounds{})
	for range 100 {
		defer enter(t, g, at(0)).Leave()
	}
	counts(t, g, 101, 101)
}

func TestGatePerUser(t *testing.T) {
	g := NewGate(Bounds{PerUser: 2})
	login := func(user string) (*Ticket, error) {
		ticket := enter(t, g, at(0))
		return ticket, ticket.LoggedIn(user)
	}
	first, err := login("a")
	mustFail(t, err, nil)
	second, err := login("a")
	mustFail(t, err, nil)
	third, err := login("a")
	mustFail(t, err, ErrTooManyOfUser)
	counts(t, g, 3, 1) // it is as it was
	third.Leave()
	_, err = login("b")
	mustFail(t, err, nil)

	// Another user on the same connection.
	mustFail(t, second.LoggedIn("a"), nil)
	mustFail(t, second.LoggedIn("b"), nil)
	mustFail(t, first.LoggedIn("b"), ErrTooManyOfUser)
	fourth, err := login("a") // there is room for one more again, and no more
	mustFail(t, err, nil)
	fifth, err := login("a")
	mustFail(t, err, ErrTooManyOfUser)
	fourth.Leave()
	mustFail(t, fifth.LoggedIn("a"), nil)
	for _, ticket := range []*Ticket{first, second, fifth} {
		ticket.Leave()
	}
	counts(t, g, 1, 0)
	if len(g.users) != 1 {
		t.Errorf("users %v are still counted", g.users)
	}
}

// Who takes long gives way to who comes, the oldest first; who is quick does
// not, and neither does who is logged in.
func TestGateEviction(t *testing.T) {
	for name, bounds := range map[string]Bounds{"logins": {Handshakes: 2}, "connections": {Connections: 3}} {
		t.Run(name, func(t *testing.T) {
			full := ErrTooManyHandshakes
			if bounds.Connections > 0 {
				full = ErrTooManyConnections
			}
			g := NewGate(bounds)
			mustFail(t, enter(t, g, at(0)).LoggedIn("long ago"), nil)
			evicted := make(chan string, 2)
			evict := func(who string) func() {
				return func() {
					g.Counts() // the gate is not locked
					evicted <- who
				}
			}
			old, err := g.Enter(at(0), evict("old"))
			mustFail(t, err, nil)
			young, err := g.Enter(at(0.5), evict("young"))
			mustFail(t, err, nil)
			_, err = g.Enter(at(0.999), nil)
			mustFail(t, err, full)

			next := enter(t, g, at(1))
			if who := wait(t, "an eviction", evicted); who != "old" || !old.Evicted() || young.Evicted() {
				t.Errorf("%s had to go", who)
			}
			counts(t, g, 3, 2)
			mustFail(t, old.LoggedIn("a"), ErrEvicted)
			old.Leave()
			old.Leave()
			counts(t, g, 3, 2) // counted out once
			_, err = g.Enter(at(1.4), nil)
			mustFail(t, err, full)
			// Who has logged in gives way no more.
			mustFail(t, young.LoggedIn("a"), nil)
			mustFail(t, next.LoggedIn("b"), nil)
			if bounds.Connections > 0 {
				_, err = g.Enter(at(100), nil)
				mustFail(t, err, full)
			} else {
				enter(t, g, at(100))
			}
			if young.Evicted() || len(evicted) > 0 {
				t.Error("a client had to go that was logged in")
			}
		})
	}
}

func TestGateLoggedInAfterLeave(t *testing.T) {
	g := NewGate(Bounds{})
	ticket := enter(t, g, at(0))
	ticket.Leave()
	mustFail(t, ticket.LoggedIn("a"), ErrEvicted)
	counts(t, g, 0, 0)
	if len(g.users) != 0 {
		t.Errorf("users %v", g.users)
	}
}

// Whatever clients do at once, the limits hold and the counts end at zero.
func TestGateConcurrently(t *testing.T) {
	bounds := Bounds{Connections: 20, PerUser: 5, Handshakes: 8}
	g := NewGate(bounds)
	var clients sync.WaitGroup
	for i := range 16 {
		clients.Go(func() {
			for n := range 500 {
				ticket, err := g.Enter(at(float64(n)), func() {})
				if c, h := g.Counts(); c > bounds.Connections || h > bounds.Handshakes {
					t.Errorf("%d connections, %d logging in", c, h)
				}
				if err != nil {
					continue
				}
				if n%3 > 0 && ticket.LoggedIn(string(rune('a'+(i+n)%4))) == nil && n%3 > 1 {
					_ = ticket.LoggedIn(string(rune('a' + n%4))) // may be refused
				}
				if n%5 == 0 {
					ticket.Evicted()
				}
				ticket.Leave()
			}
		})
	}
	clients.Wait()
	counts(t, g, 0, 0)
	if len(g.users) != 0 {
		t.Errorf("users %v", g.users)
	}
}

// Over real connections: each way out gives its place back.
func TestGateWaysOut(t *testing.T) {
	f := startFront(t, nil, func(f *front) { f.Gate = NewGate(Bounds{Connections: 1, PerUser: 1}) })
	free := func() {
		t.Helper()
		deadline := time.Now().Add(patience)
		for n, _ := f.Counts(); n > 0; n, _ = f.Counts() {
			if time.Now().After(deadline) {
				t.Fatal("a place was not given back")
			}
			time.Sleep(time.Millisecond)
		}
	}
	p := dial(t, f.tcp)
	if err := p.login("app", "secret", ""); err != nil {
		t.Fatal(err)
	}
	wait(t, "outcome", f.outcomes)
	mustEnd(t, dialRaw(t, f.socket)) // there is no room
	mustFail(t, wait(t, "outcome", f.outcomes).err, ErrTooManyConnections)
	p.ping()
	p.Close()
	free()
	for name, leave := range map[string]func(*peer){
		"at once":          func(p *peer) { p.Close() },
		"denied":           func(p *peer) { mustRefuse(t, p.login("app", "wrong", ""), 1045) },
		"with garbage":     func(p *peer) { p.WriteRaw([]byte("garbage\r\n\r\n")); _ = p.Flush(); mustEnd(t, p.NetConn()) },
		"in half a packet": func(p *peer) { p.WriteRaw([]byte{50, 0, 0, 1, 2}); _ = p.Flush(); p.Close() },
		"logged in": func(p *peer) {
			if err := p.login("other", "word", ""); err != nil {
				t.Error(err)
			}
			p.Close()
		},
	} {
		leave(dial(t, f.tcp))
		if got := wait(t, "outcome", f.outcomes); (got.err == nil) != (name == "logged in") {
			t.Errorf("%s: %v", name, got.err)
		}
		free()
	}
}
