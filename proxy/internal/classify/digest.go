package classify

// maxDigest bounds the length of a digest in bytes; the rest of a text does
// not count for its digest.
const maxDigest = 4096

// Digest appends the normalised text of sql to dst: a '?' for each literal,
// "(?, ...)" for a list of them whatever its length, ", ..." for the rows that
// follow a row of literals, one space where there was any, no comments. Names
// and keywords stay as written. No literal of sql shows in it.
func Digest(dst, sql []byte, m Mode) []byte {
	d := digester{dst: dst, keep: true, hash: fnvOffset}
	d.open(sql, m)
	d.run()
	return d.dst
}

// Fingerprint returns the FNV-1a hash of what Digest appends. It does not allocate.
func Fingerprint(sql []byte, m Mode) uint64 {
	d := digester{hash: fnvOffset}
	d.open(sql, m)
	d.run()
	return d.hash
}

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

// digester writes a digest to dst if keep is set, and always to hash.
type digester struct {
	lexer
	dst  []byte
	keep bool
	hash uint64
	size int

	prev  token
	tight bool // no space before the next element
}

func (d *digester) write(b []byte) {
	h := d.hash // in a register
	for _, c := range b {
		h = (h ^ uint64(c)) * fnvPrime
	}
	d.hash = h
	if d.keep {
		d.dst = append(d.dst, b...)
	}
	d.size += len(b)
}

var (
	space      = []byte(" ")
	literal    = []byte("?")
	moreItems  = []byte(", ...")
	oneInGroup = []byte("(?)")
	manyIn     = []byte("(?, ...)")
)

// element writes b with the space before it that belongs there.
func (d *digester) element(b []byte) {
	if d.size > 0 && !d.tight {
		d.write(space)
	}
	d.tight = false
	d.write(b)
}

func (d *digester) run() {
	d.tight = true
	for d.size < maxDigest {
		t := d.next()
		switch t.kind {
		case tokenEnd:
			return
		case tokenBad:
			d.element(literal)
			return
		case tokenString, tokenHex, tokenNumber, tokenParameter:
			d.literals()
		case tokenOperator:
			if t.op == ';' {
				if d.peek().kind == tokenEnd {
					return
				}
			}
			d.operator(t)
		default:
			d.word(t)
		}
		d.prev = t
	}
}

// word writes anything that is kept as it is.
func (d *digester) word(t token) {
	text := d.text(t)
	if t.kind == tokenWord && text[0] == '_' && !d.peek().spaced {
		if next := d.peek(); next.kind == tokenString || next.kind == tokenHex {
			return // an introducer belongs to its literal
		}
	}
	d.element(text)
}

// literals writes a literal and what follows it in a list.
func (d *digester) literals() {
	d.element(literal)
	if d.skipMore() {
		d.write(moreItems)
	}
}

// skipMore moves behind ", literal" as often as it comes.
func (d *digester) skipMore() (some bool) {
	for {
		ahead := d.lexer
		if ahead.next().op != ',' || !ahead.skipLiteral() {
			return some
		}
		d.lexer, some = ahead, true
	}
}

// skipLiteral moves behind a literal with its sign or introducer, as a list has it.
func (l *lexer) skipLiteral() bool {
	t := l.next()
	if t.op == '-' || t.op == '+' {
		t = l.next()
	} else if t.kind == tokenWord && l.sql[t.start] == '_' {
		t = l.next()
	}
	switch t.kind {
	case tokenString, tokenHex, tokenNumber, tokenParameter:
	case tokenWord:
		if t.word != kwNull && t.word != kwTrue && t.word != kwFalse && t.word != kwDefault {
			return false
		}
	default:
		return false
	}
	next := l.peek()
	return next.op == ',' || next.op == ')' || next.op == ';' || next.kind == tokenEnd
}

// skipGroup moves behind "(literal, …)"; many: there is more than one.
func (l *lexer) skipGroup() (many, ok bool) {
	if l.next().op != '(' || !l.skipLiteral() {
		return false, false
	}
	for {
		switch l.next().op {
		case ')':
			return many, true
		case ',':
			many = true
			if !l.skipLiteral() {
				return false, false
			}
		default:
			return false, false
		}
	}
}

func (d *digester) operator(t token) {
	switch t.op {
	case '(':
		d.group(t)
		return
	case '-', '+':
		if next := d.peek(); next.kind == tokenNumber && d.signPlace() {
			return
		}
	case ')', ',', ';':
		d.tight = true
		d.write(d.text(t))
		d.tight = false
		return
	case '.':
		d.write(d.text(t))
		d.tight = true
		return
	}
	if compound(d.prev, t) {
		d.tight = true
	}
	d.element(d.text(t))
}

// signPlace reports whether a sign here is a literal's own.
func (d *digester) signPlace() bool {
	switch d.prev.kind {
	case tokenOperator:
		return d.prev.op != ')'
	case tokenWord:
		return d.prev.word != noKeyword
	case tokenAssign, tokenEnd:
		return true
	}
	return false
}

// compound reports whether two operators were written as one (<=, ||).
func compound(prev, t token) bool {
	if prev.kind != tokenOperator || t.spaced || prev.op == ')' || prev.op == '(' || prev.op == ',' {
		return false
	}
	return true
}

// group writes an opening parenthesis, or a list of literals as a whole.
func (d *digester) group(t token) {
	if d.prev.kind == tokenWord && d.prev.word == noKeyword || d.prev.kind == tokenQuoted {
		d.tight = true
	}
	ahead := d.lexer
	ahead.pos = t.start
	if many, ok := ahead.skipGroup(); ok {
		d.lexer = ahead
		if many {
			d.element(manyIn)
		} else {
			d.element(oneInGroup)
		}
		d.skipGroups()
		return
	}
	d.element(d.text(t))
	d.tight = true
}

// skipGroups moves behind the rows of literals that follow one.
func (d *digester) skipGroups() {
	some := false
	for {
		ahead := d.lexer
		if ahead.next().op != ',' {
			break
		}
		if _, ok := ahead.skipGroup(); !ok {
			break
		}
		d.lexer, some = ahead, true
	}
	if some {
		d.write(moreItems)
	}
}
