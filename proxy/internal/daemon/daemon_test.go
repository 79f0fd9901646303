package daemon

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/topology"
	"farmhand/proxy/internal/config"
)

func TestReadsGoToReplicasAndWritesToThePrimary(t *testing.T) {
	for _, flavor := range []farm.Flavor{farm.MariaDB, farm.MySQL} {
		t.Run(flavor.String(), func(t *testing.T) {
			f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 2})
			r := start(t, f, nil)
			c := r.conn(t)
			exec(t, c, "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(20))")
			for i := range 20 {
				exec(t, c, fmt.Sprintf("INSERT INTO t (v) VALUES ('v%d')", i))
				if got := value(t, c, "SELECT COUNT(*) FROM t"); got != fmt.Sprint(i+1) {
					t.Fatalf("after %d inserts the session sees %s rows", i+1, got)
				}
			}
			r.caughtUp(t)
			served := map[string]int{}
			for range 20 {
				served[r.servedBy(t, r.conn(t))]++
			}
			if served["primary"] > 0 || len(served) != 2 {
				t.Errorf("reads of 20 connections were served by %v", served)
			}
			f.CheckNoOwnEvents(t)
		})
	}
}

func TestTransactionStaysOnThePrimary(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	r := start(t, f, nil)
	c := r.conn(t)
	for _, begin := range []string{"BEGIN", "START TRANSACTION", "START TRANSACTION WITH CONSISTENT SNAPSHOT", "SET autocommit=0"} {
		exec(t, c, begin)
		if got := r.servedBy(t, c); got != "primary" {
			t.Errorf("after %s reads are served by %s", begin, got)
		}
		exec(t, c, "COMMIT", "SET autocommit=1")
		if got := r.servedBy(t, c); got == "primary" {
			t.Errorf("after the end of the transaction of %s reads are served by %s", begin, got)
		}
	}
	// The transaction that SET TRANSACTION is about may write.
	exec(t, c, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "START TRANSACTION", "CREATE TABLE IF NOT EXISTS written (i INT)", "INSERT INTO written VALUES (1)", "COMMIT",
		"SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "INSERT INTO written VALUES (2)")
	r.caughtUp(t)
	if got := r.servedBy(t, c); got == "primary" {
		t.Errorf("after the transaction of SET TRANSACTION reads are served by %s", got)
	}
	exec(t, c, "START TRANSACTION READ ONLY")
	if got := r.servedBy(t, c); got == "primary" {
		t.Errorf("a read-only transaction is served by %s", got)
	}
	if _, err := c.ExecContext(t.Context(), "INSERT INTO written VALUES (3)"); err == nil || !strings.Contains(err.Error(), "1792") {
		t.Errorf("a write in a read-only transaction: %v", err)
	}
	for _, leaves := range []string{"SELECT @a := 1", "DO GET_LOCK('x', 0)"} {
		if _, err := c.ExecContext(t.Context(), leaves); err == nil || !strings.Contains(err.Error(), "1792") {
			t.Errorf("%s in a read-only transaction on a replica: %v", leaves, err)
		}
	}
	exec(t, c, "COMMIT")
	// What commits implicitly ends it, and runs where it would without it.
	for _, ends := range []string{"CREATE TABLE IF NOT EXISTS other (i INT)", "BEGIN"} {
		r.caughtUp(t)
		exec(t, c, "START TRANSACTION READ ONLY")
		if got := r.servedBy(t, c); got == "primary" {
			t.Errorf("a read-only transaction is served by %s", got)
		}
		exec(t, c, ends, "INSERT INTO written VALUES (4)", "COMMIT")
	}
	// To prepare a statement that has neither parameters nor columns leaves the
	// transaction where it is.
	r.caughtUp(t)
	exec(t, c, "START TRANSACTION READ ONLY")
	before := r.servedBy(t, c)
	prepared, err := c.PrepareContext(t.Context(), "DO 1")
	if err != nil {
		t.Fatal(err)
	}
	if got := r.servedBy(t, c); got != before || value(t, c, "SELECT @@in_transaction") != "1" {
		t.Errorf("after a statement was prepared, %s serves the transaction of %s", got, before)
	}
	if err := prepared.Close(); err != nil {
		t.Error(err)
	}
	exec(t, c, "COMMIT")
	f.CheckNoOwnEvents(t)
}

func TestSessionStateIsEqualEverywhere(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	r := start(t, f, nil)
	c := r.conn(t)
	direct := conn(t, f.Primary().Open(t, farmtest.App))
	steps := []string{
		"SET NAMES latin1", "SET NAMES utf8mb4 COLLATE utf8mb4_unicode_ci", "SET SESSION sql_mode='ANSI_QUOTES'", "SET time_zone='+03:00'",
		"SET @a=5, @b=NULL, @c='text'", "SET sql_mode=''", "SET character_set_results=NULL", "SET SESSION group_concat_max_len=77",
		"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", "SET foreign_key_checks=0", "USE mysql", "USE app", "SET lc_time_names='de_DE'",
	}
	const see = "SELECT CONCAT_WS('|', @@character_set_client, @@character_set_connection, @@collation_connection, IFNULL(@@character_set_results,'NULL'), " +
		"@@sql_mode, @@time_zone, @@group_concat_max_len, @@tx_isolation, @@foreign_key_checks, IFNULL(DATABASE(),'NULL'), @@lc_time_names, IFNULL(@a,'NULL'), IFNULL(@b,'NULL'), IFNULL(@c,'NULL'))"
	for _, step := range steps {
		exec(t, c, step)
		exec(t, direct, step)
		want := value(t, direct, see)
		if got := value(t, c, see); got != want {
			t.Errorf("after %s a read sees\n%s, directly\n%s", step, got, want)
		}
		if got := value(t, c, "/* farmhand: primary */ "+see); got != want {
			t.Errorf("after %s a read on the primary sees\n%s, directly\n%s", step, got, want)
		}
	}
}

func TestQuestionsAboutTheLastStatement(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 2})
	r := start(t, f, nil)
	c := r.conn(t)
	exec(t, c, "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v INT)", "INSERT INTO t (v) VALUES (1),(2),(3)")
	for _, q := range []string{"SELECT LAST_INSERT_ID()", "SELECT last_insert_id() AS x FROM DUAL", "SELECT @@last_insert_id", "SELECT @@identity"} {
		if got := value(t, c, q); got != "1" {
			t.Errorf("%s is %s", q, got)
		}
	}
	r.caughtUp(t)
	value(t, c, "SELECT SQL_CALC_FOUND_ROWS v FROM t LIMIT 1")
	if got := value(t, c, "SELECT FOUND_ROWS()"); got != "3" {
		t.Errorf("FOUND_ROWS() is %s", got)
	}
	exec(t, c, "UPDATE t SET v=9 WHERE id<3")
	if got := value(t, c, "SELECT ROW_COUNT()"); got != "2" {
		t.Errorf("ROW_COUNT() is %s", got)
	}
	value(t, c, "SELECT 1/0")
	if got := value(t, c, "SHOW COUNT(*) WARNINGS"); got != "1" {
		t.Errorf("warnings: %s", got)
	}
}

func TestTemporaryTablesAndLocks(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	r := start(t, f, nil)
	c := r.conn(t)
	exec(t, c, "CREATE TABLE t (id INT)", "INSERT INTO t VALUES (1)")
	f.WaitCaughtUp(t)
	exec(t, c, "CREATE TEMPORARY TABLE t (id INT)", "INSERT INTO t VALUES (7),(8)")
	if got := value(t, c, "SELECT COUNT(*) FROM t"); got != "2" {
		t.Errorf("the temporary table has %s rows", got)
	}
	exec(t, c, "DROP TEMPORARY TABLE t")
	if got := value(t, c, "SELECT COUNT(*) FROM t"); got != "1" {
		t.Errorf("the table has %s rows", got)
	}
	if got := value(t, c, "SELECT GET_LOCK('x', 1)"); got != "1" {
		t.Fatalf("GET_LOCK is %s", got)
	}
	if got := r.servedBy(t, c); got != "primary" {
		t.Errorf("a session with a lock reads from %s", got)
	}
	other := r.conn(t)
	if got := value(t, other, "SELECT GET_LOCK('x', 0)"); got != "0" {
		t.Errorf("another session's GET_LOCK is %s", got)
	}
	value(t, c, "SELECT RELEASE_LOCK('x')")
	r.caughtUp(t)
	if got := r.servedBy(t, c); got == "primary" {
		t.Errorf("after RELEASE_LOCK reads are served by %s", got)
	}
}

func TestPreparedStatements(t *testing.T) {
	for _, flavor := range []farm.Flavor{farm.MariaDB, farm.MySQL} {
		t.Run(flavor.String(), func(t *testing.T) {
			f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 2})
			r := start(t, f, nil)
			c := r.conn(t)
			exec(t, c, "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
			insert, err := c.PrepareContext(t.Context(), "INSERT INTO t VALUES (?, ?)")
			if err != nil {
				t.Fatal(err)
			}
			read, err := c.PrepareContext(t.Context(), "SELECT v, @@server_id FROM t WHERE id=?")
			if err != nil {
				t.Fatal(err)
			}
			servers := map[string]int{}
			for i := range 50 {
				if _, err := insert.Exec(i, fmt.Sprintf("v%d", i)); err != nil {
					t.Fatal(err)
				}
				var v, server string
				if err := read.QueryRow(i).Scan(&v, &server); err != nil || v != fmt.Sprintf("v%d", i) {
					t.Fatalf("row %d: %q, %v", i, v, err)
				}
				servers[server]++
				if i == 25 {
					r.caughtUp(t)
				}
			}
			f.CheckNoOwnEvents(t)
			t.Log("served by", servers)
		})
	}
}

func TestReplicaKilledUnderReadLoad(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 2})
	r := start(t, f, nil)
	setup := r.conn(t)
	exec(t, setup, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1,1),(2,2)")
	f.WaitCaughtUp(t)
	stopLoad, _ := load(t, r, true)
	for range 3 {
		f.Replica(0).Kill9(t)
		r.eventually(t, "the replica is out", func() bool { return !r.monitor.View().Replicas[0].Eligible })
		f.Replica(0).Restart(t)
		r.waitServing(t)
	}
	reads := stopLoad()
	if reads < 100 {
		t.Errorf("only %d reads were made", reads)
	}
}

// load reads through the proxy with several clients, keeping and renewing their
// connections where keep is set, until the returned function is called. Any
// error fails the test.
func load(t *testing.T, r *running, keep bool) (stop, reads func() int64) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var made atomic.Int64
	for i := range 8 {
		wg.Go(func() {
			db := farmtest.Open(t, "tcp", r.tcp, farmtest.App)
			db.SetMaxOpenConns(1)
			if i%2 == 0 || !keep {
				db.SetMaxIdleConns(-1) // a new connection for every read
			}
			for ctx.Err() == nil {
				var v int
				if err := db.QueryRow("SELECT v FROM t WHERE id=2").Scan(&v); err != nil || v != 2 {
					t.Errorf("read %d: %d, %v", made.Load(), v, err)
					return
				}
				made.Add(1)
			}
		})
	}
	return func() int64 {
		cancel()
		wg.Wait()
		return made.Load()
	}, made.Load
}

func TestTopologyEditedUnderReadLoad(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 2})
	r := start(t, f, nil)
	setup := r.conn(t)
	exec(t, setup, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1,1),(2,2)")
	f.WaitCaughtUp(t)
	stopLoad, _ := load(t, r, true)
	whole := f.Topology()
	for range 3 {
		for _, change := range []func(*farm.Cluster){
			func(c *farm.Cluster) { c.Replicas = c.Replicas[:1] },
			func(*farm.Cluster) {},
			func(c *farm.Cluster) { c.Replicas[1].State = farm.Draining },
			func(c *farm.Cluster) { c.Replicas = c.Replicas[1:] },
			func(*farm.Cluster) {},
		} {
			next := whole
			cluster := whole.Clusters[r.config.Cluster]
			cluster.Replicas = append([]farm.Server(nil), cluster.Replicas...)
			change(&cluster)
			next.Clusters = map[string]farm.Cluster{r.config.Cluster: cluster}
			before := r.monitor.View().Generation
			if err := topology.Write(r.topology, next); err != nil {
				t.Fatal(err)
			}
			r.eventually(t, "the change is seen", func() bool {
				v := r.monitor.View()
				return v.Generation > before && len(v.Replicas) == len(cluster.Replicas)
			})
			r.waitServing(t)
		}
	}
	if reads := stopLoad(); reads < 100 {
		t.Errorf("only %d reads were made", reads)
	}
}

func TestWriteWaitsForAPrimary(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	r := start(t, f, nil)
	c := r.conn(t)
	exec(t, c, "CREATE TABLE t (id INT PRIMARY KEY)")
	f.Primary().Kill9(t)
	r.eventually(t, "the primary is out", func() bool { return !r.monitor.View().Primary.Writable })
	done := make(chan error, 1)
	go func() {
		_, err := c.ExecContext(context.Background(), "INSERT INTO t VALUES (1)")
		done <- err
	}()
	f.Primary().Restart(t)
	if err := <-done; err != nil {
		t.Errorf("a write that came while the primary was away: %v", err)
	}
}

func TestWriteWithoutPrimaryFailsWithItsReason(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	soon := func(c *config.Config) { c.Writes.Wait = config.Duration(200 * time.Millisecond) }
	r := start(t, f, soon)
	serving := start(t, f, func(c *config.Config) {
		soon(c)
		c.Reads.WithoutPrimary = config.ServeWithoutPrimary
	})
	bySession := start(t, f, func(c *config.Config) {
		soon(c)
		c.Reads.Consistency = config.Session
	})
	c := r.conn(t)
	exec(t, c, "CREATE TABLE t (id INT PRIMARY KEY)")
	serves, session := serving.conn(t), bySession.conn(t)
	f.WaitCaughtUp(t)
	f.Primary().Kill9(t)
	_, err := c.ExecContext(t.Context(), "INSERT INTO t VALUES (1)")
	if err == nil || !strings.Contains(err.Error(), "primary") {
		t.Errorf("a write without a primary: %v", err)
	}
	var n int
	count := func(c *sql.Conn) error { return c.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM t").Scan(&n) }
	if err := count(c); err == nil || !strings.Contains(err.Error(), "primary") {
		t.Errorf("a read at the level farm without a primary: %v", err)
	}
	serving.eventually(t, "replicas serve without a primary", func() bool { return count(serves) == nil })
	bySession.eventually(t, "replicas serve sessions that have seen nothing more", func() bool { return count(session) == nil })
}

func TestLoginErrorsAreTheServers(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	r := start(t, f, nil)
	for name, dsn := range map[string]string{
		"wrong password": "app:wrong@tcp(%s)/app",
		"unknown user":   "nobody:x@tcp(%s)/app",
		"unknown schema": "app:app@tcp(%s)/nothing",
	} {
		message := func(addr string) string {
			db, err := sql.Open("mysql", fmt.Sprintf(dsn, addr))
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if err = db.Ping(); err == nil {
				return ""
			}
			// The servers know the client by another host name than the proxy may.
			return strings.NewReplacer("'localhost'", "HOST", "'"+strings.Split(addr, ":")[0]+"'", "HOST").Replace(err.Error())
		}
		direct, through := message(f.Primary().Addr()), message(r.tcp)
		if direct == "" || !sameError(direct, through) {
			t.Errorf("%s: directly %q, through the proxy %q", name, direct, through)
		}
	}
}

// sameError compares error texts but for the host part of account names.
func sameError(a, b string) bool {
	cut := func(s string) string {
		i := strings.Index(s, "'@")
		if i < 0 {
			return s
		}
		rest := s[i+2:]
		if j := strings.IndexByte(rest, ' '); j >= 0 {
			return s[:i] + rest[j:]
		}
		return s[:i]
	}
	return cut(a) == cut(b)
}

// TestAChangedPasswordCountsAtOnce: logins go by what the account table said a moment
// ago, but not past a change that came through the proxy; and a new password counts
// wherever it was set.
func TestAChangedPasswordCountsAtOnce(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{})
	r := start(t, f, func(c *config.Config) { c.Logins.AccountAge = config.Duration(time.Minute) })
	f.Primary().Exec(t, "CREATE USER boss@'%' IDENTIFIED BY 'boss'", "GRANT ALL ON *.* TO boss@'%' WITH GRANT OPTION",
		"CREATE USER probe@'%' IDENTIFIED BY 'p0'", "GRANT SELECT ON app.* TO probe@'%'")
	login := func(password string) error {
		db := farmtest.Open(t, "tcp", r.tcp, dbserver.Account{User: "probe", Password: password})
		// Its server connection is the next one's: no server has to be asked.
		return errors.Join(db.PingContext(t.Context()), db.Close())
	}
	boss := conn(t, farmtest.Open(t, "tcp", r.tcp, dbserver.Account{User: "boss", Password: "boss"}))
	for i := range 10 {
		old, next := fmt.Sprintf("p%d", i), fmt.Sprintf("p%d", i+1)
		for range 2 { // the second time by what was known
			if err := login(old); err != nil {
				t.Fatalf("with the right password: %v", err)
			}
		}
		change := "ALTER USER probe@'%' IDENTIFIED BY '" + next + "'"
		if i%2 == 0 {
			exec(t, boss, change)
			var refused *mysql.MySQLError
			if err := login(old); !errors.As(err, &refused) || refused.Number != 1045 {
				t.Fatalf("with the password before: %v", err)
			}
		} else {
			f.Primary().Exec(t, change)
		}
		if err := login(next); err != nil {
			t.Fatalf("with the new password: %v", err)
		}
	}
	exec(t, boss, "DROP USER probe@'%'")
	if err := login("p10"); err == nil {
		t.Error("a dropped account was let in")
	}
}

func TestConsole(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	r := start(t, f, nil)
	c := r.conn(t)
	for _, q := range []string{"STATUS", "SERVERS", "SESSIONS", "PINS", "DIGESTS", "ROUTE FOR 'SELECT 1'"} {
		rows, err := c.QueryContext(t.Context(), "SHOW FARMHAND "+q)
		if err != nil {
			t.Errorf("SHOW FARMHAND %s: %v", q, err)
			continue
		}
		for rows.Next() { //nolint:revive // counting is not the point
		}
		if err := rows.Err(); err != nil {
			t.Errorf("SHOW FARMHAND %s: %v", q, err)
		}
		_ = rows.Close()
	}
	if n := metric(t, r, "farmhand_proxy_sessions"); n != 1 {
		t.Errorf("the metrics show %v sessions", n)
	}
	if n := metric(t, r, "farmhand_proxy_sessions_begun_total"); n < 1 {
		t.Errorf("the metrics show that %v sessions have begun", n)
	}
	if _, err := c.QueryContext(t.Context(), "SHOW FARMHAND NONSENSE"); err == nil || !strings.Contains(err.Error(), "SERVERS") {
		t.Errorf("a wrong question is answered with %v", err)
	}
	exec(t, c, "DO 1")
}

func TestKill(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	r := start(t, f, nil)
	victim, killer := r.conn(t), r.conn(t)
	id := value(t, victim, "SELECT CONNECTION_ID()")
	done := make(chan error, 1)
	go func() {
		_, err := victim.ExecContext(context.Background(), "DO SLEEP(30)")
		done <- err
	}()
	r.eventually(t, "the victim runs", func() bool {
		for _, s := range r.registry.Sessions() {
			if fmt.Sprint(s.ID) == id && s.Command != "" {
				return true
			}
		}
		return false
	})
	for {
		exec(t, killer, "KILL QUERY "+id)
		select {
		case <-done:
		case <-time.After(100 * time.Millisecond):
			continue // it had not reached its server yet
		}
		break
	}
	if got := value(t, victim, "SELECT 1"); got != "1" {
		t.Error("the session is gone after KILL QUERY")
	}
	exec(t, killer, "KILL "+id)
	r.eventually(t, "the session is gone", func() bool {
		for _, s := range r.registry.Sessions() {
			if fmt.Sprint(s.ID) == id {
				return false
			}
		}
		return true
	})
	if _, err := killer.ExecContext(t.Context(), "KILL "+id); err == nil || !strings.Contains(err.Error(), "1094") {
		t.Errorf("KILL of a session that is gone: %v", err)
	}
}

func TestHandOverRefusesNobody(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	r := start(t, f, nil)
	exec(t, r.conn(t), "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1,1),(2,2)")
	f.WaitCaughtUp(t)
	stopLoad, reads := load(t, r, false) // no drain ends for a client that never pauses
	for n := 0; n < 3 || n < 30 && reads() < 100; n++ {
		predecessor := r
		r = successor(t, predecessor)
		select {
		case <-predecessor.done:
		case <-time.After(time.Minute):
			t.Fatal("the predecessor goes on")
		}
	}
	if reads := stopLoad(); reads < 100 {
		t.Errorf("only %d reads were made", reads)
	}
}
