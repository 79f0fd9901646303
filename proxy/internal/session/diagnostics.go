package session

import (
	"bytes"
	"strings"

	"farmhand/proxy/internal/backend"
	"farmhand/proxy/internal/classify"
	"farmhand/proxy/internal/route"
	"farmhand/proxy/internal/wire"
)

// noteLast takes note of which connection to ask about the statement.
func (s *Session) noteLast(c *backend.Conn, r *request) {
	if !leavesDiagnostics(r.command) && r.unknown == nil {
		return
	}
	if r.command != wire.ComStmtPrepare && !keepsCount(r, s.handler.tracker.Err) || r.command == wire.ComStmtPrepare && s.handler.tracker.Err != nil {
		s.lastCount, s.missed.count = c, false
		s.count, s.uncounted = s.handler.count(), false
		s.shares.told(askedCount)
	}
	if s.handler.rows {
		s.lastRows, s.missed.rows = c, false
		s.shares.told(askedRows)
		s.calculated = r.meaning.Flags&classify.CalcFoundRows != 0
	}
	clears := s.clearsDiagnostics(r)
	c.Warned = s.handler.tracker.Err != nil || s.handler.tracker.OK.Warnings > 0 || c.Warned && !clears
	if r.target == route.Last {
		return
	}
	switch {
	case clears, s.last == nil && !s.missed.warnings && !c.Warned:
		s.last, s.missed.warnings = c, false
		s.shares.told(askedWarnings)
	case s.last != nil && !c.Warned && !s.warned(s.last):
		s.last = c // neither has any: the one that is used now can say so as well
	}
}

// asksSequence tells whether a text asks where a sequence was left.
func asksSequence(sql []byte) bool {
	text := bytes.ToUpper(sql)
	return bytes.Contains(text, []byte("LASTVAL")) || bytes.Contains(text, []byte("PREVIOUS"))
}

// count is what ROW_COUNT() gives after the statement.
func (h *handler) count() int64 {
	if h.tracker.Err != nil || h.rows {
		return -1
	}
	return int64(h.tracker.OK.AffectedRows)
}

// keepsCount tells whether a statement that failed leaves ROW_COUNT() as it was,
// which in MariaDB the SHOWs of the information_schema do when the error comes
// while they collect their rows.
func keepsCount(r *request, e *wire.Error) bool {
	if e == nil {
		return false
	}
	switch r.meaning.Verb {
	case classify.VerbShow, classify.VerbDescribe:
	default:
		return false
	}
	switch e.Code {
	case 1049, 1094, 1109, 1146, 1356: // no such schema, thread, table, or what a view uses
	default:
		return false
	}
	text := bytes.ToUpper(r.text())
	return !bytes.Contains(text, []byte("CREATE")) && !bytes.Contains(text, []byte("GRANTS")) &&
		// MariaDB looks for its own SESSION_VARIABLES in the schema at times.
		!strings.Contains(e.Message, ".SESSION_") && !strings.Contains(e.Message, ".GLOBAL_")
}

// useLast takes back what was lent of the connections that a statement may ask
// about the one before it.
func (s *Session) useLast() {
	for _, c := range [...]*backend.Conn{s.primary, s.replica} {
		if c != nil && (c == s.last || c == s.lastCount || c == s.lastRows) {
			s.use(c)
		}
	}
}

// unanswerable refuses a question about the statement before when the only
// connection that could answer it has been taken by another session.
func (s *Session) unanswerable(r *request) *wire.Error {
	if r.meaning.Flags&classify.Sequence != 0 && s.missed.primary && !s.state.sequences && asksSequence(r.text()) {
		return &wire.Error{Code: codeNotThrough, State: "42000", Message: "Farmhand: where the session has left the sequence cannot be told any more: its server connection was needed by another session (pool.max_per_server). Name the sequence in the statement that moves it"}
	}
	if r.meaning.Flags&classify.Diagnostics == 0 || r.target == route.Last {
		return nil
	}
	what := ""
	rows, count := r.meaning.Flags&classify.AsksFoundRows != 0, r.meaning.Flags&classify.AsksRowCount != 0
	switch {
	case rows && s.missed.rows:
		what = "FOUND_ROWS()"
	case count && s.missed.count:
		what = "ROW_COUNT()"
	case rows && s.knownElsewhere(s.lastRows, r):
		return knownElsewhere("FOUND_ROWS()", s.lastRows)
	case count && s.knownElsewhere(s.lastCount, r):
		return knownElsewhere("ROW_COUNT()", s.lastCount)
	case rows, count:
	case s.missed.warnings, s.last == nil && s.transaction != nil && s.transaction.Warned:
		what = "the warnings"
	}
	if what == "" {
		return nil
	}
	return &wire.Error{Code: codeNotThrough, State: "42000", Message: "Farmhand: " + what +
		" of the statement before cannot be told any more: its server connection was needed by another session (pool.max_per_server), or it shared one (pool.pipelining) and its answer would be another by now. Ask at once, or in a transaction"}
}

// knownElsewhere tells whether a statement asks, where it is going to run, for what
// only c knows.
func (s *Session) knownElsewhere(c *backend.Conn, r *request) bool {
	if c == nil || r.command == wire.ComStmtPrepare || r.meaning.Flags&classify.MultiStatement != 0 {
		return false
	}
	switch r.meaning.Verb {
	case classify.VerbSelect, classify.VerbInsert, classify.VerbReplace, classify.VerbUpdate, classify.VerbDelete:
	default: // the text of a procedure, for instance
		return false
	}
	if s.transaction != nil {
		return c != s.transaction
	}
	return c != s.primary
}

func knownElsewhere(what string, c *backend.Conn) *wire.Error {
	return &wire.Error{Code: codeNotThrough, State: "42000", Message: "Farmhand: " + what + " is known to " + c.Server.Name +
		" only, which has run the statement before, and this statement runs elsewhere. Ask in a SELECT of nothing else"}
}

// asked is the connection whose diagnostics a statement asks for; nil if there is
// none, or another session has it now, or no one has all.
func (s *Session) asked(m *classify.Meaning) *backend.Conn {
	switch {
	case m.Flags&classify.AsksFoundRows != 0 && m.Flags&classify.AsksRowCount != 0:
		if s.lastRows != nil && s.lastRows != s.lastCount {
			return nil
		}
		return s.lastCount
	case m.Flags&classify.AsksFoundRows != 0:
		return s.lastRows
	case m.Flags&classify.AsksRowCount != 0:
		return s.lastCount
	}
	return s.last
}

// clearsDiagnostics tells whether the warnings are this statement's from now on.
// In MariaDB one that succeeds, warns of nothing and uses no table leaves those
// that there are.
func (s *Session) clearsDiagnostics(r *request) bool {
	t := &s.handler.tracker
	if !s.state.mode.MariaDB || t.Err != nil || t.OK.Warnings > 0 {
		return true
	}
	switch r.command {
	case wire.ComInitDB, wire.ComFieldList:
		return false
	}
	if r.meaning.Flags&classify.MultiStatement == 0 && r.command != wire.ComStmtPrepare {
		switch r.meaning.Verb {
		case classify.VerbPrepare:
			_, _, text, _ := classify.Prepared(r.text(), s.state.mode)
			return usesTable(text, s.state.mode)
		case classify.VerbExecute:
			_, name, text, ok := classify.Prepared(r.text(), s.state.mode)
			if !ok || name == nil {
				return usesTable(text, s.state.mode)
			}
			return !s.state.textStatements[strings.ToLower(string(name))].tableless
		case classify.VerbCall: // nobody says what its statements use, nor a function's
			return false
		}
	}
	return r.meaning.Flags&classify.UsesTable != 0
}

// usesTable tells whether a text uses a table; one that is not known may.
func usesTable(text []byte, mode classify.Mode) bool {
	if len(text) == 0 || text[0] == '@' {
		return true
	}
	m := classify.Classify(text, mode)
	return m.Flags&classify.UsesTable != 0
}

func leavesDiagnostics(c wire.Command) bool {
	switch c {
	case wire.ComQuery, wire.ComStmtPrepare, wire.ComStmtExecute, wire.ComStmtBulkExecute, wire.ComStmtFetch, wire.ComInitDB, wire.ComFieldList:
		return true
	}
	return false
}
