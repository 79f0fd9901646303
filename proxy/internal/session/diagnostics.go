package session

import (
	"strings"

	"farmhand/proxy/internal/backend"
	"farmhand/proxy/internal/classify"
	"farmhand/proxy/internal/route"
	"farmhand/proxy/internal/wire"
)

// noteLast takes note of which connection to ask about the statement.
func (s *Session) noteLast(c *backend.Conn, r *request) {
	if !leavesDiagnostics(r.command) {
		return
	}
	if r.command != wire.ComStmtPrepare || s.handler.tracker.Err != nil {
		s.lastCount, s.missed.count = c, false
	}
	if r.target == route.Last {
		return
	}
	clears := s.clearsDiagnostics(r)
	c.Warned = s.handler.tracker.Err != nil || s.handler.tracker.OK.Warnings > 0 || c.Warned && !clears
	switch {
	case clears, s.last == nil && !s.missed.warnings:
		s.last, s.missed.warnings = c, false
	case s.last != nil && !c.Warned && !s.warned(s.last):
		s.last = c // neither has any: the one that is used now can say so as well
	}
	if s.handler.rows {
		s.lastRows, s.missed.rows = c, false
		s.calculated = containsWord(r.text(), "SQL_CALC_FOUND_ROWS")
	}
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
	if r.meaning.Flags&classify.Diagnostics == 0 || r.target == route.Last {
		return nil
	}
	what := ""
	switch sql := r.text(); {
	case containsWord(sql, "FOUND_ROWS"):
		if s.missed.rows {
			what = "FOUND_ROWS()"
		}
	case containsWord(sql, "ROW_COUNT"):
		if s.missed.count {
			what = "ROW_COUNT()"
		}
	case s.missed.warnings, s.last == nil && s.transaction != nil && s.transaction.Warned:
		what = "the warnings"
	}
	if what == "" {
		return nil
	}
	return &wire.Error{Code: codeNotThrough, State: "42000", Message: "Farmhand: " + what +
		" of the statement before cannot be told any more: its server connection was needed by another session (pool.max_per_server). Ask at once, or in a transaction"}
}

// asked is the connection whose diagnostics a statement asks for; there is a
// last one.
func (s *Session) asked(sql []byte) *backend.Conn {
	switch {
	case s.lastRows != nil && containsWord(sql, "FOUND_ROWS"):
		return s.lastRows
	case s.lastCount != nil && containsWord(sql, "ROW_COUNT"):
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
	if r.meaning.Flags&classify.MultiStatement != 0 {
		return readsTable(r.text()) || containsWord(r.text(), "INTO") || containsWord(r.text(), "UPDATE") || containsWord(r.text(), "TABLE")
	}
	switch r.command {
	case wire.ComInitDB, wire.ComFieldList:
		return false
	case wire.ComStmtPrepare:
		switch r.meaning.Verb {
		case classify.VerbInsert, classify.VerbReplace, classify.VerbUpdate, classify.VerbDelete:
			return true
		case classify.VerbShow:
			return showsTable(r.text())
		}
		return readsTable(r.text())
	}
	switch m := &r.meaning; m.Class {
	case classify.Begin, classify.BeginReadOnly, classify.End, classify.Empty, classify.SessionState:
		return false
	default:
		switch m.Verb {
		case classify.VerbSelect, classify.VerbValues, classify.VerbSet, classify.VerbDo:
			return m.Reason == classify.UsesSequence || readsTable(r.text())
		case classify.VerbPrepare:
			_, _, text, _ := classify.Prepared(r.text(), s.state.mode)
			return readsTable(text) || containsWord(text, "INTO") || containsWord(text, "UPDATE")
		case classify.VerbRollback, classify.VerbDeallocate, classify.VerbKill, classify.VerbXA, classify.VerbCall, classify.VerbUnlock:
			return false
		case classify.VerbExecute:
			return !containsWord(r.text(), "IMMEDIATE") || readsTable(r.text())
		case classify.VerbShow:
			return showsTable(r.text())
		}
		switch m.Verb.String() {
		case "SAVEPOINT", "RELEASE", "HELP":
			return false
		}
	}
	return true
}

// showsTable tells whether a SHOW reads a table, be it one of the
// information_schema.
func showsTable(sql []byte) bool {
	return !containsWord(sql, "GRANTS") && (!containsWord(sql, "CREATE") || containsWord(sql, "TABLE") || containsWord(sql, "VIEW"))
}

// readsTable tells whether a SELECT, SET, DO or SHOW may read a table.
func readsTable(sql []byte) bool {
	return containsWord(sql, "FROM") && !containsWord(sql, "FROM DUAL")
}

// containsWord tells whether text has word, which is in capitals, in any case and
// not as a part of a longer one.
func containsWord(text []byte, word string) bool {
	inWord := func(i int) bool {
		if i < 0 || i >= len(text) {
			return false
		}
		c := text[i] | 0x20
		return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || text[i] == '_'
	}
	for i := 0; i+len(word) <= len(text); i++ {
		if text[i]|0x20 == word[0]|0x20 && strings.EqualFold(string(text[i:i+len(word)]), word) && !inWord(i-1) && !inWord(i+len(word)) {
			return true
		}
	}
	return false
}

func leavesDiagnostics(c wire.Command) bool {
	switch c {
	case wire.ComQuery, wire.ComStmtPrepare, wire.ComStmtExecute, wire.ComStmtBulkExecute, wire.ComStmtFetch, wire.ComInitDB, wire.ComFieldList:
		return true
	}
	return false
}
