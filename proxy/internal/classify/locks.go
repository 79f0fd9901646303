package classify

// Locks reads which user-level locks a statement takes and releases. taken is
// called with the name of each GET_LOCK, as often as that stands in the text;
// released with that of RELEASE_LOCK, where the statement does nothing else and
// so certainly runs it, and with nil for RELEASE_ALL_LOCKS. It is false where a
// lock may be taken that the text does not name, or more often than it says: the
// name is no literal, or rows decide how often the call is made.
func Locks(sql []byte, m Mode, taken, released func(name []byte)) bool {
	l := newLexer(sql, m)
	verb := l.first()
	plain := verb.word == kwSelect || verb.word == kwDo
	known, calls, takes := true, 0, false
	var last []byte // what is released, if that is all
	var all bool
	for {
		t := l.next()
		switch {
		case t.kind == tokenEnd:
			if plain && calls == 1 && !takes && (last != nil || all) {
				released(last)
			}
			return known
		case t.kind == tokenBad:
			return false
		case t.word == kwFrom && !takes && last == nil && !all:
			// Nothing that matters stands before it; what follows counts by its rows.
			plain, known = false, known && !namesLock(l)
		case t.word == kwFrom:
			plain, known = false, false
		case t.kind == tokenWord && l.peek().op == '(':
			switch name := l.text(t); {
			case equalFold(name, "GET_LOCK"):
				l.next()
				calls, takes = calls+1, true
				if arg := l.next(); arg.kind == tokenString && l.peek().op == ',' {
					taken(l.unquote(l.text(arg)))
				} else {
					known = false
				}
			case equalFold(name, "RELEASE_LOCK"):
				l.next()
				calls++
				if arg := l.next(); arg.kind == tokenString && l.peek().op == ')' {
					last = l.unquote(l.text(arg))
				}
			case equalFold(name, "RELEASE_ALL_LOCKS"):
				calls, all = calls+1, true
			default:
				calls++ // which may keep another one from being made (IF, COALESCE)
			}
		case t.word == kwAnd || t.word == kwOr || t.word == kwCase:
			plain = false // and so may these
		}
	}
}

// namesLock tells whether GET_LOCK stands in what is left of a text.
func namesLock(l lexer) bool {
	for {
		t := l.next()
		switch t.kind {
		case tokenEnd:
			return false
		case tokenBad:
			return true
		}
		if equalFold(l.text(t), "GET_LOCK") {
			return true
		}
	}
}
