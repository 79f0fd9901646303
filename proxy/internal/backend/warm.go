package backend

import (
	"context"
	"time"

	"farmhand/internal/farm"
	"farmhand/proxy/internal/auth"
)

// demand is what sessions of one login and shape have asked a server for. The
// pool opens connections ahead of it, so that a new client need not wait for a
// login, not even on a server that was added a moment ago.
type demand struct {
	server     farm.Server
	credential *auth.Credential
	schema     string
	last       time.Time // when a session asked last
	used       int       // connections in use
	high       int       // the most at once since the last look
	peak       int       // the most at once, lately
	failed     time.Time // when one could not be opened
	opening    bool
}

// demandFor is how long an unused login is remembered.
const demandFor = time.Minute

// took takes note of a connection that is in use now.
func (d *demand) took() {
	d.used++
	d.high = max(d.high, d.used)
}

// wanted takes note of what a session asks for.
func (pl *place) wanted(k key, w *Want) {
	d := pl.logins[k]
	if d == nil {
		d = &demand{}
		pl.logins[k] = d
	}
	d.server, d.credential, d.schema, d.last = w.Server, w.Credential, w.Schema, time.Now()
}

// Expect makes servers known to which sessions will connect before long: what
// they ask other servers for is made ready there, too.
func (p *Pool) Expect(servers []farm.Server) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := map[key]*demand{}
	for _, pl := range p.places {
		for k, d := range pl.logins {
			k.server, k.address = "", ""
			if o := known[k]; o == nil || o.peak < d.peak {
				known[k] = d
			}
		}
	}
	for _, s := range servers {
		pl := p.place(s.Name)
		for k, d := range known {
			k.server, k.address = s.Name, s.Address
			if pl.logins[k] == nil {
				pl.logins[k] = &demand{server: s, credential: d.credential, schema: d.schema, last: d.last, peak: d.peak}
			}
		}
	}
}

// spare is how many idle connections there should be for a demand.
func (d *demand) spare(limit int) int { return min(limit, 1+d.peak/8) }

// kept is how many idle connections of a kind are kept: as many as the sessions
// used at once lately, where that is more than Options say, so that clients who
// come and go do not have them opened and closed again.
func (p *Pool) kept(pl *place, k key) int {
	if d := pl.logins[k]; d != nil && p.opt.Warm && p.opt.IdlePerUser > 0 {
		return max(p.opt.IdlePerUser, d.peak, d.high)
	}
	return p.opt.IdlePerUser
}

// warm opens connections ahead of demand, one at a time for each login.
func (p *Pool) warm(ctx context.Context, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pl := range p.places {
		if len(pl.logins) == 0 {
			continue
		}
		for k, d := range pl.logins {
			if d.used == 0 && now.Sub(d.last) > min(demandFor, p.opt.IdleTimeout) {
				delete(pl.logins, k)
				continue
			}
			d.peak = max(d.high, d.peak-1-d.peak/16)
			d.high = d.used
			if d.opening || p.leaves(k) || now.Sub(d.failed) < fullFor || p.gone || !pl.queue.empty() ||
				len(pl.idle[k]) >= d.spare(p.opt.IdlePerUser) || !p.hasRoom(pl, k) {
				continue
			}
			d.opening = true
			p.reserve(pl, k)
			w := Want{Server: d.server, Credential: d.credential, Schema: d.schema}
			p.work.Go(func() { p.openSpare(ctx, k, &w, d) })
		}
	}
}

func (p *Pool) openSpare(ctx context.Context, k key, w *Want, d *demand) {
	dialing, cancel := p.connectContext(ctx)
	defer cancel()
	c, err := dial(dialing, w.Server, w.Credential, k.shape, w.Schema, p.opt.TLS)
	p.mu.Lock()
	pl := p.place(k.server)
	d.opening = false
	if err != nil {
		// Whoever needs one meets the same, and says so.
		d.failed = time.Now()
		p.free(pl, k)
		p.serve(pl)
		p.mu.Unlock()
		return
	}
	c.key = k
	p.handOut(pl, c)
	p.mu.Unlock()
	p.metrics.opened.WithLabelValues(k.server).Inc()
	p.keep(c)
}
