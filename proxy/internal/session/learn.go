package session

import (
	"bytes"
	"slices"
	"strings"

	"go.uber.org/zap"

	"farmhand/proxy/internal/backend"
	"farmhand/proxy/internal/classify"
	"farmhand/proxy/internal/route"
	"farmhand/proxy/internal/wire"
)

// learn takes from a statement that the server executed what the server does
// not report: SET NAMES, user variables, temporary tables, locks.
func (s *Session) learn(r *request) {
	m := &r.meaning
	const interesting = classify.SetsSession | classify.OpaqueSession | classify.AssignsUserVariable |
		classify.CreatesTemporary | classify.DropsTemporary | classify.TakesLock | classify.ReleasesLock |
		classify.LocksTables | classify.UnlocksTables | classify.XA | classify.CallsProcedure |
		classify.PreparesText | classify.DeallocatesText | classify.ImplicitCommit |
		classify.UnknownFunction | classify.ExecutesText | classify.Sequence
	if m.Flags&interesting == 0 {
		return
	}
	st := &s.state
	sql := r.text()
	if m.Flags&classify.MultiStatement != 0 {
		s.learnMulti(m, sql)
		return
	}
	if m.Flags&classify.OpaqueSession != 0 {
		st.opaque = "changed the session in a way that cannot be carried to other connections (" + s.clip(sql) + ")"
	}
	if m.Flags&classify.CallsProcedure != 0 {
		st.opaque = "called a procedure, which may have changed the session"
	}
	if m.Flags&classify.UnknownFunction != 0 {
		st.functions = true
	}
	if m.Flags&classify.Sequence != 0 {
		st.sequences = true
	}
	if m.Flags&classify.SetsSession != 0 {
		s.learnSet(sql)
	}
	if m.Flags&classify.AssignsUserVariable != 0 {
		st.assigned(sql)
	}
	if m.Flags&(classify.CreatesTemporary|classify.DropsTemporary) != 0 {
		st.temporaryTables(sql)
	}
	if m.Flags&classify.ImplicitCommit != 0 && st.namesTemporary(sql) {
		st.renamed(sql)
	}
	if m.Flags&(classify.TakesLock|classify.ReleasesLock) != 0 {
		st.userLocks(sql, true)
	}
	switch {
	case m.Flags&classify.LocksTables != 0:
		st.tables = true
	case m.Flags&classify.UnlocksTables != 0:
		st.tables = false
	case st.tables && (m.Class == classify.Begin || m.Class == classify.BeginReadOnly):
		st.tables = false // BEGIN releases table locks
	}
	if m.Flags&classify.XA != 0 {
		st.xa = !xaEnds(sql)
	}
	if m.Flags&classify.PreparesText != 0 {
		s.textPrepared(sql, true)
	}
	if m.Flags&classify.DeallocatesText != 0 {
		s.textPrepared(sql, false)
	}
	if m.Flags&classify.ExecutesText != 0 {
		s.textExecuted(sql)
	}
}

// explains tells whether a statement's text says by itself how it changes the
// session.
func explains(r *request) bool {
	const says = changesSession | classify.DeallocatesText | classify.ExecutesText | classify.UsesSchema | classify.ReleasesLock | classify.UnlocksTables
	return r.command != wire.ComQuery && r.command != wire.ComStmtExecute && r.command != wire.ComStmtBulkExecute ||
		r.meaning.Flags&says != 0
}

// changedUnseen binds the session after a statement of which the server says that
// it changed the session, though its text does not: a trigger, a function or a
// view did, which may have assigned user variables or made temporary tables.
func (s *Session) changedUnseen(c *backend.Conn, r *request) {
	s.state.opaque = "a stored program changed the session in a way that the statement does not show (" + s.clip(r.text()) + ")"
	if c == s.replica && s.transaction != c {
		// What it changed is there, where the session will not look for it. The next
		// time it runs on the primary.
		s.Refused.add(r.text(), s.state.mode)
	}
}

// learnFailed takes from a statement that failed what it may have done all the
// same.
func (s *Session) learnFailed(r *request) {
	m := &r.meaning
	if m.Flags&classify.MultiStatement != 0 {
		s.learnMulti(m, r.text())
		return
	}
	if m.Flags&classify.AssignsUserVariable != 0 {
		s.state.assigned(r.text())
	}
	if m.Flags&classify.UnknownFunction != 0 {
		s.state.functions = true
	}
	if m.Flags&classify.TakesLock != 0 {
		s.state.userLocks(r.text(), false)
	}
	if m.Flags&classify.Sequence != 0 {
		s.state.sequences = true
	}
	if m.Flags&classify.ExecutesText != 0 {
		s.textExecuted(r.text())
	}
	if m.Flags&classify.CallsProcedure != 0 || m.Flags&classify.ExecutesText != 0 && m.Flags&classify.OpaqueSession != 0 {
		s.state.opaque = "a statement that failed may have changed the session (" + s.clip(r.text()) + ")"
	}
}

// learnMulti binds a session to the primary after a multi-statement text that
// did more than read and write: which of its statements ran, and in which
// state, is not followed.
func (s *Session) learnMulti(m *classify.Meaning, sql []byte) {
	const binds = classify.SetsSession | classify.OpaqueSession | classify.AssignsUserVariable | classify.CreatesTemporary |
		classify.TakesLock | classify.LocksTables | classify.XA | classify.CallsProcedure | classify.PreparesText | classify.Sequence
	if m.Flags&binds != 0 {
		s.state.opaque = "a text of several statements changed the session (" + s.clip(sql) + ")"
	}
}

// learnSet takes from a SET statement what the server does not report: the
// collation of SET NAMES, and user variables.
func (s *Session) learnSet(sql []byte) {
	st := &s.state
	classify.Assignments(sql, st.mode, func(a classify.Assignment) bool {
		switch a.Kind {
		case classify.Names:
			s.charsetChanges()
			for _, name := range []string{"character_set_client", "character_set_connection", "character_set_results", "collation_connection"} {
				st.drop(name)
			}
			text := "NAMES DEFAULT"
			if len(a.Value) > 0 {
				text = "NAMES " + string(a.Value)
			}
			if len(a.Collation) > 0 {
				text += " COLLATE " + string(a.Collation)
			}
			st.set("NAMES", text)
		case classify.CharacterSet:
			// It takes the connection's collation from the schema of that moment.
			st.opaque = "said SET CHARACTER SET"
		case classify.UserVariable:
			name := strings.ToLower(string(a.Name))
			if !a.Known || len(a.Value) > 4096 {
				st.unknown(name)
				break
			}
			delete(st.unknownVariables, name)
			st.set("@"+name, "@`"+strings.ReplaceAll(name, "`", "``")+"`="+string(a.Value))
		case classify.SystemVariable:
			switch strings.ToLower(string(a.Name)) {
			case "character_set_client", "character_set_connection", "collation_connection", "sql_mode":
				s.charsetChanges()
			}
			if a.Reported && a.Default {
				s.learnDefault(strings.ToLower(string(a.Name)))
			}
		}
		return true
	})
}

// learnDefault takes SET name=DEFAULT, which MariaDB does not report: each
// server's default, as for a session that has set nothing.
func (s *Session) learnDefault(name string) {
	st := &s.state
	st.set(name, "SESSION "+name+"=DEFAULT")
	if name != "sql_mode" {
		return
	}
	if p := s.Farm.View().Primary; p != nil && p.Variables != nil {
		st.modes(p.Variables["sql_mode"])
		return
	}
	st.opaque = "said SET sql_mode=DEFAULT while no primary could tell the default"
}

// charsetChanges treats the user variables that were set from string literals
// as known to the primary only (which is where such a SET runs): on a
// connection that is given them later the literals would mean something else.
func (s *Session) charsetChanges() {
	st := &s.state
	for i := 0; i < len(st.entries); {
		e := st.entries[i]
		if strings.HasPrefix(e.name, "@") && strings.ContainsAny(e.sql[len(e.name):], `'"`) {
			st.unknown(e.name[1:]) // drops the entry
			continue
		}
		i++
	}
}

// setsString tells whether a SET gives a user variable a string: it runs on the
// primary, so that its value is there whatever becomes of it.
func (s *Session) setsString(sql []byte) bool {
	found := false
	classify.Assignments(sql, s.state.mode, func(a classify.Assignment) bool {
		found = found || a.Kind == classify.UserVariable && bytes.ContainsAny(a.Value, `'"`)
		return !found
	})
	return found
}

// xaEnds tells whether an XA statement ends the branch on the connection.
func xaEnds(sql []byte) bool {
	words := bytes.Fields(bytes.ToUpper(sql))
	if len(words) < 2 {
		return false
	}
	switch string(words[1]) {
	case "COMMIT", "ROLLBACK":
		return true
	}
	return false
}

// textPrepared follows PREPARE and DEALLOCATE PREPARE.
func (s *Session) textPrepared(sql []byte, prepared bool) {
	_, name, text, ok := classify.Prepared(sql, s.state.mode)
	if !ok {
		s.state.opaque = "prepared a statement in a way that cannot be followed"
		return
	}
	key := strings.ToLower(string(name))
	if !prepared {
		delete(s.state.textStatements, key)
		return
	}
	if s.state.textStatements == nil {
		s.state.textStatements = map[string]textStatement{}
	}
	var t textStatement
	if text == nil || text[0] == '@' {
		t.binds = "executed a text that was prepared from a variable or an expression"
	} else if m := classify.Classify(text, s.state.mode); m.Flags&classify.MultiStatement == 0 {
		t.tableless = m.Flags&classify.UsesTable == 0
		t.functions = m.Flags&classify.UnknownFunction != 0
		t.sequences = m.Flags&classify.Sequence != 0
		if m.Class == classify.Read && len(text) <= maxTextKept && len(s.state.textStatements) < maxTextsKept && bytes.IndexByte(text, '?') < 0 {
			t.text, t.mode, t.schema = slices.Clone(text), s.state.mode, s.state.schema
		}
		if m.Flags&changesSession != 0 {
			t.binds = "executed a prepared text that changes the session (" + s.clip(text) + ")"
		}
	}
	s.state.textStatements[key] = t
}

// textStatement is what executing a statement that PREPARE … FROM prepared does
// to the session.
type textStatement struct {
	binds     string // why the session stays on the primary then; empty if it need not
	functions bool   // it calls functions that the proxy does not know
	tableless bool   // it uses no table
	sequences bool   // it uses a sequence
	// text is what runs, where that is a read without parameters that may run on
	// a replica; mode and schema are those that it was prepared in.
	text   []byte
	mode   classify.Mode
	schema string
}

// Bounds of the texts that are kept to run them on replicas: bytes of one, and
// how many of a session.
const (
	maxTextKept  = 64 << 10
	maxTextsKept = 100
)

// executedRead returns the text that EXECUTE name runs, with its meaning, if it
// is a read that a replica may serve as well as if the client had sent it; nil
// if not.
func (s *Session) executedRead(sql []byte, hint classify.Hint) ([]byte, classify.Meaning) {
	_, name, _, ok := classify.Prepared(sql, s.state.mode)
	if !ok || name == nil || bytes.Contains(bytes.ToUpper(sql), []byte("USING")) {
		return nil, classify.Meaning{}
	}
	t := s.state.textStatements[strings.ToLower(string(name))]
	if t.text == nil || t.mode != s.state.mode || t.schema != s.state.schema {
		return nil, classify.Meaning{}
	}
	m := classify.Classify(t.text, s.state.mode)
	m.Hint = hint
	const asks = classify.Diagnostics | classify.LastInsertID | classify.ReadsUserVariable | classify.ConnectionID
	if m.Flags&asks != 0 || s.decide(&m, t.text).Target != route.Replica {
		return nil, classify.Meaning{}
	}
	return t.text, m
}

// changesSession are the flags of what learn follows in a statement's own text.
const changesSession = classify.SetsSession | classify.OpaqueSession | classify.AssignsUserVariable | classify.CreatesTemporary |
	classify.DropsTemporary | classify.TakesLock | classify.ReleasesLock | classify.LocksTables | classify.XA |
	classify.CallsProcedure | classify.PreparesText | classify.SetsTransaction

// textExecuted follows EXECUTE name.
func (s *Session) textExecuted(sql []byte) {
	_, name, _, ok := classify.Prepared(sql, s.state.mode)
	if !ok || name == nil { // EXECUTE IMMEDIATE is opaque
		return
	}
	t := s.state.textStatements[strings.ToLower(string(name))]
	if t.binds != "" {
		s.state.opaque = t.binds
	}
	s.state.functions = s.state.functions || t.functions
	s.state.sequences = s.state.sequences || t.sequences
}

// retell has MariaDB report the variables that a SET changed under the name
// @@name without a scope, of which it says nothing by itself. Neither warnings
// nor ROW_COUNT() change by it.
func (s *Session) retell(c *backend.Conn, sql []byte) {
	text := s.scratch[:0]
	classify.Assignments(sql, s.state.mode, func(a classify.Assignment) bool {
		if !a.Unreported {
			return true
		}
		if len(text) == 0 {
			text = append(text, "SET "...)
		} else {
			text = append(text, ", "...)
		}
		text = append(append(append(append(text, "SESSION "...), a.Name...), "=@@"...), a.Name...)
		return true
	})
	s.scratch = text
	if len(text) == 0 {
		return
	}
	c.WriteCommand(append([]byte{byte(wire.ComQuery)}, text...))
	err := c.Flush()
	if err == nil {
		var ok wire.OK
		if ok, err = c.ReadReply(); err == nil {
			err = s.changes(ok.Changes, c)
		}
	}
	if err != nil {
		s.state.opaque = "has set variables that the server does not report: " + err.Error()
		s.logger().Debug("a change of session variables could not be learned", zap.String("server", c.Server.Name), zap.Error(err))
	}
}

// text is the statement's text, of a prepared statement as well.
func (r *request) text() []byte {
	if r.stmt != nil && r.sql == nil {
		return r.stmt.text
	}
	return r.sql
}

// clip shortens a text for a message: its digest, which shows no literal.
func (s *Session) clip(sql []byte) string {
	const limit = 60
	text := []rune(string(classify.Digest(nil, sql, s.state.mode)))
	if len(text) > limit {
		return string(text[:limit]) + "…"
	}
	return string(text)
}
