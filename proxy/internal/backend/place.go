package backend

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// place is what the pool has at one server.
type place struct {
	idle  map[key][]*Conn // oldest first
	out   []*Conn         // handed out
	hand  int             // where the search for a lent one goes on, in out
	users map[[32]byte]int
	total int // idle, handed out, and being opened
	queue queue
	// limit is what the server itself allows, as far as it has refused more, until
	// that is tried again.
	limit      int
	limitUntil time.Time
	idleCount  int
	// logins are the shapes and credentials that sessions have asked for lately,
	// to open connections ahead of demand.
	logins map[key]*demand

	idleGauge, active prometheus.Gauge // looked up once
}

func (p *Pool) place(server string) *place {
	pl := p.places[server]
	if pl == nil {
		pl = &place{
			idle: map[key][]*Conn{}, users: map[[32]byte]int{}, logins: map[key]*demand{},
			idleGauge: p.metrics.idle.WithLabelValues(server), active: p.metrics.active.WithLabelValues(server),
		}
		p.places[server] = pl
	}
	return pl
}

// hasRoom tells whether another connection for k may be opened.
func (p *Pool) hasRoom(pl *place, k key) bool {
	limit := p.opt.MaxPerServer
	if pl.limit > 0 && time.Now().Before(pl.limitUntil) && (limit == 0 || pl.limit < limit) {
		limit = pl.limit
	}
	return (limit == 0 || pl.total < limit) && p.userHasRoom(pl, k)
}

func (p *Pool) userHasRoom(pl *place, k key) bool {
	return p.opt.MaxPerUser == 0 || pl.users[k.login] < p.opt.MaxPerUser
}

// reserve counts a connection that is about to be opened.
func (p *Pool) reserve(pl *place, k key) {
	pl.total++
	pl.users[k.login]++
}

// free counts a connection that is gone.
func (p *Pool) free(pl *place, k key) {
	pl.total--
	if pl.users[k.login]--; pl.users[k.login] <= 0 {
		delete(pl.users, k.login)
	}
}

// took makes a lent connection its taker's.
func (p *Pool) took(pl *place, c *Conn) *Conn {
	c.pass()
	_ = c.Settle() // it may have been a lane's; what is wrong its use says
	p.metrics.taken.WithLabelValues(c.key.server).Inc()
	return c
}

// setIdle replaces the idle list of k.
func (pl *place) setIdle(p *Pool, k key, list []*Conn) {
	pl.idleCount += len(list) - len(pl.idle[k])
	if len(list) == 0 {
		delete(pl.idle, k)
	} else {
		pl.idle[k] = list
	}
	pl.idleGauge.Set(float64(pl.idleCount))
}

// takeIdle takes the idle connection that costs the least to make w's: the
// youngest of the best.
func (pl *place) takeIdle(p *Pool, k key, w *Want) *Conn {
	list := pl.idle[k]
	best, grade := -1, 0
	for i := len(list) - 1; i >= 0 && i >= len(list)-searched; i-- {
		if g := list[i].grade(w); g > grade {
			if best, grade = i, g; g == perfect {
				break
			}
		}
	}
	if best < 0 {
		return nil
	}
	c := list[best]
	copy(list[best:], list[best+1:])
	list[len(list)-1] = nil
	pl.setIdle(p, k, list[:len(list)-1])
	p.handOut(pl, c)
	return c
}

// The grades of a connection for a session.
const (
	useless = iota
	dirty   // it must be reset
	near    // the session's settings must be established
	perfect
)

// grade tells how well a connection suits w. The caller holds the connection.
func (c *Conn) grade(w *Want) int {
	switch {
	case w.Schema == "" && c.Schema != "":
		return useless
	case w.Clean && c.Used:
		return dirty
	case w.Settings.Equal(c.Settings):
		if c.Schema == w.Schema {
			return perfect
		}
		return near
	case w.Settings.Overrides(c.Settings):
		return near
	}
	return dirty
}

// claimLent takes a connection of k that a session has lent for at least the
// given time; the pool looks at so many at most, 0 is all.
func (pl *place) claimLent(k key, w *Want, atLeast time.Duration, looks int) *Conn {
	n := len(pl.out)
	if looks == 0 || looks > n {
		looks = n
	}
	now := time.Now()
	for range looks {
		if pl.hand++; pl.hand >= n {
			pl.hand = 0
		}
		c := pl.out[pl.hand]
		if c.key != k || !c.claim() {
			continue
		}
		if since := now.Sub(c.parting.Since); since < atLeast || c.parting.Keep && since < keepFor || c.grade(w) == useless {
			c.keepLent()
			continue
		}
		return c
	}
	return nil
}

// closeIdle closes an idle connection, so that there is room for one of kind k,
// of which there is none that would do.
func (pl *place) closeIdle(p *Pool, k key) bool {
	if p.gone {
		return false
	}
	room := p.userHasRoom(pl, k)
	for other, list := range pl.idle {
		if !room && other.login != k.login {
			continue
		}
		c := list[0]
		list[0] = nil
		pl.setIdle(p, other, list[1:])
		p.free(pl, other)
		p.work.Go(func() { p.closeConn(c, "room needed") })
		return true
	}
	return false
}

// closeLent is closeIdle for a connection that a session has lent.
func (pl *place) closeLent(p *Pool, k key) bool {
	if p.gone {
		return false
	}
	room := p.userHasRoom(pl, k)
	for _, c := range pl.out {
		if !room && c.key.login != k.login || !c.claim() {
			continue
		}
		if c.parting.Inserted != nil || c.parting.Keep && time.Since(c.parting.Since) < keepFor {
			c.keepLent()
			continue
		}
		c.pass()
		p.takeBack(pl, c)
		p.free(pl, c.key)
		p.work.Go(func() { p.closeConn(c, "room needed") })
		return true
	}
	return false
}
