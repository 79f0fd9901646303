package classify

// digitString reads x'41' or b'01', which know no escapes.
func (l *lexer) digitString(t *token, c byte) {
	binary := c == 'b' || c == 'B'
	i := l.pos + 2
	for is(l.at(i), isHex) && (!binary || l.sql[i] == '0' || l.sql[i] == '1') {
		i++
	}
	if l.at(i) != '\'' {
		t.kind = tokenBad
		return
	}
	t.kind, t.end = tokenHex, i+1
	l.pos = i + 1
}

// number reads what begins with a digit: a number, or an identifier.
func (l *lexer) number(t *token) {
	i := l.pos
	if l.sql[i] == '0' && (l.at(i+1) == 'x' || l.at(i+1) == 'b') {
		j := i + 2
		for is(l.at(j), isHex) && (l.sql[i+1] == 'x' || l.sql[j] == '0' || l.sql[j] == '1') {
			j++
		}
		if j > i+2 && !is(l.at(j), isWord) {
			t.kind, t.end = tokenHex, j
			l.pos = j
			return
		}
	}
	for is(l.at(i), isDigit) {
		i++
	}
	switch c := l.at(i); {
	case c == '.':
		l.fraction(t, i+1)
	case !is(c, isWord):
		t.kind, t.end = tokenNumber, i
		l.pos = i
	case (c == 'e' || c == 'E') && exponent(l, i) > 0:
		t.kind, t.end = tokenNumber, exponent(l, i)
		l.pos = t.end
	default:
		l.word(t, true)
	}
}

// fraction reads the digits behind the point of a number, from i on.
func (l *lexer) fraction(t *token, i int) {
	for is(l.at(i), isDigit) {
		i++
	}
	if c := l.at(i); c == 'e' || c == 'E' {
		if i = exponent(l, i); i == 0 {
			t.kind = tokenBad // a syntax error to the servers
			return
		}
	}
	t.kind, t.end = tokenNumber, i
	l.pos = i
}

// exponent returns where the exponent that begins at i ends, or 0 if it is none.
func exponent(l *lexer, i int) int {
	i++
	if c := l.at(i); c == '+' || c == '-' {
		i++
	}
	if !is(l.at(i), isDigit) {
		return 0
	}
	for is(l.at(i), isDigit) {
		i++
	}
	return i
}
