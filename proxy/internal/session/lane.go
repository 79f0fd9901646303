package session

import (
	"context"
	"strconv"
	"time"

	"farmhand/proxy/internal/auth"
	"farmhand/proxy/internal/backend"
	"farmhand/proxy/internal/classify"
	"farmhand/proxy/internal/lane"
	"farmhand/proxy/internal/monitor"
	"farmhand/proxy/internal/route"
	"farmhand/proxy/internal/wire"
)

// sharing is what a session has to do with lanes.
type sharing struct {
	call   *lane.Call
	group  *lane.Group // of kind
	kind   kind
	home   string // address of the server that it read from last
	unsaid asked  // what can be asked about command, which no connection of the session's ran
	// command went by a lane; version and schema are the state's then.
	command []byte
	answer  int // bytes of what it was answered
	version uint64
	schema  string
}

// kind is what decides which lanes a session may use.
type kind struct {
	address    string
	schema     string
	settings   *backend.Settings
	caps       wire.Capability
	credential *auth.Credential
}

// asked are questions about the statement before.
type asked uint8

const (
	askedWarnings asked = 1 << iota
	askedCount          // ROW_COUNT()
	askedRows           // FOUND_ROWS()
	askedAll      = askedWarnings | askedCount | askedRows
)

// told takes note that a connection of the session's can answer.
func (sh *sharing) told(a asked) {
	if sh != nil {
		sh.unsaid &^= a
	}
}

// forget forgets the session that was.
func (sh *sharing) forget() {
	if sh != nil {
		sh.unsaid, sh.group = 0, nil
	}
}

// goesByLane tells whether a command may share a connection with other sessions':
// a read of tables that neither asks nor tells anything of its session. (MySQL says
// with each answer that the transaction's state has changed.)
func (s *Session) goesByLane(r *request) bool {
	m := &r.meaning
	return s.Lanes != nil && s.state.mode.MariaDB && r.print != 0 && m.Flags == classify.UsesTable && m.Class == classify.Read && m.Verb == classify.VerbSelect &&
		r.target == route.Replica && r.read && r.bind == nil && r.firstPacket == 0 && !m.Hint.Present && !r.again &&
		s.transaction == nil && s.suspended == nil && len(r.payload) <= lane.MaxCommand
}

// byLane serves a read by a lane. False: it is not served, and as good as never
// sent.
func (s *Session) byLane(r *request) (served bool, err error) {
	if !s.Quick.Trusts(r.print, s.began) {
		return false, nil
	}
	sh := s.shares
	if sh == nil {
		sh = &sharing{call: lane.NewCall()}
		s.shares = sh
	}
	v := s.Farm.View()
	if s.joined != v.Joined {
		return false, nil // there are new servers to choose from
	}
	need := s.need(r.fresh, nil, s.began)
	if s.replica == nil {
		need.Prefer = sh.home
	}
	server := route.Read(v, &need, s.policy.PrimaryReads, s.began, random()).Server
	if server == nil || v.Primary != nil && server.Name == v.Primary.Name || s.horizon.mustAsk(r.fresh.level, v.Epoch, server.Address, false) {
		return false, nil
	}
	group := s.lanes(server)
	if group == nil {
		return false, nil
	}
	ok, unfit := group.Do(sh.call, r.payload)
	if !ok {
		if unfit {
			s.Quick.Lapsed(r.print, time.Now())
		}
		return false, nil
	}
	defer sh.call.Release()
	answer, status := sh.call.Answer()
	s.horizon.ended = time.Now()
	s.status = status
	s.horizon.seen = server.Address
	if s.horizon.position.IsZero() {
		s.horizon.epoch = v.Epoch
	}
	sh.home = server.Address
	sh.command = append(sh.command[:0], r.payload...)
	sh.unsaid, sh.answer, sh.version, sh.schema = askedAll, len(answer), s.state.version, s.state.schema
	s.last, s.lastCount, s.lastRows, s.calculated = nil, nil, nil, false
	s.missed.warnings, s.missed.count, s.missed.rows = false, false, false
	s.Metrics.observe(false, s.horizon.ended.Sub(s.began))
	s.Metrics.lanes.Inc()
	return true, s.conn.Forward(answer)
}

// lanes returns the lanes to a server of sessions like this one, nil if there are
// none. Where there should be more, the session's own connection becomes one.
func (s *Session) lanes(server *monitor.Server) *lane.Group {
	sh := s.shares
	k := kind{address: server.Address, schema: s.state.schema, settings: s.state.settings(), caps: s.client.Caps, credential: s.client.Credential}
	if sh.group != nil && sh.kind == k && !sh.group.Gone() && (s.replica == nil || !sh.group.Wants()) {
		return sh.group
	}
	w := backend.Want{Server: server.Server, Credential: s.client.Credential, Caps: s.client.Caps, Schema: s.state.schema, Settings: k.settings}
	sh.group, sh.kind = s.Lanes.Find(w.State()), k
	if sh.group == nil || sh.group.Wants() {
		c := s.replica
		if c != nil && c.Server.Name == server.Name && c.Server.Address == server.Address && s.use(c) && s.lendable(c) &&
			c.Synced == s.state.version && c.Schema == s.state.schema && s.shared.running.set(nil) {
			s.forget(c) // what it knows of the statement before, nobody asks any more
			sh.group = s.Lanes.Add(&w, c, processors(server))
		}
	}
	return sh.group
}

// processors is how many processors a server has, as far as it tells.
func processors(server *monitor.Server) int {
	const usual = 4
	if n, err := strconv.Atoi(server.Variables["thread_pool_size"]); err == nil && n > 0 {
		return n
	}
	return usual
}

// recall has a connection of the session's run the command that went by a lane
// last, where the next one asks about it, or will keep it from being run again. m
// is the next one's meaning.
func (s *Session) recall(ctx context.Context, m *classify.Meaning) error {
	sh := s.shares
	if sh == nil || sh.unsaid == 0 {
		return nil
	}
	questions := askedAll
	switch {
	case m.Flags&(classify.Diagnostics|classify.AsksFoundRows|classify.AsksRowCount) == classify.Diagnostics:
		questions = askedWarnings
	case m.Flags&classify.Diagnostics != 0:
	case m.Class == classify.Read, m.Class == classify.Write && m.Flags&(changesSession|classify.ExecutesText) == 0:
		return nil
	}
	if sh.unsaid&questions == 0 {
		return nil
	}
	if sh.version == s.state.version && sh.schema == s.state.schema && (s.transaction == nil || s.transaction != s.replica) {
		if err := s.runAgain(ctx); err != nil {
			return err
		}
	}
	s.missed.warnings = s.missed.warnings || sh.unsaid&askedWarnings != 0
	s.missed.count = s.missed.count || sh.unsaid&askedCount != 0
	s.missed.rows = s.missed.rows || sh.unsaid&askedRows != 0
	sh.unsaid = 0
	return nil
}

// runAgain runs what went by a lane last for nobody.
func (s *Session) runAgain(ctx context.Context) error {
	payload := s.shares.command
	offset, err := wire.QueryText(payload, s.client.Caps)
	if err != nil {
		return err
	}
	sql := payload[offset:]
	m := classify.Classify(sql, s.state.mode)
	r := request{command: wire.ComQuery, payload: payload, sql: sql, meaning: m, target: route.Replica, read: true, again: true, fresh: s.freshnessOf(&m)}
	if s.transaction != nil {
		if r.fixed, err = s.acquireRead(ctx, r.fresh, nil); err != nil {
			if isServerError(err) {
				return nil
			}
			return err
		}
	}
	client, unsaid := s.conn, s.shares.unsaid
	last, lastCount, lastRows, calculated, missed := s.last, s.lastCount, s.lastRows, s.calculated, s.missed
	s.conn = wire.NewConn(discard{})
	err = s.run(ctx, &r)
	s.conn = client
	if err == nil && (s.handler.tracker.Err != nil || s.handler.size != int64(s.shares.answer)) {
		// The data has changed since: what this run could tell is not about what the
		// client got. (ROW_COUNT() is -1 after any read.)
		s.last, s.lastRows = nil, nil
		s.missed.warnings, s.missed.rows = true, true
	}
	// What can be asked about statements since is as it was.
	if unsaid&askedWarnings == 0 {
		s.last, s.missed.warnings = s.stillThere(last, missed.warnings)
	}
	if unsaid&askedCount == 0 {
		s.lastCount, s.missed.count = s.stillThere(lastCount, missed.count)
	}
	if unsaid&askedRows == 0 {
		s.lastRows, s.missed.rows = s.stillThere(lastRows, missed.rows)
		s.calculated = calculated
	}
	return err
}

// stillThere is a connection of the session's, if that has it still; else what
// it knew is missed.
func (s *Session) stillThere(c *backend.Conn, missed bool) (*backend.Conn, bool) {
	if c == nil || c == s.primary || c == s.replica {
		return c, missed
	}
	return nil, true
}
