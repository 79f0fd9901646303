package backend

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/proxy/internal/wire"
)

// TestReset asks real servers what is left of a session on a connection that
// was in the pool.
func TestReset(t *testing.T) {
	eachFlavor(t, func(t *testing.T, s *farmtest.Server) {
		for _, x := range []struct {
			name  string
			check func(*testing.T, *farmtest.Server)
		}{
			{"nothing is carried", checkNothingCarried},
			{"variables", checkVariables},
			{"schema", checkSchema},
			{"statements", checkStatements},
			{"status", checkStatus},
			{"tracking", checkTracking},
			{"init_connect", checkInitConnect},
		} {
			t.Run(x.name, func(t *testing.T) { x.check(t, s) })
		}
	})
}

// leftover is something that a session can leave on a connection, and how the
// next one would notice.
type leftover struct {
	name   string
	leave  []string
	probe  string
	flavor farm.Flavor // 0: both
}

var leftovers = []leftover{
	{"user variable", []string{"SET @x = 1"}, "SELECT @x", 0},
	{"temporary table", []string{"CREATE TEMPORARY TABLE tmp (a INT)"}, "SELECT * FROM tmp", 0},
	{"shadowing temporary table", []string{"CREATE TEMPORARY TABLE things (b INT)", "INSERT INTO things VALUES (7)"}, "SELECT * FROM things", 0},
	{"text prepared statement", []string{"PREPARE p FROM 'SELECT 1'"}, "EXECUTE p", 0},
	{"named lock", []string{"DO GET_LOCK('l', 0), GET_LOCK('l', 0), GET_LOCK('m', 0)"}, "SELECT IS_FREE_LOCK('l'), IS_FREE_LOCK('m')", 0},
	{"transaction", []string{"BEGIN", "INSERT INTO things VALUES (2)"}, "SELECT * FROM things", 0},
	{"read-only transaction", []string{"START TRANSACTION READ ONLY"}, "DELETE FROM things WHERE a > 100", 0},
	{"the next transaction's access mode", []string{"SET TRANSACTION READ ONLY"}, "DELETE FROM things WHERE a > 100", 0},
	{"the session's access mode", []string{"SET SESSION TRANSACTION READ ONLY"}, "DELETE FROM things WHERE a > 100", 0},
	{"isolation", []string{"SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE"}, "SELECT @@transaction_isolation", farm.MySQL},
	{"isolation", []string{"SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE"}, "SELECT @@tx_isolation", farm.MariaDB},
	{"locked tables", []string{"LOCK TABLES things READ"}, "SELECT * FROM others", 0},
	{"global read lock", []string{"FLUSH TABLES WITH READ LOCK"}, "INSERT INTO others VALUES (1)", 0},
	{"backup lock", []string{"LOCK INSTANCE FOR BACKUP"}, "ALTER TABLE others COMMENT 'x'", farm.MySQL},
	{"backup lock", []string{"BACKUP LOCK app.things"}, "ALTER TABLE things COMMENT 'x'", farm.MariaDB},
	{"backup stage", []string{"BACKUP STAGE START", "BACKUP STAGE BLOCK_COMMIT"}, "INSERT INTO others VALUES (1)", farm.MariaDB},
	{"handler", []string{"HANDLER others OPEN"}, "HANDLER others READ FIRST", 0},
	{"last insert id", []string{"INSERT INTO counted VALUES ()"}, "SELECT LAST_INSERT_ID(), @@last_insert_id, @@identity", 0},
	{"given insert id", []string{"SET insert_id = 77"}, "SELECT @@insert_id", 0},
	{"row count", []string{"UPDATE others SET a = a + 1"}, "SELECT ROW_COUNT()", 0},
	{"warnings", []string{"SELECT CAST('x' AS SIGNED)"}, "SHOW WARNINGS", 0},
	{"warning count", []string{"SELECT CAST('x' AS SIGNED)"}, "SELECT @@warning_count, @@error_count", 0},
	{"XA transaction", []string{"XA START 'x'", "INSERT INTO things VALUES (3)"}, "SELECT * FROM things", 0},
	{"idle XA transaction", []string{"XA START 'x'", "INSERT INTO things VALUES (3)", "XA END 'x'"}, "SELECT * FROM things", 0},
	{"autocommit", []string{"SET autocommit = 0"}, "SELECT @@autocommit", 0},
	{"no binlog", []string{"SET sql_log_bin = 0"}, "SELECT @@sql_log_bin", 0},
	{"character set", []string{"SET NAMES latin1"}, "SELECT @@character_set_client, @@character_set_connection, @@character_set_results, @@collation_connection", 0},
	{"sql_mode", []string{"SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'"}, "SELECT @@sql_mode, 'a\\'b'", 0},
	{"time", []string{"SET timestamp = 1, time_zone = '+05:00'"}, "SELECT NOW() > '2000-01-01', @@time_zone", 0},
	{"limits", []string{"SET sql_select_limit = 1"}, "SELECT 1 UNION ALL SELECT 2", 0},
	{"safe updates", []string{"SET sql_safe_updates = 1"}, "DELETE FROM others", 0},
	{"statement time limit", []string{"SET max_statement_time = 1"}, "SELECT @@max_statement_time", farm.MariaDB},
	{"execution time limit", []string{"SET max_execution_time = 1000"}, "SELECT @@max_execution_time", farm.MySQL},
	{"no role", []string{"SET ROLE NONE"}, "SELECT CURRENT_ROLE()", 0},
	{"another role", []string{"SET ROLE other"}, "SELECT CURRENT_ROLE()", 0},
	{"replication domain", []string{"SET gtid_domain_id = 9, server_id = 77"}, "SELECT @@gtid_domain_id, @@server_id", farm.MariaDB},
	{"given GTID", []string{"SET gtid_next = 'aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:1'"}, "SELECT @@gtid_next", farm.MySQL},
	{"foreign keys", []string{"SET foreign_key_checks = 0, unique_checks = 0"}, "SELECT @@foreign_key_checks, @@unique_checks", 0},
	{"metadata", []string{"SET resultset_metadata = FULL"}, "SELECT @@resultset_metadata", farm.MySQL},
	{"trackers", []string{"SET session_track_system_variables = '', session_track_schema = OFF"}, "SELECT @@session_track_system_variables, @@session_track_schema", 0},
}

// checkNothingCarried leaves things on a connection and asks
// for them on a new one and on the same after it was in the pool.
func checkNothingCarried(t *testing.T, s *farmtest.Server) {
	p := newPool(t, testOptions())
	setup := get(t, p, s, boss, farmtest.Schema)
	must(t, setup, "CREATE TABLE things (a INT)", "INSERT INTO things VALUES (1)", "CREATE TABLE others (a INT)",
		"INSERT INTO others VALUES (1)", "CREATE TABLE counted (id INT AUTO_INCREMENT PRIMARY KEY) AUTO_INCREMENT = 1000",
		"CREATE ROLE usual", "CREATE ROLE other", "GRANT usual TO boss@'%'", "GRANT other TO boss@'%'")
	if s.Flavor() == farm.MySQL {
		must(t, setup, "SET DEFAULT ROLE usual TO boss@'%'")
	} else {
		must(t, setup, "SET DEFAULT ROLE usual")
	}
	p.Close(setup, "test")
	for _, l := range leftovers {
		if l.flavor != farm.UnknownFlavor && l.flavor != s.Flavor() {
			continue
		}
		t.Run(l.name, func(t *testing.T) {
			fresh := get(t, p, s, boss, farmtest.Schema)
			want := answer(t, fresh, l.probe)
			p.Close(fresh, "test")
			c := get(t, p, s, boss, farmtest.Schema)
			must(t, c, l.leave...)
			c = again(t, p, s, boss, c)
			if got := answer(t, c, l.probe); got != want {
				t.Errorf("after %q, %s answers %s, not %s", l.leave, l.probe, got, want)
			}
			p.Close(c, "test")
		})
	}
}

// checkVariables compares all that servers
// show.
func checkVariables(t *testing.T, s *farmtest.Server) {
	p := newPool(t, testOptions())
	s.Exec(t, "CREATE DATABASE app_latin CHARACTER SET latin1 COLLATE latin1_german2_ci")
	for _, schema := range []string{"", farmtest.Schema, "app_latin"} {
		variables := func(c *Conn) map[string]string {
			got := map[string]string{}
			for _, row := range must(t, c, "SHOW SESSION VARIABLES") {
				switch row[0] {
				case "timestamp", "pseudo_thread_id", "rand_seed1", "rand_seed2", "statement_id", "last_gtid",
					"gtid_binlog_pos", "gtid_current_pos", "gtid_executed", "gtid_binlog_state", "in_transaction":
				default:
					got[row[0]] = row[1]
				}
			}
			return got
		}
		fresh := get(t, p, s, farmtest.App, schema)
		want := variables(fresh)
		c := get(t, p, s, farmtest.App, schema)
		must(t, c, "SET NAMES latin1", "SET sql_mode = '', time_zone = '+03:00', autocommit = 0, foreign_key_checks = 0",
			"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", "SET wait_timeout = 77",
			"SET lc_time_names = 'de_DE', group_concat_max_len = 5, sql_auto_is_null = 1, tmp_table_size = 99999")
		c = again(t, p, s, farmtest.App, c)
		if schema == "" != (c.Schema == "") {
			t.Fatalf("schema %q became %q", schema, c.Schema)
		}
		got := variables(c)
		for name, v := range want {
			if got[name] != v {
				t.Errorf("schema %q: %s is %q, and %q on a new connection", schema, name, got[name], v)
			}
		}
		if len(want) < 100 || len(got) != len(want) {
			t.Errorf("%d and %d variables", len(got), len(want))
		}
		p.Close(c, "test")
		p.Close(fresh, "test")
	}
}

// checkSchema: Schema says what the server's default schema is.
func checkSchema(t *testing.T, s *farmtest.Server) {
	p := newPool(t, testOptions())
	check := func(c *Conn, want string) {
		t.Helper()
		if got := answer(t, c, "SELECT DATABASE()"); got != "[["+want+"]]" || c.Schema != strings.Replace(want, "NULL", "", 1) {
			t.Errorf("DATABASE() is %s, Schema %q, not %s", got, c.Schema, want)
		}
	}
	c := get(t, p, s, farmtest.App, "")
	check(c, "NULL")
	c = again(t, p, s, farmtest.App, c)
	check(c, "NULL")
	must(t, c, "CREATE DATABASE app_other", "USE app_other")
	check(c, "app_other")
	c = again(t, p, s, farmtest.App, c)
	check(c, "app_other")
	must(t, c, "DROP DATABASE app_other")
	check(c, "NULL")
	c = again(t, p, s, farmtest.App, c)
	check(c, "NULL")
	p.Close(c, "test")

	// Somebody else drops the schema of an idle connection and makes it anew.
	p.verifyAfter = 0
	s.Exec(t, "CREATE DATABASE app_other CHARACTER SET latin1")
	c = get(t, p, s, farmtest.App, "app_other")
	put(p, c)
	s.Exec(t, "DROP DATABASE app_other", "CREATE DATABASE app_other CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
	if got := get(t, p, s, farmtest.App, "app_other"); got != c {
		t.Fatal("the connection is not the one from the pool")
	}
	fresh := get(t, p, s, farmtest.App, "app_other")
	const ask = "SELECT DATABASE(), @@character_set_database, @@collation_database"
	if got, want := answer(t, c, ask), answer(t, fresh, ask); got != want {
		t.Errorf("%s: %s, and %s on a new connection", ask, got, want)
	}
	// And drops it for good.
	put(p, c)
	put(p, fresh)
	s.Exec(t, "DROP DATABASE app_other")
	_, err := p.Get(t.Context(), &Want{Server: s.Describe(), Credential: credential(farmtest.App), Caps: wire.ClientMultiResults | wire.ClientDeprecateEOF, Schema: "app_other"})
	var refused *wire.Error
	if !errors.As(connectError(t, err), &refused) || refused.Code != 1049 {
		t.Errorf("the error is %v, not 1049", err)
	}
	if n := p.Counts(); len(n) != 0 {
		t.Errorf("connections are left: %v", n)
	}
}

// checkInitConnect: what init_connect does at a login, a reset does not do again.
func checkInitConnect(t *testing.T, s *farmtest.Server) {
	p := newPool(t, testOptions())
	s.Exec(t, "SET GLOBAL init_connect = 'SET @seen = 1, SESSION lc_time_names = ''de_DE'''")
	for range 2 {
		c := get(t, p, s, farmtest.App, farmtest.Schema)
		if got := answer(t, c, "SELECT @seen, @@lc_time_names"); got != "[[1 de_DE]]" {
			t.Errorf("the connection has %s", got)
		}
		put(p, c)
	}
}

// checkStatements: a statement id of an earlier session is nobody's.
func checkStatements(t *testing.T, s *farmtest.Server) {
	p := newPool(t, testOptions())
	c := get(t, p, s, farmtest.App, farmtest.Schema)
	before := s.Counter(t, "Prepared_stmt_count")
	c.WriteCommand(append([]byte{byte(wire.ComStmtPrepare)}, "DO 1"...))
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	var tr wire.Tracker
	for tr.Begin(wire.ComStmtPrepare, c.Caps); !tr.Done(); {
		payload, err := c.ReadPayload(1 << 20)
		if err != nil {
			t.Fatal(err)
		}
		if tr.Next(len(payload), payload[0]) == wire.Hold {
			if _, err := tr.Inspect(payload); err != nil {
				t.Fatal(err)
			}
		}
	}
	id := tr.Statement.ID
	if n := s.Counter(t, "Prepared_stmt_count"); n != before+1 {
		t.Fatalf("%d statements, %d before", n, before)
	}
	c = again(t, p, s, farmtest.App, c)
	if n := s.Counter(t, "Prepared_stmt_count"); n != before {
		t.Errorf("%d statements are left, %d before", n, before)
	}
	execute := binary.LittleEndian.AppendUint32([]byte{byte(wire.ComStmtExecute)}, id)
	_, refused, err := run(c, append(execute, 0, 1, 0, 0, 0))
	if err != nil || refused == nil || refused.Code != 1243 {
		t.Errorf("execute answers %v, %v", refused, err)
	}
	put(p, c)
}

// checkStatus: Status is a clean connection's.
func checkStatus(t *testing.T, s *farmtest.Server) {
	p := newPool(t, testOptions())
	c := get(t, p, s, farmtest.App, farmtest.Schema)
	clean := c.Status
	must(t, c, "SET autocommit = 0", "SET sql_mode = 'NO_BACKSLASH_ESCAPES'", "BEGIN")
	c.Status = wire.StatusInTransaction | wire.StatusNoBackslashEscapes // as a session keeps it
	c.Synced = 9
	c = again(t, p, s, farmtest.App, c)
	if c.Status != clean || clean&wire.StatusAutocommit == 0 || c.Synced != 0 {
		t.Errorf("status is %#x, %#x on a new connection; synced is %d", c.Status, clean, c.Synced)
	}
	must(t, c, "BEGIN")
	if err := c.Reset(); err != nil {
		t.Fatal(err)
	}
	if got := answer(t, c, "SELECT @@in_transaction"); s.Flavor() == farm.MariaDB && got != "[[0]]" {
		t.Errorf("after Reset, in_transaction is %s", got)
	}
	put(p, c)
}

// checkTracking: session tracking is on after every reset.
func checkTracking(t *testing.T, s *farmtest.Server) {
	p := newPool(t, testOptions())
	c := get(t, p, s, farmtest.App, farmtest.Schema)
	for range 2 {
		c.WriteCommand(append([]byte{byte(wire.ComQuery)}, "SET time_zone = '+01:00'"...))
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		ok, err := c.ReadReply()
		if err != nil {
			t.Fatal(err)
		}
		found := ""
		if err := wire.Changes(ok.Changes, func(ch wire.Change) bool {
			found += fmt.Sprintf("%s=%s ", ch.Name, ch.Value)
			return true
		}); err != nil || !strings.Contains(found, "time_zone=+01:00 ") {
			t.Errorf("tracked: %s, %v", found, err)
		}
		c = again(t, p, s, farmtest.App, c)
	}
	put(p, c)
}
