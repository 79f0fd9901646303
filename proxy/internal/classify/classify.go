package classify

// Classify returns what sql means to a server of mode m. It does not allocate
// and never fails; what it cannot read is a Write.
func Classify(sql []byte, m Mode) Meaning {
	var s scan
	s.open(sql, m)
	out := Meaning{Hint: leadingHint(sql[s.pos:])}
	unknown, others, stateful := false, Empty, false
	for !s.done {
		t := s.next()
		if t.kind == tokenEnd {
			break
		}
		if t.op == ';' {
			continue
		}
		s.class, s.reason, s.flags, s.unknownCall = Read, NoReason, 0, false
		s.statement(t)
		out.Statements++
		if out.Statements == 1 {
			out.Verb = s.verb
		}
		if s.unknownCall && s.class == Read {
			unknown = true
		} else {
			others = max(others, s.class)
		}
		if s.unknownCall {
			s.demand(Write, CallsUnknownFunction)
		}
		stateful = stateful || changesSession(s.class, s.flags)
		out.Flags |= s.flags
		if s.class > out.Class {
			out.Class, out.Reason = s.class, s.reason
		}
	}
	if out.Statements > 1 {
		out.Flags |= MultiStatement
		if stateful && out.Class != Write {
			out.Class, out.Reason = Write, MixesStatements
		}
	}
	if s.ambiguous && out.Class != Write {
		out.Class, out.Reason, others = Write, AmbiguousBytes, Write
	}
	if unknown && others <= Read && !stateful {
		out.Flags |= UnknownFunction
	}
	return out
}

// changesSession reports whether a statement makes a text of several a Write,
// because what it does to the session cannot be followed statement by
// statement while the text runs.
func changesSession(c Class, f Flags) bool {
	switch c {
	case SessionState, BeginReadOnly, Begin, End, Console:
		return true
	}
	return f&(CreatesTemporary|DropsTemporary) != 0
}

// scan reads one statement after another and gathers what each of them is.
type scan struct {
	lexer
	done bool // nothing can be read behind the last statement

	// Of the statement being read:
	verb         Verb
	class        Class
	reason       Reason
	flags        Flags
	unknownCall  bool
	query        bool // it is or explains a query: locking clauses count
	explained    bool // it is an explained write: INTO belongs to it
	assigns      bool // user variables named in it get values
	into         bool // between INTO and the next keyword
	globalBefore bool // a SET that has said GLOBAL
}

// demand raises the class of the statement; the first reason for a class wins.
func (s *scan) demand(c Class, r Reason) {
	if c > s.class {
		s.class, s.reason = c, r
	}
}

// settle sets the class of the statement whatever was seen of it.
func (s *scan) settle(c Class, r Reason, f Flags) {
	s.class, s.reason = c, r
	s.flags |= f
}

// statement reads the statement that begins with t, with its semicolon.
func (s *scan) statement(t token) {
	s.verb, s.query, s.explained, s.assigns, s.into, s.globalBefore = NoVerb, false, false, false, false, false
	nested := false
	for t.op == '(' {
		nested = true
		t = s.next()
	}
	rule := verbRule{}
	if t.kind == tokenWord {
		s.verb = Verb(t.word)
		rule = verbs[t.word]
	}
	if nested && rule.shape != shapeRead {
		rule = verbRule{}
	}
	switch rule.shape {
	case shapeUnknown:
		s.notUnderstood(t)
	case shapeRead:
		s.query = true
		s.flags |= rule.flags
		s.rest(t)
	case shapePlain:
		s.settle(Write, rule.reason, rule.flags)
		s.assigns = rule.assigns
		s.rest(t)
	case shapeOpaque:
		s.settle(Write, rule.reason, rule.flags)
		if s.peek().word == kwTable {
			s.flags |= UsesTable
		}
		s.ignore()
	case shapeExplain:
		s.explain(t)
	case shapeShow:
		s.show()
	case shapeSet:
		s.set()
	case shapeUse:
		s.use()
	case shapeBegin:
		s.begin()
	case shapeStart:
		s.start()
	case shapeEnd:
		s.end(t)
	case shapeDefine:
		s.define(t)
	case shapeLoad:
		s.load(t)
	case shapeFlush:
		s.flush()
	case shapeLock:
		s.lock(t)
	case shapeExecute:
		s.settle(Write, PreparesStatement, ExecutesText)
		if s.peek().word == kwImmediate {
			s.flags |= OpaqueSession
		}
		s.rest(t)
	case shapeCompound:
		s.compound(t)
	}
}

// notUnderstood reads a statement with an unknown beginning. A label opens a block.
func (s *scan) notUnderstood(t token) {
	if (t.kind == tokenWord || t.kind == tokenQuoted) && s.peek().op == ':' {
		s.compound(t)
		return
	}
	s.settle(Write, NotUnderstood, OpaqueSession)
	if t.kind == tokenBad {
		s.unreadable()
		return
	}
	if t.op != ';' && t.kind != tokenEnd {
		s.rest(t)
	}
}

// unreadable gives up on the rest of the text.
func (s *scan) unreadable() {
	s.settle(Write, Unreadable, OpaqueSession)
	s.done = true
}

// compound reads a block of statements. Where it ends cannot be told without
// a parser, so it is taken to reach to the end of the text.
func (s *scan) compound(t token) {
	s.settle(Write, IsCompound, CallsProcedure|OpaqueSession)
	for !s.done {
		s.assigns = true
		if t = s.rest(t); t.kind == tokenEnd {
			s.done = true
		}
	}
}

// ignore moves behind the statement without looking at what is in it.
func (s *scan) ignore() token {
	for {
		switch t := s.next(); {
		case t.kind == tokenBad:
			s.unreadable()
			return t
		case t.kind == tokenEnd || t.op == ';':
			return t
		}
	}
}

// rest reads on to the end of the statement, gathering what is in it; prev is
// the token before. It returns the token that ended it.
func (s *scan) rest(prev token) token {
	for {
		t := s.next()
		switch t.kind {
		case tokenEnd:
			return t
		case tokenBad:
			s.unreadable()
			return t
		case tokenOperator:
			if t.op == ';' {
				return t
			}
		default:
			s.operand(prev, t)
		}
		prev = t
	}
}

// expression reads a value up to a comma outside of parentheses or the end of
// the statement, and returns the token that ended it.
func (s *scan) expression(prev token) token {
	for depth := 0; ; {
		t := s.next()
		switch {
		case t.kind == tokenEnd || t.op == ';' || t.op == ',' && depth == 0:
			return t
		case t.kind == tokenBad:
			s.unreadable()
			return t
		case t.op == '(':
			depth++
		case t.op == ')':
			depth--
		case t.kind != tokenOperator:
			s.operand(prev, t)
		}
		prev = t
	}
}

// operand looks at one token that is not an operator.
func (s *scan) operand(prev, t token) {
	switch t.kind {
	case tokenWord:
		if t.word != noKeyword {
			s.keyword(prev, t)
		}
		if s.opens() {
			s.call(prev, t)
		} else if t.word == noKeyword {
			s.name(prev, s.text(t))
		}
	case tokenQuoted:
		if s.opens() {
			s.call(prev, t)
		} else {
			s.name(prev, s.sql[t.start+1:t.end-1])
		}
	case tokenUserVariable:
		s.flags |= ReadsUserVariable
		if s.assigns || s.into {
			s.flags |= AssignsUserVariable
		}
	case tokenSystemVariable:
		s.readVariable(s.systemVariable(t))
	case tokenAssign:
		s.demand(Write, AssignsVariable)
		if prev.kind == tokenUserVariable {
			s.flags |= AssignsUserVariable
		}
	}
}

// keyword looks at the keywords that make a query more than a read. They are
// all reserved by both servers, or mean nothing without the word behind them.
func (s *scan) keyword(prev, t token) {
	s.into = false
	switch t.word {
	case kwFrom:
		if s.namesTable() {
			s.flags |= UsesTable
		}
	case kwTable:
		s.flags |= UsesTable // MySQL's TABLE t, as a query within another
	case kwSqlCalcFoundRows:
		s.flags |= CalcFoundRows
	case kwInto:
		if !s.explained {
			s.demand(Write, SelectsInto)
			s.into = true
			return
		}
		s.explainedInto()
	case kwUpdate:
		if prev.word != kwFor {
			s.flags |= UsesTable
		}
		if s.query && !(s.explained && prev.word == kwKey) {
			s.locks(prev.word == kwFor)
		}
	case kwLock:
		if s.query {
			s.locks(true)
		}
	case kwFor:
		if s.query && s.peek().word == kwShare {
			s.locks(true)
		}
	case kwDelete, kwInsert, kwReplace:
		if !s.opens() {
			s.demand(Write, MayWrite)
			s.flags |= UsesTable
		}
	case kwProcedure, kwCall:
		s.demand(Write, CallsStoredProcedure)
	case kwNext, kwPrevious:
		if s.peek().word == kwValue {
			s.sequence()
		}
	}
}

// namesTable reports whether a table follows the FROM at hand: not DUAL, and no
// literal or variable, as behind PREPARE … FROM or within TRIM('a' FROM 'b').
func (s *scan) namesTable() bool {
	i := s.pos
	for is(s.at(i), isSpace) {
		i++
	}
	switch c := s.at(i); {
	case c == '(', c == '`', is(c, isWord) && !is(c, isDigit) && c|0x20 != 'd':
		return true
	}
	switch t := s.peek(); t.kind {
	case tokenWord:
		return !equalFold(s.text(t), "DUAL")
	case tokenQuoted:
		return true
	default:
		return t.op == '(' || t.op == '{'
	}
}

// locks notes a locking clause, or an UPDATE behind a WITH.
func (s *scan) locks(clause bool) {
	if !clause {
		s.demand(Write, MayWrite)
		return
	}
	s.demand(Write, LockingRead)
	s.flags |= Locking
}

// explainedInto reads the table of an explained INSERT, whose columns in
// parentheses look like a call; EXPLAIN … INTO @a assigns.
func (s *scan) explainedInto() {
	for {
		switch t := s.peek(); {
		case t.kind == tokenUserVariable:
			s.demand(Write, SelectsInto)
			s.into = true
			return
		case t.kind == tokenQuoted, t.op == '.', t.kind == tokenWord && !keywords[t.word].group:
			s.next()
		default:
			return
		}
	}
}
