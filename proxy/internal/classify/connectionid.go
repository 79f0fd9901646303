package classify

import (
	"bytes"
	"strconv"
	"unicode/utf8"
)

// RewriteConnectionID appends sql to dst with every CONNECTION_ID() and
// @@pseudo_thread_id replaced by id, the client's own connection id; so that a
// result's columns keep their names, an item of the outermost select list that
// holds one and has no alias gets its text as alias. False, with dst unchanged:
// there is nothing to replace, or the text asks the server for its connections
// (the process list and its like), where the server's own ids are meant.
func RewriteConnectionID(dst, sql []byte, m Mode, id uint32) ([]byte, bool) {
	if !asksForConnection(sql, m) {
		return dst, false
	}
	r := rewriter{lexer: newLexer(sql, m), dst: dst, id: id}
	r.run()
	if !r.replaced {
		return dst, false
	}
	return append(r.dst, sql[r.copied:]...), true
}

// serversOwn are the tables and functions whose connection ids are a server's.
var serversOwn = [...]string{
	"PROCESSLIST", "INFORMATION_SCHEMA", "PERFORMANCE_SCHEMA", "INNODB_TRX", "METADATA_LOCK_INFO", "IS_USED_LOCK",
}

// asksForConnection reports whether sql can be read to its end and names
// nothing of serversOwn.
func asksForConnection(sql []byte, m Mode) bool {
	l := newLexer(sql, m)
	for {
		t := l.next()
		switch t.kind {
		case tokenEnd:
			return true
		case tokenBad:
			return false
		}
		for _, name := range serversOwn {
			if equalFold(l.identifier(t), name) {
				return false
			}
		}
	}
}

// rewriter copies a text, replacing the connection's id.
type rewriter struct {
	lexer
	dst      []byte
	id       uint32
	copied   int // what of sql is in dst
	replaced bool

	verb     token
	depth    int
	list     int // depth of the outermost select list while it is read
	inList   bool
	listSeen bool // the statement's outermost list has begun
	item     selectItem
}

// selectItem is the item of the select list being read.
type selectItem struct {
	started     bool
	first, last token
	before      token // the one before last
	asksID      bool
	alias       bool // has AS
}

func (r *rewriter) run() {
	r.verb = r.peek()
	for {
		t := r.next()
		if t.kind == tokenEnd {
			r.endItem()
			return
		}
		switch t.op {
		case ';':
			r.endItem()
			r.verb, r.depth, r.inList, r.listSeen = r.peek(), 0, false, false
			continue
		case ')':
			if r.inList && r.depth == r.list {
				r.endItem()
				r.inList = false
			}
			r.depth--
		case ',':
			if r.inList && r.depth == r.list {
				r.endItem()
				continue
			}
		}
		if t.kind == tokenWord && r.clause(t) {
			continue
		}
		r.add(t)
		if t.op == '(' {
			r.depth++
		}
	}
}

// clause follows where the outermost select list begins and ends; true: the
// word is no part of an item.
func (r *rewriter) clause(t token) bool {
	switch t.word {
	case kwSelect:
		if !r.listSeen && (r.verb.word != kwWith || r.depth == 0) {
			r.listSeen, r.inList, r.list, r.item = true, true, r.depth, selectItem{}
			return true
		}
	case kwFrom, kwInto, kwWhere, kwGroup, kwHaving, kwOrder, kwLimit, kwUnion, kwExcept, kwIntersect, kwFor, kwLock, kwProcedure, kwFetch:
		if r.inList && r.depth == r.list {
			r.endItem()
			r.inList = false
		}
	case kwAll, kwDistinct, kwDistinctrow, kwHighPriority, kwStraightJoin, kwSqlCache, kwSqlNoCache, kwSqlBufferResult,
		kwSqlBigResult, kwSqlSmallResult, kwSqlCalcFoundRows:
		return r.inList && !r.item.started
	case kwAs:
		if r.inList && r.depth == r.list {
			r.item.alias = true
		}
	}
	return false
}

// add takes one token, replacing it if it asks for the connection's id.
func (r *rewriter) add(t token) {
	end := t
	switch {
	case t.kind == tokenWord && t.word == noKeyword && equalFold(r.text(t), "CONNECTION_ID") && r.opens():
		ahead := r.lexer
		ahead.next()
		if end = ahead.next(); end.op != ')' || r.item.last.op == '.' {
			end = t
			break
		}
		r.lexer = ahead
		r.replace(t.start, end.end)
	case t.kind == tokenSystemVariable:
		_, name := r.systemVariable(t)
		end.end = r.pos
		if next := r.peek(); r.verb.word == kwSet && (next.op == '=' || next.kind == tokenAssign) {
			break
		}
		if lookupVariable(name).reads == asksConnection {
			r.replace(t.start, end.end)
		}
	}
	if !r.inList {
		r.item.last = end
		return
	}
	if !r.item.started {
		r.item.started, r.item.first = true, t
	}
	r.item.before, r.item.last = r.item.last, end
}

func (r *rewriter) replace(start, end int) {
	r.dst = append(r.dst, r.sql[r.copied:start]...)
	if start > 0 && is(r.sql[start-1], isWord) {
		r.dst = append(r.dst, ' ') // SELECT@@pseudo_thread_id
	}
	r.dst = strconv.AppendUint(r.dst, uint64(r.id), 10)
	if c := r.at(end); is(c, isWord) || c == '.' {
		r.dst = append(r.dst, ' ') // CONNECTION_ID()FROM
	}
	r.copied = end
	r.replaced, r.item.asksID = true, true
}

// maxAlias is the length of a column's alias that both servers take.
const maxAlias = 255

// endItem gives the item that ends an alias if it needs one.
func (r *rewriter) endItem() {
	i := r.item
	r.item = selectItem{}
	if !r.inList || !i.started || !i.asksID || i.alias || r.aliased(i) {
		return
	}
	name := r.columnName(r.sql[i.first.start:i.last.end])
	// No name can have NUL or a character of four bytes.
	if len(name) > maxAlias || bytes.ContainsFunc(name, func(c rune) bool { return c == 0 || c > 0xffff }) {
		return
	}
	r.dst = append(r.dst, r.sql[r.copied:i.last.end]...)
	r.copied = i.last.end
	r.dst = append(r.dst, " AS `"...)
	for _, c := range name {
		if c == '`' {
			r.dst = append(r.dst, '`')
		}
		r.dst = append(r.dst, c)
	}
	r.dst = append(r.dst, '`')
}

// columnName is the name that a server gives a column with this text: bytes that
// are no characters, which no alias may have, are written out by MariaDB and are
// question marks for MySQL. The result shares text where it can.
func (r *rewriter) columnName(text []byte) []byte {
	if r.mode.Charset != UTF8 || utf8.Valid(text) {
		return text
	}
	const digits = "0123456789ABCDEF"
	var name []byte
	for len(text) > 0 {
		c, size := utf8.DecodeRune(text)
		switch {
		case c != utf8.RuneError || size > 1:
			name = append(name, text[:size]...)
		case r.mode.MariaDB:
			name = append(name, '\\', 'x', digits[text[0]>>4], digits[text[0]&15])
		default:
			name = append(name, '?')
		}
		text = text[size:]
	}
	return name
}

// aliased reports whether the last token of an item is a bare alias: a name
// right behind an operand.
func (r *rewriter) aliased(i selectItem) bool {
	switch i.last.kind {
	case tokenQuoted, tokenString:
	case tokenWord:
		if i.last.word == kwEnd || i.last.word == kwNull || i.last.word == kwTrue || i.last.word == kwFalse {
			return false
		}
	default:
		return false
	}
	switch i.before.kind {
	case tokenOperator:
		return i.before.op == ')'
	case tokenWord:
		return !operatorWord(i.before.word) && r.sql[i.before.start] != '_'
	case tokenEnd, tokenAssign:
		return false
	}
	return true
}

// operatorWord reports the keywords that an operand follows.
func operatorWord(k keyword) bool {
	switch k {
	case kwAnd, kwOr, kwXor, kwNot, kwDiv, kwMod, kwLike, kwRegexp, kwRlike, kwIn, kwIs, kwBetween, kwBinary, kwCollate,
		kwEscape, kwCase, kwWhen, kwThen, kwElse, kwInterval, kwDistinct:
		return true
	}
	return false
}
