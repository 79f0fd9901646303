package classify

import (
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"
)

// typical are texts as applications send them.
var typical = map[string]string{
	"point":     "SELECT c FROM sbtest1 WHERE id=4711",
	"wordpress": "SELECT SQL_CALC_FOUND_ROWS  wp_posts.ID FROM wp_posts LEFT JOIN wp_term_relationships ON (wp_posts.ID = wp_term_relationships.object_id) WHERE 1=1 AND ( wp_term_relationships.term_taxonomy_id IN (3,4,5) ) AND wp_posts.post_type = 'post' AND ((wp_posts.post_status = 'publish')) GROUP BY wp_posts.ID ORDER BY wp_posts.post_date DESC LIMIT 0, 10",
	"insert":    "INSERT INTO `wp_options` (`option_name`, `option_value`, `autoload`) VALUES ('_transient_doing_cron', '1667432178.5', 'yes') ON DUPLICATE KEY UPDATE `option_name` = VALUES(`option_name`)",
	"set":       "SET NAMES utf8mb4 COLLATE utf8mb4_unicode_520_ci, @a = 1, SESSION sql_mode = ''",
	"functions": "SELECT COUNT(*), MAX(a), IF(b, CONCAT('x', LOWER(c)), NOW()), COALESCE(d, f(1)) FROM t",
	"multi":     "SELECT 1; UPDATE t SET a = LAST_INSERT_ID(a + 1); SELECT LAST_INSERT_ID(), @a, @@session.sql_mode",
	"option":    "SELECT option_value FROM wp_options WHERE option_name = 'siteurl' LIMIT 1",
	"prepared":  "SELECT id, k, c, pad FROM sbtest1 WHERE id BETWEEN ? AND ? ORDER BY c",
	"update":    "UPDATE wp_posts SET post_content = '" + strings.Repeat("<p>It''s a <em>paragraph</em> of text.</p>\\n", 45) + "', post_modified = '2026-11-24 10:00:00' WHERE ID = 42",
	"names":     "SET NAMES utf8mb4",
	"begin":     "BEGIN",
	"commit":    "COMMIT",
	"comment":   "/* farmhand: replica, max_lag=2s */ SELECT /*!40001 SQL_NO_CACHE */ * FROM `t` -- done",
	"create":    "CREATE DEFINER=`root`@`localhost` PROCEDURE p() BEGIN SELECT 1; END",
}

func BenchmarkClassify(b *testing.B) {
	for _, name := range slices.Sorted(maps.Keys(typical)) {
		text := []byte(typical[name])
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				Classify(text, mariadbMode)
			}
		})
	}
}

func BenchmarkFingerprint(b *testing.B) {
	for _, name := range slices.Sorted(maps.Keys(typical)) {
		text := []byte(typical[name])
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				Fingerprint(text, mariadbMode)
			}
		})
	}
}

// TestAllocatesNothing: on the path of every statement nothing is allocated.
func TestAllocatesNothing(t *testing.T) {
	for name, sql := range typical {
		text := []byte(sql)
		for _, m := range []Mode{mariadbMode, mysqlMode} {
			if n := testing.AllocsPerRun(100, func() { Classify(text, m) }); n != 0 {
				t.Errorf("Classify of %s: %v allocations", name, n)
			}
			if n := testing.AllocsPerRun(100, func() { Fingerprint(text, m) }); n != 0 {
				t.Errorf("Fingerprint of %s: %v allocations", name, n)
			}
			if n := testing.AllocsPerRun(100, func() {
				Assignments(text, m, func(Assignment) bool { return true })
				TableNames(text, m, func(_, _ []byte) bool { return true })
				UserVariables(text, m, func([]byte, bool) bool { return true })
			}); n != 0 {
				t.Errorf("reading the names of %s: %v allocations", name, n)
			}
		}
	}
}

// TestMeaningIsSmall: it is copied for every statement.
func TestMeaningIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(Meaning{}); size > 40 {
		t.Errorf("a Meaning takes %d bytes", size)
	}
}

// TestLinear: no text takes more than linear time; were it quadratic these
// would take minutes.
func TestLinear(t *testing.T) {
	const size = 256 << 10
	for _, unit := range []string{
		"(", ")", "f(", "f(a,", "f(a)", "(1,", "(1),", "1,", "-1,", ",", ";", "a ", "a.", "a;", "/*", "/**/", "/*!", "*/", "/*! a;",
		"'", "''", "'\\", "`", "`a`", "\"", "-- \n", "#\n", "--", "@", "@@", "@a,", "@a:=", "SET ", "SET @a=1,", "SET STATEMENT a=1 FOR ",
		"BEGIN ", "CREATE PROCEDURE ", "WITH a(a) AS (", "EXPLAIN ", "FOR ", "CASE ", "_a", "_a 'x',", "x'", "1e", "0x", ".1", "$", "\x00",
		"\xa0", "information_schema ", "information_schema.", "SELECT CONNECTION_ID(),", "INSERT INTO a.", "NEXT ", "+", "+1", "POINT(", "JSON_TABLE(",
	} {
		sql := []byte(strings.Repeat(unit, size/len(unit)))
		for _, head := range []string{"", "SELECT ", "SET @a = ", "EXPLAIN INSERT INTO "} {
			text := append([]byte(head), sql...)
			start := time.Now()
			Classify(text, mariadbMode)
			Fingerprint(text, mariadbMode)
			RewriteConnectionID(nil, text, mariadbMode, 5)
			Statements(text, mariadbMode, func([]byte) bool { return true })
			Assignments(text, mariadbMode, func(Assignment) bool { return true })
			TableNames(text, mariadbMode, func(_, _ []byte) bool { return true })
			TemporaryTables(text, mariadbMode, func(_, _ []byte, _ bool) bool { return true })
			UserVariables(text, mariadbMode, func([]byte, bool) bool { return true })
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("%q and %q again and again: %v", head, unit, took)
			}
		}
	}
}

// TestStandardLibraryOnly keeps the package what its comment says.
func TestStandardLibraryOnly(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	if got := strings.Fields(string(out)); len(got) != 1 || !strings.HasSuffix(got[0], "/internal/classify") {
		t.Errorf("depends on %v", got)
	}
}

// TestTables: no name stands twice in a table, where one would be dead.
func TestTables(t *testing.T) {
	for table, x := range map[string]*wordIndex{
		"keywords": keywordIndex, "functions": functionIndex, "variables": variableIndex, "shows": showIndex, "places": placeIndex,
	} {
		seen := map[string]bool{}
		for i, name := range x.names {
			if name == "" {
				continue
			}
			if seen[name] || strings.ToUpper(name) != name {
				t.Errorf("%s: %s stands twice or is not in capitals", table, name)
			}
			seen[name] = true
			if x.lookup([]byte(strings.ToLower(name))) != i || x.lookup([]byte(name+"X")) == i {
				t.Errorf("%s: %s is not found by its name", table, name)
			}
		}
	}
	for _, r := range []Reason{NoReason, reasonCount - 1, reasonCount} {
		if r.String() == "" != (r == NoReason) {
			t.Errorf("reason %d has no words", r)
		}
	}
	for r := NoReason + 1; r < reasonCount; r++ {
		if r.String() == "" {
			t.Errorf("reason %d has no words", r)
		}
	}
}
