package session

import (
	"context"
	"time"

	"farmhand/internal/farm"
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
	call  *lane.Call
	group *lane.Group // of kind
	kind  kind
	home  string // address of the server that it read from last
	// server is the one of the call, and epoch that of its choice.
	server  string
	epoch   farm.Epoch
	glance  glance
	refused bool  // no lane has answered the command, which has come back
	row     int   // so many commands have gone by lanes, the last among them
	went    bool  // the command under way does
	unsaid  asked // what can be asked about command, which no connection of the session's ran
	// command went by a lane; version and schema are the state's then.
	command []byte
	stmt    *statement // that command executes; it may have been closed
	answer  int        // bytes of what it was answered
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

// ended takes note that a command has ended.
func (sh *sharing) ended() {
	if sh != nil {
		if !sh.went {
			sh.row = 0
		}
		sh.went, sh.refused = false, false
	}
}

// forget forgets the session that was.
func (sh *sharing) forget() {
	if sh != nil {
		sh.unsaid, sh.group, sh.stmt = 0, nil, nil
	}
}

// mayShare tells whether a statement may share a connection with other sessions': it
// is a read of tables that neither asks nor tells anything of its session. (MySQL says
// with each answer that the transaction's state has changed.)
func (s *Session) mayShare(m *classify.Meaning) bool {
	return s.Lanes != nil && s.state.mode.MariaDB && m.Flags == classify.UsesTable && m.Class == classify.Read && m.Verb == classify.VerbSelect &&
		!m.Hint.Present && s.transaction == nil && s.suspended == nil
}

// goesByLane tells whether a command may go by a lane.
func (s *Session) goesByLane(r *request) bool {
	return s.mayShare(&r.meaning) && r.print != 0 && r.target == route.Replica && r.read && (r.bind == nil || r.stmt != nil) && r.firstPacket == 0 &&
		r.fixed == nil && !r.again && len(r.payload) <= lane.MaxCommand
}

// laneCommand makes a command one for a lane. False: it is not for one.
func (s *Session) laneCommand(payload []byte, st *statement) (c lane.Command, ok bool) {
	if st == nil {
		return lane.Command{Payload: payload}, true
	}
	const cursor = 7 // flags that ask for one
	if len(payload) < 10 || payload[5]&cursor != 0 || len(st.text) > lane.MaxCommand || st.schema != s.state.schema || !s.meansTheSame(st) {
		return c, false
	}
	e, err := wire.ParseExecute(payload, int(st.params), s.client.Caps)
	if err != nil {
		return c, false
	}
	switch {
	case e.Flag == 0: // no parameters
	case e.Bound:
		st.types = append(st.types[:0], payload[e.Flag+1:e.Types]...)
	case len(st.types) == 0:
		return c, false
	default: // other sessions may have bound others there
		s.scratch = wire.AppendExecuteTypes(s.scratch[:0], payload, e, st.types)
		if payload = s.scratch; len(payload) > lane.MaxCommand {
			return c, false
		}
	}
	return lane.Command{Payload: payload, Statement: st.text, Params: st.params}, true
}

// meansTheSame tells whether a statement's text would be read now as when it was
// prepared.
func (s *Session) meansTheSame(st *statement) bool {
	if st.sameAt != s.state.version+1 {
		if there, _ := s.state.detour(st.context); len(there) > 0 {
			return false
		}
		st.sameAt = s.state.version + 1
	}
	return true
}

// printOf is the fingerprint of a statement's text.
func (s *Session) printOf(st *statement) uint64 {
	if st.print == 0 && s.Lanes != nil {
		st.print = classify.Fingerprint(st.text, s.state.mode)
	}
	return st.print
}

// byLane serves a read by a lane. False: it is not served, and as good as never
// sent.
func (s *Session) byLane(r *request) (served bool, err error) {
	sh := s.shares
	if sh != nil && sh.refused {
		return false, nil // it has been tried
	}
	if !s.Quick.Trusts(r.print, s.began) {
		return false, nil
	}
	command, ok := s.laneCommand(r.payload, r.stmt)
	if !ok {
		return false, nil
	}
	group := s.laneFor(r.fresh, true)
	if group == nil {
		return false, nil
	}
	sh = s.shares
	group.Do(sh.call, command)
	answer, _ := sh.call.Answer()
	if answer == nil {
		s.notByLane(r.print)
		return false, nil
	}
	defer sh.call.Release()
	s.cameByLane(r.payload, r.stmt)
	return true, s.conn.Forward(answer)
}

// laneFor returns the lanes by which a read may go, nil if there are none. found
// allows to make more of them.
func (s *Session) laneFor(f freshness, found bool) *lane.Group {
	v := s.Farm.View()
	if s.joined != v.Joined {
		return nil // there are new servers to choose from
	}
	if s.shares == nil {
		s.shares = &sharing{call: lane.NewCall()}
	}
	sh := s.shares
	need := s.need(f, nil, s.began)
	if s.replica == nil {
		need.Prefer = sh.home
	}
	server := route.Read(v, &need, s.policy.PrimaryReads, s.began, random()).Server
	if server == nil || v.Primary != nil && server.Name == v.Primary.Name || s.horizon.mustAsk(f.level, v.Epoch, server.Address, false) {
		return nil
	}
	sh.server, sh.epoch = server.Address, v.Epoch
	return s.lanes(server, found)
}

// notByLane takes note that a lane has not answered the call.
func (s *Session) notByLane(print uint64) {
	s.Metrics.laneMisses.Inc()
	if s.shares.call.Unfit() {
		s.Quick.Lapsed(print, time.Now())
	}
}

// cameByLane takes note of a command whose answer has come by a lane, and the statement
// that it has executed, if it has.
func (s *Session) cameByLane(payload []byte, st *statement) {
	sh := s.shares
	answer, status := sh.call.Answer()
	s.horizon.ended = time.Now()
	s.status = status
	s.horizon.seen = sh.server
	if s.horizon.position.IsZero() {
		s.horizon.epoch = sh.epoch
	}
	sh.home, sh.went = sh.server, true
	sh.row++
	sh.command, sh.stmt = append(sh.command[:0], payload...), st
	sh.unsaid, sh.answer, sh.version, sh.schema = askedAll, len(answer), s.state.version, s.state.schema
	s.last, s.lastCount, s.lastRows, s.calculated = nil, nil, nil, false
	s.missed.warnings, s.missed.count, s.missed.rows = false, false, false
	s.Metrics.observe(false, s.horizon.ended.Sub(s.began))
	s.Metrics.lanes.Inc()
}

// lanes returns the lanes to a server of sessions like this one, nil if there are
// none. Where there should be more, and found allows it, the session's own connection
// becomes one, or, if it has none, one that is idle; else there are none while there
// are too few.
func (s *Session) lanes(server *monitor.Server, found bool) *lane.Group {
	sh := s.shares
	k := kind{address: server.Address, schema: s.state.schema, settings: s.state.settings(), caps: s.client.Caps, credential: s.client.Credential}
	size := lane.Size(server.Processors, server.DiskReads)
	if sh.group != nil && sh.kind == k && !sh.group.Gone() {
		if sh.group.Resize(size); s.replica == nil || !sh.group.Wants() {
			return sh.group
		}
	}
	w := backend.Want{Server: server.Server, Credential: s.client.Credential, Caps: s.client.Caps, Schema: s.state.schema, Settings: k.settings}
	sh.group, sh.kind = s.Lanes.Find(w.State()), k
	if !found {
		if sh.group != nil && s.replica != nil && sh.group.Wants() {
			return nil
		}
		return sh.group
	}
	if sh.group == nil || sh.group.Wants() {
		c := s.replica
		if c == nil && s.Pool.Suits(&w) {
			if idle, err := s.Pool.Get(s.ctx, &w); err == nil { // else the statement is served in another way
				sh.group = s.Lanes.Add(&w, idle, size)
			}
		}
		if c != nil && c.Server.Name == server.Name && c.Server.Address == server.Address && s.use(c) && s.lendable(c) &&
			c.Synced == s.state.version && c.Schema == s.state.schema && s.shared.running.set(nil) {
			s.forget(c) // what it knows of the statement before, nobody asks any more
			sh.group = s.Lanes.Add(&w, c, size)
		}
	}
	return sh.group
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
	case m.Flags&classify.Diagnostics != 0:
		if questions = 0; m.Flags&classify.AsksFoundRows != 0 {
			questions |= askedRows
		}
		if m.Flags&classify.AsksRowCount != 0 {
			questions |= askedCount
		}
		if questions == 0 {
			questions = askedWarnings
		}
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
	r, err := s.lastByLane()
	if err != nil {
		return err
	}
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
	count, uncounted := s.count, s.uncounted
	warned := last != nil && s.warned(last)
	s.conn, s.lastCount = wire.NewConn(discard{}), nil
	err = s.run(ctx, r)
	ran := s.lastCount // nil: none
	s.conn = client
	if st := r.stmt; st != nil && s.statements[st.id] != st {
		s.closeOnServers(st) // the client has closed it
	}
	if err == nil && (s.handler.tracker.Err != nil || s.handler.size != int64(s.shares.answer)) {
		// The data has changed since: what this run could tell is not about what the
		// client got. (ROW_COUNT() is -1 after any read.)
		s.last, s.lastRows = nil, nil
		s.missed.warnings, s.missed.rows = true, true
	}
	// What can be asked about statements since is as it was, but for what the one
	// connection that could run this had to tell of them.
	if unsaid&askedWarnings == 0 {
		s.last, s.missed.warnings = s.stillThere(last, missed.warnings, ran != nil && ran == last && (warned || ran.Warned))
	}
	if unsaid&askedCount == 0 {
		s.lastCount, s.missed.count = s.stillThere(lastCount, missed.count, ran == lastCount && count != -1)
		s.count, s.uncounted = count, uncounted
	}
	if unsaid&askedRows == 0 {
		s.lastRows, s.missed.rows = s.stillThere(lastRows, missed.rows, ran == lastRows)
		s.calculated = calculated
	}
	return err
}

// lastByLane is the command that went by a lane last, to be run again.
func (s *Session) lastByLane() (*request, error) {
	payload, st := s.shares.command, s.shares.stmt
	r := &request{command: wire.Command(payload[0]), payload: payload, stmt: st, target: route.Replica, read: true, again: true}
	if st != nil {
		r.meaning = st.meaning
		r.bind = func(c *backend.Conn) ([]byte, error) { return s.bindExecute(c, st, payload, r.command, false) }
	} else {
		offset, err := wire.QueryText(payload, s.client.Caps)
		if err != nil {
			return nil, err
		}
		r.sql = payload[offset:]
		r.meaning = classify.Classify(r.sql, s.state.mode)
	}
	r.fresh = s.freshnessOf(&r.meaning)
	return r, nil
}

// stillThere is a connection of the session's, if that has it still and it is not spoiled;
// else what it knew is missed.
func (s *Session) stillThere(c *backend.Conn, missed, spoiled bool) (*backend.Conn, bool) {
	if c == nil || !spoiled && (c == s.primary || c == s.replica) {
		return c, missed
	}
	return nil, true
}
