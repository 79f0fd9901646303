package daemon

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/topology"
	"farmhand/proxy/internal/config"

	"github.com/go-sql-driver/mysql"
)

// TestSessionsShareFewConnections has far more sessions than server connections.
// Each has a state of its own, which must be there whatever connection it gets.
func TestSessionsShareFewConnections(t *testing.T) {
	for _, flavor := range []farm.Flavor{farm.MariaDB, farm.MySQL} {
		t.Run(flavor.String(), func(t *testing.T) { shareFew(t, flavor) })
	}
}

func shareFew(t *testing.T, flavor farm.Flavor) {
	f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 1})
	f.Primary().Exec(t, "CREATE SCHEMA other", "GRANT ALL ON other.* TO app@'%'",
		"CREATE TABLE app.t (id INT AUTO_INCREMENT PRIMARY KEY, who INT, n INT)", "CREATE TABLE other.t (id INT AUTO_INCREMENT PRIMARY KEY, who INT, n INT)")
	f.WaitCaughtUp(t)
	const limit, sessions, rounds = 4, 40, 6
	r := start(t, f, func(c *config.Config) { c.Pool.MaxPerServer = limit })
	db := r.open(t)
	db.SetMaxOpenConns(sessions)
	all := make([]*sql.Conn, sessions)
	for i := range all {
		all[i] = conn(t, db)
		exec(t, all[i], fmt.Sprintf("SET time_zone='+%02d:00'", i%12), fmt.Sprintf("SET @mine=%d", i), "USE "+schemaOf(i))
		if i%3 == 0 {
			exec(t, all[i], "SET NAMES latin1", "SET SESSION sql_mode='ANSI_QUOTES'")
		}
	}
	var group sync.WaitGroup
	for i, c := range all {
		group.Go(func() { ownState(t, c, i, rounds) })
	}
	group.Wait()
	for _, s := range f.Servers() {
		rows := s.Query(t, "SELECT COUNT(*) AS n FROM information_schema.processlist WHERE user='app'")
		if n := rows[0].String("n"); n > fmt.Sprint(limit) {
			t.Errorf("%s has %s connections of the proxy's clients, the limit is %d", s.Name(), n, limit)
		}
	}
	f.WaitCaughtUp(t)
	f.CheckNoOwnEvents(t)
	rows := f.Primary().Query(t, "SELECT COUNT(*) AS n FROM (SELECT who, n FROM app.t UNION ALL SELECT who, n FROM other.t) x")
	if n := rows[0].String("n"); n != fmt.Sprint(sessions*rounds*2) {
		t.Errorf("%s rows were written, not %d", n, sessions*rounds*2)
	}
}

func schemaOf(i int) string { return []string{"app", "other"}[i%2] }

// ownState writes and asks for what only this session has.
func ownState(t *testing.T, c *sql.Conn, i, rounds int) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	fail := func(what string, err error) bool {
		if err != nil {
			t.Errorf("session %d: %s: %v", i, what, err)
		}
		return err != nil
	}
	read, err := c.PrepareContext(ctx, "SELECT ? + @mine, DATABASE()")
	if fail("prepare", err) {
		return
	}
	defer read.Close()
	for n := range rounds {
		done, err := c.ExecContext(ctx, fmt.Sprintf("INSERT INTO t (who, n) VALUES (%d, %d)", i, n))
		if fail("INSERT", err) {
			return
		}
		id, err := done.LastInsertId()
		if fail("insert id", err) {
			return
		}
		var zone, mine, schema, mode, charset string
		if fail("state", c.QueryRowContext(ctx, "SELECT @@time_zone, @mine, DATABASE(), @@sql_mode, @@character_set_client").Scan(&zone, &mine, &schema, &mode, &charset)) {
			return
		}
		if want := fmt.Sprintf("+%02d:00", i%12); zone != want || mine != fmt.Sprint(i) || schema != schemaOf(i) ||
			strings.Contains(mode, "ANSI_QUOTES") != (i%3 == 0) || (charset == "latin1") != (i%3 == 0) {
			t.Errorf("session %d has time zone %s, @mine %s, schema %s, sql_mode %s, character set %s", i, zone, mine, schema, mode, charset)
		}
		var last int64
		if fail("LAST_INSERT_ID()", c.QueryRowContext(ctx, "SELECT LAST_INSERT_ID()").Scan(&last)) {
			return
		}
		if last != id {
			t.Errorf("session %d: LAST_INSERT_ID() is %d after an insert of %d", i, last, id)
		}
		var sum float64
		if fail("prepared read", read.QueryRowContext(ctx, n).Scan(&sum, &schema)) {
			return
		}
		if int(sum) != n+i || schema != schemaOf(i) {
			t.Errorf("session %d: the prepared statement gives %v and %s, want %d and %s", i, sum, schema, n+i, schemaOf(i))
		}
		tx, err := c.BeginTx(ctx, nil)
		if fail("BEGIN", err) {
			return
		}
		_, err = tx.ExecContext(ctx, fmt.Sprintf("INSERT INTO t (who, n) VALUES (%d, %d)", i, -n))
		if fail("INSERT in a transaction", err) || fail("COMMIT", tx.Commit()) {
			return
		}
	}
}

// TestALimitThatIsReachedIsSaid: sessions that cannot lend their connections
// leave none for others.
func TestALimitThatIsReachedIsSaid(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{})
	r := start(t, f, func(c *config.Config) {
		c.Pool.MaxPerServer, c.Pool.Wait = 2, config.Duration(50*time.Millisecond)
		c.Writes.Wait = config.Duration(200 * time.Millisecond)
	})
	a, b, c := r.conn(t), r.conn(t), r.conn(t)
	exec(t, a, "BEGIN")
	exec(t, b, "SELECT GET_LOCK('x', 0)")
	_, err := c.ExecContext(t.Context(), "DO 1")
	var refused *mysql.MySQLError
	if !errors.As(err, &refused) || refused.Number != 2003 || !strings.Contains(refused.Message, "pool.max_per_server") {
		t.Errorf("the error is %v", err)
	}
	exec(t, a, "COMMIT")
	exec(t, c, "DO 1") // with the connection that a has lent
	exec(t, a, "DO 1")
}

// TestWhatTriggersDoToASessionIsSeen: a trigger assigns a user variable, of which
// the statement says nothing.
func TestWhatTriggersDoToASessionIsSeen(t *testing.T) {
	for _, flavor := range []farm.Flavor{farm.MariaDB, farm.MySQL} {
		t.Run(flavor.String(), func(t *testing.T) {
			f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 1, ExtraArgs: []string{"--log-bin-trust-function-creators=1"}})
			f.Primary().Exec(t, "CREATE TABLE app.t (id INT)", "CREATE TRIGGER app.said BEFORE INSERT ON app.t FOR EACH ROW SET @said = NEW.id",
				"CREATE FUNCTION app.f() RETURNS INT DETERMINISTIC NO SQL BEGIN SET @f = 7; RETURN 1; END", "CREATE VIEW app.v AS SELECT app.f() AS x")
			f.WaitCaughtUp(t)
			r := start(t, f, func(c *config.Config) { c.Pool.MaxPerServer = 1 })
			a, b := r.conn(t), r.conn(t)
			exec(t, b, "DO 1")
			exec(t, a, "INSERT INTO t VALUES (5)")
			if got := value(t, a, "SELECT @said"); got != "5" {
				t.Errorf("@said is %s", got)
			}
			// Its connection is its own now, and nobody else finds the variable.
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := b.ExecContext(ctx, "DO 1"); err == nil {
				t.Error("the connection that has the variable was given to another session")
			}
			exec(t, a, "DO 1")
		})
	}
}

// TestReadsSpreadToAServerThatIsAdded: sessions that stay connected read from a
// new server as well.
func TestReadsSpreadToAServerThatIsAdded(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 2})
	r := start(t, f, nil)
	whole := f.Topology()
	less := f.Topology()
	cluster := less.Clusters["default"]
	cluster.Replicas = cluster.Replicas[:1]
	less.Clusters["default"] = cluster
	setTopology(t, r, less)
	r.eventually(t, "one replica is left", func() bool { return len(r.monitor.View().Replicas) == 1 })
	const sessions = 12
	db := r.open(t)
	var all []*sql.Conn
	for range sessions {
		c := conn(t, db)
		if got := r.servedBy(t, c); got != "replica1" {
			t.Fatalf("%s serves reads", got)
		}
		all = append(all, c)
	}
	setTopology(t, r, whole)
	r.eventually(t, "the new replica takes its share", func() bool {
		s := r.monitor.View().Server("replica2")
		return s != nil && s.Eligible && s.EffectiveWeight == s.Weight
	})
	on := map[string]int{}
	for _, c := range all {
		on[r.servedBy(t, c)]++
	}
	if on["replica2"] == 0 {
		t.Errorf("the sessions stay where they are: %v", on)
	}
}

func setTopology(t *testing.T, r *running, top farm.Topology) {
	t.Helper()
	if err := topology.Write(r.topology, top); err != nil {
		t.Fatal(err)
	}
}

// TestASessionHasNoneOfAnothersWarnings: a question about the statement before may
// leave an error itself, which the connection's next user must not find.
func TestASessionHasNoneOfAnothersWarnings(t *testing.T) {
	for _, flavor := range []farm.Flavor{farm.MariaDB, farm.MySQL} {
		t.Run(flavor.String(), func(t *testing.T) {
			f := farmtest.Start(t, farmtest.Options{Flavor: flavor})
			r := start(t, f, func(c *config.Config) { c.Pool.MaxPerServer = 1 })
			for _, question := range []string{"SELECT @@warning_count + nosuch", "SELECT @@error_count, CAST('12x' AS SIGNED)"} {
				before := r.conn(t)
				exec(t, before, "DO 1")
				var a, b any
				_ = before.QueryRowContext(t.Context(), question).Scan(&a, &b) // an error, or a warning
				if err := before.Close(); err != nil {
					t.Error(err)
				}
				after := r.conn(t)
				exec(t, after, "DO LAST_INSERT_ID(8)")
				if n := value(t, after, "SELECT @@warning_count"); n != "0" {
					t.Errorf("after another session's %s there are %s warnings", question, n)
				}
				if err := after.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
