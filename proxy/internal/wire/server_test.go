package wire_test

import (
	"fmt"
	"strings"
	"testing"

	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/proxy/internal/wire"
)

// boss may do everything, COM_DEBUG for one.
var boss = dbserver.Account{User: "boss", Password: "boss"}

// startServer starts a real server for whole responses: a large
// max_allowed_packet, LOCAL INFILE and what the cases need in it.
func startServer(t *testing.T, flavor farm.Flavor) *farmtest.Server {
	s := farmtest.Start(t, farmtest.Options{
		Flavor:    flavor,
		ExtraArgs: []string{"--max-allowed-packet=128M", "--local-infile=ON"},
	}).Primary()
	s.Exec(t, "CREATE USER boss@'%' IDENTIFIED BY 'boss'", "GRANT ALL ON *.* TO boss@'%'")
	c := connect(t, s.Addr(), boss, farmtest.Schema, 0)
	c.exec(
		"CREATE TABLE numbers (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(2000))",
		"INSERT INTO numbers (v) VALUES ('a'), ('b'), ('c'), (NULL), ('')",
		"CREATE TABLE load_here (v TEXT)",
		"CREATE TABLE counted (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(100)) AUTO_INCREMENT = 1000",
		"CREATE PROCEDURE two_results() BEGIN SELECT 1; SELECT v FROM numbers; END",
		"CREATE PROCEDURE no_results() BEGIN SET @x = 1; END",
		"CREATE PROCEDURE out_params(IN a INT, OUT b INT, INOUT c INT) BEGIN SET b = a + 1, c = c + a; SELECT a; END",
		"CREATE PROCEDURE half() BEGIN SELECT 1; SELECT * FROM nowhere; END",
		`CREATE PROCEDURE with_cursor() BEGIN
			DECLARE x INT; DECLARE cur CURSOR FOR SELECT id FROM numbers;
			OPEN cur; FETCH cur INTO x; SELECT x; FETCH cur INTO x; SELECT x, 2; CLOSE cur; SELECT v FROM numbers; END`,
	)
	return s
}

// subsets yields every subset of flags.
func subsets(flags ...wire.Capability) []wire.Capability {
	sets := []wire.Capability{0}
	for _, f := range flags {
		for _, s := range sets {
			sets = append(sets, s|f)
		}
	}
	return sets
}

// describe names a set of the capabilities that change the form of responses.
func describe(c wire.Capability) string {
	names := []string{}
	for _, f := range []struct {
		flag wire.Capability
		name string
	}{
		{wire.ClientDeprecateEOF, "noEOF"},
		{wire.ClientSessionTrack, "track"},
		{wire.ClientMultiStatements, "multi"},
		{wire.ClientOptionalMetadata, "optmeta"},
		{wire.ClientQueryAttributes, "attr"},
		{wire.MariaDBExtendedMetadata, "extmeta"},
		{wire.MariaDBStmtBulk, "bulk"},
		{wire.MariaDBBulkUnitResults, "units"},
		{wire.MariaDBProgress, "progress"},
		{wire.MariaDBCacheMetadata, "cache"},
	} {
		if c.Has(f.flag) {
			names = append(names, f.name)
		}
	}
	if len(names) == 0 {
		return "plain"
	}
	return strings.Join(names, "+")
}

func TestResponsesOfMariaDB(t *testing.T) {
	s := startServer(t, farm.MariaDB)
	for _, caps := range subsets(wire.ClientDeprecateEOF, wire.ClientSessionTrack, wire.ClientMultiStatements,
		wire.MariaDBExtendedMetadata, wire.MariaDBCacheMetadata, wire.MariaDBStmtBulk|wire.MariaDBProgress) {
		t.Run(describe(caps), func(t *testing.T) {
			c := connect(t, s.Addr(), boss, farmtest.Schema, caps)
			checkQueries(c)
			checkStatements(c)
			checkCommands(c)
			if caps.Has(wire.MariaDBStmtBulk) {
				checkBulk(c)
			}
		})
	}
}

func TestResponsesOfMySQL(t *testing.T) {
	s := startServer(t, farm.MySQL)
	for _, caps := range subsets(wire.ClientDeprecateEOF, wire.ClientSessionTrack, wire.ClientMultiStatements,
		wire.ClientOptionalMetadata, wire.ClientQueryAttributes) {
		t.Run(describe(caps), func(t *testing.T) {
			c := connect(t, s.Addr(), boss, farmtest.Schema, caps)
			modes := []string{""}
			if caps.Has(wire.ClientOptionalMetadata) {
				modes = []string{"FULL", "NONE"}
			}
			for _, mode := range modes {
				if mode != "" {
					c.exec("SET resultset_metadata = " + mode)
					c.noMetadata = mode == "NONE"
				}
				checkQueries(c)
				checkStatements(c)
				checkCommands(c)
			}
		})
	}
}

// check compares the results of a reply: for each the number of its rows, or
// its affected rows as -1-n where it is an OK packet; then the error's code.
func check(c *client, what string, r reply, code uint16, want ...int) {
	c.t.Helper()
	got := []int{}
	for _, x := range r.results {
		if x.ok.Header == 0 {
			got = append(got, -1-int(x.ok.AffectedRows))
		} else {
			got = append(got, x.rows)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		c.t.Errorf("%.80s: results are %v, not %v", what, got, want)
	}
	gotCode := uint16(0)
	if r.err != nil {
		gotCode = r.err.Code
	}
	if gotCode != code {
		c.t.Errorf("%.80s: error is %v, not %d", what, r.err, code)
	}
}

// affected is how check writes an OK packet with n affected rows.
func affected(n int) int { return -1 - n }

func checkQueries(c *client) {
	for _, x := range []struct {
		sql  string
		code uint16
		want []int
	}{
		{"SELECT 1", 0, []int{1}},
		{"SELECT 1 WHERE FALSE", 0, []int{0}},
		{"SELECT * FROM numbers", 0, []int{5}},
		{"SELECT NULL", 0, []int{1}},                   // a row that begins with 0xfb
		{"SELECT '' UNION ALL SELECT ''", 0, []int{2}}, // rows that begin with 0x00
		{"SELECT NULL, NULL UNION ALL SELECT '', ''", 0, []int{2}},
		{"SELECT REPEAT('x', 250)", 0, []int{1}},   // 0xfa
		{"SELECT REPEAT('x', 251)", 0, []int{1}},   // 0xfc
		{"SELECT REPEAT('x', 65535)", 0, []int{1}}, // 0xfc
		{"SELECT REPEAT('x', 65536)", 0, []int{1}}, // 0xfd
		{"SELECT UNHEX('FE'), UNHEX('FF'), UNHEX('00')", 0, []int{1}},
		{"SET @a = 1", 0, []int{affected(0)}},
		{"DO 1", 0, []int{affected(0)}},
		{"UPDATE numbers SET v = CONCAT(v, '') WHERE id < 0", 0, []int{affected(0)}},
		{"SELECT * FROM nowhere", 1146, nil},
		{"nonsense", 1064, nil},
		{"SELECT (SELECT id FROM numbers)", 1242, nil},
		// The error comes after rows have been sent.
		{"SELECT id, (SELECT n.id FROM numbers n WHERE n.id = 1 OR numbers.id >= 3) FROM numbers ORDER BY id", 1242, nil},
		{"CALL two_results()", 0, []int{1, 5, affected(0)}},
		{"CALL no_results()", 0, []int{affected(0)}},
		{"CALL out_params(1, @b, @c)", 0, []int{1, affected(0)}},
		{"CALL half()", 1146, []int{1}},
		{"CALL with_cursor()", 0, []int{1, 1, 5, affected(0)}},
		{"EXPLAIN SELECT 1", 0, []int{1}},
		{"SHOW TABLES LIKE 'numbers'", 0, []int{1}},
		{"SET autocommit = 1", 0, []int{affected(0)}},
		{"USE " + farmtest.Schema, 0, []int{affected(0)}},
	} {
		check(c, x.sql, c.sql(x.sql), x.code, x.want...)
	}
	checkWrites(c)
	checkMulti(c)
	checkLocalInfile(c)
}

// checkWrites looks at what OK packets say of writes and of transactions.
func checkWrites(c *client) {
	c.exec("TRUNCATE counted")
	r := c.sql("INSERT INTO counted (v) VALUES ('a'), ('b'), ('c')")
	check(c, "insert", r, 0, affected(3))
	if ok := r.results[0].ok; ok.LastInsertID != 1 || string(ok.Info) != "Records: 3  Duplicates: 0  Warnings: 0" {
		c.t.Errorf("insert: OK is %+v, %q", ok, ok.Info)
	}
	r = c.sql("UPDATE counted SET v = 'b'")
	check(c, "update", r, 0, affected(2))
	if ok := r.results[0].ok; string(ok.Info) != "Rows matched: 3  Changed: 2  Warnings: 0" {
		c.t.Errorf("update: OK is %+v, %q", ok, ok.Info)
	}
	r = c.sql("INSERT IGNORE INTO counted (id, v) VALUES (1, 'again')")
	if ok := r.results[0].ok; ok.Warnings != 1 || ok.AffectedRows != 0 {
		c.t.Errorf("insert ignore: OK is %+v", ok)
	}
	r = c.sql("SELECT 1/0, v FROM counted")
	check(c, "select", r, 0, 3)

	status := func(sql string) wire.Status {
		c.t.Helper()
		r := c.sql(sql)
		if r.err != nil {
			c.t.Fatalf("%s: %v", sql, r.err)
		}
		return r.results[len(r.results)-1].ok.Status & (wire.StatusAutocommit | wire.StatusInTransaction | wire.StatusInTransactionReadOnly)
	}
	for _, x := range []struct {
		sql  string
		want wire.Status
	}{
		{"SELECT 1", wire.StatusAutocommit},
		{"BEGIN", wire.StatusAutocommit | wire.StatusInTransaction},
		{"SELECT v FROM counted", wire.StatusAutocommit | wire.StatusInTransaction},
		{"SELECT v FROM counted WHERE FALSE", wire.StatusAutocommit | wire.StatusInTransaction},
		{"COMMIT", wire.StatusAutocommit},
		{"START TRANSACTION READ ONLY", wire.StatusAutocommit | wire.StatusInTransaction | wire.StatusInTransactionReadOnly},
		{"SELECT v FROM counted", wire.StatusAutocommit | wire.StatusInTransaction | wire.StatusInTransactionReadOnly},
		{"ROLLBACK", wire.StatusAutocommit},
		{"SET autocommit = 0", 0},
		{"SELECT v FROM counted", wire.StatusInTransaction},
		{"SET autocommit = 1", wire.StatusAutocommit},
	} {
		if got := status(x.sql); got != x.want {
			c.t.Errorf("%s: status is %#x, not %#x", x.sql, got, x.want)
		}
	}
	if c.caps.Has(wire.ClientSessionTrack) {
		checkTracking(c)
	}
}

// checkTracking looks at the session state changes in OK packets.
func checkTracking(c *client) {
	has := func(r reply, want change) {
		c.t.Helper()
		for _, x := range r.results {
			for _, got := range x.changes {
				if got == want {
					return
				}
			}
		}
		c.t.Errorf("no %+v among %+v", want, r.results)
	}
	c.exec("CREATE DATABASE IF NOT EXISTS app_other", "SET SESSION session_track_system_variables = '*', SESSION session_track_schema = ON")
	has(c.sql("SET time_zone = '+03:00'"), change{wire.ChangeSystemVariable, "time_zone", "+03:00"})
	has(c.sql("SET sql_mode = ''"), change{wire.ChangeSystemVariable, "sql_mode", ""})
	has(c.sql("SET NAMES latin1"), change{wire.ChangeSystemVariable, "character_set_client", "latin1"})
	has(c.sql("USE app_other"), change{wire.ChangeSchema, "", "app_other"})
	has(c.must(append([]byte{byte(wire.ComInitDB)}, farmtest.Schema...), nil), change{wire.ChangeSchema, "", farmtest.Schema})
	c.exec("SET SESSION session_track_state_change = ON")
	has(c.sql("SET @x = 1, time_zone = '+04:00'"), change{wire.ChangeState, "", "1"})
	c.exec("SET SESSION session_track_transaction_info = 'CHARACTERISTICS'")
	has(c.sql("BEGIN"), change{wire.ChangeTrxState, "", "T_______"})
	if r := c.sql("SELECT COUNT(*) FROM numbers"); c.caps.Has(wire.ClientDeprecateEOF) {
		has(r, change{wire.ChangeTrxState, "", "T_R___S_"})
	} // else an EOF has no room for it
	has(c.sql("ROLLBACK"), change{wire.ChangeTrxState, "", "________"})
	c.exec("USE app_other")
	has(c.sql("DROP DATABASE app_other"), change{wire.ChangeSchema, "", ""})
	c.exec("USE "+farmtest.Schema, "SET SESSION session_track_transaction_info = 'OFF'", "SET SESSION session_track_state_change = OFF",
		"SET SESSION session_track_system_variables = DEFAULT", "SET NAMES utf8mb4", "SET sql_mode = DEFAULT, time_zone = DEFAULT")
}

func checkMulti(c *client) {
	if !c.caps.Has(wire.ClientMultiStatements) {
		check(c, "multi", c.sql("SELECT 1; SELECT 2"), 1064)
		return
	}
	for _, x := range []struct {
		sql  string
		code uint16
		want []int
	}{
		{"SELECT 1; SELECT 2", 0, []int{1, 1}},
		{"SELECT 1; SELECT 2;", 0, []int{1, 1}},
		{"DO 1; SELECT v FROM numbers; SET @a = 1; UPDATE counted SET v = 'x'", 0, []int{affected(0), 5, affected(0), affected(3)}},
		{"SELECT 1; nonsense; SELECT 2", 1064, []int{1}},
		{"SELECT 1; SELECT * FROM nowhere; SELECT 2", 1146, []int{1}},
		{"SELECT 1; CALL two_results(); SELECT 2", 0, []int{1, 1, 5, affected(0), 1}},
		{"UPDATE counted SET v = 'y'; SELECT 1 WHERE FALSE", 0, []int{affected(3), 0}},
		{strings.Repeat("DO 1; ", 300) + "SELECT 1", 0, append(times(300, affected(0)), 1)}, // sequence numbers wrap
	} {
		check(c, x.sql, c.sql(x.sql), x.code, x.want...)
	}
}

func times(n, v int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = v
	}
	return list
}

func checkLocalInfile(c *client) {
	c.exec("TRUNCATE load_here")
	load := c.query("LOAD DATA LOCAL INFILE 'any' INTO TABLE load_here")
	for _, x := range []struct {
		file string
		rows int
	}{{"", 0}, {"one\n", 1}, {strings.Repeat("line\n", 30000), 30000}} {
		r := c.must(load, []byte(x.file))
		check(c, "load data", r, 0, affected(x.rows))
		if r.files != 1 {
			c.t.Errorf("%d files were asked for", r.files)
		}
	}
	r := c.must(c.query("LOAD DATA LOCAL INFILE 'any' INTO TABLE nowhere"), []byte("x\n"))
	check(c, "load data into nowhere", r, 1146)
	r = c.must(c.query("LOAD DATA LOCAL INFILE 'any' INTO TABLE load_here (v) SET v = (SELECT id FROM numbers)"), []byte("x\ny\n"))
	check(c, "load data that fails", r, 1242)
	if c.caps.Has(wire.ClientMultiStatements) {
		r = c.must(c.query("LOAD DATA LOCAL INFILE 'a' INTO TABLE load_here; LOAD DATA LOCAL INFILE 'b' INTO TABLE load_here; SELECT 1"), []byte("x\ny\n"))
		check(c, "load data twice", r, 0, affected(2), affected(2), 1)
		if r.files != 2 {
			c.t.Errorf("%d files were asked for", r.files)
		}
	}
	c.exec("TRUNCATE load_here")
}
