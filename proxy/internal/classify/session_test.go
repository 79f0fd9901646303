package classify

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

var (
	mariadbMode = Mode{MariaDB: true, Version: 101119}
	mysqlMode   = Mode{Version: 90700}
)

// check compares a list rendered for reading.
func check(t *testing.T, sql string, got []string, want string) {
	t.Helper()
	if g := strings.Join(got, "; "); g != want {
		t.Errorf("%s\n got %s\nwant %s", sql, g, want)
	}
}

func TestAssignments(t *testing.T) {
	kinds := [...]string{"other", "user", "system", "names", "charset", "transaction"}
	scopes := [...]string{"", " session", " next", " global"}
	for _, c := range []struct{ sql, want string }{
		{"SET @a = 1", "user a=1 known allowed"},
		{"SET @`a b` := 'x''y', @\"c\" = -1.5", "user a b='x''y' known allowed; user c=-1.5 known allowed"},
		{"SET @a = _latin1'x', @b = N'y', @c = x'41'", "user a=_latin1'x' known allowed; user b=N'y' known allowed; user c=x'41' known allowed"},
		{"SET @a = @b, @c = (SELECT 1, 2), @d = 2", "user a=; user c=; user d=2 known allowed"},
		{"SET sql_mode='', SESSION time_zone = '+00:00'", "system session sql_mode='' known allowed; system session time_zone='+00:00' known allowed"},
		{"SET @@session . `sql_mode` = ANSI;", "system session sql_mode=ANSI known allowed"},
		{"SET @@sql_mode = DEFAULT", "system session sql_mode="},
		{"SET @@tx_isolation = 'SERIALIZABLE', tx_isolation = 'SERIALIZABLE'", "system next tx_isolation='SERIALIZABLE' known allowed; system session tx_isolation='SERIALIZABLE' known allowed"},
		{"SET GLOBAL a = 1, b = 2, SESSION sql_mode = ''", "system global a=1 known; other session; system session sql_mode='' known allowed"},
		{"SET frob = 1", "system session frob=1 known"},
		{"SET NAMES utf8mb4", "names session=utf8mb4 known allowed"},
		{"SET NAMES 'utf8' COLLATE utf8_bin, @a = 1", "names session='utf8' collate utf8_bin known allowed; user a=1 known allowed"},
		{"SET NAMES DEFAULT", "names session="},
		{"SET CHARACTER SET latin1, CHARSET 'x'", "charset session=latin1 known allowed; charset session='x' known allowed"},
		{"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY", "transaction session level2 access1 known allowed"},
		{"SET TRANSACTION READ WRITE, ISOLATION LEVEL SERIALIZABLE", "transaction next level4 access2 known allowed"},
		{"SET GLOBAL TRANSACTION READ ONLY", "transaction global access1 known"},
		{"SET TRANSACTION FOO", "transaction next"},
		{"SET autocommit = 1", "system session autocommit=1 known"},
		{"SET a.b = 1", "other session"},
		{"SET PASSWORD = 'x'", ""},
		{"SET ROLE r", ""},
		{"SELECT 1", ""},
		{"", ""},
		{"; SET @a = 1; SET @b = 2", "user a=1 known allowed"},
		{"SET @a = 'unterminated", "user a="},
	} {
		var got []string
		Assignments([]byte(c.sql), mariadbMode, func(a Assignment) bool {
			s := kinds[a.Kind] + scopes[a.Scope]
			if a.Name != nil {
				s += " " + string(a.Name) + "=" + string(a.Value)
			} else if a.Kind == Names || a.Kind == CharacterSet {
				s += "=" + string(a.Value)
			}
			if a.Collation != nil {
				s += " collate " + string(a.Collation)
			}
			if a.Isolation != NoIsolation {
				s += fmt.Sprintf(" level%d", a.Isolation)
			}
			if a.Access != NoAccess {
				s += fmt.Sprintf(" access%d", a.Access)
			}
			if a.Known {
				s += " known"
			}
			if a.Allowed {
				s += " allowed"
			}
			got = append(got, s)
			return true
		})
		check(t, c.sql, got, c.want)
	}
}

func TestSchema(t *testing.T) {
	for _, c := range []struct {
		sql, want string
		ok        bool
	}{
		{"USE d", "d", true},
		{" use `d e` ;", "d e", true},
		{"USE `a``b`", "a`b", true},
		{"USE", "", false},
		{"USE d e", "", false},
		{"USE 'd'", "", false},
		{"SELECT 1", "", false},
	} {
		got, ok := Schema([]byte(c.sql), mariadbMode)
		if string(got) != c.want || ok != c.ok {
			t.Errorf("%s: got %q %t, want %q %t", c.sql, got, ok, c.want, c.ok)
		}
	}
	if got, ok := Schema([]byte(`USE "d"`), Mode{ANSIQuotes: true}); string(got) != "d" || !ok {
		t.Errorf(`USE "d" under ANSI_QUOTES: got %q %t`, got, ok)
	}
}

func TestTableNames(t *testing.T) {
	for _, c := range []struct{ sql, want string }{
		{"SELECT a FROM t", ".SELECT .a .FROM .t"},
		{"TABLE `a``b`", ".TABLE .a`b"},
		{"TABLE d . t", ".TABLE .d d.t"},
		{"TABLE `d`.`t`, u", ".TABLE .d d.t .u"},
		{"TABLE .t; TABLE 'x' # y", ".TABLE TABLE.t .TABLE"},
		{"TABLE /*! t */ /* u */", ".TABLE .t"},
		{"TABLE d.update", ".TABLE .d d.update"},
		{"TABLE 1a", ".TABLE .1a"},
	} {
		var got []string
		TableNames([]byte(c.sql), mariadbMode, func(schema, name []byte) bool {
			got = append(got, string(schema)+"."+string(name))
			return true
		})
		if g := strings.Join(got, " "); g != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.sql, g, c.want)
		}
	}
}

func TestTemporaryTables(t *testing.T) {
	for _, c := range []struct{ sql, want string }{
		{"CREATE TEMPORARY TABLE t (a INT)", "+.t"},
		{"CREATE OR REPLACE TEMPORARY TABLE IF NOT EXISTS d.`t``u` AS SELECT 1", "+d.t`u"},
		{"create/**/temporary/**/sequence s", "+.s"},
		{"CREATE TABLE t (a INT)", ""},
		{"CREATE TEMPORARY TABLE", ""},
		{"DROP TABLE t", "-.t"},
		{"DROP TEMPORARY TABLE IF EXISTS a, d.b, `c`", "-.a; -d.b; -.c"},
		{"DROP TABLES a, b CASCADE", "-.a; -.b"},
		{"DROP VIEW v", ""},
		{"ALTER TABLE a RENAME TO b", "-.a; +.b"},
		{"ALTER TABLE d.a RENAME e.b", "-d.a; +e.b"},
		{"ALTER IGNORE TABLE a ADD c INT, RENAME AS b", "-.a; +.b"},
		{"ALTER TABLE a RENAME = b", "-.a; +.b"},
		{"ALTER TABLE a RENAME COLUMN b TO c, RENAME INDEX d TO e", ""},
		{"RENAME TABLE a TO b, c TO d.e", "-.a; +.b; -.c; +d.e"},
		{"RENAME USER a TO b", ""},
		{"SELECT 1", ""},
	} {
		var got []string
		TemporaryTables([]byte(c.sql), mariadbMode, func(schema, name []byte, created bool) bool {
			sign := "-"
			if created {
				sign = "+"
			}
			got = append(got, sign+string(schema)+"."+string(name))
			return true
		})
		check(t, c.sql, got, c.want)
	}
}

func TestUserVariables(t *testing.T) {
	for _, c := range []struct{ sql, want string }{
		{"SELECT @a, @`b``c`, @'d', @\"e\", @f.g$h", "a; b`c; d; e; f.g$h"},
		{"SELECT @a := @b", "a!; b"},
		{"SELECT 1, 2 INTO @a, @b", "a!; b!"},
		{"SELECT @x INTO @a FROM t WHERE b = @y", "x; a!; y"},
		{"SET @a = @b, @c = 1", "a!; b; c!"},
		{"CALL p(@a)", "a!"},
		{"GET DIAGNOSTICS @a = NUMBER", "a!"},
		{"LOAD DATA INFILE 'x' INTO TABLE t (a, @b) SET c = @b", "b!; b!"},
		{"EXECUTE s USING @a", "a"},
		{"SELECT @@a, '@b', `@c`", ""},
		{"SELECT @a; SET @b = 1", "a; b!"},
		{"BEGIN NOT ATOMIC SELECT @a; END", "a!"},
		{"UPDATE t SET a = @a", "a"},
	} {
		var got []string
		UserVariables([]byte(c.sql), mariadbMode, func(name []byte, assigned bool) bool {
			s := string(name)
			if assigned {
				s += "!"
			}
			got = append(got, s)
			return true
		})
		check(t, c.sql, got, c.want)
	}
}

func TestPrepared(t *testing.T) {
	for _, c := range []struct {
		sql, name, text string
		verb            Verb
		ok              bool
	}{
		{"PREPARE s FROM 'SELECT 1'", "s", "SELECT 1", VerbPrepare, true},
		{"PREPARE `s` FROM \"it's\"", "s", "it's", VerbPrepare, true},
		{`PREPARE s FROM 'a''b\'c\n\t\0\\\%\_\x'`, "s", "a'b'c\n\t\x00\\\\%\\_x", VerbPrepare, true},
		{"PREPARE s FROM @a", "s", "@a", VerbPrepare, true},
		{"PREPARE s FROM CONCAT('a', 'b')", "s", "", VerbPrepare, true},
		{"EXECUTE s", "s", "", VerbExecute, true},
		{"EXECUTE s USING @a", "s", "", VerbExecute, true},
		{"EXECUTE IMMEDIATE 'SELECT ?' USING 1", "", "SELECT ?", VerbExecute, true},
		{"EXECUTE IMMEDIATE @x", "", "@x", VerbExecute, true},
		{"DEALLOCATE PREPARE s", "s", "", VerbDeallocate, true},
		{"DROP PREPARE s", "s", "", VerbDeallocate, true},
		{"DROP TABLE s", "", "", NoVerb, false},
		{"PREPARE s", "", "", NoVerb, false},
		{"SELECT 1", "", "", NoVerb, false},
	} {
		verb, name, text, ok := Prepared([]byte(c.sql), mariadbMode)
		if verb != c.verb || string(name) != c.name || string(text) != c.text || ok != c.ok {
			t.Errorf("%s: got %s %q %q %t", c.sql, verb, name, text, ok)
		}
	}
	if _, _, text, _ := Prepared([]byte(`PREPARE s FROM 'a\nb'`), Mode{NoBackslashEscapes: true}); string(text) != `a\nb` {
		t.Errorf("NO_BACKSLASH_ESCAPES: %q", text)
	}
}

func TestKill(t *testing.T) {
	for _, c := range []struct {
		sql  string
		want KillStatement
		ok   bool
	}{
		{"KILL 5", KillStatement{ID: 5}, true},
		{"kill connection 5;", KillStatement{ID: 5}, true},
		{"KILL QUERY 5", KillStatement{ID: 5, Query: true}, true},
		{"KILL HARD QUERY ID 5", KillStatement{ID: 5, Query: true, ByQueryID: true}, true},
		{"KILL SOFT CONNECTION 5", KillStatement{ID: 5, Soft: true}, true},
		{"KILL USER x@localhost", KillStatement{User: []byte("x@localhost")}, true},
		{"KILL QUERY USER 'x'@'y' ;", KillStatement{User: []byte("'x'@'y'"), Query: true}, true},
		{"KILL QUERY CONNECTION_ID()", KillStatement{Self: true, Query: true}, true},
		{"KILL 18446744073709551615", KillStatement{ID: 18446744073709551615}, true},
		{"KILL 18446744073709551616", KillStatement{}, false},
		{"KILL 1.5", KillStatement{}, false},
		{"KILL 5 6", KillStatement{}, false},
		{"KILL @a", KillStatement{}, false},
		{"KILL", KillStatement{}, false},
		{"KILL USER", KillStatement{}, false},
		{"SELECT 5", KillStatement{}, false},
	} {
		got, ok := Kill([]byte(c.sql), mariadbMode)
		same := got.Soft == c.want.Soft && got.Query == c.want.Query && got.ByQueryID == c.want.ByQueryID &&
			got.ID == c.want.ID && got.Self == c.want.Self && bytes.Equal(got.User, c.want.User)
		if !same || ok != c.ok {
			t.Errorf("%s: got %+v %t, want %+v %t", c.sql, got, ok, c.want, c.ok)
		}
	}
}

func TestRewriteConnectionID(t *testing.T) {
	for _, c := range []struct{ sql, want string }{
		{"SELECT CONNECTION_ID()", "SELECT 77 AS `CONNECTION_ID()`"},
		{"select connection_id ( ) , 1;", "select 77 AS `connection_id ( )` , 1;"},
		{"SELECT CONNECTION_ID() AS id", "SELECT 77 AS id"},
		{"SELECT CONNECTION_ID() id, CONNECTION_ID() 'x', CONNECTION_ID() `y`", "SELECT 77 id, 77 'x', 77 `y`"},
		{"SELECT CONNECTION_ID()+1 FROM t", "SELECT 77+1 AS `CONNECTION_ID()+1` FROM t"},
		{"SELECT `a` = CONNECTION_ID()", "SELECT `a` = 77 AS ```a`` = CONNECTION_ID()`"},
		{"SELECT CONNECTION_ID() IS NULL, a FROM t", "SELECT 77 IS NULL AS `CONNECTION_ID() IS NULL`, a FROM t"},
		{"SELECT DISTINCT IF(CONNECTION_ID() = 3, a, b), c FROM t", "SELECT DISTINCT IF(77 = 3, a, b) AS `IF(CONNECTION_ID() = 3, a, b)`, c FROM t"},
		{"(SELECT CONNECTION_ID()) UNION (SELECT CONNECTION_ID())", "(SELECT 77 AS `CONNECTION_ID()`) UNION (SELECT 77)"},
		{"SELECT (SELECT CONNECTION_ID()) x", "SELECT (SELECT 77) x"},
		{"SELECT (SELECT CONNECTION_ID())", "SELECT (SELECT 77) AS `(SELECT CONNECTION_ID())`"},
		{"WITH a AS (SELECT CONNECTION_ID()) SELECT *, CONNECTION_ID() FROM a", "WITH a AS (SELECT 77) SELECT *, 77 AS `CONNECTION_ID()` FROM a"},
		{"INSERT INTO t VALUES (CONNECTION_ID(), 'CONNECTION_ID()')", "INSERT INTO t VALUES (77, 'CONNECTION_ID()')"},
		{"SELECT a FROM t WHERE b = CONNECTION_ID() FOR UPDATE", "SELECT a FROM t WHERE b = 77 FOR UPDATE"},
		{"SELECT @@pseudo_thread_id, @@session.pseudo_thread_id", "SELECT 77 AS `@@pseudo_thread_id`, 77 AS `@@session.pseudo_thread_id`"},
		{"SET @@pseudo_thread_id = 4, @a = CONNECTION_ID()", "SET @@pseudo_thread_id = 4, @a = 77"},
		{"SELECT /*! CONNECTION_ID() */", "SELECT /*! 77 AS `CONNECTION_ID()` */"},
		{"SELECT 1; SELECT CONNECTION_ID()", "SELECT 1; SELECT 77 AS `CONNECTION_ID()`"},
		{"KILL CONNECTION_ID()", "KILL 77"},
		{"SELECT@@pseudo_thread_id", "SELECT 77 AS `@@pseudo_thread_id`"},
		{"SELECT CONCAT('\xfb\u00e9', CONNECTION_ID())", "SELECT CONCAT('\xfb\u00e9', 77) AS `CONCAT('\\xFB\u00e9', CONNECTION_ID())`"},
		{"SELECT a FROM t WHERE b=CONNECTION_ID()AND c", "SELECT a FROM t WHERE b=77 AND c"},

		{"SELECT 1", ""},
		{"SELECT 'CONNECTION_ID()' /* CONNECTION_ID() */", ""},
		{"SELECT db.CONNECTION_ID()", ""},
		{"SELECT CONNECTION_ID(1)", ""},
		{"SELECT connection_id FROM t", ""},
		{"SELECT * FROM information_schema.processlist WHERE id = CONNECTION_ID()", ""},
		{"SELECT * FROM `performance_schema`.threads WHERE id = CONNECTION_ID()", ""},
		{"SELECT * FROM Innodb_Trx WHERE id = CONNECTION_ID()", ""},
		{"SELECT IS_USED_LOCK('a') = CONNECTION_ID()", ""},
		{"SELECT CONNECTION_ID(), 'x", ""},
	} {
		got, ok := RewriteConnectionID([]byte("> "), []byte(c.sql), mariadbMode, 77)
		want := "> " + c.want
		if string(got) != want || ok != (c.want != "") {
			t.Errorf("%s\n got %s %t\nwant %s", c.sql, got, ok, want)
		}
	}
	long := "SELECT CONNECTION_ID() + " + strings.Repeat("1 + ", 100) + "1"
	if got, _ := RewriteConnectionID(nil, []byte(long), mariadbMode, 77); bytes.Contains(got, []byte("AS")) {
		t.Errorf("an alias longer than servers take: %s", got)
	}
}

func TestDigest(t *testing.T) {
	for _, c := range []struct{ sql, want string }{
		{"SELECT  a.b ,\n c FROM `t` WHERE d = 'secret' -- x", "SELECT a.b, c FROM `t` WHERE d = ?"},
		{"SELECT * FROM t WHERE a IN (1, 2 ,3) AND b IN (1)", "SELECT * FROM t WHERE a IN (?, ...) AND b IN (?)"},
		{"INSERT INTO t (a, b) VALUES (1, 'x'), (-2, NULL), (?, _utf8'z');", "INSERT INTO t(a, b) VALUES (?, ...), ..."},
		{"INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (?)"},
		{"INSERT INTO t VALUES (1, NOW(), 'x')", "INSERT INTO t VALUES (?, NOW(), ?)"},
		{"SELECT a-1, a - 1, -1, (-1), 1 - -1", "SELECT a - ?, a - ?, ..., (?), ? - ?"},
		{"SELECT a>=1 AND b <=> 2 OR c != 3", "SELECT a >= ? AND b <=> ? OR c != ?"},
		{"SELECT _utf8mb4'x', N'y', x'41', 0x41, 1.5e3, \"z\"", "SELECT ?, ..."},
		{"SELECT @a, @@b, @c := 5", "SELECT @a, @@b, @c := ?"},
		{"SELECT COUNT(*), f (1)", "SELECT COUNT(*), f(?)"},
		{"/* a */ SELECT /*!40001 SQL_NO_CACHE */ 1", "SELECT SQL_NO_CACHE ?"},
		{"SELECT 1; SELECT 2;", "SELECT ?; SELECT ?"},
		{"SELECT 'unterminated secret", "SELECT ?"},
		{"", ""},
	} {
		got := string(Digest([]byte("> "), []byte(c.sql), mariadbMode))
		if got != "> "+c.want {
			t.Errorf("%s\n got %s\nwant > %s", c.sql, got, c.want)
		}
	}
	for _, same := range [][2]string{
		{"SELECT a FROM t WHERE b = 1", "SELECT  a /* x */ FROM t WHERE b='y';"},
		{"SELECT a IN (1, 2)", "SELECT a IN (3, 4, 5)"},
		{"INSERT INTO t VALUES (1, 2), (3, 4)", "INSERT INTO t VALUES (1, 2), (3, 4), (5, 6)"},
	} {
		if Fingerprint([]byte(same[0]), mysqlMode) != Fingerprint([]byte(same[1]), mysqlMode) {
			t.Errorf("%s and %s differ: %s and %s", same[0], same[1], Digest(nil, []byte(same[0]), mysqlMode), Digest(nil, []byte(same[1]), mysqlMode))
		}
	}
	if Fingerprint([]byte("SELECT a"), mysqlMode) == Fingerprint([]byte("SELECT b"), mysqlMode) {
		t.Error("different texts have one fingerprint")
	}
	if d := Digest(nil, []byte("SELECT "+strings.Repeat("a+", 1<<16)), mysqlMode); len(d) > maxDigest+64 {
		t.Errorf("a digest of %d bytes", len(d))
	}
}

func TestStatements(t *testing.T) {
	for _, c := range []struct{ sql, want string }{
		{"SELECT 1", "SELECT 1"},
		{" SELECT 1 ; /* x */ SELECT ';' ;; ", "SELECT 1; SELECT ';'"},
		{"", ""},
		{"SELECT 1; BEGIN NOT ATOMIC SELECT 2; SELECT 3; END; SELECT 4", "SELECT 1; BEGIN NOT ATOMIC SELECT 2; SELECT 3; END; SELECT 4"},
		{"BEGIN; SELECT 1; COMMIT", "BEGIN; SELECT 1; COMMIT"},
		{"CREATE PROCEDURE p() BEGIN SELECT 1; END; SELECT 2", "CREATE PROCEDURE p() BEGIN SELECT 1; END; SELECT 2"},
		{"SELECT 1; SELECT 'x; SELECT 2", "SELECT 1; SELECT 'x; SELECT 2"},
		{"/*!40101 SET @a = 1 */; SELECT 1", "/*!40101 SET @a = 1 */; SELECT 1"},
		{"SELECT 1; /*!40101 SELECT 2; SELECT 3 */; SELECT 4", "SELECT 1; /*!40101 SELECT 2; SELECT 3 */; SELECT 4"},
	} {
		var got []string
		Statements([]byte(c.sql), mariadbMode, func(stmt []byte) bool {
			got = append(got, string(stmt))
			return true
		})
		check(t, c.sql, got, c.want)
	}
	n := 0
	Statements([]byte("SELECT 1; CREATE PROCEDURE p() BEGIN SELECT 1; END; SELECT 2"), mariadbMode, func([]byte) bool { n++; return true })
	if n != 2 {
		t.Errorf("%d statements, want 2: a routine's text is one", n)
	}
}

// TestStopsWhenTold: an iterator whose yield says false calls it no more.
func TestStopsWhenTold(t *testing.T) {
	sql := []byte("SET @a = 1, @b = 2; DROP TABLE a, b; SET @c = 3")
	for name, run := range map[string]func(func() bool){
		"Assignments":   func(y func() bool) { Assignments(sql, mysqlMode, func(Assignment) bool { return y() }) },
		"TableNames":    func(y func() bool) { TableNames(sql, mysqlMode, func(_, _ []byte) bool { return y() }) },
		"UserVariables": func(y func() bool) { UserVariables(sql, mysqlMode, func([]byte, bool) bool { return y() }) },
		"Statements":    func(y func() bool) { Statements(sql, mysqlMode, func([]byte) bool { return y() }) },
		"TemporaryTables": func(y func() bool) {
			TemporaryTables(sql[bytes.Index(sql, []byte("DROP")):], mysqlMode, func(_, _ []byte, _ bool) bool { return y() })
		},
	} {
		calls := 0
		run(func() bool { calls++; return false })
		if calls != 1 {
			t.Errorf("%s: %d calls, want 1", name, calls)
		}
	}
}
