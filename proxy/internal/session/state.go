package session

import (
	"slices"
	"strings"

	"farmhand/proxy/internal/backend"
	"farmhand/proxy/internal/classify"
)

// maxEntries bounds the session variables and user variables that are carried
// by value; a session that sets more stays on the primary.
const maxEntries = 512

// entry is one piece of session state that is carried by value: SQL that
// establishes it, and the version of the state in which it was set.
type entry struct {
	version uint64
	name    string // "NAMES", "sql_mode", "@a"
	sql     string // an assignment of a SET statement: "NAMES latin1", "SESSION sql_mode='…'", "@a=5"
}

// state is what a session has set. A connection's Synced is the version of the
// state that it has; the entries that are newer are what it lacks.
type state struct {
	version uint64
	entries []entry           // in the order of their versions
	carried *backend.Settings // the entries, once they were asked for
	schema  string

	mode          classify.Mode
	autocommitOff bool
	serializable  bool
	readOnly      bool // transactions are read-only by default

	// unknownVariables are user variables that have a value on the primary
	// connection only; nil value names all of them.
	unknownVariables map[string]bool
	// inserted: a statement whose answer does not tell it may have set
	// LAST_INSERT_ID().
	inserted bool
	// functions: a function that the proxy does not know was called, which may
	// have assigned any user variable.
	functions bool
	// sequences: a sequence was used, of which the connection knows the last value.
	sequences bool
	// temporary are the session's temporary tables, by lower-case name.
	temporary map[string]bool
	// locks are the user-level locks that the session may hold, by name, and how
	// often; "" is one whose name is not known.
	locks  map[string]int
	tables bool
	xa     bool
	// textStatements are the statements prepared by PREPARE name FROM.
	textStatements map[string]textStatement
	opaque         string // why the session's state cannot be followed; empty if it can
}

// set records that name was established by sql, and returns the new version.
func (s *state) set(name, sql string) {
	s.drop(name)
	if len(s.entries) >= maxEntries {
		s.opaque = "the session has set too many variables to be carried along"
		return
	}
	s.version++
	s.entries = append(s.entries, entry{s.version, name, sql})
	s.carried = nil
}

// context are the entries that decide how a statement's text is read: a prepared
// statement keeps the meaning that it had under them.
func (s *state) context() []entry {
	var out []entry
	for _, e := range s.entries {
		switch e.name {
		case "NAMES", "character_set_client", "character_set_connection", "character_set_results", "collation_connection", "sql_mode":
			out = append(out, e)
		}
	}
	return out
}

// detour makes the SET statements that lead from the session's context to another
// one and back; nothing where they are the same.
func (s *state) detour(context []entry) (there, back []byte) {
	now := s.context()
	if slices.EqualFunc(now, context, func(a, b entry) bool { return a.sql == b.sql }) {
		return nil, nil
	}
	return change(now, context), change(context, now)
}

// change makes the SET statement that brings one context about where there is
// another.
func change(from, to []entry) []byte {
	text := []byte("SET ")
	add := func(sql string) {
		if len(text) > len("SET ") {
			text = append(text, ", "...)
		}
		text = append(text, sql...)
	}
	for _, e := range from {
		if !slices.ContainsFunc(to, func(o entry) bool { return o.name == e.name }) {
			if e.name == "NAMES" {
				add("NAMES DEFAULT")
			} else {
				add("SESSION " + e.name + "=DEFAULT")
			}
		}
	}
	for _, e := range to {
		add(e.sql)
	}
	return text
}

// settings are what is carried by value.
func (s *state) settings() *backend.Settings {
	if s.carried == nil && len(s.entries) > 0 {
		list := make([]backend.Setting, len(s.entries))
		for i, e := range s.entries {
			list[i] = backend.Setting{Name: e.name, SQL: e.sql}
		}
		s.carried = backend.NewSettings(list)
	}
	return s.carried
}

// drop forgets an entry.
func (s *state) drop(name string) {
	for i := range s.entries {
		if s.entries[i].name == name {
			s.entries = append(s.entries[:i], s.entries[i+1:]...)
			s.carried = nil
			return
		}
	}
}

// missing appends the SET statement that brings a connection from version on to
// the session's state; nothing where it has it.
func (s *state) missing(dst []byte, from uint64) []byte {
	if from >= s.version {
		return dst
	}
	first := true
	for i := range s.entries {
		if s.entries[i].version <= from {
			continue
		}
		if first {
			dst, first = append(dst, "SET "...), false
		} else {
			dst = append(dst, ", "...)
		}
		dst = append(dst, s.entries[i].sql...)
	}
	return dst
}

// pinned says why every statement must stay on the primary connection.
func (s *state) pinned() string {
	switch {
	case s.opaque != "":
		return s.opaque
	case len(s.locks) > 0:
		return "holds a user-level lock (GET_LOCK)"
	case s.tables:
		return "holds table locks (LOCK TABLES)"
	case s.xa:
		return "an XA transaction is open"
	}
	return ""
}

// bound says whether the primary connection has state that no other can have.
func (s *state) bound() string {
	if p := s.pinned(); p != "" {
		return p
	}
	if len(s.temporary) > 0 {
		return "has temporary tables"
	}
	if len(s.textStatements) > 0 {
		return "has statements that were prepared by PREPARE … FROM"
	}
	if s.sequences {
		return "used a sequence, whose last value can be asked for (LASTVAL)"
	}
	if s.functions {
		return "called a stored function, which may have assigned user variables"
	}
	if len(s.unknownVariables) > 0 {
		return "has user variables that a statement assigned"
	}
	return ""
}

// notCarried are variables that the servers report and that are not state to
// carry: positions, counters, and what a SET cannot establish.
var notCarried = map[string]bool{
	"last_gtid": true, "statement_id": true, "gtid_executed": true, "last_insert_id": true, "identity": true,
	"session_track_system_variables": true, "session_track_schema": true, "session_track_gtids": true,
	"session_track_state_change": true, "session_track_transaction_info": true, "proxy_user": true, "external_user": true,
}

// variable records a change of a system variable as a server reported it.
func (s *state) variable(name, value string) {
	if notCarried[name] {
		return
	}
	switch name {
	case "autocommit":
		s.autocommitOff = value == "OFF"
	case "sql_mode":
		s.modes(value)
	case "tx_isolation", "transaction_isolation":
		s.serializable = value == "SERIALIZABLE"
	case "tx_read_only", "transaction_read_only":
		s.readOnly = value == "ON"
	case "character_set_client":
		s.mode.Charset = charsetOf(value)
	case "character_set_connection":
		// It takes collation_connection with it.
		s.drop("collation_connection")
	}
	s.set(name, assignment(name, value))
}

// modes takes from a sql_mode what changes the meaning of texts.
func (s *state) modes(value string) {
	s.mode.ANSIQuotes = hasMode(value, "ANSI_QUOTES")
	s.mode.NoBackslashEscapes = hasMode(value, "NO_BACKSLASH_ESCAPES")
	s.mode.IgnoreSpace = hasMode(value, "IGNORE_SPACE")
}

func hasMode(modes, mode string) bool {
	for m := range strings.SplitSeq(modes, ",") {
		if m == mode {
			return true
		}
	}
	return false
}

// assignment is what of a SET statement gives a system variable its value. (SET
// TRANSACTION cannot stand among others, so isolation and access mode are
// variables like any.)
func assignment(name, value string) string {
	if name == "character_set_results" && value == "" {
		return "SESSION character_set_results=NULL"
	}
	if isNumber(value) {
		return "SESSION " + name + "=" + value
	}
	return "SESSION " + name + "=" + quote(value)
}

func isNumber(v string) bool {
	dot := false
	for i := range len(v) {
		switch c := v[i]; {
		case '0' <= c && c <= '9':
		case c == '-' && i == 0 && len(v) > 1:
		case c == '.' && !dot:
			dot = true
		default:
			return false
		}
	}
	return v != "" && v != "."
}

// quote makes a string literal that means the same with and without
// NO_BACKSLASH_ESCAPES: one with a backslash is written in hexadecimal.
func quote(v string) string {
	if strings.ContainsAny(v, "\\") {
		const digits = "0123456789abcdef"
		b := []byte("X'")
		for i := range len(v) {
			b = append(b, digits[v[i]>>4], digits[v[i]&15])
		}
		return string(append(b, '\''))
	}
	return "'" + strings.ReplaceAll(v, "'", "''") + "'"
}

func charsetOf(name string) classify.Charset {
	switch name {
	case "utf8", "utf8mb3", "utf8mb4", "ascii", "binary", "ujis", "euckr", "":
		return classify.UTF8
	case "big5", "cp932", "gbk", "gb18030", "sjis", "gb2312", "eucjpms":
		return classify.Shifted
	}
	return classify.SingleByte
}

// clear brings the state back to what a session starts with, as
// COM_RESET_CONNECTION does; the schema stays.
func (s *state) clear() {
	*s = state{version: s.version + 1, schema: s.schema, mode: classify.Mode{MariaDB: s.mode.MariaDB, Version: s.mode.Version}}
}

// temporaryTables learns from a statement that created or dropped some.
func (s *state) temporaryTables(sql []byte) {
	classify.TemporaryTables(sql, s.mode, func(_, name []byte, created bool) bool {
		key := strings.ToLower(string(name))
		if created {
			if s.temporary == nil {
				s.temporary = map[string]bool{}
			}
			s.temporary[key] = true
		} else {
			delete(s.temporary, key)
		}
		return true
	})
	if len(s.temporary) > maxEntries {
		s.opaque = "the session has too many temporary tables to follow"
	}
}

// userLocks learns from a statement that takes or releases user-level locks.
func (s *state) userLocks(sql []byte, succeeded bool) {
	take := func(name string) {
		if s.locks == nil {
			s.locks = map[string]int{}
		}
		s.locks[name]++
	}
	known := classify.Locks(sql, s.mode, func(name []byte) { take(string(name)) }, func(name []byte) {
		switch {
		case !succeeded:
		case name == nil:
			clear(s.locks)
		case s.locks[string(name)] > 1:
			s.locks[string(name)]--
		default:
			delete(s.locks, string(name))
		}
	})
	if !known {
		take("")
	}
	if len(s.locks) > maxEntries {
		s.opaque = "the session has too many user-level locks to follow"
	}
}

// renamed learns from a statement of schema changes that names a temporary table,
// and may give it another name: every name in it counts as one.
func (s *state) renamed(sql []byte) {
	classify.TableNames(sql, s.mode, func(_, name []byte) bool {
		s.temporary[strings.ToLower(string(name))] = true
		return len(s.temporary) <= maxEntries
	})
}

// namesTemporary tells whether a text may name one of the temporary tables.
func (s *state) namesTemporary(sql []byte) bool {
	if len(s.temporary) == 0 {
		return false
	}
	found := false
	classify.TableNames(sql, s.mode, func(_, name []byte) bool {
		found = s.temporary[strings.ToLower(string(name))]
		return !found
	})
	return found
}

// namesUnknown tells whether a text reads a user variable whose value is on the
// primary connection only.
func (s *state) namesUnknown(sql []byte) bool {
	if len(s.unknownVariables) == 0 && !s.functions {
		return false
	}
	found := false
	classify.UserVariables(sql, s.mode, func(name []byte, _ bool) bool {
		found = s.functions || s.unknownVariables[strings.ToLower(string(name))]
		return !found
	})
	return found
}

// assigned records the user variables that a statement may have assigned.
func (s *state) assigned(sql []byte) {
	classify.UserVariables(sql, s.mode, func(name []byte, assigned bool) bool {
		if assigned {
			s.unknown(string(name))
		}
		return true
	})
}

// unknown records that a user variable's value is on the primary connection only.
func (s *state) unknown(name string) {
	name = strings.ToLower(name)
	if s.unknownVariables == nil {
		s.unknownVariables = map[string]bool{}
	}
	s.unknownVariables[name] = true
	s.drop("@" + name)
	if len(s.unknownVariables) > maxEntries {
		s.opaque = "the session has too many user variables to follow"
	}
}
