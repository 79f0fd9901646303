package classify

// explain reads EXPLAIN, DESCRIBE and DESC, and MariaDB's ANALYZE of a
// statement. What it explains is looked at as if it ran: servers evaluate
// parts of a query to explain it.
func (s *scan) explain(verb token) {
	runs := verb.word == kwAnalyze
	s.query = true
	t := s.next()
	if runs && t.word != kwFormat && verbs[t.word].shape != shapeRead && t.word != kwUpdate &&
		t.word != kwDelete && t.word != kwInsert && t.word != kwReplace && t.op != '(' || runs && t.word == kwTable {
		s.settle(Write, Administers, ImplicitCommit|UsesTable) // ANALYZE TABLE, ANALYZE LOCAL TABLE
		if !stops(t) {
			s.ignore()
		}
		return
	}
	if t.word == kwAnalyze {
		runs = true
		t = s.next()
	}
	for t.word == kwExtended || t.word == kwPartitions || t.word == kwFormat {
		option := t.word
		t = s.next()
		if option == kwFormat && t.op == '=' {
			if format := s.peek(); format.kind == tokenWord || format.kind == tokenString {
				s.next()
			}
			t = s.next()
		}
		if runs = runs || t.word == kwAnalyze; t.word == kwAnalyze {
			t = s.next()
		}
	}
	if t.word == kwInto { // MySQL's EXPLAIN FORMAT=JSON INTO @a SELECT …
		s.demand(Write, SelectsInto)
		s.into = true
	}
	switch t.word {
	case kwFor:
		if s.peek().word == kwConnection {
			s.demand(Primary, OneServersAnswer)
		}
	case kwInsert, kwReplace, kwUpdate, kwDelete:
		s.explained = true
		s.flags |= UsesTable
		if runs {
			s.demand(Write, MayWrite)
		} else {
			s.demand(Primary, MayWrite) // a read-only server refuses it: error 1290
		}
		s.rest(t)
		return
	}
	if runs && !explainable(t) || !runs && s.refused(t) {
		s.settle(Write, NotUnderstood, 0)
	}
	if !explainable(t) {
		s.flags |= UsesTable // DESCRIBE t
	}
	s.firstOf(t)
}

// explainable reports whether t begins a query or a clause before one.
func explainable(t token) bool {
	return verbs[t.word].shape == shapeRead || t.op == '(' || t.word == kwFor || t.word == kwInto
}

// refused reports whether t, behind EXPLAIN, begins a statement that cannot be
// explained, rather than being the name of a table like it.
func (s *scan) refused(t token) bool {
	return !explainable(t) && verbs[t.word].shape != shapeUnknown && !stops(s.peek()) && s.peek().op != '.'
}

// firstOf reads on with t, the first token of what matters.
func (s *scan) firstOf(t token) {
	switch {
	case t.kind == tokenBad:
		s.unreadable()
		return
	case stops(t):
		return
	case t.kind != tokenOperator:
		s.operand(token{}, t)
	}
	s.rest(t)
}

// use reads USE schema.
func (s *scan) use() {
	t := s.next()
	if t.kind != tokenWord && t.kind != tokenQuoted {
		s.garbled(t)
		return
	}
	if t = s.next(); !stops(t) {
		s.garbled(t)
		return
	}
	s.settle(SessionState, SetsListedState, UsesSchema)
}

// define reads CREATE, ALTER and DROP.
func (s *scan) define(verb token) {
	s.settle(Write, ChangesSchema, ImplicitCommit)
	temporary := false
	t := s.next()
	for {
		switch t.word {
		case kwOr, kwReplace, kwAggregate:
		case kwTemporary:
			temporary = true
		case kwDefiner:
			s.definer()
		default:
			s.defined(verb, t, temporary)
			return
		}
		t = s.next()
	}
}

// definer reads = user [@ host] or = CURRENT_USER [()].
func (s *scan) definer() {
	if s.peek().op == '=' {
		s.next()
		s.next()
	}
	if s.peek().kind == tokenUserVariable {
		s.next()
	}
	if s.peek().op == '(' {
		s.next()
		s.next()
	}
}

// defined reads CREATE, ALTER or DROP from the word that says what it is about.
func (s *scan) defined(verb, t token, temporary bool) {
	if !s.tableless(verb, t) {
		s.flags |= UsesTable
	}
	switch t.word {
	case kwPrepare:
		if verb.word == kwDrop {
			s.flags = 0
			s.settle(Write, PreparesStatement, DeallocatesText)
		}
	case kwTable, kwTables, kwSequence:
		switch {
		case verb.word == kwDrop:
			s.flags |= DropsTemporary
		case verb.word == kwCreate && temporary:
			s.flags |= CreatesTemporary
		}
		if temporary {
			s.flags &^= ImplicitCommit
		}
		if verb.word == kwCreate {
			s.firstOf(t)
			return
		}
	case kwProcedure, kwFunction, kwTrigger, kwEvent, kwPackage:
		if verb.word != kwDrop {
			s.body()
			return
		}
	}
	switch {
	case t.kind == tokenBad:
		s.unreadable()
	case !stops(t):
		s.ignore()
	}
}

// tableless reports whether what t says CREATE, ALTER or DROP is about is no
// table, nor anything of one, to the server.
func (s *scan) tableless(verb, t token) bool {
	switch t.word {
	case kwProcedure, kwFunction, kwEvent, kwPackage, kwUser, kwRole, kwPrepare:
		return true
	case kwTrigger:
		return verb.word == kwDrop
	}
	for _, name := range [...]string{"DATABASE", "SCHEMA", "SERVER"} {
		if equalFold(s.text(t), name) {
			return true
		}
	}
	return false
}

// body reads a routine's text, which may hold semicolons. Where one stands
// within, nothing tells whether the text behind it is the routine's or runs now.
func (s *scan) body() {
	for s.ignore().op == ';' {
		if s.peek().kind != tokenEnd {
			s.settle(Write, IsCompound, OpaqueSession|CallsProcedure)
		}
	}
	s.done = true
}

// load reads LOAD DATA, LOAD XML and LOAD INDEX INTO CACHE.
func (s *scan) load(t token) {
	s.settle(Write, MayWrite, UsesTable)
	for ahead := s.lexer; ; {
		switch next := ahead.next(); {
		case next.word == kwLocal:
			s.flags |= LoadsLocal
			continue
		case next.word == kwIndex:
			s.flags |= ImplicitCommit
		case next.kind == tokenWord && next.word != kwInfile:
			continue
		}
		break
	}
	s.assigns = true // (column, @a) takes the file's values
	s.rest(t)
}

// flush reads FLUSH; some forms lock tables until UNLOCK TABLES.
func (s *scan) flush() {
	s.settle(Write, Administers, ImplicitCommit)
	for prev := (token{}); ; {
		t := s.next()
		switch {
		case t.kind == tokenBad:
			s.unreadable()
			return
		case stops(t):
			return
		case prev.word == kwRead && t.word == kwLock, prev.word == kwFor && t.kind == tokenWord && equalFold(s.text(t), "EXPORT"):
			s.settle(Write, LocksTable, LocksTables)
		}
		prev = t
	}
}

// lock reads LOCK and UNLOCK.
func (s *scan) lock(verb token) {
	t := s.next()
	tables := t.word == kwTable || t.word == kwTables
	switch {
	case !tables: // LOCK INSTANCE FOR BACKUP: held until the connection ends
		s.settle(Write, LocksTable, OpaqueSession)
	case verb.word == kwLock:
		s.settle(Write, LocksTable, LocksTables|ImplicitCommit|UsesTable)
	default:
		s.settle(Write, LocksTable, UnlocksTables)
	}
	switch {
	case t.kind == tokenBad:
		s.unreadable()
	case !stops(t):
		s.ignore()
	}
}
