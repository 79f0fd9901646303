package classify

import "math"

// KillStatement is what a KILL asks for.
type KillStatement struct {
	Soft  bool // SOFT: MariaDB's, leaves some work to finish
	Query bool // the running statement, not the connection
	// ByQueryID: ID is a query's id (KILL QUERY ID n), a server's own.
	ByQueryID bool
	ID        uint64 // of a connection unless ByQueryID; 0 if User or Self is set
	User      []byte // USER name: as written, with host and quotes, or nil
	Self      bool   // KILL CONNECTION_ID()
}

// Kill reads the first statement of sql if it is a KILL whose target is
// written out. False: it is none, or its target is another expression.
func Kill(sql []byte, m Mode) (k KillStatement, ok bool) {
	l := newLexer(sql, m)
	if l.first().word != kwKill {
		return k, false
	}
	t := l.next()
	if t.word == kwHard || t.word == kwSoft {
		k.Soft = t.word == kwSoft
		t = l.next()
	}
	if t.word == kwConnection || t.word == kwQuery {
		k.Query = t.word == kwQuery
		t = l.next()
		if k.Query && t.word == kwId {
			k.ByQueryID = true
			t = l.next()
		}
	}
	switch {
	case t.word == kwUser:
		from := l.peek()
		end := from.start
		for t = l.next(); !stops(t); t = l.next() {
			if t.kind == tokenBad {
				return KillStatement{}, false
			}
			end = t.end
		}
		k.User = sql[from.start:end]
		return k, len(k.User) > 0
	case t.kind == tokenNumber:
		k.ID, ok = parseID(l.text(t))
	case t.kind == tokenWord && equalFold(l.text(t), "CONNECTION_ID"):
		k.Self = true
		ok = l.next().op == '(' && l.next().op == ')'
	}
	if !ok || !stops(l.next()) {
		return KillStatement{}, false
	}
	return k, true
}

func parseID(digits []byte) (uint64, bool) {
	n := uint64(0)
	for _, c := range digits {
		d := uint64(c - '0')
		if !is(c, isDigit) || n > (math.MaxUint64-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}
