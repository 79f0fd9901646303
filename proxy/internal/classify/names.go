package classify

// Schema returns the schema that the first statement of sql makes the default
// one, without quotes. False: it is not a USE. The name points into sql, but
// for one with doubled quotes, which is a copy.
func Schema(sql []byte, m Mode) ([]byte, bool) {
	l := newLexer(sql, m)
	if l.first().word != kwUse {
		return nil, false
	}
	t := l.next()
	if !stops(l.next()) {
		return nil, false
	}
	return l.plainName(t)
}

// plainName returns the name that t is, without quotes of any kind.
func (l *lexer) plainName(t token) ([]byte, bool) {
	switch t.kind {
	case tokenWord:
		return l.text(t), true
	case tokenQuoted:
		return l.unquote(l.text(t)), true
	}
	return nil, false
}

// TableNames calls yield for each identifier of sql, in all its statements,
// that could name a table, with the identifier before its dot as the schema or
// nil, until yield returns false. It yields too much (columns, keywords) and
// never too little. Names are as those of Schema.
func TableNames(sql []byte, m Mode, yield func(schema, name []byte) bool) {
	l := newLexer(sql, m)
	var schema []byte
	dotted := false
	for {
		t := l.next()
		if t.kind == tokenEnd || t.kind == tokenBad {
			return
		}
		if t.op == '.' {
			dotted = true
			continue
		}
		name, ok := l.plainName(t)
		if !dotted || !ok {
			schema = nil
		}
		dotted = false
		if ok {
			if !yield(schema, name) {
				return
			}
			schema = name
		}
	}
}

// TemporaryTables calls yield for each table that the first statement of sql
// may make or unmake as a temporary one: those of CREATE TEMPORARY TABLE
// (created), DROP [TEMPORARY] TABLE (not created), and of ALTER TABLE … RENAME
// and RENAME TABLE the old name, not created, and then the new one, created.
// Whether a dropped or renamed table is a temporary one only the caller knows;
// and DROP takes a temporary one only if it is there. Names are as those of
// Schema.
func TemporaryTables(sql []byte, m Mode, yield func(schema, name []byte, created bool) bool) {
	l := newLexer(sql, m)
	verb := l.first()
	temporary := false
	t := l.next()
	for t.word == kwOr || t.word == kwReplace || t.word == kwTemporary || t.word == kwIgnore || isOnline(&l, t) {
		temporary = temporary || t.word == kwTemporary
		t = l.next()
	}
	if t.word != kwTable && t.word != kwTables && t.word != kwSequence {
		return
	}
	for next := l.peek(); next.word == kwIf || next.word == kwNot || next.word == kwExists; next = l.peek() {
		l.next()
	}
	switch verb.word {
	case kwCreate:
		if schema, name, ok := l.table(); ok && temporary {
			yield(schema, name, true)
		}
	case kwDrop:
		for {
			schema, name, ok := l.table()
			if !ok || !yield(schema, name, false) || l.next().op != ',' {
				return
			}
		}
	case kwRename:
		l.renames(yield)
	case kwAlter:
		l.alterRename(yield)
	}
}

// isOnline reports MariaDB's ALTER ONLINE TABLE.
func isOnline(l *lexer, t token) bool {
	return t.kind == tokenWord && equalFold(l.text(t), "ONLINE")
}

// table reads [schema .] name.
func (l *lexer) table() (schema, name []byte, ok bool) {
	if name, ok = l.plainName(l.next()); !ok {
		return nil, nil, false
	}
	if l.peek().op == '.' {
		l.next()
		schema = name
		name, ok = l.plainName(l.next())
	}
	return schema, name, ok
}

// renames reads a TO b, c TO d …
func (l *lexer) renames(yield func(schema, name []byte, created bool) bool) {
	for {
		schema, name, ok := l.table()
		if !ok {
			return
		}
		t := l.next()
		for ; t.word != kwTo; t = l.next() { // WAIT n, NOWAIT
			if stops(t) || t.kind == tokenBad {
				return
			}
		}
		toSchema, to, ok := l.table()
		if !ok || !yield(schema, name, false) || !yield(toSchema, to, true) || l.next().op != ',' {
			return
		}
	}
}

// alterRename reads a table and looks for RENAME [TO | AS | =] name among its
// alterations.
func (l *lexer) alterRename(yield func(schema, name []byte, created bool) bool) {
	schema, name, ok := l.table()
	if !ok {
		return
	}
	for t := l.next(); !stops(t) && t.kind != tokenBad; t = l.next() {
		if t.word != kwRename {
			continue
		}
		switch next := l.peek(); {
		case next.word == kwColumn || next.word == kwIndex || next.word == kwKey:
			continue
		case next.word == kwTo || next.word == kwAs || next.op == '=':
			l.next()
		}
		if toSchema, to, ok := l.table(); ok {
			if !yield(schema, name, false) || !yield(toSchema, to, true) {
				return
			}
			schema, name = toSchema, to
		}
	}
}

// UserVariables calls yield for each user variable that sql names, in all its
// statements, without its @ and quotes; assigned: it may get a value there.
// One that is both read and assigned is yielded for each place.
func UserVariables(sql []byte, m Mode, yield func(name []byte, assigned bool) bool) {
	l := newLexer(sql, m)
	verb := l.first()
	into, target := false, false
	for t := verb; t.kind != tokenEnd && t.kind != tokenBad; t = l.next() {
		switch {
		case t.op == ';':
			verb = l.peek()
			into, target = false, false
		case t.op == ',' && verb.word == kwSet:
			target = true // or an argument of a function; too much is harmless
		case t.kind == tokenWord && t.word != noKeyword:
			into = t.word == kwInto
			target = t.word == kwSet && (verb.word == kwSet)
		case t.kind == tokenUserVariable:
			assigned := into || verbs[verb.word].assigns || verb.word == kwLoad || verbs[verb.word].shape == shapeCompound ||
				verb.word == kwBegin || l.peek().kind == tokenAssign || target && l.peek().op == '='
			name := userVariableName(l.text(t))
			if len(name)+1 < t.end-t.start {
				name = l.unquote(l.text(t)[1:])
			}
			if !yield(name, assigned) {
				return
			}
		}
	}
}
