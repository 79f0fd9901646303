package classify

import (
	"bytes"
	"hash/fnv"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// modeOf makes a mode of the bits of b, so that the fuzzer chooses.
func modeOf(b byte) Mode {
	m := Mode{
		ANSIQuotes: b&1 != 0, NoBackslashEscapes: b&2 != 0, IgnoreSpace: b&4 != 0, MariaDB: b&8 != 0,
		Charset: Charset((b >> 4 & 3) % 3),
	}
	if b&64 == 0 {
		m.Version = 90700
		if m.MariaDB {
			m.Version = 101119
		}
	}
	return m
}

// seed gives the fuzzer every text of the scenarios.
func seed(f *testing.F) {
	f.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatalf("no scenarios: %v", err)
	}
	for i, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, line := range strings.Split(string(data), "\n") {
			if line == "" || strings.HasPrefix(line, "    ") || strings.HasPrefix(line, "mode:") {
				continue
			}
			f.Add([]byte(unescape.Replace(line)), byte(8*(i&1)))
		}
	}
}

// rank orders the classes for "no better than": what the console answers
// never reaches a server.
func rank(c Class) int {
	if c == Console {
		return int(Empty)
	}
	return int(c)
}

func FuzzClassify(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, sql []byte, mode byte) {
		m := modeOf(mode)
		// A slice whose capacity ends with its length: reading beyond panics.
		sql = bytes.Clone(sql)[:len(sql):len(sql)]
		before := bytes.Clone(sql)
		got := Classify(sql, m)
		if again := Classify(sql, m); again != got {
			t.Fatalf("%q means %v and then %v", sql, got, again)
		}
		if !bytes.Equal(before, sql) {
			t.Fatalf("%q was changed to %q", before, sql)
		}
		if got.Class == Empty != (got.Statements == 0) {
			t.Errorf("%q: class %s with %d statements", sql, got.Class, got.Statements)
		}
		if (got.Class == Empty || got.Class == Read) != (got.Reason == NoReason) {
			t.Errorf("%q: class %s for reason %q", sql, got.Class, got.Reason)
		}
		if got.Flags&MultiStatement != 0 != (got.Statements > 1) {
			t.Errorf("%q: flags %s with %d statements", sql, got.Flags, got.Statements)
		}

		// White space, a comment or parentheses before a text do not improve it.
		if !bytes.HasPrefix(sql, []byte(bom)) {
			for _, prefix := range []string{" \n\t", "/* x */", "-- x\n", "#x\n", "/**/ /* ' */"} {
				with := Classify(append([]byte(prefix), sql...), m)
				if rank(with.Class) < rank(got.Class) && got.Class != Console || with.Flags&^got.Flags != 0 {
					t.Errorf("%q is %s %s, with %q before it %s %s", sql, got.Class, got.Flags, prefix, with.Class, with.Flags)
				}
			}
			if with := Classify(append([]byte("("), sql...), m); got.Class != Console && got.Class != Empty && rank(with.Class) < rank(got.Class) {
				t.Errorf("%q is %s, with a parenthesis before it %s", sql, got.Class, with.Class)
			}
		}

		// A locking clause behind it never leaves a read, nor a write before it one.
		locked := Classify(append(bytes.Clone(sql), "\n FOR UPDATE"...), m)
		if locked.Class == Read {
			t.Errorf("%q with FOR UPDATE is %s", sql, locked.Class)
		}
		writes := Classify(append([]byte("DELETE FROM t;"), sql...), m)
		if writes.Class != Write {
			t.Errorf("%q behind a write is %s", sql, writes.Class)
		}
		// Only code within /*! */ or a name can be hidden from the text as a
		// string, so a read never holds a bare := or INTO outside of quotes.
		if got.Class == Read && !bytes.ContainsAny(sql, "'\"`/#-") && bytes.Contains(sql, []byte(":=")) {
			t.Errorf("%q assigns and is %s", sql, got.Class)
		}

		// The parts agree with the whole.
		n, worst := 0, Empty
		Statements(sql, m, func(stmt []byte) bool {
			n++
			if len(stmt) == 0 {
				t.Errorf("%q has an empty statement", sql)
			}
			worst = max(worst, Classify(stmt, m).Class)
			return n < 1000
		})
		if n != got.Statements && n < 1000 && !bytes.Contains(sql, []byte("!")) {
			t.Errorf("%q: %d statements when split, %d when classified", sql, n, got.Statements)
		}
		if got.Class == Read && worst > Read {
			t.Errorf("%q is a read with a statement that is %s", sql, worst)
		}
		assigned := false
		Assignments(sql, m, func(a Assignment) bool {
			if a.Kind == UserVariable && !a.Known {
				assigned = true
			}
			return true
		})
		if assigned && got.Flags&(AssignsUserVariable|OpaqueSession) == 0 {
			t.Errorf("%q assigns a user variable; flags %s", sql, got.Flags)
		}
		Schema(sql, m)
		Prepared(sql, m)
		Kill(sql, m)
		TableNames(sql, m, func(_, name []byte) bool { return true })
		TemporaryTables(sql, m, func(_, name []byte, _ bool) bool {
			if got.Statements == 1 && got.Flags&(CreatesTemporary|DropsTemporary|ImplicitCommit|OpaqueSession) == 0 {
				t.Errorf("%q touches table %q; flags %s", sql, name, got.Flags)
			}
			return true
		})
		reads := false
		UserVariables(sql, m, func([]byte, bool) bool { reads = true; return true })
		if got.Class == Read && reads && got.Flags&ReadsUserVariable == 0 {
			t.Errorf("%q reads a user variable; flags %s", sql, got.Flags)
		}
	})
}

func FuzzDigest(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, sql []byte, mode byte) {
		m := modeOf(mode)
		sql = bytes.Clone(sql)[:len(sql):len(sql)]
		d := Digest(nil, sql, m)
		h := fnv.New64a()
		h.Write(d)
		if h.Sum64() != Fingerprint(sql, m) {
			t.Errorf("%q: the fingerprint is not that of %q", sql, d)
		}
		if len(d) > maxDigest+len(sql)+16 {
			t.Errorf("a digest of %d bytes for a text of %d", len(d), len(sql))
		}
		if !bytes.HasPrefix(sql, []byte(bom)) {
			if spaced := Digest(nil, append([]byte(" /* x */\n"), sql...), m); !bytes.Equal(spaced, d) {
				t.Errorf("%q has digest %q, with a comment before it %q", sql, d, spaced)
			}
		}
		// No literal shows: a text's digest is that of the text with other literals.
		l := newLexer(sql, m)
		other := bytes.Clone(sql)
		for tok := l.next(); tok.kind != tokenEnd && tok.kind != tokenBad; tok = l.next() {
			if tok.kind == tokenNumber {
				for i := tok.start; i < tok.end && is(sql[i], isDigit) && !(i == tok.start && sql[i] == '0'); i++ {
					other[i] = '7'
				}
			}
			if tok.kind == tokenString {
				for i := tok.start + 1; i < tok.end-1; i++ {
					if is(sql[i], isAlnum) && sql[i-1] != '\\' {
						other[i] = 'z'
					}
				}
			}
		}
		if got := Digest(nil, other, m); !bytes.Equal(got, d) {
			t.Errorf("%q has digest %q, with other literals (%q) %q", sql, d, other, got)
		}
	})
}

func FuzzRewriteConnectionID(f *testing.F) {
	seed(f)
	for _, s := range []string{
		"SELECT CONNECTION_ID(), CONNECTION_ID() + 1 x, (SELECT CONNECTION_ID())",
		"WITH a AS (SELECT CONNECTION_ID()) SELECT *, CONNECTION_ID() FROM a",
		"SELECT `a` = CONNECTION_ID(), @@pseudo_thread_id",
	} {
		f.Add([]byte(s), byte(0))
	}
	f.Fuzz(func(t *testing.T, sql []byte, mode byte) {
		m := modeOf(mode)
		sql = bytes.Clone(sql)[:len(sql):len(sql)]
		prefix := []byte("prefix")
		got, ok := RewriteConnectionID(prefix, sql, m, 123456789)
		if !bytes.HasPrefix(got, prefix) {
			t.Fatalf("%q: %q lost what was there before", sql, got)
		}
		got = got[len(prefix):]
		if !ok {
			if len(got) != 0 {
				t.Errorf("%q was not rewritten, and yet gave %q", sql, got)
			}
			return
		}
		before, after := Classify(sql, m), Classify(got, m)
		if after.Class > before.Class || after.Statements != before.Statements {
			t.Errorf("%q is %s, rewritten to %q it is %s", sql, before.Class, got, after.Class)
		}
		if after.Flags&^(before.Flags|SetsSession) != 0 { // SET @a = 5 has a known value
			t.Errorf("%q has flags %s, rewritten to %q %s", sql, before.Flags, got, after.Flags)
		}
		if _, again := RewriteConnectionID(nil, got, m, 1); again {
			t.Errorf("%q was rewritten to %q, which can be rewritten again", sql, got)
		}
	})
}
