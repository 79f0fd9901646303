package semantics

import (
	"fmt"
	"testing"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/proxy/internal/wire"
)

func TestSemantics08StatusFlags(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.both(t,
			"CREATE PROCEDURE app.opens() BEGIN START TRANSACTION; SELECT 1; END",
			"CREATE PROCEDURE app.turns_off() SET autocommit=0",
			"CREATE PROCEDURE app.closes() COMMIT")
		// A procedure opens the transaction: no text says so, the flags do.
		w.app(t).run(`
			primary CALL opens()
			primary SELECT 1
			primary UPDATE t SET n=50 WHERE id=1
			primary SELECT n FROM t WHERE id=1
			primary ROLLBACK
			primary SELECT n FROM t WHERE id=1
		`)
		w.app(t).run(`
			primary CALL turns_off()
			primary SELECT @@autocommit
			primary UPDATE t SET n=60 WHERE id=1
			primary SELECT n FROM t WHERE id=1
			primary ROLLBACK
			primary SELECT n FROM t WHERE id=1
		`)
		// So does a prepared statement, and one text of several statements.
		p := w.pair(t, login{account: farmtest.App, schema: farmtest.Schema, caps: wire.ClientMultiStatements})
		if w.flavor == farm.MariaDB { // MySQL prepares no START TRANSACTION
			p.prepared("primary", "START TRANSACTION")
			p.run("primary SELECT 2")
		}
		p.prepared("primary", "COMMIT")
		p.run("replica SELECT 2")
		p.prepared("any", "SET autocommit=0")
		p.run("primary SELECT 3")
		p.prepared("primary", "SET autocommit=1")
		p.run("replica SELECT 3")
		p.command("primary", p.direct.query("SELECT 1; BEGIN; SELECT 2"), "SELECT 1")
		p.run("primary SELECT 4")
		p.command("primary", p.direct.query("COMMIT; SELECT 3"), "SELECT 3")
		p.run("replica SELECT 4")
		// Several statements of which the second fails: what the first did stands.
		p.command("primary", p.direct.query("BEGIN; SELECT * FROM missing; COMMIT"), "BEGIN")
		p.run(`
			primary SELECT 5
			primary COMMIT
			replica SELECT 5
		`)
		// The flags themselves, after each step, are in every packet compared above.
		if s := p.proxied.sql("BEGIN").ok.Status; s&wire.StatusInTransaction == 0 {
			t.Errorf("after BEGIN the status is %#x", s)
		}
	})
}

// prepared prepares a statement without parameters by the binary protocol, runs
// it and closes it.
func (p *pair) prepared(who, sql string) *reply {
	p.t.Helper()
	d, g := p.direct.do(prepare(sql)), p.proxied.do(prepare(sql))
	p.compare("any", "prepare "+sql, d, g)
	if d.err != nil {
		return g
	}
	p.w.since(p.t)
	want, got := p.direct.do(p.direct.execution(d.prepared.ID, 0, true)), p.proxied.do(p.proxied.execution(g.prepared.ID, 0, true))
	p.compare(who, "execute "+sql, want, got)
	p.served(who, sql)
	for c, id := range map[*client]uint32{p.direct: d.prepared.ID, p.proxied: g.prepared.ID} {
		if err := c.send(statement(wire.ComStmtClose, id)); err != nil {
			p.t.Fatal(err)
		}
	}
	return got
}

func TestSemantics09Transactions(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.both(t, "CREATE TABLE app.tx (id INT PRIMARY KEY, n INT)", "INSERT INTO app.tx VALUES (1,1),(2,2)")
		w.settle(t)
		// A read-write transaction: the primary throughout, on one connection.
		for _, begin := range []string{
			"BEGIN", "BEGIN WORK", "START TRANSACTION", "START TRANSACTION READ WRITE", "START TRANSACTION WITH CONSISTENT SNAPSHOT",
			"START TRANSACTION WITH CONSISTENT SNAPSHOT, READ WRITE",
		} {
			for _, end := range []string{"COMMIT", "ROLLBACK", "COMMIT WORK", "ROLLBACK AND NO CHAIN", "COMMIT NO RELEASE"} {
				p := w.app(t)
				p.run("replica SELECT n FROM tx")
				p.step("primary", begin)
				p.run(`
					primary SELECT n FROM tx WHERE id=1
					primary UPDATE tx SET n=n+1 WHERE id=1
					primary SELECT n FROM tx WHERE id=1
					primary SAVEPOINT s
					primary UPDATE tx SET n=n+1 WHERE id=1
					primary ROLLBACK TO SAVEPOINT s
					primary SELECT n FROM tx WHERE id=1
					primary RELEASE SAVEPOINT s
					primary SELECT * FROM missing
					primary SELECT n FROM tx WHERE id=1
					primary SET @a = 5
					primary SHOW TABLES LIKE 'tx'
				`)
				p.step("primary", end)
				p.run("replica SELECT 1")
				if begin != "BEGIN" {
					break
				}
			}
		}
		// AND CHAIN goes on.
		w.app(t).run(`
			primary BEGIN
			primary COMMIT AND CHAIN
			primary SELECT 1
			primary ROLLBACK AND CHAIN
			primary SELECT 1
			primary COMMIT
			replica SELECT 1
		`)
		w.app(t).run(`
			any SET autocommit=0
			primary SELECT n FROM tx WHERE id=1
			primary UPDATE tx SET n=7 WHERE id=1
			primary COMMIT
			primary SELECT n FROM tx WHERE id=1
			primary ROLLBACK
			primary SET autocommit=1
			replica SELECT 1
		`)
		w.app(t).run(`
			primary LOCK TABLES tx WRITE
			primary SELECT n FROM tx WHERE id=1
			primary INSERT INTO tx VALUES (3,3)
			primary SELECT * FROM t
			primary UNLOCK TABLES
			replica SELECT 1
			primary LOCK TABLES tx READ
			primary SELECT COUNT(*) FROM tx
			primary UNLOCK TABLES
			replica SELECT 1
		`)
		w.app(t).run(`
			primary XA START 'x'
			primary SELECT n FROM tx WHERE id=1
			primary UPDATE tx SET n=9 WHERE id=1
			primary XA END 'x'
			primary SELECT 1
			primary XA PREPARE 'x'
			primary XA COMMIT 'x'
			replica SELECT 1
			primary XA START 'y'
			primary UPDATE tx SET n=10 WHERE id=1
			primary XA END 'y'
			primary XA ROLLBACK 'y'
			replica SELECT 1
			primary XA START 'z'
			primary XA END 'z'
			primary XA COMMIT 'z' ONE PHASE
			replica SELECT 1
		`)
		// SERIALIZABLE makes every read a locking one.
		w.app(t).run(`
			any SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE
			primary SELECT n FROM tx WHERE id=1
			primary BEGIN
			primary SELECT n FROM tx WHERE id=1
			primary COMMIT
			any SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ
			replica SELECT 1
		`)
		w.farm.CheckNoOwnEvents(t)
	})
}

func TestSemantics09ReadOnlyTransactions(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.both(t, "CREATE TABLE IF NOT EXISTS app.txr (id INT PRIMARY KEY, n INT)", "REPLACE INTO app.txr VALUES (1,1),(2,2)")
		w.settle(t)
		for _, begin := range []string{"START TRANSACTION READ ONLY", "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY", "start transaction read only, with consistent snapshot"} {
			p := w.app(t)
			p.step("replica", begin)
			p.run(`
				same SELECT n FROM txr WHERE id=1
				same SELECT 1
				same SELECT 2
				same SHOW TABLES LIKE 'txr'
				same* UPDATE txr SET n=5 WHERE id=1
				same* INSERT INTO txr VALUES (9,9)
				same* DELETE FROM missing
				same SELECT n FROM txr FOR UPDATE
				same SAVEPOINT a
				same ROLLBACK TO a
				same SELECT n FROM txr WHERE id=1
				same COMMIT
				primary INSERT INTO txr VALUES (5,5)
				primary DELETE FROM txr WHERE id=5
			`)
		}
		// The scopes of SET TRANSACTION. Of the session: every transaction from now
		// on, and an autocommitted statement too.
		p := w.app(t)
		p.run(`
			any SET SESSION TRANSACTION READ ONLY
			replica SELECT n FROM txr WHERE id=1
			replica BEGIN
			same SELECT n FROM txr WHERE id=1
			same* UPDATE txr SET n=5 WHERE id=1
			same COMMIT
			any* UPDATE txr SET n=5 WHERE id=1
			primary START TRANSACTION READ WRITE
			primary UPDATE txr SET n=6 WHERE id=1
			primary COMMIT
			replica SELECT 1
			any SET SESSION TRANSACTION READ WRITE
			primary BEGIN
			primary UPDATE txr SET n=7 WHERE id=1
			primary COMMIT
			replica SELECT 1
		`)
		variable := "transaction_read_only"
		if w.flavor == farm.MariaDB {
			variable = "tx_read_only"
		}
		p.run(fmt.Sprintf(`
			any SET SESSION %[1]s=1
			replica START TRANSACTION
			same SELECT 1
			same ROLLBACK
			any SET %[1]s=OFF
			primary START TRANSACTION
			primary ROLLBACK
		`, variable))
		w.farm.CheckNoOwnEvents(t)
	})
}

// SET TRANSACTION without a scope is about the next transaction only.
func TestSemantics09NextTransaction(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.both(t, "CREATE TABLE IF NOT EXISTS app.txn (id INT PRIMARY KEY, n INT)", "REPLACE INTO app.txn VALUES (1,1),(2,2)")
		w.settle(t)
		for _, begin := range []string{"BEGIN", "START TRANSACTION", "START TRANSACTION WITH CONSISTENT SNAPSHOT"} {
			p := w.app(t)
			p.run("any SET TRANSACTION READ ONLY")
			p.step("replica", begin)
			p.run(`
				same SELECT n FROM txn WHERE id=1
				same* UPDATE txn SET n=n+1 WHERE id=1
				same COMMIT
				primary BEGIN
				primary UPDATE txn SET n=n+1 WHERE id=1
				primary COMMIT
				settle
				replica SELECT n FROM txn WHERE id=1
			`)
		}
		// It is used up by an autocommitted statement as well.
		w.app(t).run(`
			any SET TRANSACTION READ ONLY
			any* UPDATE txn SET n=n+1 WHERE id=1
			primary UPDATE txn SET n=n+1 WHERE id=1
			any SET TRANSACTION READ ONLY
			any SELECT n FROM txn WHERE id=1
			primary UPDATE txn SET n=n+1 WHERE id=1
			replica SELECT 1
		`)
		// With a level; and a level alone is for a transaction that may write.
		w.app(t).run(`
			any SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY
			any START TRANSACTION
			any* UPDATE txn SET n=n+1 WHERE id=1
			any COMMIT
			any SET TRANSACTION ISOLATION LEVEL READ COMMITTED
			primary START TRANSACTION
			primary UPDATE txn SET n=n+1 WHERE id=1
			primary COMMIT
			any SET TRANSACTION READ ONLY
			any SET TRANSACTION READ WRITE
			primary BEGIN
			primary UPDATE txn SET n=n+1 WHERE id=1
			primary COMMIT
			any SET TRANSACTION READ ONLY
			primary START TRANSACTION READ WRITE
			primary UPDATE txn SET n=n+1 WHERE id=1
			primary COMMIT
			primary BEGIN
			any* SET TRANSACTION READ ONLY
			primary UPDATE txn SET n=n+1 WHERE id=1
			primary COMMIT
			settle
			replica SELECT n FROM txn
		`)
		w.farm.CheckNoOwnEvents(t)
	})
}

func TestSemantics10ImplicitCommit(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.both(t, "CREATE TABLE app.implicit (id INT PRIMARY KEY, n INT)", "INSERT INTO app.implicit VALUES (1,1)")
		w.settle(t)
		ends := []string{
			"CREATE TABLE implicit2 (i INT)", "ALTER TABLE implicit2 ADD j INT", "TRUNCATE TABLE implicit2", "CREATE INDEX x ON implicit2 (j)", "RENAME TABLE implicit2 TO implicit3",
			"DROP TABLE implicit3", "CREATE VIEW implicit_v AS SELECT 1 AS a", "DROP VIEW implicit_v", "ANALYZE TABLE implicit", "FLUSH STATUS",
			"CREATE PROCEDURE implicit_p() SELECT 1", "DROP PROCEDURE implicit_p",
		}
		p := w.app(t)
		for _, end := range ends {
			p.run(`
				primary BEGIN
				primary UPDATE implicit SET n=n+1 WHERE id=1
			`)
			p.step("primary", end)
			p.run("replica SELECT 1")
			p.step("primary", "ROLLBACK") // too late
			p.run("any SELECT n FROM implicit WHERE id=1")
		}
		// Those that end a transaction and leave another state behind.
		p.run(`
			primary BEGIN
			primary UPDATE implicit SET n=n+1 WHERE id=1
			primary BEGIN
			primary SELECT n FROM implicit
			primary ROLLBACK
			replica SELECT 1
			any SELECT n FROM implicit
			primary BEGIN
			primary UPDATE implicit SET n=n+1 WHERE id=1
			primary LOCK TABLES implicit READ
			primary SELECT n FROM implicit
			primary UNLOCK TABLES
			replica SELECT 1
			any SET autocommit=0
			primary UPDATE implicit SET n=n+1 WHERE id=1
			primary SET autocommit=1
			replica SELECT 1
			any SELECT n FROM implicit
			# Statements that do not: autocommit=1 changes nothing where it is.
			primary BEGIN
			primary SET autocommit=1
			primary SELECT 1
			primary ROLLBACK
			primary BEGIN
			primary CREATE TEMPORARY TABLE tmp (i INT)
			primary SELECT 1
			primary DROP TEMPORARY TABLE tmp
			primary SELECT 1
			primary ROLLBACK
			replica SELECT 1
			# A read-only transaction on a replica ends too, and what follows runs as it would.
			replica START TRANSACTION READ ONLY
			primary CREATE TABLE implicit2 (i INT)
			primary INSERT INTO implicit2 VALUES (1)
			replica START TRANSACTION READ ONLY
			primary START TRANSACTION READ WRITE
			primary INSERT INTO implicit2 VALUES (2)
			primary COMMIT
			replica START TRANSACTION READ ONLY
		`)
		p.mariaDB("primary BEGIN\nprimary INSERT INTO implicit2 VALUES (3)\nprimary COMMIT")
		p.mySQL("same BEGIN\nsame* INSERT INTO implicit2 VALUES (3)\nsame COMMIT") // it keeps the access mode
		p.run(`
			settle
			replica SELECT * FROM implicit2
			primary DROP TABLE implicit2
		`)
		w.farm.CheckNoOwnEvents(t)
	})
}
