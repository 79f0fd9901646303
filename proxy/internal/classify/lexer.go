package classify

import "bytes"

// kind is what a token is.
type kind uint8

const (
	tokenEnd    kind = iota // end of the text
	tokenBad                // cannot be read on: an unterminated quote or comment, a NUL byte
	tokenWord               // a bare identifier or keyword
	tokenQuoted             // `a`, or "a" under ANSI_QUOTES
	tokenString             // 'a', "a", N'a'
	tokenHex                // x'41', b'01', 0x41, 0b01
	tokenNumber
	tokenUserVariable   // @a, @`a`, @'a', @"a"
	tokenSystemVariable // @@a, @@`a`; a scope is a @@word followed by '.'
	tokenAssign         // :=
	tokenParameter      // ?
	tokenOperator       // any other byte; see token.op
)

// token is one lexical element; its text is sql[start:end].
//
// It is two structs because the compiler keeps one of more than four fields in
// memory: that made a third of the cost of a text.
type token struct {
	sort
	start, end int
}

// sort is what a token is, but for its text.
type sort struct {
	kind kind
	op   byte    // the byte of a tokenOperator, otherwise 0
	word keyword // of a tokenWord that is a keyword and does not follow a '.'
	// spaced: white space or a comment stands before the token.
	spaced bool
}

// lexer reads the tokens of a text as the server of its Mode does. It is a
// small value: copying it is how the rules look ahead.
//
// The traps it minds, all from sql/sql_lex.cc of both servers: "--" opens a
// comment only before white space or a control character; a number with an
// exponent or a point ends where its digits end ("1e1FOR" is two tokens) but
// other digits go on as an identifier ("1FOR" is one); a word right after '.'
// is never a keyword; x'…' has no escapes; /*! … */ is code within which a
// comment may stand.
type lexer struct {
	sql  []byte
	pos  int
	mode Mode
	// inVersion: between /*! and its */.
	inVersion bool
	// afterDot: the token before was '.', so a word is no keyword.
	afterDot bool
	// ambiguous: the text has bytes whose meaning depends on more than Mode
	// says; what was read may still be trusted for the session's flags.
	ambiguous bool
}

// bom is U+FEFF in UTF-8; some editors put it before a script.
const bom = "\xef\xbb\xbf"

func newLexer(sql []byte, m Mode) (l lexer) {
	l.open(sql, m)
	return l
}

// open makes an empty lexer one of sql, in place: to copy one costs as much as
// to read three words.
func (l *lexer) open(sql []byte, m Mode) {
	l.sql, l.mode = sql, m
	if len(sql) >= len(bom) && string(sql[:len(bom)]) == bom {
		l.pos = len(bom)
	}
}

// Character classes of the bytes that tokens are made of.
const (
	isSpace uint8 = 1 << iota
	isDigit
	isWord // may stand in a bare identifier
	isHex
	isAlnum // letters and digits, ASCII only
)

var byteClass = makeByteClass()

func makeByteClass() (class [256]uint8) {
	for c := 0; c < 256; c++ {
		switch {
		case c == ' ' || c >= '\t' && c <= '\r':
			class[c] = isSpace
		case c >= '0' && c <= '9':
			class[c] = isDigit | isWord | isHex | isAlnum
		case c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F':
			class[c] = isWord | isHex | isAlnum
		case c >= 'g' && c <= 'z' || c >= 'G' && c <= 'Z':
			class[c] = isWord | isAlnum
		case c == '_' || c == '$' || c >= 0x80:
			class[c] = isWord
		}
	}
	return class
}

func is(c byte, class uint8) bool { return byteClass[c]&class != 0 }

// at returns the byte at i, or 0 beyond the end, as the servers' lexers do.
func (l *lexer) at(i int) byte {
	if i < len(l.sql) {
		return l.sql[i]
	}
	return 0
}

// text returns the bytes of t.
func (l *lexer) text(t token) []byte { return l.sql[t.start:t.end] }

// peek returns the next token without reading it.
func (l *lexer) peek() token {
	ahead := *l
	return ahead.next()
}

// opens reports whether the next token is an opening parenthesis.
func (l *lexer) opens() bool {
	for i := l.pos; i < len(l.sql); i++ {
		switch c := l.sql[i]; {
		case c == '(':
			return true
		case is(c, isSpace):
		case c == '/' || c == '-' || c == '#' || c == '*':
			return l.peek().op == '('
		default:
			return false
		}
	}
	return false
}

// next reads the next token. After tokenEnd or tokenBad it returns the same
// again.
func (l *lexer) next() token {
	from := l.pos
	if !l.skip() {
		return token{sort{kind: tokenBad}, l.pos, len(l.sql)}
	}
	t := token{sort{spaced: l.pos > from}, l.pos, 0}
	if l.pos >= len(l.sql) {
		t.end = l.pos
		if l.inVersion {
			t.kind = tokenBad // the server waits for the closing */
		}
		return t
	}
	afterDot := l.afterDot
	l.afterDot = false
	c := l.sql[l.pos]
	switch {
	case is(c, isDigit) && !(afterDot && !t.spaced):
		l.number(&t)
	case is(c, isWord):
		l.word(&t, afterDot && !t.spaced)
	default:
		l.symbol(&t, c)
	}
	if t.kind == tokenBad {
		l.pos, t.end = t.start, len(l.sql)
	}
	return t
}

// word reads a bare identifier, a keyword, or a literal that begins like one.
func (l *lexer) word(t *token, afterDot bool) {
	c := l.sql[l.pos]
	if !afterDot && l.at(l.pos+1) == '\'' {
		switch c {
		case 'n', 'N':
			l.pos++
			l.quoted(t, tokenString, '\'', !l.mode.NoBackslashEscapes)
			return
		case 'x', 'X', 'b', 'B':
			l.digitString(t, c)
			return
		}
	}
	if c == '$' && !l.mode.MariaDB && !afterDot {
		t.kind = tokenBad // MySQL 9 reads $tag$ … $tag$ as a string
		return
	}
	sql, i, all := l.sql, l.pos, byte(0)
	for i < len(sql) && is(sql[i], isWord) {
		all |= sql[i]
		i++
	}
	high := all >= 0x80
	if high && l.mode.Charset != UTF8 {
		l.ambiguous = true // the byte may be white space (0xA0 in latin1)
	}
	t.kind, t.end = tokenWord, i
	l.pos = i
	if !afterDot && !high {
		t.word = lookupKeyword(l.sql[t.start:i])
	}
}

// symbol reads a token that begins with neither a digit nor a letter.
func (l *lexer) symbol(t *token, c byte) {
	switch c {
	case '\'':
		l.quoted(t, tokenString, c, !l.mode.NoBackslashEscapes)
	case '"':
		if l.mode.ANSIQuotes {
			l.quoted(t, tokenQuoted, c, false)
		} else {
			l.quoted(t, tokenString, c, !l.mode.NoBackslashEscapes)
		}
	case '`':
		l.quoted(t, tokenQuoted, c, false)
	case '@':
		l.variable(t)
	case '.':
		if is(l.at(l.pos+1), isDigit) && !l.afterName() {
			l.fraction(t, l.pos+1)
			return
		}
		l.operator(t, c)
		l.afterDot = true
	case ':':
		if l.at(l.pos+1) == '=' {
			t.kind, t.end = tokenAssign, l.pos+2
			l.pos += 2
			return
		}
		l.operator(t, c)
	case '?':
		l.operator(t, c)
		t.kind = tokenParameter
	case 0:
		t.kind = tokenBad
	default:
		l.operator(t, c)
	}
}

// afterName reports whether a name ends right before the position, so that a
// point there separates names even before a digit.
func (l *lexer) afterName() bool {
	if l.pos == 0 {
		return false
	}
	c := l.sql[l.pos-1]
	return is(c, isWord) || c == '`'
}

func (l *lexer) operator(t *token, c byte) {
	t.kind, t.op, t.end = tokenOperator, c, l.pos+1
	l.pos++
}

// quoted reads a quoted token whose opening quote is at the position.
func (l *lexer) quoted(t *token, k kind, quote byte, escapes bool) {
	end := l.closing(l.pos+1, quote, escapes)
	if end == 0 {
		t.kind = tokenBad
		return
	}
	t.kind, t.end = k, end
	l.pos = end
}

// closing returns the position behind the quote that closes one opened before
// i, or 0 if there is none.
func (l *lexer) closing(i int, quote byte, escapes bool) int {
	if l.mode.Charset == Shifted {
		return l.closingByBytes(i, quote, escapes)
	}
	from, at := i, i-1 // at: where a quote is, the next one unless it lies behind i
	for {
		if at < i {
			n := bytes.IndexByte(l.sql[i:], quote)
			if n < 0 {
				return 0
			}
			at = i + n
		}
		if escapes {
			if n := bytes.IndexByte(l.sql[i:at], '\\'); n >= 0 {
				i += n + 2
				continue
			}
		}
		if at+1 < len(l.sql) && l.sql[at+1] == quote {
			i = at + 2
			continue
		}
		if quote == '`' && bytes.IndexByte(l.sql[from:at], 0) >= 0 {
			return 0
		}
		return at + 1
	}
}

// closingByBytes is closing for every Charset.
func (l *lexer) closingByBytes(i int, quote byte, escapes bool) int {
	for i < len(l.sql) {
		switch c := l.sql[i]; {
		case c == quote && l.at(i+1) == quote && i+1 < len(l.sql):
			i += 2
		case c == quote:
			return i + 1
		case c == '\\' && escapes:
			i += 2
		case c >= 0x80 && l.mode.Charset == Shifted && i+1 < len(l.sql) && l.sql[i+1] < 0x80 && !is(l.sql[i+1], isAlnum|isSpace):
			return 0 // a character may end with what looks like a quote or backslash
		case c == 0 && quote == '`':
			return 0
		default:
			i++
		}
	}
	return 0
}

// variable reads what begins with '@'.
func (l *lexer) variable(t *token) {
	i := l.pos + 1
	t.kind = tokenUserVariable
	system := l.at(i) == '@'
	if system {
		t.kind = tokenSystemVariable
		i++
	}
	switch c := l.at(i); {
	case c == '`', !system && (c == '\'' || c == '"'):
		escapes := c != '`' && !l.mode.NoBackslashEscapes && !(c == '"' && l.mode.ANSIQuotes)
		i = l.closing(i+1, c, escapes)
	case system:
		from := i
		for is(l.at(i), isWord) {
			i++
		}
		if i == from {
			i = 0
		}
	default:
		for is(l.at(i), isAlnum) || l.at(i) == '.' || l.at(i) == '_' || l.at(i) == '$' {
			i++
		}
		if l.at(i) >= 0x80 {
			i = 0 // whether the name goes on depends on the character set
		}
	}
	if i == 0 {
		t.kind = tokenBad
		return
	}
	t.end = i
	l.pos = i
}
