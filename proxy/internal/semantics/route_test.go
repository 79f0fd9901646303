package semantics

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
)

// mariaDB and mySQL run a script of one flavor.
func (p *pair) mariaDB(script string) {
	p.t.Helper()
	if p.w.flavor == farm.MariaDB {
		p.run(script)
	}
}

func (p *pair) mySQL(script string) {
	p.t.Helper()
	if p.w.flavor == farm.MySQL {
		p.run(script)
	}
}

func TestSemantics01ProvedReadsOnly(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.both(t, "CREATE OR REPLACE VIEW app.view1 AS SELECT id, v FROM app.t")
		w.settle(t)
		p := w.app(t)
		p.run(`
			replica SELECT * FROM t ORDER BY id
			replica SELECT DISTINCT v, COUNT(*) FROM t GROUP BY v HAVING COUNT(*) > 0 ORDER BY v LIMIT 2 OFFSET 1
			replica SELECT * FROM t WHERE id IN (SELECT id FROM t) UNION ALL SELECT 9,'x',9 ORDER BY 1
			replica (SELECT id FROM t ORDER BY id LIMIT 1)
			replica WITH c AS (SELECT id FROM t) SELECT * FROM c ORDER BY id
			replica WITH RECURSIVE c AS (SELECT 1 AS i UNION ALL SELECT i+1 FROM c WHERE i<5) SELECT i FROM c
			replica SELECT * FROM view1 ORDER BY id
			replica SELECT CONCAT(UPPER(v), LENGTH(v)), IF(n>1, ABS(-n), COALESCE(NULL, 7)), CAST(n AS CHAR) FROM t ORDER BY id
			replica SELECT SUM(n) OVER (ORDER BY id) FROM t
			replica SELECT SHA2('a',256), HEX('b'), JSON_EXTRACT('{"a":1}', '$.a'), REGEXP_REPLACE('abc','b','x')
			replica! EXPLAIN SELECT * FROM t
			replica! EXPLAIN FORMAT=JSON SELECT * FROM t WHERE id=1
			replica DESCRIBE t
			replica DESC t v
			replica SHOW COLUMNS FROM t
			replica SHOW FULL COLUMNS FROM t LIKE 'v%'
			replica SHOW TABLES LIKE 't'
			replica SHOW CREATE TABLE view1
			replica! SHOW INDEX FROM t
			replica SHOW DATABASES LIKE 'app'
			replica SHOW CHARACTER SET LIKE 'utf8mb4'
			replica SHOW COLLATION LIKE 'utf8mb4_bin'
			replica! SHOW VARIABLES LIKE 'version%'
			both SELECT * FROM missing
			both SELECT nothing FROM t
			replica SELECT 1/0
			# Not a read, or not understood: the primary, and its own answer.
			primary INSERT INTO t (v,n) VALUES ('d',4)
			primary UPDATE t SET n=n+1 WHERE id<3
			primary DELETE FROM t WHERE v='d'
			primary REPLACE INTO t VALUES (3,'c',3)
			primary SELEC 1
			primary FROB t
			primary CREATE TABLE broken (
			primary DO 1
			primary CHECKSUM TABLE t
			primary OPTIMIZE TABLE t
			primary ANALYZE TABLE t
			primary CHECK TABLE t
			primary FLUSH STATUS
			primary DELETE FROM missing
			primary INSERT INTO t VALUES (1,'again',1)
			settle
			replica SELECT * FROM t ORDER BY id
		`)
		// A cursor on a table binds the session for good: it is not followed.
		w.app(t).run(`
			primary HANDLER t OPEN
			primary HANDLER t READ FIRST
			primary HANDLER t CLOSE
			primary SELECT 1
		`)
		p.mySQL(`
			replica TABLE t ORDER BY id LIMIT 2
			replica VALUES ROW(1,2), ROW(3,4)
			replica! EXPLAIN FORMAT=TREE SELECT 1
			replica SELECT ANY_VALUE(v) FROM t WHERE id=1
		`)
		p.mariaDB(`
			replica VALUES (1,2), (3,4)
			any TABLE t
			replica SELECT id FROM t EXCEPT SELECT 1 ORDER BY 1
			replica! ANALYZE FORMAT=JSON SELECT 1
		`)
	})
}

func TestSemantics02LockingReads(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		p := w.app(t)
		p.run("replica SELECT id FROM t WHERE id=1")
		clauses := []string{"FOR UPDATE", "for\tupdate", "FOR/**/UPDATE", "FOR UPDATE NOWAIT", "FOR UPDATE SKIP LOCKED", "LOCK IN SHARE MODE", "lock in\nshare mode"}
		if w.flavor == farm.MySQL {
			clauses = append(clauses, "FOR SHARE", "FOR SHARE NOWAIT", "FOR SHARE SKIP LOCKED", "FOR UPDATE OF t", "FOR SHARE OF t SKIP LOCKED")
		} else {
			clauses = append(clauses, "FOR UPDATE WAIT 1", "LOCK IN SHARE MODE NOWAIT", "LOCK IN SHARE MODE SKIP LOCKED", "LOCK IN SHARE MODE WAIT 1")
		}
		for _, clause := range clauses {
			for _, form := range []string{
				"SELECT id FROM t WHERE id=1 %s",
				"(SELECT id FROM t WHERE id=1 %s)",
				"((SELECT id FROM t WHERE id=1 %s))",
				"SELECT id FROM t WHERE id=1 LIMIT 1 %s",
				"SELECT * FROM (SELECT id FROM t WHERE id=1 %s) AS x",
				"SELECT (SELECT id FROM t WHERE id=1 %s) AS x",
				"SELECT 1 WHERE EXISTS (SELECT id FROM t WHERE id=1 %s)",
				"WITH c AS (SELECT id FROM t WHERE id=1) SELECT t.id FROM t JOIN c USING (id) %s",
				"WITH c AS (SELECT id FROM t WHERE id=1 %s) SELECT id FROM c",
				"(SELECT id FROM t WHERE id=1) UNION ALL (SELECT id FROM t WHERE id=1 %s)",
				"SELECT 1 UNION ALL SELECT id FROM t WHERE id=1 %s",
				"SELECT id FROM t WHERE id=1 %s;",
				"SELECT id FROM t WHERE id=1 %s -- read only",
				"/* farmhand: replica */ SELECT id FROM t WHERE id=1 %s",
				"SELECT id FROM t WHERE id=1 /*! %s */",
			} {
				p.step("primary", fmt.Sprintf(form, clause))
			}
		}
		// What only looks like one.
		p.run(`
			replica SELECT 'FOR UPDATE' AS x FROM t WHERE id=1
			replica SELECT id AS "lock in share mode" FROM t WHERE id=1
			replica SELECT id FROM t WHERE id=1 /* FOR UPDATE */
			replica SELECT id FROM t WHERE id=1 -- FOR UPDATE
		`)
	})
}

func TestSemantics03WritesInDisguise(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.both(t, "CREATE TABLE app.disguise (id INT PRIMARY KEY, n INT)", "INSERT INTO app.disguise VALUES (1,1),(2,2),(3,3)",
			"CREATE PROCEDURE app.writes() INSERT INTO app.disguise VALUES (10,10)",
			"CREATE FUNCTION app.touch(i INT) RETURNS INT MODIFIES SQL DATA BEGIN UPDATE app.disguise SET n=n+100 WHERE id=i; RETURN 1; END")
		w.settle(t)
		for _, script := range []string{
			`primary EXPLAIN UPDATE disguise SET n=0
			 primary EXPLAIN DELETE FROM disguise
			 primary EXPLAIN INSERT INTO disguise VALUES (9,9)`,
			`primary SELECT n FROM disguise WHERE id=2 INTO @v
			 primary SELECT @v
			 primary SELECT n INTO @w FROM disguise WHERE id=2`,
			`primary* SELECT n INTO OUTFILE '/nowhere/at/all' FROM disguise
			 primary* SELECT n FROM disguise LIMIT 1 INTO DUMPFILE '/nowhere/at/all'`,
			`primary SELECT @a:=n FROM disguise WHERE id=3
			 primary SELECT @a
			 primary SELECT @b := @a + 1`,
			`primary SELECT LAST_INSERT_ID(77)
			 primary SELECT LAST_INSERT_ID()`,
			`primary SELECT GET_LOCK('semantics', 1)
			 primary SELECT IS_USED_LOCK('semantics') IS NULL
			 primary SELECT IS_FREE_LOCK('semantics')
			 primary SELECT RELEASE_LOCK('semantics')
			 primary SELECT RELEASE_ALL_LOCKS()
			 primary SELECT IS_FREE_LOCK('semantics')`,
			`primary SELECT SLEEP(0)
			 primary SELECT id, BENCHMARK(1, 1) FROM disguise WHERE id=1
			 primary! SELECT LOAD_FILE('/nowhere')`,
			`primary SELECT touch(1)
			 primary SELECT app.touch(1) FROM disguise WHERE id=1
			 primary SELECT id FROM disguise WHERE touch(1) = 1 ORDER BY id
			 primary SELECT n FROM (SELECT touch(2) AS n) AS x
			 primary SELECT no_such_function(1)
			 primary CALL writes()
			 primary CALL writes()
			 primary CALL no_such_procedure()`,
		} {
			w.app(t).run(script)
		}
		w.app(t).mySQL(`
			primary WITH c AS (SELECT 2 AS id) UPDATE disguise SET n=22 WHERE id IN (SELECT id FROM c)
			primary WITH c AS (SELECT 3 AS id) DELETE FROM disguise WHERE id IN (SELECT id FROM c)
			primary! EXPLAIN ANALYZE DELETE FROM disguise
			primary! EXPLAIN ANALYZE UPDATE disguise SET n=0
		`)
		w.app(t).mariaDB(`
			primary! ANALYZE UPDATE disguise SET n=n+1 WHERE id=2
			primary! ANALYZE FORMAT=JSON DELETE FROM disguise WHERE id=3
			primary! EXPLAIN FORMAT=JSON DELETE FROM disguise WHERE id=2
			primary WITH c AS (SELECT 2 AS id) UPDATE disguise SET n=22 WHERE id IN (SELECT id FROM c)
			primary CREATE SEQUENCE seq
			primary SELECT NEXTVAL(seq)
			primary SELECT NEXT VALUE FOR seq
			primary SELECT LASTVAL(seq)
			primary SELECT PREVIOUS VALUE FOR seq
			primary SELECT SETVAL(seq, 100)
			primary SELECT id, NEXTVAL(seq) FROM disguise WHERE id=1
			primary DROP SEQUENCE seq
			primary BEGIN NOT ATOMIC INSERT INTO disguise VALUES (20,20); END
			primary IF 1 THEN INSERT INTO disguise VALUES (21,21); END IF
			primary DELETE FROM disguise WHERE id=21 RETURNING id, n
			primary INSERT INTO disguise VALUES (22,22) RETURNING id
			primary SELECT SLEEP(0) FROM disguise WHERE id=1
			primary SET STATEMENT max_statement_time=10 FOR INSERT INTO disguise VALUES (23,23)
		`)
		p := w.app(t)
		p.run(`
			settle
			replica SELECT * FROM disguise ORDER BY id
		`)
		w.farm.CheckNoOwnEvents(t)
	})
}

func TestSemantics04StoredFunctions(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		// A view hides a function that writes: the text is a read like any other.
		w.both(t, "CREATE TABLE app.calls (n INT)",
			"CREATE FUNCTION app.count_call() RETURNS INT MODIFIES SQL DATA BEGIN INSERT INTO app.calls VALUES (1); RETURN (SELECT COUNT(*) FROM app.calls); END",
			"CREATE FUNCTION app.pure(a INT) RETURNS INT DETERMINISTIC NO SQL RETURN a+1",
			"CREATE VIEW app.counts AS SELECT app.count_call() AS n")
		w.settle(t)
		p := w.app(t)
		p.run(`
			primary SELECT count_call()
			primary SELECT pure(1)
			primary SELECT COUNT(*), pure(2) FROM t
			primary SELECT ` + "`count_call`" + `()
		`)
		// The replica refuses and the primary runs it; the next time it is known.
		p.step("both", "SELECT n FROM counts")
		p.run("primary SELECT n FROM counts")
		other := w.app(t)
		other.run("primary SELECT n FROM counts")
		// In a read-only transaction the server's error stands.
		p.run(`
			any START TRANSACTION READ ONLY
			replica* SELECT n FROM counts
			replica SELECT 1
			any COMMIT
			settle
			replica SELECT COUNT(*) FROM calls
		`)
		w.farm.CheckNoOwnEvents(t)
	})
}

func TestSemantics05Lexical(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.both(t, "CREATE TABLE app.lexical (id INT PRIMARY KEY, v VARCHAR(50))", "INSERT INTO app.lexical VALUES (1,'a')")
		w.settle(t)
		p := w.app(t)
		step := func(who string, texts ...string) {
			for _, sql := range texts {
				p.step(who, sql)
			}
		}
		// Comments that are code.
		step("primary",
			"/*! UPDATE lexical SET v='x' WHERE id=1 */",
			"SELECT v FROM lexical WHERE id=1 /*! FOR UPDATE */",
			"SELECT v FROM lexical WHERE id=1 /*!50000 FOR UPDATE */",
			"/*!50000 DELETE */ FROM lexical WHERE id=99",
			"SELECT 1 /*! INTO @a */")
		step("replica",
			"SELECT v /*! , id */ FROM lexical",
			"/*!40000 SELECT */ v FROM lexical",
			"SELECT v FROM lexical WHERE id=1 /*!999999 FOR UPDATE */")
		if w.flavor == farm.MariaDB {
			step("primary", "SELECT v FROM lexical WHERE id=1 /*M! FOR UPDATE */", "SELECT v FROM lexical WHERE id=1 /*M!100000 FOR UPDATE */")
			step("replica", "SELECT v FROM lexical WHERE id=1 /*!80000 FOR UPDATE */") // a version of MySQL's
		} else {
			step("replica", "SELECT v FROM lexical WHERE id=1 /*M! FOR UPDATE */")
			step("primary", "SELECT v FROM lexical WHERE id=1 /*!80000 FOR UPDATE */")
		}
		// What must not change a route.
		for _, form := range []string{
			"%s", " \t\r\n%s", "/* a */ %s", "-- a\n%s", "# a\n%s", "/**/%s", "%s;", "%s ; ", "%s -- end", "%s # end", "%s /* end */",
			"/* UPDATE lexical */ %s", "-- DELETE\n/* DROP */%s",
		} {
			p.step("replica", fmt.Sprintf(form, "SELECT v FROM lexical WHERE id=1"))
			p.step("primary", fmt.Sprintf(form, "UPDATE lexical SET v='y' WHERE id=1"))
		}
		for _, form := range []string{"(%s)", "((%s))", "/* a */ ( %s )", "(%s);"} {
			p.step("replica", fmt.Sprintf(form, "SELECT v FROM lexical WHERE id=1"))
		}
		p.step("any", "\xef\xbb\xbfSELECT v FROM lexical")
		p.step("any", "\xef\xbb\xbfDELETE FROM lexical WHERE id=77")
		step("replica", "SELECT '/*' AS a, v FROM lexical WHERE '*/' = '*/'", `SELECT 'it''s' AS a, "a;b" AS b`, "SELECT 1 -- ; DELETE FROM lexical", "SELECT 1 # ; DELETE FROM lexical",
			"SELECT `id` FROM `lexical`", `SELECT 'a\'; DELETE FROM lexical; -- '`)
		// Quotes follow sql_mode: the same bytes are a string here and two things there.
		const tricky = `SELECT "a' FOR UPDATE -- '" FROM lexical`
		step("replica", tricky)
		step("any", "SET sql_mode='ANSI_QUOTES'")
		step("replica", `SELECT "v" FROM "lexical"`)
		step("any", "SET sql_mode='NO_BACKSLASH_ESCAPES'")
		step("primary", `SELECT '\' FROM lexical FOR UPDATE -- '`, `SELECT v FROM lexical WHERE v='\' OR id=1 FOR UPDATE -- '`)
		step("any", "SET sql_mode=''")
		step("replica", `SELECT '\' FROM lexical FOR UPDATE -- '`)
		step("any", "SET sql_mode=DEFAULT")

		// Several statements: the most demanding one's server.
		m := w.pair(t, login{account: farmtest.App, schema: farmtest.Schema, caps: wireMulti})
		m.run("settle")
		for _, c := range []struct{ who, text, needle string }{
			{"replica", "SELECT 1; SELECT v FROM lexical", "SELECT v FROM lexical"},
			{"primary", "SELECT 1; SELECT v FROM lexical FOR UPDATE", "SELECT 1"},
			{"primary", "SELECT v FROM lexical; UPDATE lexical SET v='z' WHERE id=1; SELECT v FROM lexical", "SELECT v FROM lexical"},
			{"primary", "SELECT 1; DO 1", "SELECT 1"},
			{"primary", "SELECT 2; SELECT * FROM missing; SELECT 3 FOR UPDATE", "SELECT 2"},
		} {
			m.command(c.who, m.direct.query(c.text), c.needle)
		}
		// Every statement of the text updates the state.
		for _, c := range []struct{ set, see string }{
			{"SET @m=5; SELECT 1", "SELECT @m"},
			{"SET NAMES latin1; SET time_zone='+05:00'", "SELECT @@character_set_client, @@time_zone"},
			{"SELECT 1; SET sql_mode='ANSI_QUOTES'; SELECT 2", `SELECT "id" FROM lexical`},
			{"USE mysql; USE app; SELECT 1", "SELECT DATABASE()"},
			{"BEGIN; SELECT 1", "SELECT 1 AS in_transaction"},
			{"COMMIT; SELECT 1", "SELECT 1"},
			{"CREATE TEMPORARY TABLE mt (i INT); INSERT INTO mt VALUES (4)", "SELECT * FROM mt"},
			{"SELECT 1; SET @n=1, autocommit=0", "SELECT @n, @@autocommit"},
		} {
			m.command("any", m.direct.query(c.set), c.set)
			m.step("any", c.see)
		}
		// A client that has not asked for several statements gets the server's error.
		p.step("any", "SELECT 1; SELECT 2")
		p.direct.pings(t)
		p.proxied.pings(t)
		w.farm.CheckNoOwnEvents(t)
	})
}

func TestSemantics06AnswersOfOneServer(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		p := w.pair(t, login{account: boss, schema: "app"})
		p.run(`
			replica SELECT 1
			primary! SHOW PROCESSLIST
			primary! SHOW FULL PROCESSLIST
			primary! SHOW GLOBAL STATUS LIKE 'Questions'
			primary! SHOW ENGINE INNODB STATUS
			primary! SHOW BINARY LOGS
			primary! SHOW OPEN TABLES
			primary! SELECT COUNT(*) FROM information_schema.processlist
			primary! SHOW STATUS LIKE 'Com_select'
		`)
		p.mariaDB(`
			primary! SHOW SLAVE STATUS
			primary! SHOW REPLICA STATUS
			primary! SHOW ALL SLAVES STATUS
			primary! SHOW MASTER STATUS
			primary! SHOW BINLOG STATUS
			primary! SHOW SLAVE HOSTS
			primary! SHOW USER_STATISTICS
		`)
		p.mySQL(`
			primary! SHOW REPLICA STATUS
			primary! SHOW BINARY LOG STATUS
			primary! SHOW REPLICAS
			primary! SELECT COUNT(*) FROM performance_schema.threads
		`)
		// The session is not held there.
		p.run("replica SELECT 2")
	})
}

func TestSemantics07Hints(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		p := w.app(t)
		counter := func() int {
			for _, row := range console(t, w.proxy, "STATUS") {
				if strings.Contains(row["Name"], "malformed_hints") {
					n, err := strconv.Atoi(row["Value"])
					if err != nil {
						t.Fatal(err)
					}
					return n
				}
			}
			t.Fatal("SHOW FARMHAND STATUS does not count malformed hints")
			return 0
		}
		before := counter()
		p.run(`
			replica SELECT 1
			primary /* farmhand: primary */ SELECT 1
			primary /*farmhand:primary*/SELECT 1
			primary /* other */ /* FARMHAND: Primary */ SELECT 1
			primary (/* farmhand: primary */ SELECT 1)
			replica /* farmhand: replica */ SELECT 1
			replica /* farmhand: max_lag=10s */ SELECT 1
			replica /* farmhand: replica, max_lag=1h */ SELECT 1
			# Only a leading comment counts.
			replica SELECT /* farmhand: primary */ 1
			replica SELECT 1 /* farmhand: primary */
			replica SELECT '/* farmhand: primary */'
			# It proves nothing, and overrides no transaction.
			primary /* farmhand: replica */ UPDATE t SET n=n WHERE id=1
			primary /* farmhand: replica */ SELECT id FROM t WHERE id=1 FOR UPDATE
			primary /* farmhand: replica */ SELECT SLEEP(0)
			primary /* farmhand: replica */ DO 1
			primary BEGIN
			primary /* farmhand: replica */ SELECT 1
			primary COMMIT
			replica START TRANSACTION READ ONLY
			same /* farmhand: primary */ SELECT 1
			same COMMIT
		`)
		if got := counter(); got != before {
			t.Errorf("%d hints count as malformed that are not", got-before)
		}
		malformed := []string{"/* farmhand: nonsense */ SELECT 1", "/* farmhand: */ SELECT 1", "/* farmhand: max_lag=fast */ SELECT 1", "/* farmhand: primary replica */ SELECT 1", "/* farmhand: max_lag=-1s */ SELECT 1"}
		for _, sql := range malformed {
			p.step("replica", sql)
		}
		if got := counter() - before; got != len(malformed) {
			t.Errorf("%d hints count as malformed, not %d", got, len(malformed))
		}
		w.pair(t, login{account: noHints, schema: farmtest.Schema}).run(`
			replica SELECT 1
			replica /* farmhand: primary */ SELECT 1
			replica /* farmhand: nonsense */ SELECT 1
		`)
		// Prepared statements have hints too.
		for _, c := range []struct{ who, sql string }{{"primary", "/* farmhand: primary */ SELECT 7"}, {"replica", "/* farmhand: replica */ SELECT 7"}} {
			d, g := p.direct.do(prepare(c.sql)), p.proxied.do(prepare(c.sql))
			w.since(t)
			p.compare("any", c.sql, p.direct.do(p.direct.execution(d.prepared.ID, 0, true)), p.proxied.do(p.proxied.execution(g.prepared.ID, 0, true)))
			p.served(c.who, c.sql)
		}
	})
}
