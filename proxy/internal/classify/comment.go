package classify

// skip moves over white space and comments. False: the comment does not end.
func (l *lexer) skip() bool {
	for l.pos < len(l.sql) {
		c := l.sql[l.pos]
		switch {
		case is(c, isSpace):
			l.pos++
		case c == '#':
			if !l.skipLine() {
				return false
			}
		case c == '-' && l.at(l.pos+1) == '-' && (l.pos+2 >= len(l.sql) || l.sql[l.pos+2] <= ' ' || l.sql[l.pos+2] == 0x7f):
			if !l.skipLine() {
				return false
			}
		case c == '/' && l.at(l.pos+1) == '*':
			if !l.skipBlock() {
				return false
			}
		case c == '*' && l.inVersion && l.at(l.pos+1) == '/':
			l.pos += 2
			l.inVersion = false
		default:
			return true
		}
	}
	return true
}

// skipLine moves behind a comment that ends with its line. The servers also
// end it at a NUL byte, which is not worth following: false.
func (l *lexer) skipLine() bool {
	for i := l.pos; i < len(l.sql); i++ {
		switch l.sql[i] {
		case '\n':
			l.pos = i + 1
			return true
		case 0:
			return false
		}
	}
	l.pos = len(l.sql)
	return true
}

// skipBlock moves behind a /* … */ comment, or into one whose content is code.
func (l *lexer) skipBlock() bool {
	i := l.pos + 2
	marked, mariadb := l.at(i) == '!', false
	if l.at(i) == 'M' && l.at(i+1) == '!' && l.mode.MariaDB {
		marked, mariadb = true, true
		i++
	}
	if !marked {
		return l.skipPlain(i)
	}
	i++
	digits, version := 0, 0
	for digits < 6 && is(l.at(i+digits), isDigit) {
		version = version*10 + int(l.at(i+digits)-'0')
		digits++
	}
	if digits < 5 {
		l.pos, l.inVersion = i, true
		return true
	}
	if digits == 6 && !l.mode.MariaDB {
		// MySQL 9.7 takes the sixth digit for code unless white space follows
		// it; what older ones do is not relied on.
		if !is(l.at(i+6), isSpace) || l.mode.Version < 90000 && l.runs(version, false) != l.runs(version/10, false) {
			return false
		}
	}
	if l.runs(version, mariadb) {
		l.pos, l.inVersion = i+digits, true
		return true
	}
	return l.skipNested(i)
}

// runs reports whether the server takes the content of /*!version … */ for
// code. MariaDB skips the versions that only MySQL ever had, except in /*M!.
func (l *lexer) runs(version int, mariadb bool) bool {
	if l.mode.Version == 0 {
		return true
	}
	if version > l.mode.Version {
		return false
	}
	return !l.mode.MariaDB || mariadb || version < 50700 || version > 99999
}

// skipPlain moves behind the */ of a comment that cannot nest. A comment with
// optimizer hints may quote names; one that quotes a */ is read in two ways.
func (l *lexer) skipPlain(i int) bool {
	hints := l.at(i) == '+'
	quote := byte(0)
	for ; i < len(l.sql); i++ {
		c := l.sql[i]
		switch {
		case c == '*' && l.at(i+1) == '/':
			if quote != 0 {
				return false
			}
			l.pos = i + 2
			return true
		case !hints:
		case quote == c:
			quote = 0
		case quote == 0 && (c == '`' || c == '"' || c == '\''):
			quote = c
		}
	}
	return false
}

// skipNested moves behind a version comment that this server does not run; one
// level of comments may stand in it.
func (l *lexer) skipNested(i int) bool {
	for depth := 1; i < len(l.sql); i++ {
		switch {
		case l.sql[i] == '*' && l.at(i+1) == '/':
			depth--
			i++
			if depth == 0 {
				l.pos = i + 1
				return true
			}
		case l.sql[i] == '/' && l.at(i+1) == '*' && depth == 1:
			depth++
			i++
		}
	}
	return false
}
