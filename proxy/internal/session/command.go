package session

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"farmhand/proxy/internal/backend"
	"farmhand/proxy/internal/classify"
	"farmhand/proxy/internal/route"
	"farmhand/proxy/internal/wire"
)

// prefixSize is how much of a streamed command is looked at.
const prefixSize = 16 << 10

// command reads and serves one command. An error ends the session.
func (s *Session) command(ctx context.Context) error {
	length, seq := wire.Header(s.conn.Buffered())
	s.conn.Seq = seq + 1
	if seq != 0 {
		return s.fatal(&wire.Error{Code: 1156, State: "08S01", Message: "Got packets out of order"})
	}
	if length == 0 {
		return s.fatal(&wire.Error{Code: codeUnknownCom, State: "08S01", Message: "Unknown command"})
	}
	if len(s.conn.Buffered()) < wire.HeaderSize+length {
		if err := s.unhurried(ctx); err != nil {
			return err
		}
	}
	if length > s.policy.ClassifySize || length == wire.MaxPayload {
		return s.longCommand(ctx, length)
	}
	payload, err := s.conn.ReadPayload(s.policy.ClassifySize)
	if err != nil {
		return err
	}
	return s.dispatch(ctx, payload, 0)
}

// longCommand serves a command that is too long to be kept: its first packet's
// head is looked at, the rest is streamed.
func (s *Session) longCommand(ctx context.Context, length int) error {
	n := min(length, prefixSize)
	if err := s.conn.Need(wire.HeaderSize + n); err != nil {
		return err
	}
	s.conn.Seq = 1
	if length > s.policy.PacketSize {
		return s.fatal(&wire.Error{Code: codePacket, State: "08S01", Message: "Got a packet bigger than 'max_allowed_packet' bytes"})
	}
	// The prefix must outlive the buffer, which the rest goes through.
	prefix := slices.Clone(s.conn.Buffered()[wire.HeaderSize : wire.HeaderSize+n])
	switch c := wire.Command(prefix[0]); c {
	case wire.ComQuery, wire.ComStmtExecute, wire.ComStmtBulkExecute, wire.ComStmtSendLong:
		return s.dispatch(ctx, prefix, length)
	default:
		if err := s.skipStream(); err != nil {
			return err
		}
		return s.sendError(&wire.Error{Code: codePacket, State: "08S01", Message: fmt.Sprintf(
			"Farmhand: a %v of more than %d bytes is not served (limits.classify_size)", c, s.policy.ClassifySize)})
	}
}

// fatal answers with an error and ends the session. The command may have been
// read or not: conn.Seq is what follows it.
func (s *Session) fatal(e *wire.Error) error {
	_ = s.sendError(e)
	return e
}

// skip reads a streamed command to its end; firstPacket 0 is one that was read.
func (s *Session) skip(firstPacket int) error {
	if firstPacket == 0 {
		return nil
	}
	return s.skipStream()
}

// dispatch serves a command. payload is the whole of it or, where firstPacket is
// not 0, the head of its first packet of that size, still in the client
// connection's buffer.
func (s *Session) dispatch(ctx context.Context, payload []byte, firstPacket int) error {
	command := wire.Command(payload[0])
	s.shared.begin(command, s.began)
	switch command {
	case wire.ComQuery:
		return s.query(ctx, payload, firstPacket)
	case wire.ComStmtPrepare:
		return s.prepare(ctx, payload)
	case wire.ComStmtExecute, wire.ComStmtBulkExecute:
		if command == wire.ComStmtBulkExecute && !s.client.Caps.Has(wire.MariaDBStmtBulk) {
			break
		}
		return s.execute(ctx, payload, firstPacket)
	case wire.ComStmtSendLong:
		return s.sendLongData(ctx, payload, firstPacket)
	case wire.ComStmtClose:
		return s.closeStatement(payload)
	case wire.ComStmtReset:
		return s.resetStatement(ctx, payload)
	case wire.ComStmtFetch:
		return s.fetch(ctx, payload)
	case wire.ComQuit:
		return errEnd
	case wire.ComPing:
		if s.transaction != nil {
			// Its answer tells whether the transaction is still open, which an error
			// does not.
			return s.run(ctx, &request{command: command, payload: payload, fixed: s.transaction})
		}
		return s.sendOK()
	case wire.ComInitDB:
		m := classify.Meaning{Class: classify.SessionState, Flags: classify.UsesSchema}
		if err := s.recall(ctx, &m); err != nil {
			return err
		}
		d := s.decide(&m, nil)
		return s.run(ctx, &request{command: command, payload: payload, meaning: m, target: d.Target, read: true})
	case wire.ComChangeUser:
		return s.changeUser(ctx, payload)
	case wire.ComResetConnection:
		return s.resetConnection()
	case wire.ComSetOption:
		return s.setOption(ctx, payload)
	case wire.ComProcessKill:
		if len(payload) < 5 {
			break
		}
		id, err := wire.StatementID(payload)
		if err != nil {
			return err
		}
		return s.kill(ctx, classify.KillStatement{ID: uint64(id)}, payload, nil)
	case wire.ComFieldList, wire.ComStatistics, wire.ComProcessInfo, wire.ComDebug, wire.ComRefresh, wire.ComCreateDB, wire.ComDropDB:
		m := classify.Meaning{Class: classify.Write}
		d := s.decide(&m, nil)
		return s.run(ctx, &request{command: command, payload: payload, meaning: m, target: d.Target})
	case wire.ComShutdown, wire.ComBinlogDump, wire.ComBinlogDumpGTID, wire.ComTableDump, wire.ComRegisterSlave, wire.ComClone:
		return s.sendError(&wire.Error{Code: codeNotThrough, State: "42000", Message: fmt.Sprintf(
			"Farmhand: %v is about one server; connect to that server directly", command)})
	}
	if err := s.skip(firstPacket); err != nil {
		return err
	}
	return s.sendError(&wire.Error{Code: codeUnknownCom, State: "08S01", Message: "Unknown command"})
}

// decide routes a statement. It makes a write of m where a replica has refused
// the text as one.
func (s *Session) decide(m *classify.Meaning, sql []byte) route.Decision {
	if m.Flags&(classify.Diagnostics|classify.LastInsertID) != 0 {
		s.useLast()
	}
	if m.Class == classify.Read && s.Refused.has(sql, s.state.mode) {
		m.Class, m.Reason = classify.Write, classify.RefusedByReplica
	}
	st := &s.state
	asked := s.asked(m)
	f := route.Facts{
		InTransaction:   s.transaction != nil && !s.nextTransaction,
		NextTransaction: s.transaction != nil && s.nextTransaction,
		AutocommitOff:   st.autocommitOff,
		Serializable:    st.serializable,
		ReadOnlyDefault: st.readOnly,
		Bound:           len(st.temporary) > 0 || len(st.unknownVariables) > 0 || s.lastInsertID != 0 || st.inserted,
		HasLast: asked != nil && m.Flags&classify.Diagnostics != 0 && m.Class == classify.Read &&
			(m.Flags&classify.UsesTable == 0 || asked == s.primary && s.isPrimary(asked) && (s.transaction == nil || s.transaction == asked)) &&
			(m.Flags&classify.LastInsertID == 0 || s.lastInsertID == 0 && !st.inserted || asked == s.primary),
		Pinned:       st.pinned(),
		HintsAllowed: m.Hint.Present && s.policy.HintsAllowed(s.client.User),
	}
	if m.Class == classify.Read {
		f.NamesTemporary = st.namesTemporary(sql)
		f.NamesUnknown = m.Flags&classify.ReadsUserVariable != 0 && st.namesUnknown(sql)
	}
	if m.Hint.Malformed {
		s.Metrics.malformedHints.Inc()
	}
	d := route.Decide(m, &f)
	if d.Target == route.Anywhere && m.Flags&classify.SetsSession != 0 && s.setsString(sql) {
		return route.Decision{Target: route.Primary, Reason: "gives a user variable a string"}
	}
	return d
}

// inTransaction are the flags of a session that has a transaction open.
const inTransaction = wire.StatusInTransaction | wire.StatusInTransactionReadOnly

// endReadOnly ends the read-only transaction on a replica before a statement
// that commits it implicitly: what comes then may write, or begin a transaction
// that does, and belongs on the primary.
func (s *Session) endReadOnly(m *classify.Meaning) {
	if s.transaction == nil || s.transaction != s.replica || s.status&inTransaction == 0 ||
		m.Flags&classify.ImplicitCommit == 0 ||
		m.Flags&classify.MultiStatement != 0 && m.Verb != classify.VerbBegin && m.Verb != classify.VerbStart {
		return
	}
	if m.Class == classify.BeginReadOnly || // which may stay there
		// MySQL keeps the access mode, MariaDB goes back to the session's.
		m.Class == classify.Begin && m.Flags&classify.ReadWrite == 0 && (!s.state.mode.MariaDB || s.state.readOnly) ||
		m.Flags&classify.SetsSession != 0 { // autocommit=1 changes nothing: it is, or the transaction would be on the primary
		return
	}
	// It ends with the answer, unless that says that nothing was done at all.
	s.suspended, s.suspendedStatus = s.transaction, s.status&inTransaction
	s.transaction = nil
	s.status &^= inTransaction
}

// endSuspended ends the read-only transaction that a statement on another
// connection was to commit; or, where the server did not come so far as to look
// what the statement does, takes it up again.
func (s *Session) endSuspended(failed *wire.Error) {
	c := s.suspended
	s.suspended = nil
	if c == nil || c != s.replica {
		return
	}
	if failed != nil {
		switch failed.Code {
		case 1046, 1064, 1149: // no database selected, syntax
			s.transaction, s.status = c, s.status|s.suspendedStatus
			return
		}
	}
	s.transaction = c     // so that it is not given away as it is
	s.release(&s.replica) // the pool's reset ends it; there is nothing to commit
}

// prepareTarget is where a statement is prepared that will run at target.
func (s *Session) prepareTarget(t route.Target) route.Target {
	switch {
	case t == route.Console:
		return route.Primary
	case t == route.Last && s.transaction != nil: // whose status the answer has
		return route.Transaction
	}
	return t
}

// query serves COM_QUERY.
func (s *Session) query(ctx context.Context, payload []byte, firstPacket int) error {
	offset, err := wire.QueryText(payload, s.client.Caps)
	if err != nil {
		return s.fatal(&wire.Error{Code: 1835, State: "HY000", Message: "Malformed communication packet"})
	}
	sql := payload[offset:]
	m := classify.Classify(sql, s.state.mode)
	if firstPacket > 0 {
		s.cutMeaning(&m)
	}
	if m.Class == classify.Console {
		return s.console(sql)
	}
	if m.Flags&classify.Kills != 0 && m.Flags&classify.MultiStatement == 0 && firstPacket == 0 {
		if k, ok := classify.Kill(sql, s.state.mode); ok {
			return s.kill(ctx, k, payload, sql)
		}
	}
	if m.Flags&classify.ConnectionID != 0 && firstPacket == 0 {
		if text, changed := classify.RewriteConnectionID(slices.Clone(payload[:offset]), sql, s.state.mode, s.id); changed {
			payload, sql = text, text[offset:]
		}
	}
	if m.Flags&classify.ExecutesText != 0 && m.Flags&classify.MultiStatement == 0 && firstPacket == 0 {
		if text, meaning := s.executedRead(sql, m.Hint); text != nil {
			payload = append(slices.Clone(payload[:offset]), text...)
			sql, m = payload[offset:], meaning
		}
	}
	if err := s.recall(ctx, &m); err != nil {
		return err
	}
	s.endReadOnly(&m)
	said := s.moveNext(&m)
	d := s.decide(&m, sql)
	s.Metrics.statement(&m, d.Target)
	print := uint64(0)
	if (s.Digests != nil || s.Lanes != nil) && firstPacket == 0 {
		print = classify.Fingerprint(sql, s.state.mode)
	}
	if s.Digests != nil && firstPacket == 0 {
		s.Digests.Count(print, sql, s.state.mode, d.Target == route.Replica)
	}
	r := requests.Get().(*request)
	defer func() {
		s.handler.request = nil
		*r = request{}
		requests.Put(r)
	}()
	*r = request{
		command: wire.ComQuery, payload: payload, sql: sql, print: print, meaning: m, target: d.Target,
		read: repeatable(m.Class), fresh: s.freshnessOf(&m), firstPacket: firstPacket,
	}
	if said != nil {
		r.bind = func(c *backend.Conn) ([]byte, error) { return payload, repeatNext(c, said) }
	}
	if d.Target == route.Last {
		r.fixed, r.read = s.asked(&m), false
	}
	if firstPacket > 0 {
		r.read = false
	}
	return s.run(ctx, r)
}

// requests are those of COM_QUERY, which would be garbage after each.
var requests = sync.Pool{New: func() any { return new(request) }}

// cutMeaning makes the meaning of a text of which only the head was seen as
// demanding as any rest could make it.
func (s *Session) cutMeaning(m *classify.Meaning) {
	m.Class = classify.Write
	switch m.Verb {
	case classify.VerbInsert, classify.VerbReplace, classify.VerbUpdate, classify.VerbDelete, classify.VerbSelect:
		// The head of a statement is not understood, which says nothing.
		m.Flags = m.Flags&^(classify.OpaqueSession|classify.MultiStatement) | classify.AssignsUserVariable
		if s.client.Caps.Has(wire.ClientMultiStatements) {
			m.Flags |= classify.OpaqueSession
		}
	default:
		m.Flags |= classify.OpaqueSession
	}
}

// setOption runs COM_SET_OPTION, which changes what the session's connections
// must be like.
func (s *Session) setOption(ctx context.Context, payload []byte) error {
	if len(payload) < 3 {
		return s.sendError(&wire.Error{Code: codeUnknownCom, State: "08S01", Message: "Unknown command"})
	}
	caps := s.client.Caps
	switch uint16(payload[1]) | uint16(payload[2])<<8 {
	case 0:
		caps |= wire.ClientMultiStatements
	case 1:
		caps &^= wire.ClientMultiStatements
	default:
		return s.sendError(&wire.Error{Code: codeUnknownCom, State: "08S01", Message: "Unknown command"})
	}
	for _, c := range []*backend.Conn{s.primary, s.replica} {
		if c == nil || !s.use(c) {
			continue
		}
		if err := s.Pool.SetMultiStatements(c, payload, caps.Has(wire.ClientMultiStatements)); err != nil {
			if c == s.transaction || s.state.bound() != "" {
				return s.lost(c, s.state.bound())
			}
			s.discard(c, "broken")
		}
	}
	s.client.Caps = caps
	// The server answers with EOF, or with OK where that stands for it.
	status := s.status & standing
	if s.client.Caps.Has(wire.ClientDeprecateEOF) {
		ok := wire.OK{Header: 0xfe, Status: status}
		s.conn.Write(wire.AppendOK(nil, &ok, s.client.Caps))
	} else {
		s.conn.Write(wire.AppendEOF(nil, wire.EOF{Status: status}))
	}
	return s.conn.Flush()
}

// atLogin are the capabilities that set variables at the login, which a reset
// takes back.
const atLogin = wire.ClientIgnoreSpace | wire.ClientInteractive

// resetConnection runs COM_RESET_CONNECTION: the session is as it was after the
// login, but for its schema.
func (s *Session) resetConnection() error {
	schema := s.state.schema
	if err := s.wipe(); err != nil {
		return err
	}
	// MariaDB falls back to the character set of the login, MySQL to its global
	// one.
	collation := uint16(0)
	if s.state.mode.MariaDB {
		collation = s.client.Collation
	}
	s.client.Caps &^= atLogin
	s.start(schema, collation)
	return s.sendOK()
}

// wipe clears everything of the session that servers hold. What others could
// notice (locks, an open transaction) is gone when it returns.
func (s *Session) wipe() error {
	for _, held := range []**backend.Conn{&s.primary, &s.replica} {
		c := *held
		if c == nil || !s.use(c) {
			continue
		}
		if s.transaction == c || c == s.primary && s.state.bound() != "" {
			if err := c.Reset(); err != nil {
				s.discard(c, "reset failed")
				continue
			}
		}
		s.release(held)
	}
	clear(s.statements)
	s.shares.forget()
	s.horizon.indexed = false // a new session begins
	s.lastStmt, s.transaction, s.nextTransaction, s.last, s.lastCount, s.lastRows = nil, nil, false, nil, nil, nil
	// The position stays: what the client has written or seen, it has seen.
	return nil
}
