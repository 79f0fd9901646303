package classify

// Prepared reads the first statement of sql if it prepares, executes or
// deallocates a statement by name: verb is VerbPrepare, VerbExecute or
// VerbDeallocate; name is without quotes, nil for EXECUTE IMMEDIATE. text is
// what PREPARE and EXECUTE IMMEDIATE run: a literal without its quotes and
// escapes, or, beginning with '@', the variable that holds it as written; nil
// where it is an expression. The slices point into sql, but for a literal with
// escapes, which is a copy.
func Prepared(sql []byte, m Mode) (verb Verb, name, text []byte, ok bool) {
	l := newLexer(sql, m)
	t := l.first()
	switch t.word {
	case kwPrepare:
		name = l.identifier(l.next())
		if name == nil || l.next().word != kwFrom {
			return NoVerb, nil, nil, false
		}
		return VerbPrepare, name, l.source(), true
	case kwExecute:
		t = l.next()
		if t.word == kwImmediate {
			return VerbExecute, nil, l.source(), true
		}
		name = l.identifier(t)
		return VerbExecute, name, nil, name != nil
	case kwDrop, kwDeallocate:
		if l.next().word != kwPrepare {
			return NoVerb, nil, nil, false
		}
		name = l.identifier(l.next())
		return VerbDeallocate, name, nil, name != nil
	}
	return NoVerb, nil, nil, false
}

// source reads the text to prepare: nil unless it is one literal or variable.
func (l *lexer) source() []byte {
	t := l.next()
	if end := l.peek(); !stops(end) && end.word != kwUsing {
		return nil
	}
	switch t.kind {
	case tokenUserVariable:
		return l.text(t)
	case tokenString:
		return l.unquote(l.text(t))
	}
	return nil
}

// unquote returns what a string literal or quoted identifier stands for. It
// copies only what has escapes or doubled quotes.
func (l *lexer) unquote(text []byte) []byte {
	if text[0] == 'n' || text[0] == 'N' {
		text = text[1:]
	}
	quote, inner := text[0], text[1:len(text)-1]
	escapes := quote != '`' && !l.mode.NoBackslashEscapes && !(quote == '"' && l.mode.ANSIQuotes)
	plain := true
	for _, c := range inner {
		if c == quote || c == '\\' && escapes {
			plain = false
			break
		}
	}
	if plain {
		return inner
	}
	out := make([]byte, 0, len(inner))
	for i := 0; i < len(inner); i++ {
		c := inner[i]
		if c == quote && i+1 < len(inner) {
			i++ // doubled
		} else if c == '\\' && escapes && i+1 < len(inner) {
			i++
			c = inner[i]
			switch c {
			case '0':
				c = 0
			case 'b':
				c = '\b'
			case 'n':
				c = '\n'
			case 'r':
				c = '\r'
			case 't':
				c = '\t'
			case 'Z':
				c = 0x1a
			case '%', '_':
				out = append(out, '\\') // for LIKE: the backslash stays
			}
		}
		out = append(out, c)
	}
	return out
}
