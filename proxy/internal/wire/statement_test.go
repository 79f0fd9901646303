package wire_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/proxy/internal/wire"
)

// checkStatements runs prepared statements and cursors.
func checkStatements(c *client) {
	for _, x := range []struct {
		sql             string
		columns, params uint16
		args            []string
		want            []int
		code            uint16
	}{
		{"SELECT 1", 1, 0, nil, []int{1}, 0},
		{"SELECT ?", 1, 1, []string{"x"}, []int{1}, 0},
		{"SELECT id, v FROM numbers WHERE id > ? OR v = ?", 2, 2, []string{"0", "b"}, []int{5}, 0},
		{"SELECT NULL, '', UNHEX('FE')", 3, 0, nil, []int{1}, 0},
		{"SELECT REPEAT(?, 70000)", 1, 1, []string{"x"}, []int{1}, 0},
		{"DO ?", 0, 1, []string{"1"}, []int{affected(0)}, 0},
		{"SET @a = 1", 0, 0, nil, []int{affected(0)}, 0},
		{"UPDATE counted SET v = CONCAT(v, ?)", 0, 1, []string{"new"}, []int{affected(3)}, 0},
		{"SELECT id, (SELECT n.id FROM numbers n WHERE n.id = 1 OR numbers.id >= ?) FROM numbers ORDER BY id", 2, 1, []string{"3"}, nil, 1242},
		{"CALL no_results()", 0, 0, nil, []int{affected(0)}, 0},
		{"CALL two_results()", 0, 0, nil, []int{1, 5, affected(0)}, 0},
		{"CALL half()", 0, 0, nil, []int{1}, 1146},
		{"CALL with_cursor()", 0, 0, nil, []int{1, 1, 5, affected(0)}, 0},
		// The OUT parameters are a result of their own.
		{"CALL out_params(?, ?, ?)", 0, 3, []string{"1", "2", "3"}, []int{1, 1, affected(0)}, 0},
		{"INSERT INTO numbers SELECT * FROM numbers WHERE id = ?", 0, 1, []string{"1"}, nil, 1062},
	} {
		st := c.prepare(x.sql)
		if st.Columns != x.columns || st.Params != x.params || st.ID == 0 {
			c.t.Errorf("prepare %s: %+v", x.sql, st)
		}
		for range 2 {
			check(c, "execute "+x.sql, c.must(c.execute(st.ID, 0, x.args...), nil), x.code, x.want...)
		}
		check(c, "reset "+x.sql, c.must(statementCommand(wire.ComStmtReset, st.ID), nil), 0, affected(0))
		c.must(statementCommand(wire.ComStmtClose, st.ID), nil)
		check(c, "execute after close", c.must(c.execute(st.ID, 0, x.args...), nil), 1243)
	}
	check(c, "prepare nonsense", c.must(append([]byte{byte(wire.ComStmtPrepare)}, "nonsense"...), nil), 1064)
	check(c, "prepare nowhere", c.must(append([]byte{byte(wire.ComStmtPrepare)}, "SELECT * FROM nowhere"...), nil), 1146)
	checkParse(c)
	checkCursor(c)
}

// checkParse holds ParseExecute and QueryText equal to what the server takes.
func checkParse(c *client) {
	st := c.prepare("SELECT ?, ?")
	p := c.execute(st.ID, 0, "x", "y")
	e, err := wire.ParseExecute(p, 2, c.caps)
	if err != nil || !e.Bound || e.Statement != st.ID {
		c.t.Fatalf("execute is parsed as %+v, %v", e, err)
	}
	if c.caps.Has(wire.ClientQueryAttributes) {
		// The count of parameters is there without its flag too.
		const hasCount, flags = 8, 5
		p[flags] &^= hasCount
		check(c, "execute without the flag of a count", c.must(p, nil), 0, 1)
		if again, err := wire.ParseExecute(p, 2, c.caps); err != nil || again != e {
			c.t.Errorf("without the flag of a count it is parsed as %+v, %v, not %+v", again, err, e)
		}
		st = c.prepare("SELECT ?, ?")
		wire.SetStatementID(p, st.ID)
	}
	types := append([]byte(nil), p[e.Flag+1:e.Types]...)
	// The same without types: the server remembers them.
	bare := append(append([]byte(nil), p[:e.Flag]...), 0)
	bare = append(bare, p[e.Types:]...)
	check(c, "execute without types ever", c.must(bare, nil), 1210)
	check(c, "execute with types", c.must(p, nil), 0, 1)
	r := c.must(bare, nil)
	check(c, "execute without types", r, 0, 1)
	row := string(r.results[0].firstRow)

	// Another statement has not seen them, so they are added.
	again := c.prepare("SELECT ?, ?")
	wire.SetStatementID(bare, again.ID)
	if e, err = wire.ParseExecute(bare, 2, c.caps); err != nil || e.Bound {
		c.t.Fatalf("execute without types is parsed as %+v, %v", e, err)
	}
	r = c.must(wire.AppendExecuteTypes(nil, bare, e, types), nil)
	check(c, "execute with types added", r, 0, 1)
	if got := string(r.results[0].firstRow); got != row || !strings.HasSuffix(got, "\x01x\x01y") {
		c.t.Errorf("the row is %q, not %q", got, row)
	}
	// Long data takes the place of a value.
	c.must(append(statementCommand(wire.ComStmtSendLong, again.ID, 0, 0), "long"...), nil)
	c.must(append(statementCommand(wire.ComStmtSendLong, again.ID, 0, 0), "er"...), nil)
	short := append([]byte(nil), p[:e.Flag]...)
	short = append(append(append(short, 1), types...), 1, 'y')
	wire.SetStatementID(short, again.ID)
	r = c.must(short, nil)
	check(c, "execute with long data", r, 0, 1)
	if got := string(r.results[0].firstRow); !strings.HasSuffix(got, "\x06longer\x01y") {
		c.t.Errorf("the row is %q", got)
	}
	if c.caps.Has(wire.ClientQueryAttributes) {
		checkQueryAttributes(c)
	}
}

// attributeValues has a value of every type that a query attribute may have.
var attributeValues = []struct {
	fieldType byte
	value     []byte
}{
	{1, []byte{1}},
	{2, []byte{1, 0}},
	{3, []byte{1, 0, 0, 0}},
	{4, []byte{0, 0, 0x80, 0x3f}},
	{5, []byte{0, 0, 0, 0, 0, 0, 0xf0, 0x3f}},
	{6, nil},
	{7, []byte{4, 0xe8, 7, 1, 2}},
	{8, []byte{1, 0, 0, 0, 0, 0, 0, 0}},
	{10, []byte{4, 0xe8, 7, 1, 2}},
	{11, []byte{8, 0, 0, 0, 0, 0, 1, 2, 3}},
	{12, []byte{7, 0xe8, 7, 1, 2, 3, 4, 5}},
	{15, []byte("\x03abc")},
	{0xf6, []byte("\x031.5")},
	{0xf9, []byte("\x03abc")},
	{0xfa, []byte("\x03abc")},
	{0xfb, []byte("\x03abc")},
	{0xfc, []byte("\x03abc")},
	{0xfd, []byte("\x03abc")},
	{0xfe, []byte("\x03abc")},
}

func checkQueryAttributes(c *client) {
	const text = "SELECT 'the text'"
	for _, x := range attributeValues {
		null := byte(0)
		if x.fieldType == 6 {
			null = 1
		}
		p := append([]byte{byte(wire.ComQuery), 2, 1, null, 1}, x.fieldType, 0)
		p = wire.AppendLenEncString(p, "first")
		p = append(p, 0xfd, 0)
		p = wire.AppendLenEncString(p, "second")
		p = append(p, x.value...)
		p = append(wire.AppendLenEncString(p, "value"), text...)
		offset, err := wire.QueryText(p, c.caps)
		if err != nil || string(p[offset:]) != text {
			c.t.Errorf("type %#x: text is %q, %v", x.fieldType, p[offset:], err)
		}
		r := c.must(p, nil)
		check(c, "query with attributes", r, 0, 1)
		if len(r.results) == 1 && !strings.HasSuffix(string(r.results[0].firstRow), "the text") {
			c.t.Errorf("type %#x: the server took another text: %q", x.fieldType, r.results[0].firstRow)
		}
	}
}

func checkCursor(c *client) {
	const readOnlyCursor = 1
	st := c.prepare("SELECT id, v FROM numbers ORDER BY id")
	fetch := func(n uint32, want int, last bool) {
		c.t.Helper()
		r := c.must(statementCommand(wire.ComStmtFetch, st.ID, binary.LittleEndian.AppendUint32(nil, n)...), nil)
		check(c, "fetch", r, 0, want)
		if got := r.results[0].ok.Status&wire.StatusLastRowSent != 0; got != last {
			c.t.Errorf("fetch %d: last row sent is %v", n, got)
		}
	}
	for range 2 {
		r := c.must(c.execute(st.ID, readOnlyCursor), nil)
		check(c, "open a cursor", r, 0, 0)
		if r.results[0].ok.Status&wire.StatusCursorExists == 0 {
			c.t.Errorf("no cursor: %+v", r.results[0].ok)
		}
		fetch(2, 2, false)
		fetch(1, 1, false)
		fetch(100, 2, true)
	}
	check(c, "fetch behind the end", c.must(statementCommand(wire.ComStmtFetch, st.ID, 1, 0, 0, 0), nil), 1421)
	// A cursor with rows left does not keep other statements from running.
	check(c, "open a cursor", c.must(c.execute(st.ID, readOnlyCursor), nil), 0, 0)
	check(c, "another statement", c.sql("SELECT * FROM numbers"), 0, 5)
	fetch(4, 4, false)
	c.must(statementCommand(wire.ComStmtReset, st.ID), nil)
	// A statement without rows has no cursor, whatever is asked for.
	set := c.prepare("UPDATE numbers SET v = 'x' WHERE id < 0")
	check(c, "a cursor for nothing", c.must(c.execute(set.ID, readOnlyCursor), nil), 0, affected(0))
	empty := c.prepare("SELECT v FROM numbers WHERE FALSE")
	r := c.must(c.execute(empty.ID, readOnlyCursor), nil)
	check(c, "a cursor for no rows", r, 0, 0)
	for _, id := range []uint32{st.ID, set.ID, empty.ID} {
		c.must(statementCommand(wire.ComStmtClose, id), nil)
	}
}

// checkCommands runs the commands that are no statements.
func checkCommands(c *client) {
	single := func(command wire.Command, rest string) reply {
		c.t.Helper()
		return c.must(append([]byte{byte(command)}, rest...), nil)
	}
	if r := single(wire.ComStatistics, ""); r.packets != 1 {
		c.t.Errorf("COM_STATISTICS: %+v", r)
	}
	check(c, "COM_PING", single(wire.ComPing, ""), 0, affected(0))
	check(c, "COM_INIT_DB", single(wire.ComInitDB, farmtest.Schema), 0, affected(0))
	check(c, "COM_INIT_DB nowhere", single(wire.ComInitDB, "nowhere"), 1049)
	checkEOF(c, "COM_SET_OPTION", single(wire.ComSetOption, "\x01\x00"))
	check(c, "multi after COM_SET_OPTION off", c.sql("SELECT 1; SELECT 2"), 1064)
	checkEOF(c, "COM_SET_OPTION", single(wire.ComSetOption, "\x00\x00"))
	check(c, "multi after COM_SET_OPTION on", c.sql("SELECT 1; SELECT 2"), 0, 1, 1)
	if !c.caps.Has(wire.ClientMultiStatements) {
		checkEOF(c, "COM_SET_OPTION", single(wire.ComSetOption, "\x01\x00"))
	}
	check(c, "COM_SET_OPTION nonsense", single(wire.ComSetOption, "\x09\x09"), 1047)
	checkEOF(c, "COM_DEBUG", single(wire.ComDebug, ""))
	check(c, "unknown command", single(0x7f, ""), 1047)
	if r := single(wire.ComFieldList, "numbers\x00"); r.err == nil {
		all, one := 2, 1
		if c.noMetadata {
			all, one = 0, 0
		}
		check(c, "COM_FIELD_LIST", r, 0, all)
		check(c, "COM_FIELD_LIST of one", single(wire.ComFieldList, "numbers\x00v"), 0, one)
	} else if r.err.Code != 1047 {
		c.t.Errorf("COM_FIELD_LIST: %v", r.err)
	}
	if r := single(wire.ComFieldList, "nowhere\x00"); r.err == nil {
		c.t.Errorf("COM_FIELD_LIST of nothing: %+v", r)
	}
	if r := single(wire.ComProcessInfo, ""); r.err == nil && r.results[0].rows == 0 {
		c.t.Errorf("COM_PROCESS_INFO: %+v", r)
	}
	check(c, "COM_RESET_CONNECTION", single(wire.ComResetConnection, ""), 0, affected(0))
}

// checkEOF looks for the one packet that is an EOF, or stands for it.
func checkEOF(c *client, what string, r reply) {
	c.t.Helper()
	if r.err != nil || len(r.results) != 1 || r.packets != 1 || r.results[0].ok.Status&wire.StatusAutocommit == 0 {
		c.t.Errorf("%s: %+v, %v", what, r, r.err)
	}
}

// checkBulk runs MariaDB's COM_STMT_BULK_EXECUTE.
func checkBulk(c *client) {
	const sendTypes = 128
	c.exec("CREATE TEMPORARY TABLE bulk (id INT AUTO_INCREMENT PRIMARY KEY, v TEXT)")
	bulk := func(sql string) []byte {
		st := c.prepare(sql)
		p := statementCommand(wire.ComStmtBulkExecute, st.ID, sendTypes, 0, 0xfd, 0)
		for _, v := range []string{"a", "b", "c"} {
			p = wire.AppendLenEncString(append(p, 0), v) // 0: the value follows
		}
		return p
	}
	r := c.must(bulk("INSERT INTO bulk (v) VALUES (?)"), nil)
	check(c, "bulk insert", r, 0, affected(3))
	r = c.must(bulk("INSERT INTO bulk (v) VALUES (?) RETURNING id, v"), nil)
	check(c, "bulk insert returning", r, 0, 3)
	c.exec("DROP TEMPORARY TABLE bulk")
}

// TestProgressReports has MariaDB report progress before the end of an ALTER
// TABLE: ERR packets that end nothing.
func TestProgressReports(t *testing.T) {
	s := startServer(t, farm.MariaDB)
	c := connect(t, s.Addr(), boss, farmtest.Schema, wire.MariaDBProgress|wire.ClientDeprecateEOF)
	c.exec("SET GLOBAL progress_report_time = 1", "SET progress_report_time = 1",
		"CREATE TABLE long_one (v CHAR(200)) ENGINE=Aria", "INSERT INTO long_one SELECT SEQ FROM seq_1_to_200000")
	r := c.sql("ALTER TABLE long_one MODIFY v VARCHAR(300), ADD KEY (v), ALGORITHM=COPY")
	check(c, "alter", r, 0, affected(200000))
	t.Logf("%d progress reports", r.progress)
	if r.progress == 0 {
		t.Error("no progress report")
	}
}
