package farmchaos

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
)

// TestAFarmIsTakenBack: a farm under load is taken back to a position, goes on from
// there with backups that can be restored, and another farm begins with them.
func TestAFarmIsTakenBack(t *testing.T) {
	if !*all {
		t.Skip("two farms, for about two minutes: -farm.all")
	}
	backAndAgain(t, farm.MariaDB)
}

// TestAMySQLFarmIsTakenBack is the same on MySQL.
func TestAMySQLFarmIsTakenBack(t *testing.T) {
	if !*all {
		t.Skip("two farms, for some minutes: -farm.all")
	}
	backAndAgain(t, farm.MySQL)
}

func backAndAgain(t *testing.T, flavor farm.Flavor) {
	store := farmtest.ShortDir(t)
	if err := os.Chmod(store, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Run("over", func(t *testing.T) { takenBack(t, flavor, store) })
	if t.Failed() {
		return
	}
	t.Run("a new farm", func(t *testing.T) {
		f := start(t, options{count: "2", flavor: flavor, scaling: fmt.Sprintf("      restore_from: {store: %q, cluster: db}", store)})
		for _, s := range f.all() {
			f.marked(s, "1,3")
		}
		// It is a farm as any other: accounts of its own, and writes.
		if _, err := open(t, f.proxy).Exec("INSERT INTO mark VALUES (4)"); err != nil {
			t.Error(err)
		}
		f.settle()
		for _, s := range f.all() {
			f.marked(s, "1,3,4")
		}
		if _, err := f.run("restore", "over", "--yes"); err == nil || !strings.Contains(err.Error(), "no store") {
			t.Errorf("without backups of its own it is taken back: %v", err)
		}
	})
}

func takenBack(t *testing.T, flavor farm.Flavor, store string) {
	f := start(t, options{count: "3", flavor: flavor, backups: fmt.Sprintf("backups:\n  store: %q\n  schedule: 1h\n  retention: {last: 20}\n", store)})
	l := begin(t, f.proxy, lightBreath)
	f.fulls(1)
	db := open(t, f.proxy)
	write := func(statement string) {
		t.Helper()
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	write("CREATE TABLE mark (n INT PRIMARY KEY)")
	write("INSERT INTO mark VALUES (1)")
	old, _ := f.servers()
	to := f.position(old) // in the middle of a piece of the archive
	write("INSERT INTO mark VALUES (2)")
	f.archived()
	l.end()
	f.archived()

	text, err := f.run("restore", "over", "--to", to, "--dry-run")
	if err != nil || !strings.Contains(text, "given up: ") || !strings.Contains(text, "would ask") {
		t.Fatalf("%v: %s", err, text)
	}
	t.Logf("%s", text)
	if _, err := f.run("restore", "over", "--to", to); err == nil || !strings.Contains(err.Error(), "nobody is there to be asked") {
		t.Errorf("it was not asked for: %v", err)
	}
	// A moment that nobody can reach changes nothing.
	beyond := map[farm.Flavor]string{farm.MariaDB: "0-1-99999999", farm.MySQL: to + ",aaaaaaaa-0000-0000-0000-000000000001:1"}[flavor]
	if _, err := f.run("restore", "over", "--to", beyond, "--yes"); err == nil || !strings.Contains(err.Error(), "the archive ends at") {
		t.Errorf("%v", err)
	}
	f.settle()
	began := time.Now()
	text, err = f.run("restore", "over", "--to", to, "--yes")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("taken back after %v: %s", time.Since(began), text)
	f.settle()
	for _, s := range f.all() {
		f.marked(s, "1")
	}
	now, _ := f.servers()
	if now.name != old.name || f.report(now.name).Aside == "" {
		t.Errorf("%s leads and %s did; kept is %q", now.name, old.name, f.report(now.name).Aside)
	}
	write("INSERT INTO mark VALUES (3)")
	// The backups go on: a full one closes the gap, and a restore of it is proven.
	asked := time.Now()
	f.await("a full backup of the new history", func() error {
		b, err := f.backupStatus()
		if err != nil {
			return err
		}
		if n := len(b.Stock.Fulls); b.Stock.Newest != n-1 || n < 2 || b.Stock.Open || b.Plan.Full != nil {
			return fmt.Errorf("%+v; %v", b.Stock, b.Reasons)
		}
		return nil
	})
	t.Logf("a full backup after %v", time.Since(asked))
	if text, err := f.run("backup", "now", "--drill"); err != nil {
		t.Errorf("%v: %s", err, text)
	}
	if text, err := f.run("restore", "confirm", "--yes"); err != nil {
		t.Errorf("%v: %s", err, text)
	}
	f.await("nothing is kept aside", func() error {
		if aside := f.report(now.name).Aside; aside != "" {
			return errors.New(aside)
		}
		return nil
	})
	// One more server gets its data in the faster way, and the reason is told.
	asked = time.Now()
	if _, err := f.run("scale", "db", "4"); err != nil {
		t.Fatal(err)
	}
	f.settle()
	for _, s := range f.all() {
		f.marked(s, "1,3")
	}
	if _, err := f.said(asked, "is new: it copies"); err != nil {
		t.Error(err)
	}
	text, err = f.run("why")
	if err != nil {
		t.Error(err)
	}
	t.Logf("%s", text)
	f.archived()
}

// all are the database servers.
func (f *chaosFarm) all() []server {
	f.t.Helper()
	primary, replicas := f.servers()
	return append(replicas, primary)
}

// report is a server's, which there is.
func (f *chaosFarm) report(name string) *cluster.Report {
	f.t.Helper()
	r, err := f.reported(name)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// marked wants a server to have some rows.
func (f *chaosFarm) marked(s server, want string) {
	f.t.Helper()
	db := f.database(s)
	f.await(s.name+" has "+want, func() error {
		var got string
		if err := db.QueryRow("SELECT GROUP_CONCAT(n ORDER BY n) FROM mark").Scan(&got); err != nil || got != want {
			return fmt.Errorf("%q, %w", got, err)
		}
		return nil
	})
}
