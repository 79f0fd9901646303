package monitor

import (
	"context"
	"errors"
	"net"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
	"farmhand/internal/mysqladmin"
)

// facts are what a successful probe found.
type facts struct {
	greeting   mysqladmin.Greeting
	state      mysqladmin.State
	channels   []mysqladmin.Channel
	channelErr string // why channels could not be read; empty if they could
	variables  map[string]string
	diskReads  float64 // see Server.DiskReads
	collations *Collations
	branches   int // prepared XA transactions, asked after state; only where that is AheadOfXA
}

// probe is the outcome of one probe.
type probe struct {
	sent, answered time.Time
	facts          *facts // nil if err is set
	err            error
}

// subject is what is remembered of one server from probe to probe.
type subject struct {
	farm.Server
	role  farm.Role
	added time.Time // when it came into the topology
	first bool      // it was there when the monitor began

	status   Status
	since    time.Time
	failures int // in a row
	// doubt is what speaks against the server since the last good probe: an
	// error that the data path reported or that a probe met.
	doubt      error
	doubtSince time.Time
	lastError  string
	silent     bool // the last probe met with silence

	facts  *facts        // of the last good probe; nil before the first
	probed time.Time     // when that was answered
	shown  gtid.Position // of state.Applied, what is sure to show
	fresh  time.Time     // replica: it has everything that was committed by then; zero if unknown
	// verified is the source (host:port) that was seen to be the primary while
	// both could be asked.
	verified string

	serving time.Time // since when it takes reads; zero while it does not
	left    time.Time // when it last stopped to
	fell    bool      // it was down since it last served
	ramp    time.Time // when its slow start began; zero for none
}

// after is the one transition of a server's health: what is remembered once a
// probe has ended. limit is how many failures in a row mean down.
func (s subject) after(p probe, limit int) subject {
	settled := !p.sent.Before(s.doubtSince)
	s.silent = p.err != nil && tookTooLong(p.err)
	become := func(to Status) {
		if s.status != to {
			s.status, s.since = to, p.answered
		}
	}
	switch {
	case p.err == nil:
		become(Up)
		s.failures, s.lastError = 0, ""
		s.facts, s.probed = p.facts, p.answered
		s.shown = shownAfter(s.shown, p.facts)
	case saturated(p.err):
		// It has no room for one more connection, which a dead server would not
		// say. What was known of it ages, and its pooled connections work.
		s.failures, s.lastError = 0, p.err.Error()
	default:
		s.failures++
		s.lastError = p.err.Error()
		if s.failures >= limit {
			become(Down)
			s.fell = true
		}
		if !tookTooLong(p.err) || s.status == Down {
			s.doubt, s.doubtSince = p.err, p.answered
		}
		return s
	}
	if settled {
		s.doubt, s.doubtSince = nil, time.Time{}
	}
	return s
}

// shownAfter returns the position of which a server is sure to show everything:
// where a prepared XA transaction may be one that the position has passed, the
// last one that was sure, unless the server was set back since.
func shownAfter(before gtid.Position, f *facts) gtid.Position {
	switch {
	case f.branches == 0:
		return f.state.Applied
	case f.state.Applied.Contains(before):
		return before
	}
	return gtid.Position{}
}

// doubted is what is remembered once the data path has reported an error.
func (s subject) doubted(err error, now time.Time) subject {
	s.doubt, s.doubtSince, s.lastError = err, now, err.Error()
	return s
}

// measured is what is remembered of a replica's freshness once it was probed or
// the primary's history was broken. moved tells that it was.
func (s subject) measured(h *history, moved bool, before gtid.Position) subject {
	if s.facts == nil {
		return s
	}
	at, ok := h.fresh(s.facts.state.Applied)
	switch {
	case moved || !s.facts.state.Applied.Contains(before):
		s.fresh = at // zero if unknown: what was known does not hold
	case ok && at.After(s.fresh):
		s.fresh = at // a thinned history may know less than before
	}
	return s
}

// served keeps the times of a server's service as its eligibility changes. A
// pause shorter than blip without going down, as after a false alarm, restarts
// no slow start; servers that are found well when the monitor begins need none.
func (s subject) served(eligible bool, now time.Time, blip, beginning time.Duration) subject {
	switch {
	case eligible && s.serving.IsZero():
		s.serving = now
		switch {
		case s.left.IsZero() && s.first && !s.fell && now.Sub(s.added) < beginning:
			s.ramp = time.Time{}
		case s.left.IsZero() || s.fell || now.Sub(s.left) >= blip:
			s.ramp = now
		}
		s.fell = false
	case !eligible && !s.serving.IsZero():
		s.serving, s.left = time.Time{}, now
	}
	return s
}

// ramped returns the weight of a server whose slow start began at start: a
// tenth at first, then in proportion to the time, at least 1.
func ramped(weight int, start, now time.Time, slowStart time.Duration) int {
	elapsed := now.Sub(start)
	if start.IsZero() || elapsed >= slowStart {
		return weight
	}
	share := 0.1 + 0.9*max(0, float64(elapsed)/float64(slowStart))
	return max(1, int(float64(weight)*share+0.5))
}

// Errors that a server returns, see
// https://mariadb.com/kb/en/mariadb-error-code-reference/.
const (
	errTooManyConnections = 1040 // ER_CON_COUNT_ERROR
	errTableAccess        = 1142 // ER_TABLEACCESS_DENIED_ERROR
	errColumnAccess       = 1143 // ER_COLUMNACCESS_DENIED_ERROR
	errNoSuchTable        = 1146 // ER_NO_SUCH_TABLE
	errUserConnections    = 1203 // ER_TOO_MANY_USER_CONNECTIONS
)

func saturated(err error) bool {
	code := mysqladmin.Code(err)
	return code == errTooManyConnections || code == errUserConnections
}

func tookTooLong(err error) bool {
	var n net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}
