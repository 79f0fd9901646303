package classify

// AssignmentKind is what a SET sets.
type AssignmentKind uint8

// The kinds.
const (
	OtherAssignment AssignmentKind = iota // not understood, PASSWORD, ROLE …
	UserVariable                          // @name
	SystemVariable                        // a system variable
	Names                                 // NAMES charset [COLLATE collation]
	CharacterSet                          // CHARACTER SET charset
	Transaction                           // [SESSION] TRANSACTION characteristics
)

// Scope is how long and for whom an assignment holds.
type Scope uint8

// The scopes.
const (
	UnsaidScope Scope = iota // of a user variable
	SessionScope
	NextTransactionScope
	GlobalScope // GLOBAL, PERSIST, PERSIST_ONLY: the server's
)

// Isolation is an isolation level that SET TRANSACTION names.
type Isolation uint8

// The isolation levels.
const (
	NoIsolation Isolation = iota
	ReadUncommitted
	ReadCommitted
	RepeatableRead
	Serializable
)

// Access is an access mode that SET TRANSACTION names.
type Access uint8

// The access modes.
const (
	NoAccess Access = iota
	ReadOnlyAccess
	ReadWriteAccess
)

// Assignment is one item of a SET. Its slices point into the text.
type Assignment struct {
	Kind  AssignmentKind
	Scope Scope
	// Name is the variable's name without quotes and scope; nil for the kinds
	// that are not variables.
	Name []byte
	// Value is the literal as written, with its quotes, so that it can be sent
	// to another server under the same sql_mode and character set; nil unless
	// Known. Of an expression that is not a literal it is nil too.
	Value []byte
	// Collation is the literal behind NAMES … COLLATE, as written, or nil.
	Collation []byte
	// Unreported: a system variable named @@name without a scope, whose change
	// MariaDB keeps from its session tracking.
	Unreported bool
	// Known: the value is a literal, the same wherever it is evaluated.
	Known bool
	// Allowed: other servers' connections may be given the same value.
	Allowed bool
	// Reported: the value is an expression or DEFAULT, but of a variable that
	// could be Allowed: what it is, the server that runs the SET reports. But
	// MariaDB does not for DEFAULT, which Default says.
	Reported bool
	Default  bool

	Isolation Isolation // of Transaction
	Access    Access    // of Transaction
}

// Assignments calls yield for each item of the SET that is sql's first
// statement until yield returns false. Of any other statement there is none.
func Assignments(sql []byte, m Mode, yield func(Assignment) bool) {
	s := scan{lexer: newLexer(sql, m)}
	if s.first().word != kwSet || s.otherSet() {
		return
	}
	for more := true; more && !s.done; {
		var a Assignment
		a, more = s.assignment(s.next())
		if !yield(a) {
			return
		}
	}
}

// first returns the first token that is not a semicolon.
func (l *lexer) first() token {
	for {
		if t := l.next(); t.op != ';' {
			return t
		}
	}
}

// set reads SET.
func (s *scan) set() {
	if s.otherSet() {
		return
	}
	s.settle(Empty, NoReason, 0)
	for more := true; more && !s.done; {
		var a Assignment
		a, more = s.assignment(s.next())
		s.judge(&a)
	}
}

// otherSet reads a SET that is no list of assignments.
func (s *scan) otherSet() bool {
	ahead := s.lexer
	t, next := ahead.next(), ahead.next()
	if t.word == kwPassword {
		s.settle(Write, ChangesSchema, ImplicitCommit)
		s.ignore()
		return true
	}
	if next.op == '=' || next.kind == tokenAssign {
		return false // a variable with such a name
	}
	switch {
	case t.word == kwStatement && s.mode.MariaDB:
		s.setStatement()
	case t.word == kwDefault && next.word == kwRole:
		s.settle(Write, ChangesSchema, ImplicitCommit)
		s.ignore()
	case t.word == kwRole, t.word == kwResource:
		s.settle(Write, SetsUnlistedState, SetsSession|OpaqueSession)
		s.ignore()
	default:
		return false
	}
	return true
}

// setStatement reads SET STATEMENT a=b FOR statement: the variables are the
// statement's, and what the statement does is done.
func (s *scan) setStatement() {
	s.next()
	for prev := (token{}); ; {
		t := s.next()
		switch {
		case t.kind == tokenBad:
			s.unreadable()
			return
		case stops(t):
			s.settle(Write, NotUnderstood, OpaqueSession)
			return
		case t.word == kwFor:
			verb, flags := s.verb, s.flags
			if t = s.next(); t.word == kwSet { // no server runs it; nor does it nest here
				s.garbled(t)
				return
			}
			s.statement(t)
			s.verb = verb
			s.flags |= flags | SetsStatement
			s.demand(Write, SetsExpression)
			return
		case t.kind != tokenOperator:
			s.operand(prev, t)
		}
		prev = t
	}
}

// judge raises the class of a SET by one of its assignments.
func (s *scan) judge(a *Assignment) {
	switch {
	case a.Kind == UserVariable && a.Known:
		s.flags |= SetsSession
		s.demand(SessionState, SetsListedState)
	case a.Kind == UserVariable:
		s.flags |= AssignsUserVariable
		s.demand(Write, SetsExpression)
	case a.Scope == GlobalScope:
		s.demand(Write, SetsGlobal)
	case a.Allowed && a.Scope == NextTransactionScope:
		s.flags |= SetsTransaction
		s.demand(SessionState, SetsListedState)
	case a.Allowed:
		s.flags |= SetsSession
		s.demand(SessionState, SetsListedState)
	case a.Kind == SystemVariable && equalFold(a.Name, "AUTOCOMMIT"):
		s.flags |= SetsSession
		s.demand(Write, SetsAutocommit)
		switch {
		case isOn(a.Value):
			s.flags |= ImplicitCommit
		case !a.Known:
			s.flags |= OpaqueSession
		}
	case a.Reported:
		s.flags |= SetsSession
		s.demand(Write, SetsExpression)
	case a.Kind == SystemVariable && !a.Known:
		s.flags |= SetsSession | OpaqueSession
		s.demand(Write, SetsExpression)
	default:
		s.flags |= SetsSession | OpaqueSession
		s.demand(Write, SetsUnlistedState)
	}
}

func isOn(v []byte) bool {
	v = unquoteSimple(v)
	return equalFold(v, "1") || equalFold(v, "ON") || equalFold(v, "TRUE")
}

func isZero(v []byte) bool {
	v = unquoteSimple(v)
	return equalFold(v, "0") || equalFold(v, "OFF") || equalFold(v, "FALSE")
}

// unquoteSimple takes the quotes off; escapes stay.
func unquoteSimple(v []byte) []byte {
	if len(v) >= 2 && (v[0] == '\'' || v[0] == '"') {
		return v[1 : len(v)-1]
	}
	return v
}

// assignment reads one item of a SET that begins with t, and the comma or the
// end behind it; more: it was a comma.
func (s *scan) assignment(t token) (a Assignment, more bool) {
	if scope := lookupScope(t.word); scope != UnsaidScope {
		if next := s.peek(); next.op != '=' && next.kind != tokenAssign {
			a.Scope = scope
			t = s.next()
			if t.word == kwTransaction {
				return s.transaction(a)
			}
		}
	}
	switch {
	case t.kind == tokenUserVariable:
		a.Kind = UserVariable
		a.Name = userVariableName(s.text(t))
	case t.kind == tokenSystemVariable:
		a.Kind = SystemVariable
		a.Scope, a.Name = s.systemVariable(t)
		if a.Scope == UnsaidScope {
			a.Scope = SessionScope
			if lookupVariable(a.Name).transaction {
				a.Scope = NextTransactionScope
			}
			a.Unreported = a.Scope == SessionScope
		}
	case t.kind == tokenQuoted, t.kind == tokenWord:
		if a.Scope == UnsaidScope {
			if kind, ok := s.special(t); ok {
				if kind == Transaction {
					a.Scope = NextTransactionScope
					return s.transaction(a)
				}
				a.Kind = kind
				return s.names(a)
			}
			a.Scope = SessionScope
			if s.globalBefore {
				// Whether GLOBAL still holds differs between servers.
				a.Kind = OtherAssignment
				return a, s.skipItem(t)
			}
		}
		a.Kind, a.Name = SystemVariable, s.identifier(t)
	default:
		return Assignment{Scope: SessionScope}, s.skipItem(t)
	}
	s.globalBefore = s.globalBefore || a.Scope == GlobalScope
	if t = s.next(); t.op != '=' && t.kind != tokenAssign {
		return Assignment{Scope: SessionScope}, s.skipItem(t)
	}
	before := s.lexer
	var end token
	if a.Value, end = s.literal(a.Kind == UserVariable); a.Value == nil {
		s.lexer = before
		rule := lookupVariable(a.Name)
		a.Reported = a.Kind == SystemVariable && a.Scope == SessionScope && rule.settable && !rule.zero
		if s.mode.MariaDB && s.peek().word == kwDefault {
			a.Default = true
			a.Reported = a.Reported && !rule.transaction && !charsetVariable(a.Name)
		}
		return a, s.expression(t).op == ','
	}
	a.Known = true
	if rule := lookupVariable(a.Name); a.Kind == UserVariable {
		a.Allowed = true
	} else {
		a.Allowed = rule.settable && a.Scope != GlobalScope && (!rule.zero || isZero(a.Value))
	}
	return a, end.op == ','
}

// charsetVariable tells the variables that change what a text means.
func charsetVariable(name []byte) bool {
	return equalFold(name, "CHARACTER_SET_CLIENT") || equalFold(name, "CHARACTER_SET_CONNECTION") ||
		equalFold(name, "CHARACTER_SET_RESULTS") || equalFold(name, "COLLATION_CONNECTION")
}

// skipItem moves behind an item that is not understood; t was read last.
func (s *scan) skipItem(t token) (more bool) {
	switch {
	case t.kind == tokenBad:
		s.unreadable()
		return false
	case stops(t):
		return false
	case t.op == ',':
		return true
	}
	return s.expression(t).op == ','
}

// lookupScope returns the scope that a word before a variable names.
func lookupScope(k keyword) Scope {
	switch k {
	case kwSession, kwLocal:
		return SessionScope
	case kwGlobal, kwPersist, kwPersistOnly:
		return GlobalScope
	}
	return UnsaidScope
}

// special recognises the items that are not assignments to a variable.
func (s *scan) special(t token) (AssignmentKind, bool) {
	next := s.peek()
	if next.op == '=' || next.kind == tokenAssign {
		return 0, false
	}
	switch {
	case t.word == kwNames:
		return Names, true
	case t.word == kwCharset:
		return CharacterSet, true
	case (t.word == kwCharacter || t.word == kwChar) && next.word == kwSet:
		s.next()
		return CharacterSet, true
	case t.word == kwTransaction:
		return Transaction, true
	}
	return 0, false
}

// names reads a character set, and for NAMES a collation.
func (s *scan) names(a Assignment) (Assignment, bool) {
	a.Scope = SessionScope
	value, t := s.charset()
	if value != nil && t.word == kwCollate && a.Kind == Names {
		if a.Collation, t = s.charset(); a.Collation == nil {
			value = nil
		}
	}
	if value == nil || !stops(t) && t.op != ',' {
		a.Collation = nil
		return a, s.skipItem(t)
	}
	a.Value, a.Known, a.Allowed = value, true, true
	return a, t.op == ','
}

// charset reads the name of a character set or collation, and the token behind it.
func (s *scan) charset() ([]byte, token) {
	t := s.next()
	switch {
	case t.kind == tokenString, t.kind == tokenQuoted, t.kind == tokenWord && t.word != kwDefault:
		return s.text(t), s.next()
	}
	return nil, t
}

// literal reads a value that is a literal and the comma or end behind it. Nil:
// it is anything else, and the position means nothing.
func (s *scan) literal(strict bool) ([]byte, token) {
	t := s.next()
	start := t.start
	switch {
	case t.op == '-' || t.op == '+':
		if t = s.next(); t.kind != tokenNumber {
			return nil, t
		}
	case t.kind == tokenNumber, t.kind == tokenString, t.kind == tokenHex:
	case t.kind == tokenWord && s.sql[t.start] == '_' && (s.peek().kind == tokenString || s.peek().kind == tokenHex):
		t = s.next()
	case t.kind == tokenWord:
		switch t.word {
		case kwNull, kwTrue, kwFalse:
		default:
			if strict || t.word == kwDefault || parenless(s.text(t)) {
				return nil, t
			}
		}
	default:
		return nil, t
	}
	end := s.next()
	if !stops(end) && end.op != ',' {
		return nil, end
	}
	return s.sql[start:t.end], end
}

// parenless reports whether a bare word is a call of a function.
func parenless(word []byte) bool {
	for _, prefix := range [...]string{"CURRENT_", "LOCALTIME", "UTC_", "SYSDATE"} {
		if _, ok := cutFold(word, prefix); ok {
			return true
		}
	}
	return false
}

// transaction reads the characteristics of SET TRANSACTION.
func (s *scan) transaction(a Assignment) (Assignment, bool) {
	a.Kind = Transaction
	t := s.next()
	for {
		ok := false
		switch t.word {
		case kwIsolation:
			if ok = a.Isolation == NoIsolation && s.next().word == kwLevel; ok {
				a.Isolation = s.isolation()
				ok = a.Isolation != NoIsolation
			}
		case kwRead:
			switch mode := s.next(); {
			case a.Access != NoAccess:
			case mode.word == kwOnly:
				a.Access, ok = ReadOnlyAccess, true
			case mode.word == kwWrite:
				a.Access, ok = ReadWriteAccess, true
			}
		}
		if t = s.next(); !ok {
			return a, s.skipItem(t)
		}
		if stops(t) {
			a.Known, a.Allowed = true, a.Scope != GlobalScope
			return a, false
		}
		if t.op != ',' {
			return a, s.skipItem(t)
		}
		t = s.next()
	}
}

func (s *scan) isolation() Isolation {
	switch s.next().word {
	case kwSerializable:
		return Serializable
	case kwRepeatable:
		if s.next().word == kwRead {
			return RepeatableRead
		}
	case kwRead:
		switch s.next().word {
		case kwUncommitted:
			return ReadUncommitted
		case kwCommitted:
			return ReadCommitted
		}
	}
	return NoIsolation
}

// userVariableName takes the @ and the quotes off.
func userVariableName(text []byte) []byte {
	name := text[1:]
	if len(name) >= 2 && (name[0] == '`' || name[0] == '\'' || name[0] == '"') {
		name = name[1 : len(name)-1]
	}
	return name
}
