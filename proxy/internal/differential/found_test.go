package differential

import (
	"strings"
	"testing"
	"time"

	"farmhand/proxy/internal/wire"
)

// found are sessions that were once answered in another way, reduced. Each is
// statements, of which some begin with the name of a command.
var found = []struct {
	name  string
	caps  wire.Capability
	steps []string
}{
	{"SET @@name is not in MariaDB's session tracking", 0, []string{"SET @@sql_mode='ANSI_QUOTES'", `SELECT "id" FROM t1 ORDER BY id`, "START TRANSACTION", `SELECT "id" FROM t1 ORDER BY id`}},
	{"SET @@autocommit with another variable", 0, []string{"SET @@autocommit = OFF, @x = 2", "SELECT id FROM t1 ORDER BY id", "ROLLBACK"}},
	{"SET STATEMENT is over when its statement is", wire.ClientDeprecateEOF, []string{"SET STATEMENT sql_select_limit=1 FOR SELECT id FROM t1 ORDER BY id", "SELECT id FROM t1 ORDER BY id"}},
	{"a write that asks for diagnostics after a read", 0, []string{"SELECT id FROM t2 ORDER BY id", "UPDATE t1 SET a=@@warning_count WHERE id=3", "SELECT a FROM t1 WHERE id=3"}},
	{"a function assigns a user variable", 0, []string{"SELECT f_set(17)", "SELECT @f"}},
	{"a prepared statement means its schema", 0, []string{"COM_STMT_PREPARE SELECT id FROM t1 ORDER BY id", "USE information_schema", "SELECT GET_LOCK('{schema}_l', 0)", "COM_STMT_EXECUTE", "SELECT RELEASE_LOCK('{schema}_l')"}},
	{"isolation with other variables", 0, []string{"SET tx_isolation='READ-COMMITTED'", "SET max_statement_time=100", "BEGIN", "SELECT @@tx_isolation, @@max_statement_time", "COMMIT"}},
	{"EXECUTE of a SET", 0, []string{"PREPARE p FROM 'SET @@sql_mode=\"ANSI\"'", "EXECUTE p", "SELECT @@sql_mode"}},
	{"EXECUTE that shadows a table", 0, []string{"PREPARE p FROM 'CREATE TEMPORARY TABLE t1 (id INT)'", "EXECUTE p", "SELECT * FROM t1"}},
	{"a reset takes IGNORE_SPACE back, and not the character set", wire.ClientIgnoreSpace, []string{"COM_RESET_CONNECTION", "SELECT @@sql_mode, @@character_set_client"}},
	{"flags of the statement before in the proxy's own OK", 0, []string{"SHOW TABLES", "COM_PING"}},
	{"a transaction that failed texts began", wire.ClientMultiStatements, []string{"BEGIN; SELECT nosuch", "SELECT id FROM t1 ORDER BY id", "ROLLBACK"}},
	{"the schema in the OK of COM_CHANGE_USER", wire.ClientSessionTrack, []string{"COM_CHANGE_USER"}},
	{"warnings of another connection", 0, []string{"UPDATE t1 SET c='x' WHERE id=3", "SELECT id FROM t2 ORDER BY id", "COMMIT", "SHOW WARNINGS"}},
	{"warnings in a transaction begun elsewhere", 0, []string{"SELECT 1/0 FROM t1", "BEGIN", "SHOW WARNINGS", "SELECT id FROM t1 ORDER BY id", "ROLLBACK"}},
	{"LAST_INSERT_ID in a read-only transaction", 0, []string{"INSERT INTO t1 (a) VALUES (1)", "START TRANSACTION READ ONLY", "SELECT LAST_INSERT_ID()", "COMMIT"}},
	{"user variables in a read-only transaction", 0, []string{"SELECT MAX(id) INTO @u FROM t1", "START TRANSACTION READ ONLY", "SELECT @u, id FROM t1 ORDER BY id", "COMMIT"}},
	{"DROP that fails in a read-only transaction", 0, []string{"START TRANSACTION READ ONLY", "DROP TABLE nosuch", "COM_PING"}},
	{"SET TRANSACTION is for the next one that uses a table", 0, []string{"SET TRANSACTION READ ONLY", "SELECT LAST_INSERT_ID()", "SELECT id FROM t1 ORDER BY id", "INSERT INTO t1 (a) VALUES (1)"}},
	{"SET NAMES DEFAULT is carried along", 0, []string{"SET NAMES DEFAULT", "SELECT id, @@character_set_client FROM t1 ORDER BY id", "BEGIN", "SELECT @@collation_connection", "COMMIT"}},
	{"ROW_COUNT() after a PREPARE that failed", 0, []string{"START TRANSACTION READ ONLY", "SELECT COUNT(*) FROM t1", "COMMIT", "COM_STMT_PREPARE USE {schema}; SELECT DATABASE()", "SELECT ROW_COUNT()"}},
	{"COM_STMT_RESET after an error that ended the transaction", 0, []string{"SET @@autocommit = OFF", "COM_STMT_PREPARE SET @@session.completion_type = 0", "SELECT id FROM t1 ORDER BY id LIMIT 2", "CREATE USER app", "COM_STMT_RESET"}},
	{"status of SHOW WARNINGS after a procedure that set sql_mode", 0, []string{"SELECT id FROM mark", "CALL p_set(-4)", "SELECT @p, @@sql_mode", "SHOW WARNINGS LIMIT 7"}},
	{"autocommit off and on in a read-only transaction", 0, []string{"SELECT LAST_INSERT_ID(5)", "START TRANSACTION READ ONLY", "SET @@autocommit = OFF, @w = 11", "SELECT id FROM t1 ORDER BY id", "SET @@autocommit = ON, @v = 16", "SELECT id FROM t1 ORDER BY id LIMIT 2", "DELETE FROM t2 WHERE id = 5"}},
	{"two locks taken at once, one released", 0, []string{"SELECT GET_LOCK('{schema}_l1', 0), GET_LOCK('{schema}_l2', 0)", "SELECT RELEASE_LOCK('{schema}_l1')", "COM_RESET_CONNECTION", "SELECT IS_FREE_LOCK('{schema}_l2')"}},
	{"another lock released than the one taken", 0, []string{"SELECT GET_LOCK('{schema}_l1', 0)", "SELECT RELEASE_LOCK('{schema}_l2')", "COM_RESET_CONNECTION", "SELECT IS_FREE_LOCK('{schema}_l1')"}},
	{"rows of a question about the statement before count", 0, []string{"SELECT id FROM t1", "SELECT nosuch", "SELECT @@error_count", "SELECT FOUND_ROWS()"}},
	{"a SHOW that fails leaves ROW_COUNT()", 0, []string{"REPLACE INTO mark VALUES (1)", "SELECT id FROM mark", "SHOW COLUMNS FROM nosuch", "SELECT ROW_COUNT()"}},
	{"an error that only a replica had", 0, []string{"CREATE TEMPORARY TABLE t1 (id INT)", "SELECT id FROM nosuch", "SELECT id FROM t1", "SELECT 1", "SHOW ERRORS"}},
	{"a transaction that a failed statement began", 0, []string{"SET autocommit = 0", "COMMIT", "INSERT INTO t1 (id) VALUES (1)", "COM_PING"}},
	{"LASTVAL knows what the session has moved", 0, []string{"SELECT NEXT VALUE FOR sq", "SELECT id FROM mark", "SELECT LASTVAL(sq)"}},
	{"a prepared statement keeps its character set", 0, []string{"COM_STMT_PREPARE SELECT b FROM t1 WHERE b = 'fünf'", "SET collation_connection = utf8mb4_general_ci", "SET character_set_results = NULL", "SELECT GET_LOCK('{schema}_l', 0)", "COM_STMT_EXECUTE", "SELECT b FROM t1 WHERE id = 5"}},
	{"SET TRANSACTION outlives a SELECT without a table", 0, []string{"SET TRANSACTION READ ONLY", "SELECT LAST_INSERT_ID(2)", "SELECT COUNT(*) FROM t1", "INSERT INTO t1 (a) VALUES (1)"}},
	{"SET TRANSACTION outlives any SET", 0, []string{"SET TRANSACTION READ ONLY", "SET auto_increment_increment = DEFAULT", "SELECT id FROM t1 ORDER BY id", "UPDATE t2 SET a = 4 WHERE id < 5"}},
	{"SET TRANSACTION outlives a SHOW", 0, []string{"SET TRANSACTION READ ONLY", "SHOW COUNT(*) ERRORS", "SELECT id FROM t1 ORDER BY id", "INSERT INTO t1 (a) VALUES (16)"}},
	{"SET TRANSACTION outlives a query without an application's table", 0, []string{"SET TRANSACTION READ ONLY", "SHOW GLOBAL VARIABLES LIKE 'max_allowed_packet'", "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i+1 FROM n WHERE i < 5) SELECT SUM(i) FROM n", "SELECT id FROM t1 ORDER BY id", "INSERT INTO t1 (a) VALUES (16)"}},
	{"a question that was prepared under other settings", 0, []string{"COM_STMT_PREPARE SELECT ROW_COUNT()", "SET NAMES latin1", "SELECT nosuch", "COM_STMT_EXECUTE"}},
	{"an insert that failed has generated an id", 0, []string{"INSERT INTO t2 (a, b) SELECT a, b FROM t1 UNION ALL SELECT 'x', 1", "SELECT SQL_CALC_FOUND_ROWS id FROM t2 ORDER BY id LIMIT 1", "SELECT LAST_INSERT_ID()"}},
	{"DDL that is not understood leaves a read-only transaction open", 0, []string{"START TRANSACTION READ ONLY", "SELECT COUNT(*) FROM t1", "DROP TABLE IF EXISTS", "COM_PING", "COMMIT"}},
	{"errors that were counted, not listed, before a reset", 0, []string{"SET max_error_count = 0", "INSERT INTO nosuch VALUES (1)", "COM_RESET_CONNECTION", "SELECT id FROM mark", "SELECT -4 INTO @v", "SHOW COUNT(*) ERRORS"}},
	{"a statement that there is not is an error to ask about", 0, []string{"SELECT id FROM mark", "SELECT CAST('12x' AS INT), 1/0", "COM_STMT_EXECUTE unknown", "SELECT @@warning_count", "SHOW WARNINGS", "SELECT ROW_COUNT()"}},
	{"a cursor that there is not is an error to ask about", 0, []string{"COM_STMT_PREPARE SELECT id FROM t1", "SELECT id FROM mark", "SELECT CAST('12x' AS INT), 1/0", "COM_STMT_FETCH", "SELECT @@warning_count"}},
	{"a transaction that a failed procedure has begun", 0, []string{"SET SESSION TRANSACTION READ ONLY", "CALL p_open()", "COM_PING"}},
	{"BEGIN in a transaction that reads only by default", 0, []string{"COM_RESET_CONNECTION", "SELECT id FROM mark", "SET SESSION TRANSACTION READ ONLY", "BEGIN", "SELECT id FROM t1 ORDER BY id", "BEGIN", "SELECT COUNT(*) FROM t1", "SELECT 1+1", "INSERT INTO t1 (a) VALUES (1)", "COMMIT", "SELECT id FROM t2 ORDER BY id"}},
	{"SET TRANSACTION outlives a text of statements without a table", wire.ClientMultiStatements, []string{"COM_RESET_CONNECTION", "SELECT id FROM mark", "SET TRANSACTION READ ONLY", "SELECT 1; SELECT 2", "SELECT id FROM t1 UNION ALL SELECT a FROM t1 ORDER BY 1 LIMIT 3", "INSERT INTO t1 (a) VALUES (16)"}},
	{"an empty answer's state flag", wire.ClientDeprecateEOF, []string{"SET STATEMENT timestamp=500000 FOR SELECT NOW()"}},
}

func TestWhatWasFoundStaysAsDirectly(t *testing.T) {
	w := begin(t, []time.Duration{0}, nil)
	r := newRunner(w.alone.Addr(), w.proxy, nil)
	defer r.close()
	for _, f := range found {
		t.Run(f.name, func(t *testing.T) {
			g := &generator{r: newRand(1, 1), schema: "app_d0"}
			g.add(step{do: connect, login: login{collation: 51, caps: f.caps}})
			g.scene(true, false)
			scene := len(g.steps)
			for _, text := range f.steps {
				g.add(command(strings.ReplaceAll(text, "{schema}", g.schema), g.schema))
			}
			if d := r.run(g.steps); d != nil {
				t.Error(d.describe(g.steps, scene))
			}
		})
	}
}

// command is the step that a text of found means.
func command(text, schema string) step {
	prepared, isPrepare := strings.CutPrefix(text, "COM_STMT_PREPARE ")
	switch {
	case isPrepare:
		return step{do: prepare, text: prepared}
	case text == "COM_STMT_EXECUTE":
		return step{do: execute}
	case text == "COM_STMT_EXECUTE unknown":
		return step{do: unknown, text: "\x17\x00\xff\xff\x7f\x00\x01\x00\x00\x00"}
	case text == "COM_STMT_FETCH":
		return step{do: fetch, number: 2}
	case text == "COM_RESET_CONNECTION":
		return step{do: reset}
	case text == "COM_CHANGE_USER":
		return step{do: changeUser, login: login{schema: schema, collation: 8}}
	case text == "COM_STMT_RESET":
		return step{do: stmtReset}
	case text == "COM_PING":
		return step{do: ping}
	}
	return step{do: query, text: text}
}
