package cli

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"farmhand/internal/backup"
	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/mysqladmin"
	"farmhand/internal/mysqlbackup"
	"farmhand/internal/objects"
)

// TestADeveloperGetsAMySQLServerOfABackup whose programs are in a directory.
func TestADeveloperGetsAMySQLServerOfABackup(t *testing.T) {
	farmtest.Long(t)
	inst := farmtest.Need(t, farm.MySQL)
	s := farmtest.Start(t, farmtest.Options{Flavor: farm.MySQL}).Primary()
	s.Exec(t, "CREATE TABLE app.item (id INT PRIMARY KEY)", "INSERT INTO app.item VALUES (1), (2), (3)")
	dir := t.TempDir()
	store, err := objects.Open(t.Context(), objects.Config{Directory: dir})
	must(t, err)
	w, err := backup.Create(t.Context(), store, "app", backup.NewID(time.Now()), nil)
	must(t, err)
	position, err := mysqlbackup.Stream(t.Context(), inst, s.Config(), func(int64) {}, w)
	must(t, err)
	_, err = w.Commit(func(m *backup.Manifest) {
		m.Flavor, m.ServerVersion, m.Tool, m.Position = farm.MySQL.String(), inst.Version, mysqlbackup.Tool, position
	})
	must(t, err)
	into := filepath.Join(farmtest.ShortDir(t), "mine")
	args := []string{"restore", "--store", dir, "--cluster", "app", "--program-root", farmtest.MySQLRoot()}
	out, err := scaler(t, append(args, "--dry-run")...)
	must(t, err)
	if !strings.Contains(out, "what can be restored:\n  GTID "+position) {
		t.Errorf("a dry run says:\n%s", out)
	}
	if _, err := scaler(t, append(args, "--into", into, "--to", "0-1-5")...); err == nil || !strings.Contains(err.Error(), "MySQL server, whose positions are not of that form") {
		t.Errorf("to a position of MariaDB: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	shown := &when{text: "until Ctrl-C", do: func(string) {
		defer cancel()
		admin, err := dbserver.Config{Dir: into, Socket: filepath.Join(into, "mysql.sock")}.Admin()
		if err != nil {
			t.Error(err)
		}
		conn, err := mysqladmin.Dial(t.Context(), admin)
		if err != nil {
			t.Error(err)
			return
		}
		rows, err := conn.Query(t.Context(), "SELECT COUNT(*) AS there FROM app.item")
		if err := errors.Join(err, conn.Close()); err != nil || rows[0].String("there") != "3" {
			t.Errorf("there are %v rows, %v", rows, err)
		}
	}}
	c := New()
	c.SetArgs(append(args, "--into", into, "--start", "--to", position))
	c.SetOut(shown)
	var progress bytes.Buffer
	c.SetErr(&progress)
	if err := c.ExecuteContext(ctx); err != nil {
		t.Fatalf("%v\n%s\n%s", err, shown, &progress)
	}
	if _, err := os.Stat(dbserver.Incoming(dbserver.Config{Dir: into}).Dir); !os.IsNotExist(err) {
		t.Errorf("something is left: %v", err)
	}
}
