package e2e

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"farmhand/internal/dbserver"
	"farmhand/internal/farmtest"
	"farmhand/internal/wordpress"
)

// TestWordPressIsClickedWhileThePrimaryChanges has people click on a site while
// another server takes the writes: three times when it is asked to, where nobody may
// notice anything, and once because the primary's process was killed, where only a
// request that was writing just then may fail. Every comment that was accepted is on
// every server in the end.
func TestWordPressIsClickedWhileThePrimaryChanges(t *testing.T) {
	const account, schema = "app", "app_clicks" // of those that the account owns
	f := startFarm(t)
	db := farmtest.Open(t, "tcp", f.listen.String(), dbserver.Account{User: account, Password: account})
	if _, err := db.Exec("CREATE DATABASE " + schema + " CHARACTER SET utf8mb4"); err != nil {
		t.Fatal(err)
	}
	site, err := wordpress.Start(t.Context(), wordpress.Options{
		Dir: filepath.Join(farmtest.ShortDir(t)), Listen: farmtest.FreePort(t), Workers: 5,
		DB: wordpress.Database{Host: f.listen.String(), Schema: schema, User: account, Password: account},
	})
	if errors.Is(err, wordpress.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := site.Stop(); err != nil {
			t.Error(err)
		}
	})
	if _, err := site.Install(t.Context(), owner); err != nil {
		t.Fatal(err)
	}

	people := startCrowd(t, site)
	people.goOn(1)
	for range 3 {
		before := f.status().primary()
		began := time.Now()
		out, err := f.command("switchover", "--yes").CombinedOutput()
		if err != nil {
			t.Fatalf("scaler switchover: %v\n%s", err, out)
		}
		t.Logf("switchover from %s in %v:\n%s", before, time.Since(began).Round(time.Millisecond), out)
		if now := f.status().primary(); now == before || now == "" {
			t.Errorf("the primary was %q and is %q", before, now)
		}
		people.goOn(1) // who clicked meanwhile has his answer
	}
	people.checkUnharmed()

	before := f.awaitWhole(2, "").primary()
	killed := time.Now()
	f.kill(before)
	s := f.awaitWhole(1, before)
	t.Logf("%s was killed; %s takes the writes %v later", before, s.primary(), time.Since(killed).Round(time.Millisecond))
	people.goOn(2)
	people.end(killed)
	people.checkWrites()

	for _, server := range f.awaitWhole(2, before).Assignment.Servers {
		there := farmtest.Open(t, "tcp", server.Address, dbserver.Account{User: account, Password: account})
		farmtest.Eventually(t, "every accepted comment is on "+server.Name, func() error {
			return comments(there, schema, people.acknowledged)
		})
	}
}

// comments says which comments a server lacks, or has twice.
func comments(db *sql.DB, schema string, want []string) (err error) {
	rows, err := db.Query("SELECT comment_content FROM " + schema + ".wp_comments")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	there := map[string]int{}
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return err
		}
		there[text]++
	}
	for _, text := range want {
		if there[text] != 1 {
			return fmt.Errorf("%q is there %d times", text, there[text])
		}
	}
	return rows.Err()
}
