package classify

import (
	"os"
	"strings"
	"testing"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
)

// otherwise are the scenarios of tablesFile in which UsesTable is not what the
// server finds: no query an application sends, or one that says FROM of
// something else.
var otherwise = map[string]bool{
	"SELECT EXTRACT(YEAR FROM NOW())": true,
	"GRANT SELECT ON app.t TO uuu":    true,
	"REVOKE SELECT ON app.t FROM uuu": true,
	"FLUSH TABLES t":                  true,
	"BACKUP LOCK t":                   true,
}

// TestTablesAgainstServer holds UsesTable against a MariaDB, which forgets the
// warnings there are when a statement uses a table.
func TestTablesAgainstServer(t *testing.T) {
	farmtest.Need(t, farm.MariaDB)
	primary := farmtest.Start(t, farmtest.Options{Flavor: farm.MariaDB}).Primary()
	primary.Exec(t, "CREATE TABLE app.t (a INT PRIMARY KEY, b INT)", "INSERT INTO app.t VALUES (1, 1)", "CREATE TABLE app.u (a INT, b INT)",
		"CREATE TABLE app.d (a INT)", "CREATE TABLE app.dual (a INT)", "CREATE SEQUENCE app.s", "CREATE VIEW app.v AS SELECT * FROM app.t",
		"CREATE PROCEDURE app.p() BEGIN END", "CREATE PROCEDURE app.q() SELECT * FROM app.t",
		"CREATE FUNCTION app.f() RETURNS INT DETERMINISTIC RETURN 1",
		"CREATE FUNCTION app.g() RETURNS INT DETERMINISTIC RETURN (SELECT a FROM app.t LIMIT 1)")
	c, err := primary.Admin(t).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := run(t, c, "USE app"); got != 0 {
		t.Fatalf("USE: error %d", got)
	}
	data, err := os.ReadFile(tablesFile)
	if err != nil {
		t.Fatal(err)
	}
	_, scenarios, _ := strings.Cut(string(data), "mode: mariadb\n")
	scenarios, _, _ = strings.Cut(scenarios, "mode: mysql\n")
	held := 0
	for line := range strings.Lines(scenarios) {
		text := strings.TrimSuffix(line, "\n")
		if text == "" || text[0] == ' ' || text[0] == '#' {
			continue
		}
		if got := run(t, c, "SELECT CAST('a' AS INT), CAST('b' AS INT), CAST('c' AS INT)"); got != 0 {
			t.Fatalf("the statement that is warned of: error %d", got)
		}
		if got := run(t, c, text); got != 0 {
			t.Errorf("%s: error %d", text, got)
			continue
		}
		var warnings int
		if err := c.QueryRowContext(t.Context(), "SHOW COUNT(*) WARNINGS").Scan(&warnings); err != nil {
			t.Fatal(err)
		}
		if warnings != 0 && warnings != 3 {
			t.Errorf("%s: %d warnings, so it is warned of itself", text, warnings)
		}
		flags := Classify([]byte(text), mariadbMode).Flags
		if flags&(PreparesText|ExecutesText|CallsProcedure) != 0 {
			continue // what they run is no part of the text
		}
		held++
		if uses := warnings == 0; uses == (flags&UsesTable != 0) == otherwise[text] {
			t.Errorf("%s: it uses a table is %v to the server, and the flags are %s", text, uses, flags)
		}
	}
	if held < 150 {
		t.Errorf("%d texts were compared, want 150 or more", held)
	}
}
