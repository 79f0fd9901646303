package classify

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
)

// Errors that say that a text was no read, or called no built-in function.
const (
	errNoFunction   = 1305 // FUNCTION d.f does not exist
	errNoFunctionBy = 1630 // the same, and a hint at the white space before the parenthesis
	errReadOnly     = 1290 // the server runs with --read-only
	errSyntax       = 1064
	errNoPrivileges = 1370 // an account without EXECUTE calls what could be a routine
)

// flavors are the servers that the rules are held against. Each has the mode
// that a session on it has.
var flavors = []struct {
	flavor farm.Flavor
	mode   Mode
}{
	{farm.MariaDB, mariadbMode},
	{farm.MySQL, mysqlMode},
}

// code returns the server's error number, 0 for none.
func code(t *testing.T, what string, err error) uint16 {
	t.Helper()
	var refused *mysql.MySQLError
	if err != nil && !errors.As(err, &refused) {
		t.Fatalf("%s: %v", what, err)
	}
	if refused == nil {
		return 0
	}
	return refused.Number
}

// run sends one text and reads its answer away. A text that may run long is
// cut short.
func run(t *testing.T, c *sql.Conn, text string) uint16 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	rows, err := c.QueryContext(ctx, text)
	if err != nil {
		return code(t, text, err)
	}
	defer rows.Close()
	for rows.Next() {
	}
	return code(t, text, rows.Err())
}

// TestAgainstServers holds the tables and the lexer against real servers.
func TestAgainstServers(t *testing.T) {
	for _, f := range flavors {
		t.Run(f.flavor.String(), func(t *testing.T) {
			farmtest.Need(t, f.flavor)
			started := farmtest.Start(t, farmtest.Options{Flavor: f.flavor, Replicas: 1})
			started.Primary().Exec(t, "CREATE TABLE app.t (a INT PRIMARY KEY, b INT)", "INSERT INTO app.t VALUES (1, 1)",
				"CREATE TABLE app.u (a INT, b INT)")
			started.WaitCaughtUp(t)
			replica := started.Replica(0)
			app, err := replica.Open(t, farmtest.App).Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer app.Close()
			if got := run(t, app, "DELETE FROM t"); got != errReadOnly {
				t.Fatalf("a write on the replica: error %d, want %d", got, errReadOnly)
			}
			t.Run("functions", func(t *testing.T) { testFunctions(t, app, f.mode) })
			t.Run("complete", func(t *testing.T) { testComplete(t, replica, f.mode) })
			t.Run("reads", func(t *testing.T) { testReads(t, app, f.mode) })
			for _, sqlMode := range []string{"", "ANSI_QUOTES", "NO_BACKSLASH_ESCAPES"} {
				m := f.mode
				m.ANSIQuotes, m.NoBackslashEscapes = sqlMode == "ANSI_QUOTES", sqlMode == "NO_BACKSLASH_ESCAPES"
				t.Run("locking"+sqlMode, func(t *testing.T) {
					if got := run(t, app, "SET sql_mode = '"+sqlMode+"'"); got != 0 {
						t.Fatalf("sql_mode %s: error %d", sqlMode, got)
					}
					testLocking(t, app, m)
				})
			}
			started.Primary().Exec(t, storedFunctions()...)
			started.WaitCaughtUp(t)
			t.Run("calls", func(t *testing.T) { testCalls(t, app, f.mode) })
			t.Run("calls with IGNORE_SPACE", func(t *testing.T) {
				if got := run(t, app, "SET sql_mode = 'IGNORE_SPACE'"); got != 0 {
					t.Fatalf("sql_mode: error %d", got)
				}
				m := f.mode
				m.IgnoreSpace = true
				testCalls(t, app, m)
			})
		})
	}
}

// testFunctions: the server knows the functions that the table says it has,
// whatever the number of arguments, and no other of the table's.
func testFunctions(t *testing.T, c *sql.Conn, m Mode) {
	for _, r := range functionRules[1:] {
		if r.effect != harmless && r.effect != mindsArguments {
			continue
		}
		for _, arguments := range []string{"", "1", "1,1", "1,1,1", "1,1,1,1", "1,1,1,1,1"} {
			call := r.name + "(" + arguments + ")"
			known := Classify([]byte("SELECT "+call), m).Class == Read
			got := run(t, c, "SELECT "+call)
			stored := got == errNoFunction || got == errNoFunctionBy || got == errNoPrivileges
			switch {
			case known && stored:
				t.Errorf("%s: a stored function may be called that way (error %d)", call, got)
			case !known && !stored && got != errSyntax:
				t.Errorf("%s: the table has no such function, the server answers error %d", call, got)
			}
		}
	}
}

// storedFunctions makes a function that writes of every name in the tables,
// and one of a plain name.
func storedFunctions() []string {
	names := []string{"plain"}
	for _, k := range keywords[1:] {
		names = append(names, k.name)
	}
	for _, r := range functionRules[1:] {
		names = append(names, r.name)
	}
	slices.Sort(names)
	var out []string
	for _, name := range slices.Compact(names) {
		out = append(out, "CREATE FUNCTION app.`"+name+"`(x INT) RETURNS INT DETERMINISTIC MODIFIES SQL DATA BEGIN INSERT INTO app.u VALUES (x, 1); RETURN 1; END")
	}
	return out
}

// callPlaces are where a name with a parenthesis behind it may stand.
var callPlaces = []string{
	"SELECT % /**/ (1)", "SELECT % -- \n(1)", "SELECT %/*! (*/ 1)", "SELECT /*! % */ (1)", "SELECT /*! %*/(1)",
	"SELECT %(1)", "SELECT % (1)", "SELECT %/**/(1)", "SELECT 1, % (1)", "SELECT `%`(1)", "SELECT 1 = % (1)", "SELECT 1 > %(1)",
	"SELECT 'a' % (1)", "SELECT (1) %(1)", "SELECT (1), %(1)", "SELECT 1 %(1)", "SELECT a %(1) FROM t", "SELECT 1 AS %(1)", "SELECT + %(1), -%(1)",
	"SELECT NOT %(1)", "SELECT DISTINCT %(1)", "SELECT ALL % (1)", "SELECT SQL_NO_CACHE %(1)", "SELECT a FROM t WHERE % (1)", "SELECT a FROM t ORDER BY %(1)",
	"SELECT a FROM t WHERE a IN (% (1))", "SELECT a FROM t GROUP BY %(1)", "SELECT a FROM t LIMIT %(1)", "SELECT * FROM t AS % (1)", "SELECT * FROM (SELECT 1) %(a)",
	"SELECT * FROM t, %(1)", "SELECT * FROM t JOIN %(1)", "VALUES (%(1))", "VALUES ROW(%(1))", "SELECT CASE %(1) WHEN 1 THEN % (1) END", "SELECT IF(1, %(1), 2)",
	"SELECT CAST(1 AS %(1))", "SELECT CAST(% (1) AS CHAR)", "SELECT 'a' COLLATE %(1)", "SELECT 1 BETWEEN %(1) AND % (1)", "SELECT a FROM t WHERE a LIKE % (1)",
	"SELECT INTERVAL % (1) DAY + NOW()", "SELECT a FROM t USE INDEX %(1)", "SELECT SUM(a) OVER %(1) FROM t", "SELECT SUM(a) OVER (ORDER BY %(1)) FROM t",
	"WITH %(a) AS (SELECT 1) SELECT 1", "WITH x AS (SELECT %(1)) SELECT * FROM x", "SELECT app.%(1)", "SELECT app . % (1)", "SELECT {fn %(1)}", "TABLE %(1)",
	"EXPLAIN SELECT %(1)", "SELECT (SELECT % (1))", "SELECT 1 UNION SELECT %(1)", "SHOW TABLES WHERE %(1)", "DESC SELECT %(1)",
}

// testCalls: wherever a name stands and whatever it is, if the server calls the
// stored function of that name, which a read-only server refuses, it is no read.
func testCalls(t *testing.T, c *sql.Conn, m Mode) {
	refused := run(t, c, "SELECT plain(1)")
	if refused != errReadOnly && refused != 1792 {
		t.Fatalf("a function that writes: error %d, want %d", refused, errReadOnly)
	}
	called, agreed := 0, 0
	for _, create := range storedFunctions() {
		name := create[strings.Index(create, "`")+1 : strings.Index(create, "`(")]
		switch name {
		case "SLEEP", "BENCHMARK", "GET_LOCK", "SHUTDOWN", "MASTER_GTID_WAIT", "MASTER_POS_WAIT", "SOURCE_POS_WAIT":
			continue // waits, or worse
		}
		for _, place := range callPlaces {
			text := strings.ReplaceAll(place, "%", name)
			if run(t, c, text) != refused {
				continue
			}
			called++
			if got := Classify([]byte(text), m); got.Class == Read {
				t.Errorf("%s calls a stored function, and is %s", text, got.Class)
			} else {
				agreed++
			}
		}
	}
	t.Logf("%d calls of stored functions, none of %d a read", called, agreed)
	if called < 1000 {
		t.Errorf("only %d calls of stored functions", called)
	}
}

// notCalled are names in the servers' lists of functions that are none, that a
// client cannot call, or that a component brings.
var notCalled = map[string]bool{
	"DISTANCE": true, "CREATE_DIGEST": true, "CREATE_ASYMMETRIC_PRIV_KEY": true, "CREATE_ASYMMETRIC_PUB_KEY": true,
	"ASYMMETRIC_DECRYPT": true, "ASYMMETRIC_ENCRYPT": true, "ASYMMETRIC_SIGN": true, "ASYMMETRIC_VERIFY": true,
	"IS_VISIBLE_DD_OBJECT": true,
}

// internal are how the names begin that only the data dictionary's views call.
var internal = []string{"CAN_ACCESS_", "GET_DD_", "INTERNAL_"}

// testComplete: what the server lists as its functions is in the table.
func testComplete(t *testing.T, s *farmtest.Server, m Mode) {
	query := "SELECT name FROM mysql.help_topic WHERE help_category_id IN (SELECT help_category_id FROM mysql.help_category " +
		"WHERE name LIKE '%Function%' OR name LIKE '%Properties%' OR name IN ('GTID', 'WKT', 'WKB', 'MBR', 'Geometry Constructors'))"
	if m.MariaDB {
		query = "SELECT function AS name FROM information_schema.sql_functions"
	}
	listed := 0
	for _, row := range s.Query(t, query) {
		name := strings.TrimSuffix(row.String("name"), "()")
		if slices.ContainsFunc(internal, func(p string) bool { return strings.HasPrefix(name, p) }) {
			continue
		}
		if strings.ContainsAny(name, " :=<>!&|^~%*/+-,'") || notCalled[name] || keywords[lookupKeyword([]byte(name))].group {
			continue // an operator, or a help page on one
		}
		listed++
		if functionIndex.lookup([]byte(name)) == 0 {
			t.Errorf("%s is not in the table", name)
		}
	}
	if listed < 100 {
		t.Errorf("the server lists only %d functions", listed)
	}
}

// testReads: no text that is said to be a read is refused by a read-only server
// or calls a function that it has not.
func testReads(t *testing.T, c *sql.Conn, m Mode) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	reads := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(data), "\n") {
			if line == "" || strings.HasPrefix(line, "    ") {
				continue
			}
			text := unescape.Replace(line)
			meaning := Classify([]byte(text), m)
			if meaning.Class != Read || meaning.Flags&MultiStatement != 0 || strings.HasPrefix(text, "SHOW CREATE") {
				continue
			}
			reads++
			if got := run(t, c, text); got == errReadOnly || got == errNoFunction {
				t.Errorf("%s is a read, and the replica answers error %d", text, got)
			}
		}
	}
	if reads < 100 {
		t.Errorf("only %d reads", reads)
	}
}

// pieces are what testLocking makes texts of: all that opens, closes or hides
// something from a lexer.
var pieces = []string{
	" FOR UPDATE", "FOR UPDATE", " FOR", " UPDATE", "FOR/**/UPDATE", " LOCK IN SHARE MODE", "/*", "*/", "/*!", "/*!40000", "/*!40000 ", "/*!50701 ",
	"/*!80000 ", "/*!999999 ", "/*!100100 ", "/*M!", "/*M! ", "/*M!100000 ", "/*M!999999 ", "/*+", "/*+ ", "'", "\"", "`", "\\", "''", "\\'", "--",
	"-- ", "--\n", "--\t", "#", "\n", " ", "\t", "@", "@a", "@@", ".", "1", "1e1", "1.", ".5", "0x1", "0b1", "x'41'", "X'", "b'1'", "N'a'", "_utf8'a'",
	",", "+", "-", " a", " b", " a.b", "`a`", "(1)", "(", ")", " AS ", " x", ";", "$", "$$", ":=", "?", "\x00", "é", "\u00a0", "*", "/", "1a", "e1",
}

// testLocking makes texts at random and compares: what the server takes for a
// locking read, which is refused on a read-only server or named in its digest,
// is not a read.
func testLocking(t *testing.T, c *sql.Conn, m Mode) {
	r := rand.New(rand.NewPCG(1, 2))
	valid, locking, agreed := 0, 0, 0
	deadline := time.Now().Add(10 * time.Second)
	for n := 0; n < 20000 && time.Now().Before(deadline); n++ {
		var b strings.Builder
		b.WriteString("SELECT b FROM t")
		if n%2 == 0 {
			b.Reset()
			b.WriteString("SELECT 1")
		}
		for range 1 + r.IntN(7) {
			b.WriteString(pieces[r.IntN(len(pieces))])
		}
		if n%2 == 0 {
			b.WriteString(" FROM t")
		}
		if r.IntN(2) == 0 {
			b.WriteString([]string{" FOR UPDATE", " FOR UPDATE*/", "FOR UPDATE", "\nFOR UPDATE", "' FOR UPDATE"}[r.IntN(5)])
		}
		text := b.String()
		locks, ok := lockingRead(t, c, text, m)
		if !ok {
			continue
		}
		valid++
		got := Classify([]byte(text), m)
		if locks {
			locking++
		}
		if locks == (got.Flags&Locking != 0) {
			agreed++
		}
		if locks && got.Class == Read {
			t.Errorf("%q locks on the server, and is %s", text, got.Class)
		}
	}
	t.Logf("%d valid texts, %d of them locking; the same view of %d", valid, locking, agreed)
	if valid < 100 || locking < 20 {
		t.Errorf("only %d valid texts, %d of them locking", valid, locking)
	}
}

// lockingRead asks the server whether text is a locking read; ok: it is SQL.
func lockingRead(t *testing.T, c *sql.Conn, text string, m Mode) (locks, ok bool) {
	t.Helper()
	if m.MariaDB {
		switch got := run(t, c, text); got {
		case errReadOnly:
			return true, true
		case 0:
			return false, true
		}
		return false, false
	}
	var digest sql.NullString
	err := c.QueryRowContext(t.Context(), "SELECT STATEMENT_DIGEST_TEXT(CONVERT(0x"+hexOf(text)+" USING utf8mb4))").Scan(&digest)
	if code(t, text, err) != 0 || !digest.Valid {
		return false, false
	}
	// A digest quotes every name, so what is left are keywords.
	keywords := quotedName.ReplaceAllString(digest.String, "")
	return strings.Contains(keywords, "FOR UPDATE") || strings.Contains(keywords, "LOCK IN SHARE"), true
}

var quotedName = regexp.MustCompile("`(?:[^`]|``)*`")

func hexOf(s string) string {
	const digits = "0123456789abcdef"
	out := make([]byte, 0, 2*len(s))
	for i := range len(s) {
		out = append(out, digits[s[i]>>4], digits[s[i]&15])
	}
	return string(out)
}
