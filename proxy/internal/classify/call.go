package classify

// call looks at the word or quoted name t, which stands before an opening
// parenthesis. Unless its place or the table of functions says that it is
// harmless it may be a stored function, which may write.
func (s *scan) call(prev, t token) {
	name := s.text(t)
	quoted := t.kind == tokenQuoted
	qualified := prev.op == '.'
	if !quoted && !qualified {
		if keywords[t.word].group || s.groups(prev, t) {
			return
		}
	}
	if !qualified && s.columnList(prev) {
		return
	}
	if quoted || qualified {
		s.unknownCall = true
		return
	}
	switch builtIn(name, s.apart(), &s.mode) {
	case notBuiltIn:
		s.unknownCall = true
	case mindsArguments:
		s.unknownCall = s.unknownCall || !s.rightArguments(name)
	case asksInsertID:
		ahead := s.lexer
		ahead.next()
		if ahead.next().op == ')' {
			s.flags |= LastInsertID
		} else {
			s.demand(Write, SetsInsertID)
		}
	case asksConnection:
		s.flags |= ConnectionID
	case asksFoundRows:
		s.flags |= Diagnostics | AsksFoundRows
	case asksRowCount:
		s.flags |= Diagnostics | AsksRowCount
	case asksServer:
		s.demand(Primary, OneServersAnswer)
	case takesLock:
		s.demand(Write, UsesNamedLock)
		s.flags |= TakesLock
	case releasesLock:
		s.demand(Write, UsesNamedLock)
		s.flags |= ReleasesLock
	case waits:
		s.demand(Write, Waits)
	case usesSequence:
		s.sequence()
	}
}

// apart reports whether to the server the name at hand and the parenthesis
// behind it stand apart. IGNORE_SPACE bridges white space, but no comment.
func (s *scan) apart() bool {
	i := s.pos
	for s.mode.IgnoreSpace && is(s.at(i), isSpace) {
		i++
	}
	return s.at(i) != '('
}

// rightArguments reports whether the call at hand has the arguments of the
// built-in function. To MariaDB POINT with another number of them than two, the
// other geometry constructors without any, and JSON_TABLE without COLUMNS are
// calls of a stored function with that name.
func (s *scan) rightArguments(name []byte) bool {
	if !s.mode.MariaDB {
		return true
	}
	ahead := s.lexer
	ahead.next()
	point, table := equalFold(name, "POINT"), equalFold(name, "JSON_TABLE")
	if !point && !table {
		return ahead.next().op != ')'
	}
	// A bounded look ahead keeps POINT(POINT(POINT(… linear.
	commas, depth := 0, 0
	prev := token{}
	for range 64 {
		t := ahead.next()
		switch {
		case t.op == '(':
			depth++
		case t.op == ')' && depth == 0:
			return point && commas == 1
		case t.op == ')':
			depth--
		case t.op == ',' && depth == 0:
			commas++
		case t.word == kwColumns && depth == 0 && prev.kind == tokenString && table:
			return true
		}
		prev = t
	}
	return false
}

// groups reports whether the place of the word t says that the parenthesis
// behind it is no call's: a call cannot follow what precedes.
func (s *scan) groups(prev, t token) bool {
	name := s.text(t)
	switch {
	case prev.word == kwAs: // a type in CAST, or a derived table's columns
		return true
	case prev.op == ')':
		return equalFold(name, "AGAINST")
	case prev.kind == tokenString:
		return t.word == kwColumns // of JSON_TABLE
	case prev.op == '=' || prev.op == '<' || prev.op == '>':
		return t.word == kwAny || t.word == kwSome
	case prev.word == kwSelect:
		return t.word == kwSqlNoCache || t.word == kwSqlBufferResult || t.word == kwSqlCache && s.mode.MariaDB
	case !s.mode.MariaDB:
		return t.word == kwLateral || t.word == kwOf // reserved there only
	}
	return false
}

// columnList reports whether the parenthesis at hand holds names only and
// belongs to a common table expression (name (a, b) AS (…)) or to a derived
// table ((…) name (a, b), AS name (a, b)).
func (s *scan) columnList(prev token) bool {
	ahead := s.lexer
	ahead.next() // (
	for {
		if t := ahead.next(); t.kind != tokenQuoted && (t.kind != tokenWord || keywords[t.word].group) {
			return false
		}
		switch t := ahead.next(); t.op {
		case ',':
		case ')':
			if prev.op == ')' || prev.word == kwAs {
				return true
			}
			return ahead.next().word == kwAs && ahead.next().op == '('
		default:
			return false
		}
	}
}

// name looks at an identifier: the schemas and tables that are the server's
// own, and a sequence's pseudo-columns.
func (s *scan) name(prev token, name []byte) {
	switch p := places[placeIndex.lookup(name)]; p.kind {
	case placeNone:
		if len(name) > 7 && equalFold(name[:7], "INNODB_") {
			s.demand(Primary, OneServersAnswer)
		}
	case placeSchema:
		if s.at(s.pos) == '.' || s.peek().op == '.' {
			s.flags |= ReadsSystem
			if p.live {
				s.demand(Primary, OneServersAnswer)
			}
		}
	case placeTable:
		s.demand(Primary, OneServersAnswer)
		if equalFold(name, "USER_VARIABLES") {
			s.flags |= ReadsUserVariable
		}
	case placeSequence:
		if prev.op == '.' {
			s.sequence()
		}
	}
}

// sequence notes the use of a sequence, which is a table to the server.
func (s *scan) sequence() {
	s.demand(Write, UsesSequence)
	s.flags |= Sequence
	s.flags |= UsesTable
}

type placeKind uint8

const (
	placeNone     placeKind = iota
	placeSchema             // a schema of the server's own
	placeTable              // a table whose rows are one server's
	placeSequence           // the pseudo-column of a sequence
)

// place is a name that says where an answer comes from.
type place struct {
	name string
	kind placeKind
	live bool // everything in the schema is one server's
}

var places = []place{
	{},
	{"INFORMATION_SCHEMA", placeSchema, false},
	{"PERFORMANCE_SCHEMA", placeSchema, true},
	{"MYSQL", placeSchema, true},
	{"SYS", placeSchema, true},

	{"PROCESSLIST", placeTable, true},
	{"GLOBAL_STATUS", placeTable, true},
	{"SESSION_STATUS", placeTable, true},
	{"GLOBAL_VARIABLES", placeTable, true},
	{"CLIENT_STATISTICS", placeTable, true},
	{"USER_STATISTICS", placeTable, true},
	{"INDEX_STATISTICS", placeTable, true},
	{"TABLE_STATISTICS", placeTable, true},
	{"METADATA_LOCK_INFO", placeTable, true},
	{"OPTIMIZER_TRACE", placeTable, true},
	{"PROFILING", placeTable, true},
	{"QUERY_CACHE_INFO", placeTable, true},
	{"QUERY_RESPONSE_TIME", placeTable, true},
	{"THREAD_POOL_GROUPS", placeTable, true},
	{"THREAD_POOL_QUEUES", placeTable, true},
	{"THREAD_POOL_STATS", placeTable, true},
	{"THREAD_POOL_WAITS", placeTable, true},
	{"USER_VARIABLES", placeTable, true},

	{"NEXTVAL", placeSequence, true},
	{"CURRVAL", placeSequence, true},
}

var placeIndex = newWordIndex(len(places), func(i int) string { return places[i].name })
