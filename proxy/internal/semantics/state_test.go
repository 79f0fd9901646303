package semantics

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/proxy/internal/wire"
)

func TestSemantics11SessionVariables(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		isolation, readOnly := "@@transaction_isolation", "@@transaction_read_only"
		if w.flavor == farm.MariaDB {
			isolation, readOnly = "@@tx_isolation", "@@tx_read_only"
		}
		see := "SELECT @@character_set_client, @@character_set_connection, @@collation_connection, @@character_set_results, @@sql_mode, @@time_zone, " +
			isolation + ", " + readOnly + ", @@foreign_key_checks, @@unique_checks, @@sql_safe_updates, @@sql_select_limit, @@group_concat_max_len, @@lc_time_names, @@max_join_size, " +
			"@@wait_timeout, @@div_precision_increment, @@sql_auto_is_null, DATABASE(), HEX('\xc3\xa4'), COLLATION('a'), LENGTH(_utf8mb4'\xc3\xa4'), CONVERT(0xe4 USING latin1), NOW() > '2020-01-01'"
		steps := []string{
			"SET NAMES latin1", "SET NAMES utf8mb4 COLLATE utf8mb4_unicode_ci", "SET NAMES 'utf8mb4'", "SET NAMES utf8mb4",
			"SET sql_mode='ANSI_QUOTES,NO_BACKSLASH_ESCAPES'", "SET SESSION sql_mode=''", "SET @@SESSION.sql_mode='PIPES_AS_CONCAT'", "SET @@sql_mode=DEFAULT",
			"SET time_zone='+03:00'", "SET time_zone = SYSTEM", "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED, READ ONLY",
			"SET SESSION TRANSACTION READ WRITE", "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SET foreign_key_checks=0, unique_checks=OFF", "SET foreign_key_checks=1", "SET sql_safe_updates=1", "SET sql_safe_updates=0",
			"SET sql_select_limit=10", "SET sql_select_limit=DEFAULT", "SET group_concat_max_len=77", "SET lc_time_names='de_DE'", "SET max_join_size=100000", "SET wait_timeout=1000", "SET div_precision_increment=6",
			"SET character_set_results=NULL", "SET character_set_results=utf8mb4", "SET collation_connection=utf8mb4_bin", "SET character_set_connection=latin1", "SET NAMES utf8mb4",
			"SET LOCAL time_zone='-01:00', NAMES latin1, @@session.sql_mode='STRICT_ALL_TABLES'", "SET NAMES utf8mb4, sql_mode=DEFAULT, time_zone=DEFAULT",
			"USE mysql", "USE `app`", "SET sql_auto_is_null=0",
		}
		p := w.app(t)
		p.step("replica", see)
		for _, set := range steps {
			p.step("any", set)
			p.step("replica", see)
			// On the other connection it is the same, and once it is, it costs nothing.
			p.step("primary", "/* farmhand: primary */ "+see)
			p.step("primary", "/* farmhand: primary */ "+see)
			// Connections for other users may still be opened ahead of demand.
			others := func(e entry) bool {
				return e.user != farmtest.App.User
			}
			if said := slices.DeleteFunc(slices.Clone(p.log), others); len(said) != 1 {
				t.Errorf("after %s a second read on the primary says %s", set, p.said())
			}
		}
		// A SET that is refused changes nothing, and nobody is held.
		p.run(`
			any* SET sql_mode='NONSENSE'
			any* SET time_zone='nowhere'
			any* SET no_such_variable=1
			any* SET NAMES nonsense
			any* USE no_such_schema
		`)
		p.step("replica", see)
		// One that is not followed is harmless: it runs on the primary and the
		// session stays there, with the reason to see.
		for _, set := range []string{"SET CHARACTER SET latin1", "SET NAMES DEFAULT", "SET @@session.insert_id=77", "SET SESSION timestamp=1000000000", "SET ROLE NONE"} {
			p := w.app(t)
			p.run("replica SELECT 1")
			p.step("any", set)
			p.step("primary", see)
			if !strings.Contains(p.pin(), "SET") {
				t.Errorf("after %s: the session's pin is %q", set, p.pin())
			}
		}
		// An expression is the server's to say; what came out is carried along.
		p = w.app(t)
		for _, set := range []string{"SET sql_mode=CONCAT(@@sql_mode, ',ANSI_QUOTES')", "SET time_zone=(SELECT '+01:00')", "SET sql_select_limit=2+3", "SET sql_mode=@@global.sql_mode"} {
			p.step("primary", set)
			p.step("replica", see)
		}
		// The collation of the handshake.
		for _, collation := range []uint8{8, 33, 45, 46, 63} { // latin1_swedish_ci, utf8mb3_general_ci, utf8mb4_general_ci, utf8mb4_bin, binary
			p := w.pair(t, login{account: farmtest.App, schema: farmtest.Schema, collation: collation})
			p.step("replica", see)
			p.step("primary", "/* farmhand: primary */ "+see)
		}
		// Without a schema, and with one by COM_INIT_DB.
		p = w.pair(t, login{account: farmtest.App})
		p.run(`
			replica SELECT DATABASE()
			primary /* farmhand: primary */ SELECT DATABASE()
			both SELECT * FROM t WHERE id=1
		`)
		p.command("any", append([]byte{byte(wire.ComInitDB)}, "app"...), "app")
		p.run(`
			replica SELECT DATABASE(), v FROM t WHERE id=2
			primary /* farmhand: primary */ SELECT DATABASE(), v FROM t WHERE id=2
		`)
		p.command("any", append([]byte{byte(wire.ComInitDB)}, "missing"...), "missing")
		p.run("replica SELECT DATABASE(), v FROM t WHERE id=2")
	})
}

func TestSemantics12UserVariables(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.both(t, "CREATE TABLE app.uv (id INT PRIMARY KEY, v VARCHAR(20))", "INSERT INTO app.uv VALUES (1,'one'),(2,'two')")
		w.settle(t)
		p := w.app(t)
		p.run(`
			any SET @a=5, @b=NULL, @c=1.5, @d=-3, @e=0x41
			replica SELECT @a, @b, @c, @d, @e, @never
			primary /* farmhand: primary */ SELECT @a, @b, @c, @d, @e, @never
			replica SELECT v FROM uv WHERE id=@a-4
			any SET @a:=6
			replica SELECT @a
			any SET @s='text', @q='it''s'
			any SELECT @s, @q, CHARSET(@s), COLLATION(@s)
			primary UPDATE uv SET v=@s WHERE id=1
			settle
			replica SELECT v FROM uv WHERE id=1
			# Assigned by a statement: reads that name it go where it is, others do not.
			primary SELECT @x:=id FROM uv WHERE id=2
			primary SELECT @x
			replica SELECT v FROM uv WHERE id=2
			primary SELECT v FROM uv WHERE id=@X
			primary SELECT COUNT(*) FROM uv INTO @n
			primary SELECT @n
			primary SELECT id, v INTO @i, @` + "`quoted name`" + ` FROM uv WHERE id=2
			primary SELECT @i, @` + "`quoted name`" + `
			primary UPDATE uv SET v=(@w:='new') WHERE id=1
			primary SELECT @w
			primary SET @sum=@x+1
			primary SELECT @sum
			primary SET @fromquery=(SELECT COUNT(*) FROM uv)
			primary SELECT @fromquery
			replica SELECT @a
			# A known value again: free again.
			any SET @x=1
			replica SELECT @x
			primary SELECT @i
		`)
		// Where an assignment failed half-way, what it left is on the primary.
		p.run(`
			primary SELECT @half:=id FROM uv WHERE id=1 OR (SELECT id FROM uv)
			primary SELECT @half
		`)
		w.farm.CheckNoOwnEvents(t)
	})
}

func TestSemantics13TemporaryTables(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.both(t, "CREATE TABLE app.shadowed (id INT PRIMARY KEY)", "INSERT INTO app.shadowed VALUES (1),(2),(3)",
			"CREATE PROCEDURE app.makes_temporary() BEGIN CREATE TEMPORARY TABLE made (i INT); INSERT INTO made VALUES (1),(2); END")
		w.settle(t)
		p := w.app(t)
		p.run(`
			primary CREATE TEMPORARY TABLE tmp (id INT PRIMARY KEY, v VARCHAR(10))
			primary INSERT INTO tmp VALUES (1,'a'),(2,'b')
			primary SELECT * FROM tmp ORDER BY id
			primary SELECT t.id FROM t JOIN TMP USING (id) ORDER BY 1
			primary SELECT * FROM app.tmp ORDER BY id
			primary SELECT (SELECT COUNT(*) FROM tmp)
			primary SHOW COLUMNS FROM tmp
			replica SELECT v FROM t WHERE id=1
			primary CREATE TEMPORARY TABLE tmp2 AS SELECT * FROM tmp
			primary SELECT COUNT(*) FROM tmp2
			primary CREATE TEMPORARY TABLE tmp3 LIKE t
			primary SELECT COUNT(*) FROM tmp3
			primary DROP TEMPORARY TABLE tmp3
			primary CREATE TEMPORARY TABLE shadowed (id INT)
			primary SELECT COUNT(*) FROM shadowed
			primary DROP TEMPORARY TABLE shadowed
			replica SELECT COUNT(*) FROM shadowed
			primary DROP TABLE tmp, tmp2
			both SELECT * FROM tmp
			replica SELECT 1
			primary CREATE TEMPORARY TABLE IF NOT EXISTS shadowed (id INT)
			primary DROP TABLE shadowed
			replica SELECT COUNT(*) FROM shadowed
		`)
		// Under another name.
		w.app(t).run(`
			primary CREATE TEMPORARY TABLE tmp3 LIKE t
			primary ALTER TABLE tmp3 RENAME TO shadowed
			primary SELECT COUNT(*) FROM shadowed
		`)
		// In a procedure, or among several statements: the session stays.
		p = w.app(t)
		p.run(`
			primary CALL makes_temporary()
			primary SELECT COUNT(*) FROM made
			primary SELECT 1
		`)
		p = w.pair(t, login{account: farmtest.App, schema: farmtest.Schema, caps: wireMulti})
		p.command("primary", p.direct.query("CREATE TEMPORARY TABLE several (i INT); INSERT INTO several VALUES (7)"), "CREATE TEMPORARY TABLE several")
		p.run("primary SELECT * FROM several")
		// Prepared.
		p = w.app(t)
		p.prepared("primary", "CREATE TEMPORARY TABLE prepared_temporary (i INT)")
		p.run("primary SELECT COUNT(*) FROM prepared_temporary")
		p.prepared("primary", "SELECT COUNT(*) FROM prepared_temporary")
		p.prepared("primary", "DROP TEMPORARY TABLE prepared_temporary")
		p.run("replica SELECT 1")
		w.farm.CheckNoOwnEvents(t)
	})
}

func TestSemantics14AboutTheStatementBefore(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.both(t, "CREATE TABLE app.about (id INT AUTO_INCREMENT PRIMARY KEY, v TINYINT)")
		w.settle(t)
		p := w.app(t)
		p.run("primary INSERT INTO about (v) VALUES (1),(2),(3)")
		// Whatever other reads go elsewhere in between.
		for _, ask := range []string{
			"SELECT LAST_INSERT_ID()", "SELECT last_insert_id() AS id", "SELECT LAST_INSERT_ID() FROM DUAL", "SELECT @@last_insert_id", "SELECT @@identity",
			"SELECT @@session.last_insert_id", "SELECT LAST_INSERT_ID() + 0 FROM about LIMIT 1", "SELECT (SELECT LAST_INSERT_ID())", "SELECT id FROM about WHERE id = LAST_INSERT_ID()",
		} {
			p.step("any", ask)
			p.step("replica", "SELECT v FROM about WHERE id=1")
			p.prepared("primary", ask)
		}
		p.run(`
			primary INSERT INTO about (v) VALUES (LAST_INSERT_ID())
			primary SELECT LAST_INSERT_ID()
			primary UPDATE about SET v=LAST_INSERT_ID(40) WHERE id=1
			primary SELECT LAST_INSERT_ID()
			settle
			replica SELECT SQL_CALC_FOUND_ROWS v FROM about LIMIT 1
			same SELECT FOUND_ROWS()
			replica SELECT v FROM about LIMIT 2
			same SELECT FOUND_ROWS()
			primary UPDATE about SET v=7 WHERE id<3
			same SELECT ROW_COUNT()
			replica SELECT 1
			same SELECT ROW_COUNT()
			replica SELECT 1/0, CAST('x' AS SIGNED)
			same SHOW WARNINGS
			same SHOW COUNT(*) WARNINGS
			same SELECT @@warning_count, @@error_count
			primary INSERT IGNORE INTO about (v) VALUES (1000)
			same SHOW WARNINGS
			same SHOW WARNINGS LIMIT 1
			same SHOW ERRORS
			same SELECT @@warning_count
			both SELECT * FROM no_such_table
			primary SHOW WARNINGS
			primary SHOW ERRORS
			primary SHOW COUNT(*) ERRORS
			primary DELETE FROM no_such_table
			same SHOW ERRORS
			# The state that the proxy brings along disturbs nothing.
			primary INSERT IGNORE INTO about (v) VALUES (1000)
			any SET time_zone='+02:00'
			any SHOW WARNINGS
			primary UPDATE about SET v=8 WHERE id<3
			any SET @z=9
			any SELECT ROW_COUNT()
			any SELECT LAST_INSERT_ID()
			any USE app
			any SELECT LAST_INSERT_ID()
			replica SELECT v FROM about WHERE id=1
			any SELECT LAST_INSERT_ID()
		`)
		// On a session that has done nothing there is nothing.
		w.app(t).run(`
			any SELECT LAST_INSERT_ID(), ROW_COUNT()
			any SHOW WARNINGS
		`)
		p = w.app(t)
		p.run("any GET DIAGNOSTICS @n = NUMBER\nany SELECT @n")
		w.farm.CheckNoOwnEvents(t)
	})
}

func TestSemantics15UserLocks(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		p, other := w.app(t), w.app(t)
		p.run(`
			replica SELECT 1
			primary SELECT GET_LOCK('a', 1)
			primary SELECT 1
		`)
		if !strings.Contains(p.pin(), "GET_LOCK") {
			t.Errorf("the pin of a lock is %q", p.pin())
		}
		other.run("primary SELECT GET_LOCK('a', 0)")
		other.run("primary SELECT IS_FREE_LOCK('a')")
		p.run(`
			primary SELECT GET_LOCK('b', 1)
			primary SELECT RELEASE_LOCK('a')
			primary SELECT 2
			primary DO RELEASE_LOCK('b')
			replica SELECT 2
		`)
		other.run(`
			primary SELECT GET_LOCK('a', 0)
			primary SELECT RELEASE_LOCK('a')
			# The try that failed counts as well: nobody looks at the answer.
			primary SELECT 3
			primary SELECT RELEASE_ALL_LOCKS()
			replica SELECT 3
			primary SELECT GET_LOCK('c', 0)
			primary SELECT GET_LOCK('c', 0)
			primary SELECT RELEASE_LOCK('c')
			primary SELECT 4
			primary SELECT RELEASE_ALL_LOCKS()
			replica SELECT 5
		`)
		// The client's end frees it.
		p.run("primary SELECT GET_LOCK('d', 1)")
		_ = p.direct.raw.Close()
		_ = p.proxied.raw.Close()
		farmtest.Eventually(t, "the lock of a client that left is free", func() error {
			if got := other.proxied.sql("SELECT IS_FREE_LOCK('d')").first; got != "1" {
				return fmt.Errorf("IS_FREE_LOCK is %s", got)
			}
			return nil
		})
		// While it is held, a broken connection is an error, not a new connection.
		p = w.app(t)
		p.run("primary SELECT GET_LOCK('e', 1)")
		w.killThread(t, p)
		if r := p.proxied.sql("SELECT 1"); r.err == nil && r.lost == nil {
			t.Errorf("a session goes on though its lock is lost: %v", r)
		}
		// Without one it is not noticed.
		p = w.app(t)
		p.run("primary UPDATE t SET n=n WHERE id=1")
		w.killThread(t, p)
		if r := p.proxied.sql("UPDATE t SET n=n WHERE id=1"); r.err != nil || r.lost != nil {
			t.Errorf("a session with nothing to lose notices that an idle connection broke: %v", r)
		}
	})
}

// killThread ends the server's connection that served the last step on the
// primary, and waits until it is gone.
func (w *world) killThread(t testing.TB, p *pair) {
	t.Helper()
	thread := ""
	for _, e := range p.log {
		if e.server == "primary" {
			thread = e.thread
		}
	}
	w.farm.Primary().Exec(t, "KILL CONNECTION "+thread)
	farmtest.Eventually(t, "the connection is gone", func() error {
		if rows := w.farm.Primary().Query(t, "SELECT ID AS id FROM information_schema.processlist WHERE ID="+thread); len(rows) > 0 {
			return fmt.Errorf("it is there")
		}
		return nil
	})
}

func TestSemantics16ConnectionIDs(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		// The id is the greeting's, whoever answers.
		a := connect(t, w.proxy.TCP, app)
		id := fmt.Sprint(a.greeting.ConnectionID)
		for _, ask := range []string{"SELECT CONNECTION_ID()", "SELECT connection_id() AS a", "/* farmhand: primary */ SELECT CONNECTION_ID()", "SELECT @@pseudo_thread_id"} {
			if got := a.sql(ask); got.first != id {
				t.Errorf("%s is %q (%v), the greeting said %s", ask, got.first, got, id)
			}
		}
		// KILL, KILL QUERY and COM_PROCESS_KILL of one's own other session.
		running := func() (*client, chan *reply) {
			c := connect(t, w.proxy.TCP, app)
			done := make(chan *reply, 1)
			w.since(t)
			go func() { done <- c.sql("SELECT SLEEP(60)") }()
			farmtest.Eventually(t, "the statement runs", func() error {
				if rows := w.farm.Primary().Query(t, "SELECT ID AS id FROM information_schema.processlist WHERE INFO='SELECT SLEEP(60)'"); len(rows) == 0 {
					return fmt.Errorf("it does not")
				}
				return nil
			})
			return c, done
		}
		for _, kill := range []string{"KILL QUERY %d", "kill query %d"} {
			c, done := running()
			if r := a.sql(fmt.Sprintf(kill, c.greeting.ConnectionID)); r.err != nil {
				t.Errorf("%s: %v", kill, r.err)
			}
			if r := <-done; r.lost != nil {
				t.Errorf("after %s the connection is lost: %v", kill, r.lost)
			}
			c.pings(t)
		}
		for _, kill := range []string{"KILL %d", "KILL CONNECTION %d", "KILL HARD %d"} {
			if strings.Contains(kill, "HARD") && w.flavor == farm.MySQL {
				continue
			}
			c, done := running()
			if r := a.sql(fmt.Sprintf(kill, c.greeting.ConnectionID)); r.err != nil {
				t.Errorf("%s: %v", kill, r.err)
			}
			<-done
			if r := c.sql("SELECT 1"); r.lost == nil {
				t.Errorf("after %s the session goes on: %v", kill, r)
			}
		}
		// An idle one, by COM_PROCESS_KILL.
		idle := connect(t, w.proxy.TCP, app)
		a.do(statement(wire.ComProcessKill, idle.greeting.ConnectionID))
		if r := idle.sql("SELECT 1"); r.lost == nil {
			t.Errorf("after COM_PROCESS_KILL the session goes on: %v", r)
		}
		// Nobody kills another user's.
		stranger := connect(t, w.proxy.TCP, login{account: noHints, schema: farmtest.Schema})
		for _, r := range []*reply{stranger.sql("KILL " + id), stranger.sql("KILL QUERY " + id), stranger.do(statement(wire.ComProcessKill, a.greeting.ConnectionID))} {
			if r.err == nil || r.err.Code != 1095 {
				t.Errorf("a stranger's KILL: %v", r)
			}
		}
		a.pings(t)
		// Who may, can.
		chief := connect(t, w.proxy.TCP, login{account: boss})
		if r := chief.sql("KILL " + fmt.Sprint(stranger.greeting.ConnectionID)); r.err != nil {
			t.Errorf("an administrator's KILL: %v", r.err)
		}
		if r := stranger.sql("SELECT 1"); r.lost == nil {
			t.Errorf("after an administrator's KILL the session goes on: %v", r)
		}
		// Nobody's id, and one's own.
		p := w.app(t)
		p.run("any* KILL 4294967294")
		self := connect(t, w.proxy.TCP, app)
		if r := self.sql("KILL CONNECTION_ID()"); r.err == nil && r.lost == nil {
			t.Errorf("a session that kills itself: %v", r)
		}
		if r := self.sql("SELECT 1"); r.lost == nil {
			t.Errorf("a session that killed itself goes on: %v", r)
		}
		// USER() and CURRENT_USER(), host aside.
		p.run(`
			replica SELECT CURRENT_USER(), SUBSTRING_INDEX(USER(),'@',1), SUBSTRING_INDEX(SESSION_USER(),'@',1), SUBSTRING_INDEX(SYSTEM_USER(),'@',1)
			primary /* farmhand: primary */ SELECT CURRENT_USER(), SUBSTRING_INDEX(USER(),'@',1)
			replica SHOW GRANTS
		`)
	})
}

func TestSemantics17ResetAndChangeUser(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		soil := `
			any SET NAMES latin1
			any SET sql_mode='ANSI_QUOTES', time_zone='+04:00', @a=5
			primary SELECT @b:=6
			primary CREATE TEMPORARY TABLE dirt (i INT)
			primary SELECT GET_LOCK('dirt', 1)
			primary PREPARE dirty FROM 'SELECT 1'
			primary INSERT INTO t (v,n) VALUES ('dirt', 0)
			primary DELETE FROM t WHERE v='dirt'
			any SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE
			primary BEGIN
			primary UPDATE t SET n=99 WHERE id=3
		`
		see := `
			any SELECT @@character_set_client, @@collation_connection, @@sql_mode, @@time_zone, @a, @b, @@autocommit, DATABASE()
			any SELECT * FROM dirt
			any SELECT IS_FREE_LOCK('dirt')
			any EXECUTE dirty
			any SELECT n FROM t WHERE id=3
			replica SELECT v FROM t WHERE id=1
			any SELECT LAST_INSERT_ID(), @@warning_count
		`
		p := w.app(t)
		p.run(soil)
		d, g := p.direct.do(prepare("SELECT 5")), p.proxied.do(prepare("SELECT 5"))
		p.command("any", []byte{byte(wire.ComResetConnection)}, "")
		p.compare("any!", "an execution after the reset", p.direct.do(p.direct.execution(d.prepared.ID, 0, true)), p.proxied.do(p.proxied.execution(g.prepared.ID, 0, true)))
		p.run(see)

		p = w.app(t)
		p.run(soil)
		for _, c := range []*client{p.direct, p.proxied} {
			if err := c.changeUser(login{account: noHints, schema: farmtest.Schema}); err != nil {
				t.Fatal(err)
			}
		}
		p.run("replica SELECT CURRENT_USER()")
		p.run(see)
		// One that is refused ends the connection, as it does directly.
		for _, c := range []*client{p.direct, p.proxied} {
			wrong := noHints
			wrong.Password = "wrong"
			if err := c.changeUser(login{account: wrong}); err == nil {
				t.Error("a wrong password changes the user")
			}
		}

		// A pooled connection carries nothing of its last session: soil many, look
		// with new ones, on both kinds of server.
		for range 5 {
			p := w.app(t)
			p.run(soil)
			_ = p.direct.raw.Close()
			_ = p.proxied.raw.Close()
			fresh := w.app(t)
			farmtest.Eventually(t, "the lock is free and the transaction gone", func() error {
				for _, c := range []*client{fresh.direct, fresh.proxied} {
					if got := c.sql("SELECT IS_FREE_LOCK('dirt')").first; got != "1" {
						return fmt.Errorf("IS_FREE_LOCK is %q", got)
					}
					if r := c.sql("SELECT n FROM t WHERE id=3 FOR UPDATE"); r.first != "3" {
						return fmt.Errorf("n is %v", r)
					}
				}
				return nil
			})
			fresh.run(see)
			fresh.run("primary /* farmhand: primary */ SELECT @@character_set_client, @@sql_mode, @@time_zone, @a, @b, @@autocommit, DATABASE()")
		}
	})
}

func TestSemantics18Pins(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		secret := "top-secret-" + fmt.Sprint(time.Now().UnixNano())
		for _, c := range []struct {
			begin, pin, end string
		}{
			{"SELECT GET_LOCK('pin', 1)", "GET_LOCK", "SELECT RELEASE_LOCK('pin')"},
			{"LOCK TABLES t READ", "LOCK TABLES", "UNLOCK TABLES"},
			{"XA START 'pin'", "XA", "XA END 'pin'\nprimary XA ROLLBACK 'pin'"},
			{"CREATE TEMPORARY TABLE pin (i INT)", "temporary", "DROP TEMPORARY TABLE pin"},
			{"SELECT @pin:=5", "user variables", "SET @pin=1"},
			{"BEGIN", "primary", "COMMIT"},
			{"SET @@debug_" + secret + "=1", "", ""}, // an error: no pin
			{"SET CHARACTER SET latin1 /* " + secret + " */", "SET CHARACTER SET", ""},
			{"CALL no_such_procedure('" + secret + "')", "CALL", ""},
			{"SET sql_mode=CONCAT('', '" + secret + "')", "", ""},
		} {
			p := w.app(t)
			p.run("replica SELECT 1")
			p.step("any", c.begin)
			p.run("any SELECT 1")
			pin := p.pin()
			if c.pin != "" && !strings.Contains(pin, c.pin) {
				t.Errorf("after %s the pin is %q", c.begin, pin)
			}
			if strings.Contains(pin, secret) {
				t.Errorf("the pin shows a secret: %s", pin)
			}
			if c.end != "" {
				p.run("any " + c.end)
				p.run("replica SELECT 1")
				if pin := p.pin(); pin != "" {
					t.Errorf("after %s there is a pin: %s", c.end, pin)
				}
			}
		}
	})
}
