package oracle

import (
	"math/rand/v2"
	"strings"
)

// split parts text into rough lexical elements: strings, quoted names,
// comments, white space, words, variables, and other characters one by one.
// Every mode of a server reads some texts in another way; then a change is
// another, too.
func split(text string) []string {
	var pieces []string
	for len(text) > 0 {
		n := lengthOf(text)
		pieces = append(pieces, text[:n])
		text = text[n:]
	}
	return pieces
}

// lengthOf is the length of the element that text begins with.
func lengthOf(text string) int {
	through := func(from int, end string) int {
		if i := strings.Index(text[from:], end); i >= 0 {
			return from + i + len(end)
		}
		return 1
	}
	while := func(i int, in func(c byte) bool) int {
		for i < len(text) && in(text[i]) {
			i++
		}
		return i
	}
	switch c := text[0]; {
	case strings.HasPrefix(text, "/*"):
		return through(2, "*/")
	case strings.HasPrefix(text, "-- "), c == '#':
		return through(1, "\n")
	case c == '`':
		return through(1, "`")
	case c == '\'' || c == '"':
		for i := 1; i < len(text); i++ {
			switch text[i] {
			case '\\':
				i++
			case c:
				return i + 1
			}
		}
	case strings.HasPrefix(text, ":="):
		return 2
	case isBlank(c):
		return while(1, isBlank)
	case c == '@' || isWord(c):
		return while(1, func(c byte) bool { return isWord(c) || c == '@' })
	}
	return 1
}

func isBlank(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

func isWord(c byte) bool {
	return c == '_' || c == '$' || c >= 0x80 || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

// blanks may stand wherever white space may.
var blanks = []string{
	" ", "\t", "\n", "\r\n", "  ", "/**/", "/* a */", "/* ' */", "/* \" */", "/*\n*/", "-- a\n", "--\n", "# b '\n", "/*! */", "/*!40101 */",
	"\v", "\f", "/*-- */", "/*#*/", "/* /* */", "/***/", "-- /*\n", "#*/\n",
}

// demands make more than a read of many a query.
var demands = []string{
	" FOR UPDATE", " FOR SHARE", " LOCK IN SHARE MODE", " FOR UPDATE NOWAIT", " FOR UPDATE SKIP LOCKED", " FOR UPDATE OF t", " INTO OUTFILE 'f'", " INTO @a",
	" /*! FOR UPDATE */", " /*!40101 LOCK IN SHARE MODE */", " for/**/update", " FOR -- \nUPDATE", "; DELETE FROM t", ";UPDATE t SET a=1",
	" UNION SELECT 1 FROM t FOR UPDATE", " UNION (SELECT 1 FROM t FOR UPDATE)", " LIMIT 1 FOR UPDATE", "; SELECT 1", ";", " PROCEDURE ANALYSE()",
}

// operands take a value's place.
var operands = []string{
	"(@a := 1)", "@a:=1", "sleep(1)", "SLEEP (1)", "`sleep`(1)", "my_function(1)", "s.f(1)", "s . f (1)", "`s`.`f`(1)", "get_lock('a',1)",
	"nextval(s)", "last_insert_id(1)", "(SELECT 1 FROM t FOR UPDATE)", "(SELECT f())", "EXISTS (SELECT 1 FROM t LOCK IN SHARE MODE)",
	"/*!sleep*/(1)", "sleep/**/(1)", "/*!40101 sleep(1) */", "sl/**/eep(1)", "load_file('a')", "uuid_short()", "'a' 'b'", "N'a'", "1.e1", "1e", "t.1a",
	"@@last_insert_id", "@@identity", "LAST_INSERT_ID()", "abs(-1)", "count(*)", "count (*)", "if(1,2,3)", "date '2026-01-01'", "{d '2026-01-01'}", "-- 1\n1", "1--1", "a.for",
	"CASE WHEN f(1) THEN 2 END", "(f(1))", "+f(1)", "-f(1)", "!f(1)", "~f(1)", "1 IN (f(1))", "1 IN(f(1))", "a=ANY(SELECT f(1))", "INTERVAL(f(1),2)", "x'41'", "0x41f(1)",
	"NEXT VALUE FOR s", "a->'$.b'", "cast(f(1) AS char(3))", "convert(f(1) USING utf8mb4)", "values(a)", "default(a)", "row(1,2)", "match(a) against('b')", "1 COLLATE utf8mb4_bin",
}

// mutate changes text in one to three places.
func mutate(random *rand.Rand, text string) string {
	for range 1 + random.IntN(3) {
		text = change(random, text)
	}
	return text
}

// change makes one change.
func change(random *rand.Rand, text string) string {
	pieces := split(text)
	if len(pieces) == 0 {
		return text
	}
	at := random.IntN(len(pieces))
	pick := func(of []string) string { return of[random.IntN(len(of))] }
	switch random.IntN(12) {
	case 0, 1: // another blank, at the place of one or between two pieces
		if strings.TrimSpace(pieces[at]) == "" {
			pieces[at] = pick(blanks)
		} else {
			pieces[at] += pick(blanks)
		}
	case 2: // one word or one run of them is code in a comment
		end := min(at+1+random.IntN(4), len(pieces))
		pieces[at] = [...]string{"/*!", "/*!40101 ", "/*! ", "/*!50000"}[random.IntN(4)] + pieces[at]
		pieces[end-1] += " */"
	case 3:
		for i := range pieces {
			if random.IntN(2) == 0 && pieces[i] != "" && pieces[i][0] >= 'A' {
				pieces[i] = swapCase(pieces[i])
			}
		}
	case 4:
		return "(" + text + ")"
	case 5:
		return pick(blanks) + text + pick(blanks)
	case 6, 7:
		return strings.TrimRight(text, "; \n\t") + pick(demands)
	case 8, 9:
		pieces[at] = pick(operands)
	case 10: // drop one
		pieces[at] = " "
	case 11: // one twice
		pieces[at] += " " + pieces[at]
	}
	return strings.Join(pieces, "")
}

// splice puts a run of pieces of other into text.
func splice(random *rand.Rand, text, other string) string {
	a, b := split(text), split(other)
	if len(a) == 0 || len(b) == 0 {
		return text
	}
	from := random.IntN(len(b))
	run := b[from:min(from+1+random.IntN(8), len(b))]
	at := random.IntN(len(a))
	return strings.Join(a[:at], "") + " " + strings.Join(run, "") + " " + strings.Join(a[at+random.IntN(2):], "")
}

// swapCase turns the ASCII letters of a word around.
func swapCase(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return r
	}, s)
}
