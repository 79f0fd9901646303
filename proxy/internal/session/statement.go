package session

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"farmhand/proxy/internal/backend"
	"farmhand/proxy/internal/classify"
	"farmhand/proxy/internal/relay"
	"farmhand/proxy/internal/route"
	"farmhand/proxy/internal/wire"
)

// maxStatementText bounds the texts of a session's prepared statements, in
// bytes: they are kept to prepare them on other servers.
const maxStatementText = 64 << 20

// lastStatement is the statement id by which MariaDB's clients mean the one that
// was prepared last.
const lastStatement = 0xffffffff

// statement is a prepared statement of the binary protocol. The client knows it
// by an id of the proxy's; it is prepared on a server when it first runs there.
type statement struct {
	id      uint32
	text    []byte
	schema  string // the default one when the client prepared it, which its names mean
	meaning classify.Meaning
	context []entry // the settings that its text was read under
	params  uint16
	columns uint16
	types   []byte // of the parameters, as the client sent them last
	on      []prepared
	print   uint64 // the text's fingerprint, once it was needed
	sameAt  uint64 // version of the state, and 1, that context was found to be equal to

	long    *backend.Conn // has long data for the next execution
	longErr *wire.Error   // why it has not
	cursor  *backend.Conn // has an open cursor
}

// prepared is a statement on a connection.
type prepared struct {
	conn  *backend.Conn
	id    uint32
	typed bool // it has seen the parameters' types
}

func (st *statement) onConn(c *backend.Conn) *prepared {
	for i := range st.on {
		if st.on[i].conn == c {
			return &st.on[i]
		}
	}
	return nil
}

// forget takes a connection that is gone out of the statement.
func (st *statement) forget(c *backend.Conn) {
	st.on = slices.DeleteFunc(st.on, func(p prepared) bool { return p.conn == c })
	if st.long == c {
		st.long, st.longErr = nil, &wire.Error{Code: codeLost, State: "HY000", Message: "Farmhand: the connection to " + c.Server.Name + ", which had the parameter data sent by COM_STMT_SEND_LONG_DATA, was lost"}
	}
	if st.cursor == c {
		st.cursor = nil
	}
}

// prepare runs COM_STMT_PREPARE.
func (s *Session) prepare(ctx context.Context, payload []byte) error {
	sql := payload[1:]
	total := len(sql)
	for _, st := range s.statements {
		total += len(st.text)
	}
	if len(s.statements) >= s.policy.PreparedLimit || total > maxStatementText {
		return s.sendError(&wire.Error{Code: 1461, State: "42000", Message: fmt.Sprintf(
			"Farmhand: the session has %d prepared statements with %d bytes of text, which is the limit (limits.prepared_statements)", len(s.statements), total)})
	}
	m := classify.Classify(sql, s.state.mode)
	if m.Flags&classify.ConnectionID != 0 {
		if text, changed := classify.RewriteConnectionID([]byte{byte(wire.ComStmtPrepare)}, sql, s.state.mode, s.id); changed {
			payload, sql = text, text[1:]
			m = classify.Classify(sql, s.state.mode)
		}
	}
	if err := s.recall(ctx, &m); err != nil {
		return err
	}
	d := s.decide(&m, sql)
	r := request{
		command: wire.ComStmtPrepare, payload: payload, sql: sql, target: s.prepareTarget(d.Target),
		// To prepare changes nothing, whatever the statement.
		read: true, fresh: s.freshnessOf(&m),
	}
	// The statement's own flags say what its execution does, not its preparation.
	r.meaning.Class, r.meaning.Verb, r.meaning.Flags = classify.Read, m.Verb, m.Flags&classify.UsesTable
	return s.run(ctx, &r)
}

// prepared is shown the answer to COM_STMT_PREPARE: the client gets an id of the
// proxy's.
func (h *handler) prepared(payload []byte) (relay.Verdict, []byte) {
	s, t := h.s, &h.tracker
	for {
		s.nextID++
		if s.nextID == lastStatement {
			s.nextID = 1
		}
		if s.statements[s.nextID] == nil {
			break
		}
	}
	h.conn.Prepared(t.Statement.ID)
	st := &statement{
		id: s.nextID, text: append([]byte(nil), h.request.sql...),
		params: t.Statement.Params, columns: t.Statement.Columns,
		on: []prepared{{conn: h.conn, id: t.Statement.ID}},
	}
	st.meaning, st.schema, st.context = classify.Classify(st.text, s.state.mode), s.state.schema, s.state.context()
	if s.statements == nil {
		s.statements = map[uint32]*statement{}
	}
	s.statements[st.id] = st
	s.lastStmt = st
	h.out = append(h.out[:0], payload...)
	wire.SetStatementID(h.out, st.id)
	return relay.Replace, h.out
}

// statementOf finds the statement that a command is about; nil where there is
// none.
func (s *Session) statementOf(payload []byte) (*statement, uint32, error) {
	id, err := wire.StatementID(payload)
	if err != nil {
		return nil, 0, err
	}
	if id == lastStatement && s.state.mode.MariaDB {
		return s.lastStmt, id, nil
	}
	return s.statements[id], id, nil
}

func (s *Session) unknownStatement(id uint32, what string) *wire.Error {
	if !s.state.mode.MariaDB {
		what = "mysql_stmt_precheck" // in which MySQL looks them all up
	}
	return &wire.Error{Code: 1243, State: "HY000", Message: fmt.Sprintf("Unknown prepared statement handler (%d) given to %s", id, what)}
}

// noStatement is an id that no server gives: they count from 1.
const noStatement = 1<<32 - 2

// refuseUnknown has a server refuse a command about a statement that there is
// not, so that it remembers that it did; the client gets the error that names its
// own id.
func (s *Session) refuseUnknown(ctx context.Context, payload []byte, id uint32, what string) error {
	r := s.refusal(payload, func(c *backend.Conn) ([]byte, error) {
		if c.HasStatement(id) {
			wire.SetStatementID(payload, noStatement)
		}
		return payload, nil
	})
	r.unknown = s.unknownStatement(id, what)
	return s.run(ctx, r)
}

// refusal is a command that a server refuses, whichever, and remembers to have
// refused; bind makes it one that the connection's server does.
func (s *Session) refusal(payload []byte, bind func(*backend.Conn) ([]byte, error)) *request {
	m := classify.Meaning{Class: classify.SessionState}
	return &request{command: wire.Command(payload[0]), payload: payload, meaning: m, target: s.decide(&m, nil).Target, read: true, bind: bind}
}

// execute runs COM_STMT_EXECUTE and COM_STMT_BULK_EXECUTE; firstPacket is the
// size of a streamed command's first packet, of which payload is the head.
func (s *Session) execute(ctx context.Context, payload []byte, firstPacket int) error {
	st, id, err := s.statementOf(payload)
	if err != nil {
		return err
	}
	command := wire.Command(payload[0])
	if st == nil || st.longErr != nil {
		if st == nil && firstPacket == 0 {
			return s.refuseUnknown(ctx, payload, id, "mysqld_stmt_execute")
		}
		if err := s.skip(firstPacket); err != nil {
			return err
		}
		if st == nil {
			return s.sendError(s.unknownStatement(id, "mysqld_stmt_execute"))
		}
		e := st.longErr
		st.longErr = nil
		return s.sendError(e)
	}
	m := st.meaning
	if err := s.recall(ctx, &m); err != nil {
		return err
	}
	s.endReadOnly(&m)
	d := s.decide(&m, st.text)
	r := request{
		command: command, payload: payload, meaning: m, target: d.Target, read: repeatable(m.Class) && command == wire.ComStmtExecute,
		fresh: s.freshnessOf(&m), stmt: st, firstPacket: firstPacket, fixed: st.long, print: s.printOf(st),
	}
	if firstPacket > 0 || st.long != nil {
		r.read = false
	}
	if d.Target == route.Last && r.fixed == nil {
		r.fixed, r.read = s.asked(&m), false
	}
	r.bind = func(c *backend.Conn) ([]byte, error) { return s.bindExecute(c, st, payload, command, firstPacket > 0) }
	st.cursor = nil
	if err := s.run(ctx, &r); err != nil {
		return err
	}
	st.long = nil
	if s.shares != nil && s.shares.went {
		return nil
	}
	if h := &s.handler; h.tracker.Err == nil && h.tracker.OK.Status&wire.StatusCursorExists != 0 && st.onConn(h.conn) != nil {
		st.cursor = h.conn
	}
	return nil
}

// repeatable tells the classes of statement that may run again on another
// server.
func repeatable(c classify.Class) bool {
	switch c {
	case classify.Read, classify.SessionState, classify.BeginReadOnly, classify.Begin, classify.Primary, classify.Empty:
		return true
	}
	return false
}

// bindExecute makes the payload of an execution for a connection, preparing the
// statement there where it is not.
func (s *Session) bindExecute(c *backend.Conn, st *statement, payload []byte, command wire.Command, streamed bool) ([]byte, error) {
	p, err := s.ensurePrepared(c, st)
	if err != nil {
		return nil, err
	}
	if command == wire.ComStmtBulkExecute {
		wire.SetStatementID(payload, p.id)
		return payload, nil
	}
	e, err := wire.ParseExecute(payload, int(st.params), s.client.Caps)
	if err != nil {
		if streamed {
			wire.SetStatementID(payload, p.id)
			return payload, nil
		}
		return nil, &wire.Error{Code: 1835, State: "HY000", Message: "Malformed communication packet"}
	}
	wire.SetStatementID(payload, p.id)
	switch {
	case e.Flag == 0:
	case e.Bound:
		st.types = append(st.types[:0], payload[e.Flag+1:e.Types]...)
		p.typed = true
	case !p.typed && len(st.types) > 0 && !streamed:
		p.typed = true
		return wire.AppendExecuteTypes(nil, payload, e, st.types), nil
	}
	return payload, nil
}

// ensurePrepared prepares the statement on a connection that has not got it. An
// error is the server's *wire.Error, or the connection's end.
func (s *Session) ensurePrepared(c *backend.Conn, st *statement) (*prepared, error) {
	if p := st.onConn(c); p != nil {
		return p, nil
	}
	// A question about the statement before means the same under all settings, and
	// a SET ahead of it would be that statement.
	if there, back := s.state.detour(st.context); len(there) > 0 && st.meaning.Flags&classify.Diagnostics == 0 {
		if err := s.set(c, there); err != nil {
			return nil, err
		}
		p, err := s.prepareInSchema(c, st)
		var refused *wire.Error
		if err == nil || errors.As(err, &refused) {
			if e := s.set(c, back); e != nil {
				// It has the settings of then, which nothing says.
				return nil, fmt.Errorf("bring the session's settings back: %v", e)
			}
		}
		return p, err
	}
	return s.prepareInSchema(c, st)
}

// set runs a SET of the proxy's own.
func (s *Session) set(c *backend.Conn, text []byte) error {
	c.WriteCommand(append(wire.AppendQuery(nil, c.Caps), text...))
	if err := c.Flush(); err != nil {
		return err
	}
	_, err := c.ReadReply()
	return err
}

// prepareInSchema prepares the statement in the schema that was the default one
// when the client prepared it.
func (s *Session) prepareInSchema(c *backend.Conn, st *statement) (*prepared, error) {
	if st.schema != "" && st.schema != c.Schema && c.Schema != "" {
		// Its names mean the schema of then.
		now := c.Schema
		if err := s.useSchema(c, st.schema); err != nil {
			return nil, err
		}
		p, err := s.prepareOn(c, st)
		var refused *wire.Error
		if err == nil || errors.As(err, &refused) {
			if back := s.useSchema(c, now); back != nil {
				return nil, back
			}
		}
		return p, err
	}
	return s.prepareOn(c, st)
}

// useSchema makes schema a connection's default one. An error is as that of
// ensurePrepared.
func (s *Session) useSchema(c *backend.Conn, schema string) error {
	c.WriteCommand(append([]byte{byte(wire.ComInitDB)}, schema...))
	if err := c.Flush(); err != nil {
		return err
	}
	if _, err := c.ReadReply(); err != nil {
		return err
	}
	c.Schema = schema
	return nil
}

// prepareOn prepares the statement on a connection that has not got it.
func (s *Session) prepareOn(c *backend.Conn, st *statement) (*prepared, error) {
	c.WriteCommand(append([]byte{byte(wire.ComStmtPrepare)}, st.text...))
	if err := c.Flush(); err != nil {
		return nil, err
	}
	var t wire.Tracker
	t.Begin(wire.ComStmtPrepare, c.Caps)
	for !t.Done() {
		p, err := c.ReadPayload(1 << 20)
		if err != nil {
			return nil, err
		}
		first := byte(0)
		if len(p) > 0 {
			first = p[0]
		}
		if t.Next(len(p), first) == wire.Hold {
			if _, err := t.Inspect(p); err != nil {
				return nil, err
			}
		}
	}
	if t.Err != nil {
		return nil, t.Err
	}
	c.Prepared(t.Statement.ID)
	st.on = append(st.on, prepared{conn: c, id: t.Statement.ID})
	if t.Statement.Params != st.params {
		return nil, &wire.Error{Code: 1615, State: "HY000", Message: "Prepared statement needs to be re-prepared"}
	}
	return &st.on[len(st.on)-1], nil
}

// sendLongData forwards COM_STMT_SEND_LONG_DATA, which has no answer: an error
// is kept for the execution.
func (s *Session) sendLongData(ctx context.Context, payload []byte, firstPacket int) error {
	st, _, err := s.statementOf(payload)
	if err != nil {
		return err
	}
	if st == nil || st.longErr != nil {
		return s.skip(firstPacket)
	}
	d := s.decide(&st.meaning, st.text)
	c := st.long
	if c == nil {
		if d.Target == route.Replica {
			// What the execution must see is not known yet, and the data cannot be
			// sent to another server then.
			d.Target = route.Primary
		}
		if c, err = s.acquire(ctx, d.Target, freshness{}, nil); err == nil {
			_, err = s.ensurePrepared(c, st)
		}
	}
	var refused *wire.Error
	switch {
	case errors.Is(err, errEnd) || ctx.Err() != nil:
		return err
	case errors.As(err, &refused):
		st.longErr = refused
		return s.skip(firstPacket)
	case err != nil:
		st.longErr = noServer("the parameter data could not be sent: %v", err)
		if c != nil {
			s.discard(c, "broken")
		}
		return s.skip(firstPacket)
	}
	st.long = c
	wire.SetStatementID(payload, st.onConn(c).id)
	r := request{command: wire.ComStmtSendLong, firstPacket: firstPacket}
	if _, err := s.send(c, &r, payload); err != nil {
		if errors.Is(err, errEnd) {
			return err
		}
		s.reportLoss(ctx, c, err)
		s.discard(c, "broken") // which leaves longErr
	}
	return nil
}

// closeStatement forgets a statement. COM_STMT_CLOSE has no answer; it reaches
// the servers together with the next command.
func (s *Session) closeStatement(payload []byte) error {
	st, _, err := s.statementOf(payload)
	if err != nil || st == nil {
		return err
	}
	s.closeOnServers(st)
	delete(s.statements, st.id)
	if s.lastStmt == st {
		s.lastStmt = nil
	}
	return nil
}

// closeOnServers closes a statement where it is prepared.
func (s *Session) closeOnServers(st *statement) {
	for _, p := range slices.Clone(st.on) {
		if s.use(p.conn) {
			p.conn.CloseStatement(p.id)
		}
	}
	st.on = nil
}

// resetStatement runs COM_STMT_RESET: long data and cursors go.
func (s *Session) resetStatement(ctx context.Context, payload []byte) error {
	st, id, err := s.statementOf(payload)
	if err != nil {
		return err
	}
	if st == nil {
		return s.refuseUnknown(ctx, payload, id, "mysqld_stmt_reset")
	}
	c := st.long
	if c == nil {
		c = st.cursor
	}
	st.longErr, st.long, st.cursor = nil, nil, nil
	if c == nil {
		if s.transaction != nil {
			// As for COM_PING: an error before says nothing of the transaction.
			return s.run(ctx, &request{command: wire.ComPing, payload: []byte{byte(wire.ComPing)}, fixed: s.transaction})
		}
		return s.sendOK()
	}
	wire.SetStatementID(payload, st.onConn(c).id)
	return s.run(ctx, &request{command: wire.ComStmtReset, payload: payload, fixed: c})
}

// fetch runs COM_STMT_FETCH on the connection that has the cursor.
func (s *Session) fetch(ctx context.Context, payload []byte) error {
	st, id, err := s.statementOf(payload)
	if err != nil {
		return err
	}
	switch {
	case st == nil:
		return s.refuseUnknown(ctx, payload, id, "mysqld_stmt_fetch")
	case st.cursor == nil:
		return s.run(ctx, s.refusal(payload, func(c *backend.Conn) ([]byte, error) {
			p, err := s.ensurePrepared(c, st)
			if err != nil {
				return nil, err
			}
			wire.SetStatementID(payload, p.id)
			return payload, nil
		}))
	}
	c := st.cursor
	wire.SetStatementID(payload, st.onConn(c).id)
	return s.run(ctx, &request{command: wire.ComStmtFetch, payload: payload, fixed: c})
}
