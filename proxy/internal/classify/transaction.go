package classify

// stops reports whether t ends a statement.
func stops(t token) bool { return t.kind == tokenEnd || t.op == ';' }

// begin reads BEGIN [WORK]. Anything else behind it makes it a block: BEGIN
// NOT ATOMIC, or a bare one in Oracle mode.
func (s *scan) begin() {
	t := s.next()
	if t.word == kwWork {
		t = s.next()
	}
	if !stops(t) {
		s.compound(t)
		return
	}
	s.settle(Begin, ControlsTransaction, ImplicitCommit)
}

// start reads START TRANSACTION with its characteristics in any order, and
// takes every other START for a replica's.
func (s *scan) start() {
	t := s.next()
	if t.word != kwTransaction {
		s.settle(Write, Administers, ImplicitCommit)
		if !stops(t) {
			s.ignore()
		}
		return
	}
	readOnly, readWrite := false, false
	t = s.next()
	for !stops(t) {
		switch first, second := t.word, s.next(); {
		case first == kwRead && second.word == kwOnly:
			readOnly = true
		case first == kwRead && second.word == kwWrite:
			readWrite = true
		case first == kwWith && second.word == kwConsistent && s.next().word == kwSnapshot:
		default:
			s.garbled(second)
			return
		}
		if t = s.next(); t.op == ',' {
			t = s.next()
		}
	}
	if readOnly && !readWrite {
		s.settle(BeginReadOnly, ControlsTransaction, ImplicitCommit)
		return
	}
	flags := ImplicitCommit
	if readWrite {
		flags |= ReadWrite
	}
	s.settle(Begin, ControlsTransaction, flags)
}

// end reads COMMIT or ROLLBACK [WORK] [AND [NO] CHAIN] [[NO] RELEASE]; a
// ROLLBACK TO a savepoint stays within the transaction.
func (s *scan) end(verb token) {
	t := s.next()
	if t.word == kwWork {
		t = s.next()
	}
	if verb.word == kwRollback && t.word == kwTo {
		s.settle(Write, InTransaction, 0)
		s.ignore()
		return
	}
	if t.word == kwAnd {
		if t = s.next(); t.word == kwNo {
			t = s.next()
		}
		if t.word != kwChain {
			s.garbled(t)
			return
		}
		t = s.next()
	}
	var flags Flags
	switch t.word {
	case kwNo:
		if t = s.next(); t.word != kwRelease {
			s.garbled(t)
			return
		}
		t = s.next()
	case kwRelease:
		flags = EndsConnection
		t = s.next()
	}
	if !stops(t) {
		s.garbled(t)
		return
	}
	s.settle(End, ControlsTransaction, flags)
}

// garbled reads the rest of a statement that begins well and then is no SQL
// that is known here; t is the last token read.
func (s *scan) garbled(t token) {
	s.settle(Write, NotUnderstood, OpaqueSession)
	switch {
	case t.kind == tokenBad:
		s.unreadable()
	case !stops(t):
		s.rest(t)
	}
}
