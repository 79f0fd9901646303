package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
	"farmhand/proxy/internal/backend"
	"farmhand/proxy/internal/classify"
	"farmhand/proxy/internal/consistency"
	"farmhand/proxy/internal/monitor"
	"farmhand/proxy/internal/route"
	"farmhand/proxy/internal/wire"
)

// Index gives positions of the farm; consistency.Index.
type Index interface {
	Read(ctx context.Context) (consistency.Point, error)
}

// horizon is what a session's reads must not fall behind of.
type horizon struct {
	position gtid.Position // a server that has executed it serves them
	epoch    farm.Epoch    // of position
	// seen is the address of the server on which the session has seen data since
	// position was taken: another one that has position may be behind that.
	seen string
	// indexed: position covers what had been committed anywhere when the session
	// began to read.
	indexed bool
	// ended is when a server's last answer was complete, before the client got
	// the end of it: for the client a pause begins no earlier.
	ended time.Time
}

// pause takes note of a command that begins: after a pause the session may be
// in other hands, which know of other commits.
func (h *horizon) pause(limit time.Duration, now time.Time) {
	if h.indexed && now.Sub(h.ended) >= limit {
		h.indexed = false
	}
}

// mustAsk tells whether a read from the replica at address needs the farm's
// position first. asked: the read has asked.
func (h *horizon) mustAsk(level consistency.Level, epoch farm.Epoch, address string, asked bool) bool {
	switch {
	case level == consistency.Eventual:
		return false
	case h.epoch != epoch && (h.seen != "" || !h.position.IsZero()):
		// A position of another epoch says nothing of this one: what survived of
		// it, the primary has.
		return true
	case h.seen != "" && h.seen != address:
		return true
	case level == consistency.Farm:
		return !h.indexed
	}
	return level == consistency.Strict && !asked
}

// take makes a position of the farm the session's.
func (h *horizon) take(p consistency.Point) {
	if p.Epoch == h.epoch {
		p.Position = p.Position.Merge(h.position)
	}
	h.position, h.epoch, h.seen, h.indexed = p.Position, p.Epoch, "", true
}

// wrote notes the position of a write of the session's own.
func (h *horizon) wrote(p gtid.Position, epoch farm.Epoch) {
	if epoch == h.epoch && (p.Flavor() == farm.MariaDB || h.position.Flavor() != farm.MySQL) {
		p = h.position.Merge(p)
	}
	// A MySQL server commits in the order of its source, so it has everything
	// before a write when it has that: the sets need not be gathered.
	h.position, h.epoch = p, epoch
}

// freshness is how a read's server is chosen.
type freshness struct {
	level  consistency.Level
	maxLag time.Duration
	// until is when a replica that is behind is waited for at the longest; zero
	// forbids to wait.
	until time.Time
}

// freshnessOf says what a statement's reads must see.
func (s *Session) freshnessOf(m *classify.Meaning) freshness {
	f := freshness{level: s.policy.Level(s.client.User), maxLag: s.policy.MaxLag}
	if h := &m.Hint; h.Present && !h.Malformed && s.policy.HintsAllowed(s.client.User) {
		if h.MaxLag > 0 {
			// Data of that age are fresh enough, if they are not older than the
			// session's own.
			f.maxLag = time.Duration(h.MaxLag)
			f.level = min(f.level, consistency.Session)
		}
		if h.Consistency != classify.NoConsistency {
			f.level = consistency.Level(h.Consistency - classify.EventualConsistency)
		}
	}
	return f
}

// mayWait tells whether a replica may be waited for on the connection that runs
// the command: the waiting is a statement of its own.
func (s *Session) mayWait(r *request) bool {
	if r.firstPacket > 0 {
		return false // it could not be sent again
	}
	// FOUND_ROWS() is about the statement before, if this one gives no rows.
	gives := r.meaning.Class == classify.Read && r.command != wire.ComStmtPrepare
	return gives || s.lastRows == nil || s.lastRows != s.replica
}

// acquireRead returns a connection to a server that has what the read must see.
// Where the server must be waited for, s.wait says so.
func (s *Session) acquireRead(ctx context.Context, f freshness, avoid []string) (*backend.Conn, error) {
	s.wait = wait{}
	asked, only, excused, anew := false, "", false, false
	for now := s.began; ; now = time.Now() {
		v := s.Farm.View()
		need := s.need(f, avoid, now)
		if anew = anew || s.joined != v.Joined; anew {
			need.Prefer, s.joined = "", v.Joined // a server has joined those to choose from
		}
		if need.Only = only; excused && s.horizon.seen != "" {
			need.Prefer = s.horizon.seen
		}
		choice := route.Read(v, &need, s.policy.PrimaryReads, now, random())
		server := choice.Server
		if server == nil {
			// A primary that is about to come serves reads too, and one that has failed
			// this one, of which the monitor does not know yet, is about to go.
			if s.policy.PrimaryReads != route.Never && (only != "" || v.Primary == nil || v.Primary.Status != monitor.Up || slices.Contains(avoid, v.Primary.Name)) {
				c, err := s.acquirePrimary(ctx)
				if err == nil || !isServerError(err) {
					return c, err
				}
			}
			return nil, noServer("no server can serve this read. %s", choice.Considered)
		}
		if v.Primary != nil && server.Name == v.Primary.Name {
			s.Metrics.readOnPrimary(choice.ForWant)
			return s.acquirePrimary(ctx)
		}
		if only == "" && !excused && s.horizon.mustAsk(f.level, v.Epoch, server.Address, asked) {
			point, err := s.Index.Read(ctx)
			switch {
			case err == nil:
				asked = true
				s.horizon.take(point)
			case ctx.Err() != nil:
				return nil, context.Cause(ctx)
			case s.policy.ServeWithoutPrimary && (v.Primary == nil || v.Primary.Status == monitor.Down):
				// The operator prefers pages that may be old to none.
				excused = true
				s.Metrics.readsExcused.Inc()
			case f.level == consistency.Session && s.horizon.epoch == v.Epoch:
				// The server that the session has read from is no older than itself.
				only = s.horizon.seen
			case s.policy.PrimaryReads == route.Never:
				return nil, noServer("no server can serve this read at the level %v: %v", f.level, err)
			default:
				s.Metrics.readsWithoutIndex.Inc()
				return s.acquirePrimary(ctx)
			}
			continue
		}
		if c := s.replica; c != nil && (c.Server.Name != server.Name || c.Server.Address != server.Address) {
			s.release(&s.replica)
		}
		c, err := s.open(ctx, &s.replica, server)
		if err == nil {
			if choice.Wait {
				s.wait = wait{server: server, position: need.Position, limit: need.Wait}
			}
			return c, nil
		}
		if isServerError(err) && s.transaction == nil {
			// This server refuses what another may grant: its copy of the
			// accounts or schemas may be behind.
			s.release(&s.replica)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if len(avoid) >= s.policy.ReadRetries {
			return s.acquirePrimary(ctx)
		}
		avoid = append(avoid, server.Name)
	}
}

// minWait is the shortest wait that is worth while.
const minWait = time.Millisecond

// need is what a read asks of its server now.
func (s *Session) need(f freshness, avoid []string, now time.Time) route.Need {
	n := route.Need{MaxLag: f.maxLag, Progress: s.Progress, Avoid: avoid}
	if f.level > consistency.Eventual {
		n.Position = s.horizon.position
	}
	if !f.until.IsZero() {
		if left := f.until.Sub(now); left >= minWait {
			n.Wait = left
		}
	}
	if s.replica != nil {
		n.Prefer = s.replica.Server.Address
	}
	return n
}

// wait is a wait that goes ahead of the next read on the replica's connection,
// in the same write.
type wait struct {
	server   *monitor.Server // nil: none
	position gtid.Position
	limit    time.Duration
}

// append appends the command that waits: its answer is 0 once the server has
// executed the position.
func (w *wait) append(dst []byte, caps wire.Capability, mariadb bool) []byte {
	dst = wire.AppendQuery(dst, caps)
	if mariadb {
		dst = append(dst, "SELECT MASTER_GTID_WAIT('"...)
	} else {
		dst = append(dst, "SELECT WAIT_FOR_EXECUTED_GTID_SET('"...)
	}
	dst = append(w.position.Append(dst), "',"...)
	return append(strconv.AppendFloat(dst, w.limit.Seconds(), 'f', 6, 64), ')')
}

// appendCheck appends the command that goes behind a wait on a replica that may
// say too early that it has executed an XA transaction: it lists those that are
// prepared.
func appendCheck(dst []byte, caps wire.Capability) []byte {
	return append(wire.AppendQuery(dst, caps), "XA RECOVER"...)
}

// anyRow reads the answer to a query and tells whether it has a row. An error is
// the server's *wire.Error, or the connection's end.
func anyRow(c *backend.Conn) (found bool, err error) {
	const limit = 1 << 20 // bytes of a packet
	var t wire.Tracker
	t.Begin(wire.ComQuery, c.Caps)
	for !t.Done() {
		p, err := c.ReadPayload(limit)
		if err != nil {
			c.MarkBroken()
			return false, err
		}
		first, row := byte(0), t.InRows()
		if len(p) > 0 {
			first = p[0]
		}
		if t.Next(len(p), first) == wire.Pass {
			found = found || row
			continue
		}
		if _, err := t.Inspect(p); err != nil {
			c.MarkBroken()
			return false, err
		}
	}
	if t.Err != nil {
		return false, t.Err
	}
	return found, nil
}

// errBehind: a replica was waited for in vain.
var errBehind = errors.New("the replica did not reach the position that the read needs")

// awaitPosition reads the answer to a wait. An error is errBehind, the server's
// *wire.Error, or the connection's end.
func (s *Session) awaitPosition(c *backend.Conn, w *wait, sent time.Time) error {
	value, err := c.ReadValue()
	if err != nil {
		return fmt.Errorf("wait for a position: %w", err)
	}
	now := time.Now()
	s.Metrics.positionWaits.Observe(now.Sub(sent).Seconds())
	if value != "0" {
		if value != "" { // no row, where the session's sql_select_limit is 0
			s.Progress.Waited(w.server.Address, now)
		}
		return errBehind
	}
	if w.server.AheadOfXA {
		prepared, err := anyRow(c)
		if err != nil {
			return fmt.Errorf("list prepared XA transactions: %w", err)
		}
		if prepared {
			// The position may have passed one that does not show yet, or not: only
			// their absence tells.
			s.Progress.Waited(w.server.Address, now)
			return errBehind
		}
	}
	s.Progress.Saw(w.server, w.position, now)
	return nil
}

// behind ends an attempt whose wait failed: the answer to the statement behind
// it, which may be anything, is not read.
func (s *Session) behind(ctx context.Context, c *backend.Conn, r *request, err error) (outcome, error) {
	const interrupted = 1317 // ER_QUERY_INTERRUPTED: the client has killed it
	var refused *wire.Error
	switch {
	case errors.Is(err, errBehind):
	case errors.As(err, &refused) && refused.Code == interrupted:
		s.discard(c, "killed")
		return answered, s.sendError(refused)
	case errors.As(err, &refused):
		// A time limit of the session's, for instance: waiting will not do here.
		r.fresh.until = time.Time{}
	default:
		return s.broken(ctx, c, r, err, true, false)
	}
	s.Metrics.readsWaitedInVain.Inc()
	s.discard(c, "behind")
	return stale, err
}

// saw takes note of where the session has seen data, after an answer.
func (s *Session) saw(c *backend.Conn, r *request) {
	h := &s.handler
	m := &r.meaning
	if h.wrote && c == s.primary && m.Flags&(classify.MultiStatement|classify.CallsProcedure) == 0 && s.ordered() {
		// The write comes after everything that the session has seen. Others may be
		// told of commits after it before the session begins to read.
		s.horizon.seen = ""
		return
	}
	switch {
	case r.command == wire.ComStmtPrepare:
	case h.rows, h.tracker.Err != nil, m.Class == classify.Write:
		s.horizon.seen = c.Server.Address
		if s.horizon.position.IsZero() {
			s.horizon.epoch = s.Farm.View().Epoch
		}
	}
}

// ordered tells whether the farm's transactions are in one order: a server that
// has executed one of them has executed all before it. Those of several MariaDB
// domains are not.
func (s *Session) ordered() bool {
	p := s.Farm.View().Primary
	return p != nil && p.Position.Merge(s.horizon.position).Domains() <= 1
}
