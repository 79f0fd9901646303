package semantics

import (
	"fmt"
	"strings"
	"testing"

	"farmhand/internal/farmtest"
	"farmhand/proxy/internal/wire"
)

// stmt is a statement that both clients of a pair have prepared.
type stmt struct {
	p       *pair
	sql     string
	direct  uint32
	proxied uint32
}

// prepare prepares a statement on both. (Some servers log that when they have
// answered, and not what they cannot prepare: who did it is not known.)
func (p *pair) prepare(sql string) *stmt {
	p.t.Helper()
	d, g := p.direct.do(prepare(sql)), p.proxied.do(prepare(sql))
	p.before = append(p.before, "prepare "+sql)
	p.compare("any", "prepare "+sql, d, g)
	return &stmt{p, sql, d.prepared.ID, g.prepared.ID}
}

// each sends both a command about the statement and compares the answers. A
// command without an answer must leave the connections intact.
func (s *stmt) each(who string, command func(c *client, id uint32) []byte) *reply {
	s.p.t.Helper()
	s.p.w.since(s.p.t)
	d, g := s.p.direct.do(command(s.p.direct, s.direct)), s.p.proxied.do(command(s.p.proxied, s.proxied))
	s.p.before = append(s.p.before, "execute "+s.sql)
	s.p.compare(who, "of "+s.sql, d, g)
	literal, _, _ := strings.Cut(s.sql, "?") // the log has the values in their places
	s.p.served(strings.TrimRight(who, "!*"), literal)
	return g
}

func (s *stmt) execute(who string, params ...string) *reply {
	s.p.t.Helper()
	return s.each(who, func(c *client, id uint32) []byte { return c.execution(id, 0, true, params...) })
}

func (s *stmt) close() {
	s.p.t.Helper()
	s.each("any", func(_ *client, id uint32) []byte { return statement(wire.ComStmtClose, id) })
}

func TestSemantics19PreparedStatements(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.both(t, "CREATE TABLE app.ps (id INT AUTO_INCREMENT PRIMARY KEY, v LONGTEXT, n INT)", "INSERT INTO app.ps (v,n) VALUES ('a',1),('b',2),('c',3)")
		w.settle(t)
		for _, caps := range []wire.Capability{0, wire.ClientDeprecateEOF, wire.ClientQueryAttributes, wire.ClientDeprecateEOF | wire.ClientSessionTrack} {
			w.both(t, "TRUNCATE TABLE app.ps", "INSERT INTO app.ps (v,n) VALUES ('a',1),('b',2),('c',3)")
			w.settle(t)
			p := w.pair(t, login{account: farmtest.App, schema: farmtest.Schema, caps: caps})
			// Reads are split, writes are not, and ids are the client's own.
			read := p.prepare("SELECT v, n FROM ps WHERE id=?")
			write := p.prepare("INSERT INTO ps (v, n) VALUES (?, ?)")
			lock := p.prepare("SELECT n FROM ps WHERE id=? FOR UPDATE")
			read.execute("replica", "2")
			write.execute("primary", "d", "4")
			p.run("settle")
			read.execute("replica", "4")
			lock.execute("primary", "1")
			p.run("primary BEGIN")
			read.execute("primary", "1") // prepared there now
			p.run("primary COMMIT")
			read.execute("replica", "1")
			// Without the types, also where they were never sent.
			read.each("replica", func(c *client, id uint32) []byte { return c.execution(id, 0, false, "3") })
			lock.each("primary", func(c *client, id uint32) []byte { return c.execution(id, 0, false, "3") })
			again := p.prepare("SELECT v, n FROM ps WHERE id=?") // the same text twice
			again.execute("replica", "1")
			p.run("primary BEGIN")
			again.each("primary", func(c *client, id uint32) []byte { return c.execution(id, 0, false, "2") })
			p.run("primary COMMIT")
			// Long data, in pieces, of a read and of a write; and what takes it back.
			long := p.prepare("INSERT INTO ps (v, n) VALUES (?, ?)")
			for _, piece := range []string{"abc", strings.Repeat("x", 100000), ""} {
				long.each("any", func(_ *client, id uint32) []byte {
					return append(statement(wire.ComStmtSendLong, id, 0, 0), piece...)
				})
			}
			long.each("primary", longExecution("9"))
			p.run("any SELECT LENGTH(v), n FROM ps ORDER BY id DESC LIMIT 1")
			found := p.prepare("SELECT id FROM ps WHERE v=? AND n<?")
			found.each("any", func(_ *client, id uint32) []byte { return append(statement(wire.ComStmtSendLong, id, 0, 0), "b"...) })
			found.each("any", longExecution("9"))
			found.each("any", func(_ *client, id uint32) []byte { return append(statement(wire.ComStmtSendLong, id, 0, 0), "c"...) })
			found.each("any", func(_ *client, id uint32) []byte { return statement(wire.ComStmtReset, id) })
			found.execute("any", "b", "9")
			// Cursors.
			rows := p.prepare("SELECT id, v FROM ps WHERE id<4 ORDER BY id")
			rows.each("replica", func(c *client, id uint32) []byte { return c.execution(id, 1, true) })
			for range 2 {
				rows.each("any", func(_ *client, id uint32) []byte { return statement(wire.ComStmtFetch, id, 2, 0, 0, 0) })
			}
			rows.each("replica", func(c *client, id uint32) []byte { return c.execution(id, 1, true) })
			rows.each("any", func(_ *client, id uint32) []byte { return statement(wire.ComStmtReset, id) })
			rows.each("any!", func(_ *client, id uint32) []byte { return statement(wire.ComStmtFetch, id, 1, 0, 0, 0) })
			// Errors of all kinds.
			p.prepare("SELECT * FROM no_such_table WHERE id=?")
			p.prepare("SELEC ?")
			p.prepare("")
			duplicate := p.prepare("INSERT INTO ps (id, v) VALUES (?, 'x')")
			duplicate.execute("primary", "1")
			read.close()
			read.each("any!", func(c *client, id uint32) []byte { return c.execution(id, 0, true, "1") })
			again.execute("replica", "1")
			nobody := &stmt{p, "nobody's", 4711, 4711}
			nobody.each("any!", func(c *client, id uint32) []byte { return c.execution(id, 0, true) })
			nobody.each("any!", func(_ *client, id uint32) []byte { return statement(wire.ComStmtReset, id) })
			nobody.each("any", func(_ *client, id uint32) []byte { return statement(wire.ComStmtClose, id) })
			p.direct.pings(t)
			p.proxied.pings(t)
		}
		w.farm.CheckNoOwnEvents(t)
	})
}

// longExecution executes a statement whose first parameter was sent by
// COM_STMT_SEND_LONG_DATA.
func longExecution(second string) func(c *client, id uint32) []byte {
	return func(c *client, id uint32) []byte {
		attributes := c.caps.Has(wire.ClientQueryAttributes)
		flags := byte(0)
		if attributes {
			flags = 8
		}
		p := statement(wire.ComStmtExecute, id, flags, 1, 0, 0, 0)
		if attributes {
			p = wire.AppendLenEnc(p, 2)
		}
		p = append(p, 0, 1)
		for range 2 {
			p = append(p, 0xfc, 0)
			if attributes {
				p = append(p, 0)
			}
		}
		return wire.AppendLenEncString(p, second)
	}
}

func TestSemantics19SchemaChanges(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.both(t, "CREATE TABLE app.psddl (id INT PRIMARY KEY, v INT)", "INSERT INTO app.psddl VALUES (1,1)")
		w.settle(t)
		p := w.app(t)
		star := p.prepare("SELECT * FROM psddl WHERE id=?")
		star.execute("replica", "1")
		for i, ddl := range []string{
			"ALTER TABLE psddl ADD COLUMN w INT DEFAULT 5", "ALTER TABLE psddl MODIFY v VARCHAR(30)", "ALTER TABLE psddl DROP COLUMN w", "DROP TABLE psddl",
			"CREATE TABLE psddl (id INT PRIMARY KEY, other TEXT)",
		} {
			p.step("primary", ddl)
			p.run("settle")
			if i == 3 {
				star.execute("both", "1")
				continue
			}
			star.execute("replica", "1")
			p.run("primary BEGIN")
			star.execute("primary", "1")
			p.run("primary COMMIT")
			if i == 0 { // a connection that has not prepared it yet
				p.run("primary LOCK TABLES psddl WRITE")
				star.execute("primary", "1")
				p.run("primary UNLOCK TABLES")
			}
		}
	})
}

func TestSemantics19StatementsAreClosed(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		count := func(s *farmtest.Server) int64 { return s.Counter(t, "Prepared_stmt_count") }
		before := map[string]int64{}
		for _, s := range w.farm.Servers() {
			before[s.Name()] = count(s)
		}
		for range 3 {
			c := connect(t, w.proxy.TCP, app)
			for i := range 50 {
				r := c.do(prepare(fmt.Sprintf("SELECT %d, id FROM t WHERE id=?", i)))
				if r.err != nil {
					t.Fatal(r.err)
				}
				if e := c.do(c.execution(r.prepared.ID, 0, true, "1")); e.err != nil {
					t.Fatal(e.err)
				}
				if i%2 == 0 {
					c.do(statement(wire.ComStmtClose, r.prepared.ID))
				}
			}
			_ = c.raw.Close()
		}
		farmtest.Eventually(t, "no statement is left on a server", func() error {
			for _, s := range w.farm.Servers() {
				if n := count(s); n > before[s.Name()] {
					return fmt.Errorf("%s has %d, %d before", s.Name(), n, before[s.Name()])
				}
			}
			return nil
		})
	})
}

func TestSemantics20TextPreparedStatements(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.both(t, "CREATE TABLE app.tp (id INT PRIMARY KEY, v VARCHAR(20))", "INSERT INTO app.tp VALUES (1,'a'),(2,'b')",
			"CREATE FUNCTION app.tp_writes() RETURNS INT MODIFIES SQL DATA BEGIN INSERT INTO app.tp VALUES (50,'f'); RETURN 1; END")
		w.settle(t)
		p := w.app(t)
		p.run(`
			any PREPARE r FROM 'SELECT v FROM tp WHERE id=?'
			any PREPARE w FROM 'UPDATE tp SET v=? WHERE id=?'
			any PREPARE l FROM 'SELECT v FROM tp WHERE id=1 FOR UPDATE'
			any PREPARE f FROM 'SELECT tp_writes()'
			any SET @id=2, @v=9
			primary! SHOW STATUS LIKE 'Prepared_stmt_count'
			# A read without parameters is one when it is executed, too.
			any PREPARE plain FROM 'SELECT id, v, 1.5 AS n, ''x'' AS s FROM tp ORDER BY id'
			any EXECUTE plain
			any EXECUTE ` + "`PLAIN`" + `
			any /* farmhand: primary */ EXECUTE plain
			replica SELECT 1
			any SELECT FOUND_ROWS()
			any SET sql_mode='ANSI_QUOTES'
			any EXECUTE plain
			any SET sql_mode=DEFAULT
			any DEALLOCATE PREPARE plain
			any EXECUTE plain
			any EXECUTE r USING @id
			any EXECUTE R USING @id
			any EXECUTE w USING @v, @id
			any EXECUTE r USING @id
			any EXECUTE l
			any EXECUTE f
			any EXECUTE r
			any EXECUTE nobody
			any EXECUTE r USING @id, @v
			any PREPARE r FROM 'SELEC'
			any EXECUTE r
			any PREPARE r FROM 'SELECT 1; SELECT 2'
			any EXECUTE w USING @v, @v
			any DEALLOCATE PREPARE w
			any EXECUTE w USING @v, @v
			any DEALLOCATE PREPARE nobody
			any DROP PREPARE l
			any DROP PREPARE f
			replica SELECT 1
			# It is about the last statement, a transaction, the session.
			any PREPARE li FROM 'SELECT LAST_INSERT_ID(), @@warning_count'
			primary INSERT IGNORE INTO tp VALUES (1,'again')
			any EXECUTE li
			any PREPARE tx FROM 'COMMIT'
			primary BEGIN
			primary UPDATE tp SET v='tx' WHERE id=1
			any EXECUTE tx
			replica SELECT 1
			any SELECT v FROM tp WHERE id=1
			any PREPARE s FROM 'SET time_zone=''+09:00'''
			any EXECUTE s
			any SELECT @@time_zone
		`)
		// The text is in a variable: what it did is not known, and the session stays.
		w.app(t).run(`
			any PREPARE r FROM 'SELECT 1'
			any SET @text='SELECT COUNT(*) FROM tp'
			any PREPARE r FROM @text
			any EXECUTE r
			primary SELECT @q:='DELETE FROM tp WHERE id=50'
			any PREPARE r FROM @q
			any EXECUTE r
			any EXECUTE r
			primary SELECT 1
		`)
		// sql_mode and character set are those of PREPARE.
		p = w.app(t)
		p.run(`
			any SET sql_mode='ANSI_QUOTES'
			any PREPARE q FROM 'SELECT "v" FROM tp WHERE id=1'
			any EXECUTE q
			any SET sql_mode=''
			any EXECUTE q
			any PREPARE q FROM 'SELECT "v" FROM tp WHERE id=1'
			any EXECUTE q
			any SET NAMES latin1
			any EXECUTE q
			any DEALLOCATE PREPARE q
			replica SELECT 1
		`)
		p.mariaDB(`
			any EXECUTE IMMEDIATE 'SELECT 5'
			any EXECUTE IMMEDIATE 'UPDATE tp SET v=? WHERE id=?' USING 'im', 1
			any SELECT v FROM tp WHERE id=1
			any PREPARE q FROM CONCAT('SELECT ', '6')
			any EXECUTE q
			any EXECUTE q USING 1
		`)
		w.farm.CheckNoOwnEvents(t)
	})
}
