package daemon

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/topology"
	"farmhand/proxy/internal/config"
)

func replaying(c *config.Config) {
	c.Writes.Replay.Enabled = true
	c.Writes.Wait = config.Duration(20 * time.Second)
}

// failOver kills the primary, makes the first replica the primary, lets between
// do what it likes there, and tells the proxy.
func (r *running) failOver(t *testing.T, between ...string) {
	t.Helper()
	f := r.farm
	f.WaitCaughtUp(t)
	f.Primary().Kill9(t)
	next := f.Replica(0)
	next.StopReplication(t)
	reset := "RESET SLAVE ALL"
	if next.Flavor() == farm.MySQL {
		reset = "RESET REPLICA ALL"
	}
	next.Exec(t, reset, "SET GLOBAL read_only=0")
	next.Exec(t, between...)
	top := f.Topology()
	cluster := top.Clusters["default"]
	cluster.Epoch++
	primary := next.Describe()
	cluster.Primary, cluster.Replicas = &primary, nil
	top.Clusters["default"] = cluster
	if err := topology.Write(r.topology, top); err != nil {
		t.Fatal(err)
	}
}

const ledger = "CREATE TABLE app.ledger (id INT PRIMARY KEY AUTO_INCREMENT, account INT, amount INT)"

// transactions are what a client may do in one, and what it must get.
var transactions = map[string]func(t *testing.T, r *running, c *sql.Conn, lose func()){
	"text": func(t *testing.T, _ *running, c *sql.Conn, lose func()) {
		exec(t, c, "BEGIN", "INSERT INTO ledger (account,amount) VALUES (1,10)")
		if got := value(t, c, "SELECT LAST_INSERT_ID()"); got != "2" {
			t.Errorf("insert id %s", got)
		}
		exec(t, c, "SAVEPOINT a", "UPDATE ledger SET amount=amount+1 WHERE account=1", "ROLLBACK TO a")
		if _, err := c.ExecContext(t.Context(), "INSERT INTO ledger (id) VALUES (2)"); err == nil {
			t.Error("a duplicate was taken")
		}
		lose()
		if got := value(t, c, "SELECT CONCAT(COUNT(*),' ',SUM(amount)) FROM ledger"); got != "2 15" {
			t.Errorf("the transaction sees %s", got)
		}
		exec(t, c, "UPDATE ledger SET amount=amount*2 WHERE account=1", "COMMIT")
	},
	"prepared": func(t *testing.T, _ *running, c *sql.Conn, lose func()) {
		ctx := t.Context()
		insert, err := c.PrepareContext(ctx, "INSERT INTO ledger (account,amount) VALUES (?,?)")
		if err != nil {
			t.Fatal(err)
		}
		exec(t, c, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "START TRANSACTION")
		sum, err := c.PrepareContext(ctx, "SELECT SUM(amount) FROM ledger WHERE account=? OR id<?")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := insert.ExecContext(ctx, 1, 10); err != nil {
			t.Fatal(err)
		}
		var got int
		if err := sum.QueryRowContext(ctx, 1, 2).Scan(&got); err != nil || got != 15 {
			t.Errorf("sum %d, %v", got, err)
		}
		if err := sum.Close(); err != nil {
			t.Fatal(err)
		}
		lose()
		if _, err := insert.ExecContext(ctx, 1, 10); err != nil {
			t.Fatal(err)
		}
		exec(t, c, "COMMIT")
	},
	"autocommit off": func(t *testing.T, _ *running, c *sql.Conn, lose func()) {
		exec(t, c, "SET SESSION sql_mode='ANSI_QUOTES'", "SET autocommit=0", "INSERT INTO ledger (account,amount) VALUES (1,10)", `UPDATE "ledger" SET amount=amount*2 WHERE account=1`)
		lose()
		if got := value(t, c, `SELECT SUM("amount") FROM ledger WHERE account=1`); got != "20" {
			t.Errorf("the transaction sees %s", got)
		}
		exec(t, c, "SET autocommit=1")
	},
	"lost while idle, committed next": func(t *testing.T, _ *running, c *sql.Conn, lose func()) {
		exec(t, c, "BEGIN", "INSERT INTO ledger (account,amount) VALUES (1,20)")
		lose()
		exec(t, c, "UPDATE ledger SET amount=20 WHERE account=1", "COMMIT")
	},
	"insert id from before": func(t *testing.T, _ *running, c *sql.Conn, lose func()) {
		exec(t, c, "INSERT INTO ledger (account,amount) VALUES (1,0)", "BEGIN", "UPDATE ledger SET amount=20 WHERE id=LAST_INSERT_ID()")
		lose()
		if got := value(t, c, "SELECT amount FROM ledger WHERE id=2"); got != "20" {
			t.Errorf("the row that was inserted before the transaction has %s", got)
		}
		exec(t, c, "COMMIT")
	},
}

func TestTransactionsSurviveTheLossOfTheirPrimary(t *testing.T) {
	for name, run := range transactions {
		t.Run(name, func(t *testing.T) {
			f := farmtest.Start(t, farmtest.Options{Replicas: 1})
			f.Primary().Exec(t, ledger, "INSERT INTO app.ledger (account,amount) VALUES (2,5)")
			r := start(t, f, replaying)
			run(t, r, r.conn(t), func() { r.failOver(t) })
			got := f.Replica(0).Query(t, "SELECT COALESCE(SUM(amount),0) AS s FROM app.ledger WHERE account=1")[0].String("s")
			if got != "20" {
				t.Errorf("the new primary has %s of account 1, want 20", got)
			}
		})
	}
}

// TestTransactionsThatCannotBeRunAgain are lost with an error that says why.
func TestTransactionsThatCannotBeRunAgain(t *testing.T) {
	for name, x := range map[string]struct {
		off       bool
		before    []string
		between   string // on the new primary
		last      string
		want      string
		committed string // rows that the session had committed before
	}{
		"off":                      {off: true, last: "SELECT 1", want: "A transaction was open"},
		"another result":           {before: []string{"SELECT SUM(amount) FROM ledger"}, between: "UPDATE app.ledger SET amount=6", last: "SELECT 1", want: "another result"},
		"another insert id":        {between: "INSERT INTO app.ledger (account) VALUES (3)", last: "SELECT 1", want: "another result"},
		"a lock":                   {before: []string{"DO GET_LOCK('x',1)"}, last: "SELECT 1", want: "GET_LOCK"},
		"a user variable":          {before: []string{"SELECT @a:=amount FROM ledger"}, last: "SELECT 1", want: "user variables"},
		"several statements":       {before: []string{"SELECT 1; SELECT 2"}, last: "SELECT 1", want: "may do anything"},
		"began inside another":     {before: []string{"BEGIN", "INSERT INTO ledger (account,amount) VALUES (1,1)"}, last: "SELECT 1", want: "end of another", committed: "1"},
		"more than may be kept":    {before: []string{"SELECT '" + strings.Repeat("x", 5000) + "'"}, last: "SELECT 1", want: "writes.replay.size"},
		"a statement that commits": {last: "CREATE TABLE app.other (id INT)", want: "may have been committed"},
	} {
		t.Run(name, func(t *testing.T) {
			f := farmtest.Start(t, farmtest.Options{Replicas: 1})
			f.Primary().Exec(t, ledger, "INSERT INTO app.ledger (account,amount) VALUES (2,5)")
			r := start(t, f, func(c *config.Config) {
				replaying(c)
				c.Writes.Replay.Enabled = !x.off
				c.Writes.Replay.Size = 4096
			})
			db, err := sql.Open("mysql", "app:app@tcp("+r.tcp+")/app?multiStatements=true")
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			c := conn(t, db)
			exec(t, c, "BEGIN", "INSERT INTO ledger (account,amount) VALUES (1,10)")
			exec(t, c, x.before...)
			var between []string
			if x.between != "" {
				between = []string{x.between}
			}
			r.failOver(t, between...)
			_, err = c.ExecContext(t.Context(), x.last)
			if err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("the error is %v; %q is missing in it", err, x.want)
			}
			if err := c.PingContext(t.Context()); err == nil {
				t.Error("the session goes on as if nothing had happened")
			}
			if n := f.Replica(0).Query(t, "SELECT COUNT(*) AS n FROM app.ledger WHERE account=1")[0].String("n"); n != cmp.Or(x.committed, "0") {
				t.Errorf("%s rows of the lost transaction are on the new primary", n)
			}
		})
	}
}

// TestACommitInFlightIsNeverRepeated stops the primary before it can answer a
// COMMIT: nobody knows what became of it.
func TestACommitInFlightIsNeverRepeated(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	f.Primary().Exec(t, ledger)
	r := start(t, f, replaying)
	c := r.conn(t)
	exec(t, c, "BEGIN", "INSERT INTO ledger (account,amount) VALUES (1,10)")
	f.WaitCaughtUp(t)
	f.Primary().Pause(t)
	done := make(chan error, 1)
	go func() {
		_, err := c.ExecContext(context.Background(), "COMMIT")
		done <- err
	}()
	r.eventually(t, "COMMIT is under way", func() bool {
		for _, s := range r.registry.Sessions() {
			if s.Command != "" {
				return true
			}
		}
		return false
	})
	f.Primary().Kill9(t)
	if err := <-done; err == nil || !strings.Contains(err.Error(), "outcome is unknown") || !strings.Contains(err.Error(), "may have been committed") {
		t.Errorf("the COMMIT's error is %v", err)
	}
	if n := fmt.Sprint(f.Replica(0).Query(t, "SELECT COUNT(*) AS n FROM app.ledger")[0].String("n")); n != "0" {
		t.Errorf("%s rows", n)
	}
}

// TestTransactionsAreRunAgainOnARestartedPrimary loses the primary, and the
// transaction again while it is run again.
func TestTransactionsAreRunAgainOnARestartedPrimary(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	f.Primary().Exec(t, ledger)
	r := start(t, f, replaying)
	c := r.conn(t)
	// With ids of its own: those that the server gives are given once only, even
	// if the transaction is rolled back.
	exec(t, c, "BEGIN", "INSERT INTO ledger VALUES (100,1,10)")
	for i := range 2 {
		f.Primary().Kill9(t)
		f.Primary().Restart(t)
		exec(t, c, fmt.Sprintf("INSERT INTO ledger VALUES (%d,1,5)", i+1))
	}
	exec(t, c, "COMMIT")
	if got := f.Primary().Query(t, "SELECT SUM(amount) AS s FROM app.ledger")[0].String("s"); got != "20" {
		t.Errorf("the ledger has %s, want 20", got)
	}
	if n := metric(t, r, "farmhand_proxy_transaction_replays_total"); n < 2 {
		t.Errorf("%v replays", n)
	}
}
