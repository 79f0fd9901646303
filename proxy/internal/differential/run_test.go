package differential

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"farmhand/proxy/internal/wire"
)

// clients is how many clients a session has at the most.
const clients = 2

// pair is a client of each world.
type pair struct {
	direct, proxy         client
	fromServer, fromProxy response
	rows                  bool // there was a result set since the login, or what is like one
	failed                bool // the statement before failed
	unsaid                bool // whether there are still warnings of an earlier statement, nobody says
}

// runner runs sessions, one after the other, in both worlds.
type runner struct {
	pairs  [clients]pair
	counts *counts
}

func newRunner(alone, proxy string, c *counts) *runner {
	r := &runner{counts: c}
	for i := range r.pairs {
		r.pairs[i].direct.address, r.pairs[i].proxy.address = alone, proxy
	}
	return r
}

// close ends the connections. They are reset before, which waits until nothing
// of the session is left on the servers that could be in the next one's way.
func (r *runner) close() {
	for i := range r.pairs {
		p := &r.pairs[i]
		s := step{do: reset}
		p.direct.start(&s, &p.fromServer)
		p.proxy.start(&s, &p.fromProxy)
		p.direct.finish(&s, &p.fromServer)
		p.proxy.finish(&s, &p.fromProxy)
		p.direct.close()
		p.proxy.close()
	}
}

// divergence is a step whose answers differ.
type divergence struct {
	at     int // index of the step
	what   string
	direct string // the answers, for people
	proxy  string
}

// run runs a session from its beginning and returns where its answers differ,
// nil if nowhere.
//
// MariaDB 10.11.19 answers a locking read before it has released the locks of one by
// itself: another connection that does not wait for locks may still see them.
func (r *runner) run(steps []step) *divergence {
	r.close()
	for i := range steps {
		s := &steps[i]
		p := &r.pairs[s.who]
		if seesLocks.MatchString(p.direct.textOf(s)) {
			time.Sleep(locksLinger)
		}
		p.direct.start(s, &p.fromServer)
		p.proxy.start(s, &p.fromProxy)
		p.direct.finish(s, &p.fromServer)
		p.proxy.finish(s, &p.fromProxy)
		if r.counts != nil {
			r.counts.add(s, &p.fromServer)
		}
		if s.do == connect || s.do == changeUser || s.do == reset {
			p.rows = false
		}
		if keepsFoundRows(s, p.rows && !p.failed) {
			continue
		}
		if p.unsaid = unsaid(s, p.direct.textOf(s), p.unsaid); p.unsaid && asksForWarnings(s.text) {
			continue
		}
		p.failed = p.fromServer.failed()
		p.rows = p.rows || s.do != prepare && p.fromServer.has(definition)
		if excused(&p.fromProxy) {
			if r.counts != nil {
				r.counts.excused(s.kind)
			}
			return nil // what follows is not to be compared
		}
		if what := difference(s, &p.fromServer, &p.fromProxy, p.direct.caps); what != "" {
			return &divergence{at: i, what: what, direct: p.fromServer.show(p.direct.caps), proxy: p.fromProxy.show(p.proxy.caps)}
		}
	}
	return nil
}

var seesLocks = regexp.MustCompile(`(?i)\b(SKIP\s+LOCKED|NOWAIT)\b`)

const locksLinger = 3 * time.Millisecond

// describe prints a session and where it differs.
func (d *divergence) describe(steps []step, scene int) string {
	var b strings.Builder
	for i, s := range steps[:d.at+1] {
		if i < scene && s.do != connect && d.at >= scene {
			continue
		}
		fmt.Fprintf(&b, "  %3d  %v\n", i, s)
	}
	fmt.Fprintf(&b, "%s\n  directly:\n%s  through the proxy:\n%s", d.what, d.direct, d.proxy)
	return b.String()
}

// caps are the capabilities of which clients have any.
var caps = []wire.Capability{
	wire.ClientFoundRows, wire.ClientDeprecateEOF, wire.ClientMultiStatements, wire.ClientSessionTrack,
	wire.ClientIgnoreSpace, wire.ClientNoSchema, wire.ClientODBC, wire.MariaDBExtendedMetadata, wire.MariaDBStmtBulk,
}
