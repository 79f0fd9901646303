package mysqld

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
)

// TestWhatIsErrantOnMySQLCanBeRead: it is read by the program that came with the server.
// MariaDB's is TestClone's.
func TestWhatIsErrantOnMySQLCanBeRead(t *testing.T) {
	s := farmtest.Start(t, farmtest.Options{Flavor: farm.MySQL}).Primary()
	s.Exec(t, "CREATE TABLE app.t (n INT PRIMARY KEY)", "INSERT INTO app.t VALUES (11111)")
	uuid := s.Query(t, "SELECT @@server_uuid AS uuid")[0].String("uuid")
	all := s.Position(t)
	s.Exec(t, "INSERT INTO app.t VALUES (77777)")
	var before int
	if _, err := fmt.Sscanf(all[strings.Index(all, uuid):], uuid+":1-%d", &before); err != nil {
		t.Fatalf("%s: %v", all, err)
	}
	logs, err := binlogs(filepath.Join(s.Config().Dir, "data"))
	if err != nil || len(logs) == 0 {
		t.Fatal(logs, err)
	}
	a := &Agent{o: Options{Name: "db1", Install: farmtest.Need(t, farm.MySQL)}, dialect: mySQL}
	path := filepath.Join(t.TempDir(), "errant.sql")
	errant := comparison{Errant: fmt.Sprintf("%s:%d", uuid, before+1)}
	if err := a.export(t.Context(), &order{part: cluster.Server{Source: "db2"}}, errant, logs, path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "77777") || strings.Contains(string(text), "11111") {
		t.Errorf("of %v there is\n%s", errant.Errant, text)
	}
}
