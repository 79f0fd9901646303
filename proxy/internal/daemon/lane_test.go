package daemon

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"database/sql"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/proxy/internal/config"
)

// laneReads is how many reads have gone by lanes.
func (r *running) laneReads() string {
	for _, total := range r.totals() {
		if total.Name == "lane_reads_total" {
			return total.Value
		}
	}
	return "0"
}

// inSessions has reads ask for nothing that the session has not seen: at the level
// farm one after a pause asks for the farm's position, and goes by no lane.
func inSessions(c *config.Config) { c.Reads.Consistency = config.Session }

// byLane runs a read until it has gone by a lane, and returns what it gave then.
func (r *running) byLane(t *testing.T, c *sql.Conn, query string) (got string) {
	t.Helper()
	r.eventually(t, query+" goes by a lane", func() bool {
		before := r.laneReads()
		got = value(t, c, query)
		return r.laneReads() != before
	})
	return got
}

// TestSessionsShareLanes: sessions read through shared connections, each gets its
// own answers, and sees its own writes.
func TestSessionsShareLanes(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	f.Primary().Exec(t, "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)")
	const sessions, rounds = 24, 300
	for i := range sessions {
		f.Primary().Exec(t, fmt.Sprintf("INSERT INTO app.t VALUES (%d, %d)", i, 1000+i))
	}
	f.WaitCaughtUp(t)
	r := start(t, f, inSessions)
	r.caughtUp(t)
	db := r.open(t)
	db.SetMaxOpenConns(sessions)
	var all []*sql.Conn
	for range sessions {
		all = append(all, conn(t, db))
	}
	r.byLane(t, all[0], "SELECT v FROM t WHERE id=0")
	before := r.laneReads()
	var group sync.WaitGroup
	for i, c := range all {
		group.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			want := 1000 + i
			for n := range rounds {
				if n%100 == 50 {
					want++
					if _, err := c.ExecContext(ctx, fmt.Sprintf("UPDATE t SET v=%d WHERE id=%d", want, i)); err != nil {
						t.Error(err)
						return
					}
				}
				var got int
				if err := c.QueryRowContext(ctx, fmt.Sprintf("SELECT v FROM t WHERE id=%d", i)).Scan(&got); err != nil || got != want {
					t.Errorf("session %d reads %d instead of %d: %v", i, got, want, err)
					return
				}
			}
		})
	}
	group.Wait()
	if r.laneReads() == before {
		t.Error("no read has gone by a lane")
	}
	f.CheckNoOwnEvents(t)
}

// TestASlowStatementKeepsNobodyInItsLane: a statement that was quick is blocked on
// the server; what shares its lane is answered all the same, and so is it itself
// in the end.
func TestASlowStatementKeepsNobodyInItsLane(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	f.Primary().Exec(t, "CREATE TABLE app.slow (id INT)", "CREATE TABLE app.quick (id INT)", "INSERT INTO app.slow VALUES (1)", "INSERT INTO app.quick VALUES (2)")
	f.WaitCaughtUp(t)
	r := start(t, f, inSessions)
	r.caughtUp(t)
	db := r.open(t)
	a := conn(t, db)
	r.byLane(t, a, "SELECT id FROM slow")
	r.byLane(t, a, "SELECT id FROM quick")
	lock := conn(t, f.Replica(0).Admin(t))
	exec(t, lock, "LOCK TABLES app.slow WRITE")
	var group sync.WaitGroup
	const blocked = 6
	ask := func(query, want string) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		c, err := db.Conn(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = c.Close() }()
		var got string
		if err := c.QueryRowContext(ctx, query).Scan(&got); err != nil || got != want {
			t.Errorf("%s: %q, %v", query, got, err)
		}
	}
	for range blocked {
		group.Go(func() { ask("SELECT id FROM slow", "1") })
	}
	var others sync.WaitGroup
	for range 20 {
		others.Go(func() { ask("SELECT id FROM quick", "2") })
	}
	others.Wait() // while slow is still locked
	r.eventually(t, "those that are blocked wait on connections of their own, and nothing else does", func() bool {
		rows := f.Replica(0).Query(t, "SELECT COUNT(*) AS n FROM information_schema.processlist WHERE info='SELECT id FROM slow'")
		return rows[0].String("n") == fmt.Sprint(blocked)
	})
	exec(t, lock, "UNLOCK TABLES")
	group.Wait()
}

// reads10 wants a row's value to be ten times its id.
func reads10(row *sql.Row, id int) error {
	var got int
	if err := row.Scan(&got); err != nil || got != 10*id {
		return fmt.Errorf("it is %d: %v", got, err)
	}
	return nil
}

// killClients kills all connections of clients to a server.
func killClients(t *testing.T, s *farmtest.Server) {
	t.Helper()
	admin := s.Admin(t)
	for _, row := range s.Query(t, "SELECT id FROM information_schema.processlist WHERE user='app'") {
		_, _ = admin.ExecContext(t.Context(), "KILL "+row.String("id")) // or it has gone by itself
	}
}

// readers runs a read of each session's over and over until stop, which waits for them.
func readers(t *testing.T, all []*sql.Conn, read func(session int, c *sql.Conn, n int) error) (stop func()) {
	t.Helper()
	done := make(chan struct{})
	var group sync.WaitGroup
	for i, c := range all {
		group.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				if err := read(i, c, n); err != nil {
					t.Errorf("session %d: %v", i, err)
					return
				}
			}
		})
	}
	return func() { close(done); group.Wait() }
}

// TestALaneThatBreaksAnswersNobodyWrongly: lanes are killed all the time.
func TestALaneThatBreaksAnswersNobodyWrongly(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	f.Primary().Exec(t, "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)", "INSERT INTO app.t VALUES (0,0),(1,10),(2,20),(3,30),(4,40),(5,50),(6,60),(7,70)")
	f.WaitCaughtUp(t)
	r := start(t, f, inSessions)
	r.caughtUp(t)
	db := r.open(t)
	var all []*sql.Conn
	for range 8 {
		all = append(all, conn(t, db))
	}
	r.byLane(t, all[0], "SELECT v FROM t WHERE id=0")
	stop := readers(t, all, func(i int, c *sql.Conn, _ int) error {
		return reads10(c.QueryRowContext(t.Context(), fmt.Sprintf("SELECT v FROM t WHERE id=%d", i)), i)
	})
	for range 20 {
		before := r.laneReads()
		r.eventually(t, "lanes are used", func() bool { return r.laneReads() != before })
		killClients(t, f.Replica(0))
	}
	stop()
}

// TestWhatIsAskedAfterALane: questions about a statement that went by a lane are
// answered as if it had not.
func TestWhatIsAskedAfterALane(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	f.Primary().Exec(t, "CREATE TABLE app.t (id INT, s VARCHAR(10))", "INSERT INTO app.t VALUES (1,'1'),(2,'2x'),(3,'3')", "CREATE SCHEMA other", "GRANT ALL ON other.* TO app@'%'")
	f.WaitCaughtUp(t)
	r := start(t, f, inSessions)
	r.caughtUp(t)
	c := r.conn(t)
	const three = "SELECT id FROM t ORDER BY id"
	for _, x := range []struct{ between, question, want string }{
		{"", "SELECT FOUND_ROWS()", "3"},
		{"", "SELECT ROW_COUNT()", "-1"},
		{"", "SHOW COUNT(*) WARNINGS", "0"},
		{"USE other", "SELECT FOUND_ROWS()", "3"},
		{"BEGIN", "SELECT FOUND_ROWS()", "3"},
		{"DELETE FROM app.t WHERE id=99", "SELECT ROW_COUNT()", "0"},
		{"DELETE FROM app.t WHERE id=99", "SELECT FOUND_ROWS()", "3"},
		{"SET @x=1", "SELECT ROW_COUNT()", "0"},
	} {
		exec(t, c, "USE app")
		r.byLane(t, c, three)
		if x.between != "" {
			exec(t, c, x.between)
		}
		if got := value(t, c, x.question); got != x.want {
			t.Errorf("%s; %s; %s gives %s instead of %s", three, x.between, x.question, got, x.want)
		}
		exec(t, c, "ROLLBACK")
	}
	// A statement that warns is run by the session's own connection, for the
	// warning to be asked for.
	r.byLane(t, c, "SELECT s+0 FROM t WHERE id=1")
	if got := value(t, c, "SELECT s+0 FROM t WHERE id=2"); got != "2" {
		t.Errorf("2x is %s", got)
	}
	var level, message string
	var code int
	if err := c.QueryRowContext(t.Context(), "SHOW WARNINGS").Scan(&level, &code, &message); err != nil || code != 1292 {
		t.Errorf("the warning is %d %s: %v", code, message, err)
	}
	// An error is the statement's own.
	r.byLane(t, c, "SELECT id FROM t WHERE id=1 LIMIT 1")
	var id int
	if err := c.QueryRowContext(t.Context(), "SELECT nosuch FROM t WHERE id=1 LIMIT 1").Scan(&id); err == nil || !strings.Contains(err.Error(), "1054") {
		t.Errorf("the error is %v", err)
	}
}

// TestWhatIsAskedAfterALaneIsAboutWhatTheClientGot: the data changes between a
// statement that went by a lane and the question about it.
func TestWhatIsAskedAfterALaneIsAboutWhatTheClientGot(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	f.Primary().Exec(t, "CREATE TABLE app.t (id INT)", "INSERT INTO app.t VALUES (1),(2),(3)")
	f.WaitCaughtUp(t)
	r := start(t, f, inSessions)
	r.caughtUp(t)
	c := r.conn(t)
	r.byLane(t, c, "SELECT id FROM t ORDER BY id")
	f.Primary().Exec(t, "INSERT INTO app.t VALUES (4)")
	f.WaitCaughtUp(t)
	var n int
	if err := c.QueryRowContext(t.Context(), "SELECT FOUND_ROWS()").Scan(&n); err == nil && n != 3 || err != nil && !strings.Contains(err.Error(), "cannot be told") {
		t.Errorf("FOUND_ROWS() is %d after three rows: %v", n, err)
	}
}

// TestWhatIsAskedAfterALaneAndAWrite: the replica is behind the write, so what went by a
// lane can be run again on the primary only, on the connection that knows of the write.
func TestWhatIsAskedAfterALaneAndAWrite(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	f.Primary().Exec(t, "CREATE TABLE app.t (id INT)", "INSERT INTO app.t VALUES (1),(2),(3)", "CREATE TABLE app.u (id TINYINT)")
	f.WaitCaughtUp(t)
	r := start(t, f, inSessions)
	r.caughtUp(t)
	c := r.conn(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const refused = "refused" // rather than a wrong answer
	ask := func(query string) (last string, n int) {
		t.Helper()
		rows, err := c.QueryContext(t.Context(), query)
		if err != nil && strings.Contains(err.Error(), "Error 1235 (42000): Farmhand: ") {
			return refused, 0
		}
		must(err)
		columns, err := rows.Columns()
		must(err)
		values := make([]any, len(columns))
		for i := range values {
			values[i] = &last
		}
		for ; rows.Next(); n++ {
			must(rows.Scan(values...))
		}
		must(errors.Join(rows.Err(), rows.Close()))
		return last, n
	}
	const both = "SELECT ROW_COUNT() + 10*FOUND_ROWS()"
	const three = "SELECT id FROM t ORDER BY id"
	for _, x := range []struct{ question, want string }{{both, "32"}, {"SELECT ROW_COUNT() FROM u LIMIT 1", "2"}, {"SELECT FOUND_ROWS() FROM u LIMIT 1", "3"}, {"SELECT LAST_INSERT_ID(), FOUND_ROWS()", "3"}} {
		value(t, c, three) // on the replica
		exec(t, c, "INSERT INTO u VALUES (1),(2)")
		if got, _ := ask(x.question); got != x.want && got != refused {
			t.Errorf("%s gives %s", x.question, got)
		}
	}
	value(t, c, three)
	if _, err := c.ExecContext(t.Context(), "INSERT INTO u VALUES (FOUND_ROWS())"); err == nil {
		if got, _ := ask("SELECT COUNT(*) FROM u WHERE id=3"); got != "1" {
			t.Error("a write has been given a wrong FOUND_ROWS()")
		}
	}
	for _, x := range []struct{ between, question, want string }{
		{"INSERT INTO u VALUES (1),(2)", "SELECT ROW_COUNT()", "2"},
		{"INSERT INTO u VALUES (1),(2)", "SELECT FOUND_ROWS()", "3"},
		{"BEGIN; INSERT INTO u VALUES (1),(2)", "SELECT ROW_COUNT()", "2"},
		{"BEGIN; INSERT INTO u VALUES (1),(2)", "SELECT FOUND_ROWS()", "3"},
		{"INSERT INTO u VALUES (1),(2)", both, "32"},
		{"INSERT INTO u VALUES (1),(2)", "prepare", "2"},
		{"INSERT IGNORE INTO u VALUES (1000)", "warnings", "1"},
	} {
		r.byLane(t, c, three)
		f.Replica(0).Exec(t, "STOP SLAVE SQL_THREAD")
		for one := range strings.SplitSeq(x.between, "; ") {
			exec(t, c, one)
		}
		got := ""
		switch x.question {
		case both:
			got, _ = ask(both)
		case "prepare": // changes no count
			st, err := c.PrepareContext(t.Context(), "SET @y=1")
			must(err)
			must(st.Close())
			got, _ = ask("SELECT ROW_COUNT()")
		case "warnings":
			must(c.QueryRowContext(t.Context(), "SELECT FOUND_ROWS()").Scan(new(int)))
			n := 0
			if got, n = ask("SHOW WARNINGS"); got != refused {
				got = strconv.Itoa(n)
			}
		default:
			got = value(t, c, x.question)
		}
		if got != x.want && got != refused {
			t.Errorf("%s; %s gives %s instead of %s", x.between, x.question, got, x.want)
		}
		exec(t, c, "ROLLBACK")
		f.Replica(0).Exec(t, "START SLAVE SQL_THREAD")
		r.caughtUp(t)
	}
}

// TestALaneKeepsNoConnectionFromOthers: with one server connection the lane lends
// it to who needs another kind.
func TestALaneKeepsNoConnectionFromOthers(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	f.Primary().Exec(t, "CREATE TABLE app.t (id INT)", "INSERT INTO app.t VALUES (1)")
	f.WaitCaughtUp(t)
	r := start(t, f, func(c *config.Config) {
		inSessions(c)
		c.Pool.MaxPerServer = 1
	})
	r.caughtUp(t)
	a, b := r.conn(t), r.conn(t)
	exec(t, b, "SET time_zone='+03:00'")
	for range 3 {
		r.byLane(t, a, "SELECT id FROM t")
		if got := value(t, b, "SELECT @@time_zone FROM t"); got != "+03:00" {
			t.Errorf("the time zone is %s", got)
		}
	}
}

// TestNothingStaysOfAStatementInALane: a view's function sets a variable, and may
// fail after that; who comes next on the lane does not find it set.
func TestNothingStaysOfAStatementInALane(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	f.Primary().Exec(t, "SET GLOBAL log_bin_trust_function_creators=1", "SET time_zone='+00:00'",
		"CREATE TABLE app.t (id INT, at TIMESTAMP, bad INT)", "INSERT INTO app.t VALUES (1,'2026-01-02 03:04:05',0),(2,'2026-01-02 03:04:05',1)",
		"CREATE FUNCTION app.elsewhere(bad INT) RETURNS INT NO SQL BEGIN SET time_zone='+05:00'; IF bad THEN SIGNAL SQLSTATE '45000'; END IF; RETURN 1; END",
		"CREATE VIEW app.places AS SELECT id, app.elsewhere(bad) AS m FROM app.t")
	f.WaitCaughtUp(t)
	r := start(t, f, inSessions)
	r.caughtUp(t)
	b := r.conn(t)
	const question = "SELECT at FROM t WHERE id=1"
	want := r.byLane(t, b, question)
	for n := range 40 {
		a := r.conn(t) // one that has changed so keeps to itself
		if n%2 == 0 {
			_ = value(t, a, "SELECT m FROM places WHERE id=1")
		} else if _, err := a.ExecContext(t.Context(), "SELECT m FROM places WHERE id=2"); err == nil {
			t.Fatal("the function does not fail")
		}
		for range 3 {
			if got := value(t, b, question); got != want {
				t.Fatalf("round %d: another session's time zone is seen: %s instead of %s", n, got, want)
			}
		}
		r.byLane(t, b, question)
	}
	f.CheckNoOwnEvents(t)
}

// TestWhatAFailedStatementSetIsItsSessionsOnly: a stored program sets a variable and
// fails, of which an error says nothing. The session that called it has the variable
// from then on, as on a direct connection, wherever it reads; no other one has it.
func TestWhatAFailedStatementSetIsItsSessionsOnly(t *testing.T) {
	for _, flavor := range []farm.Flavor{farm.MariaDB, farm.MySQL} {
		t.Run(flavor.String(), func(t *testing.T) {
			f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 1})
			f.Primary().Exec(t, "SET GLOBAL log_bin_trust_function_creators=1", "SET time_zone='+00:00'",
				"CREATE TABLE app.t (id INT PRIMARY KEY, at TIMESTAMP)", "INSERT INTO app.t VALUES (1,'2026-01-02 03:04:05')",
				"CREATE FUNCTION app.elsewhere() RETURNS INT NO SQL BEGIN SET time_zone='+05:00'; SIGNAL SQLSTATE '45000'; RETURN 1; END",
				"CREATE VIEW app.places AS SELECT id, app.elsewhere() AS m FROM app.t",
				"CREATE TABLE app.n (n INT)", "INSERT INTO app.n VALUES (1)",
				"CREATE TRIGGER app.moves BEFORE INSERT ON app.t FOR EACH ROW SET time_zone='+06:00'")
			f.WaitCaughtUp(t)
			r := start(t, f, func(c *config.Config) {
				inSessions(c)
				c.Pool.MaxPerServer = 1
			})
			r.caughtUp(t)
			const question = "SELECT at FROM t WHERE id=1"
			b := r.conn(t)
			here := value(t, b, question)
			for _, fails := range []string{"SELECT m FROM places", "INSERT INTO t (id) VALUES (1)"} {
				a := r.conn(t)
				direct, err := f.Primary().Open(t, farmtest.App).Conn(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer direct.Close()
				if _, err := direct.ExecContext(t.Context(), "USE app"); err != nil {
					t.Fatal(err)
				}
				for _, about := range []string{"SELECT ROW_COUNT()", "SELECT FOUND_ROWS()", "SELECT @@warning_count", question} {
					told := ""
					for _, c := range []*sql.Conn{a, direct} {
						_ = value(t, c, question)
						if _, err := c.ExecContext(t.Context(), fails); err == nil {
							t.Fatalf("%s does not fail", fails)
						}
						got := value(t, c, about)
						if c == direct && got != told {
							t.Errorf("%s: %s gives %s, directly %s", fails, about, told, got)
						}
						told = got
					}
				}
				counts := ""
				for _, c := range []*sql.Conn{a, direct} {
					exec(t, c, "BEGIN")
					if _, err := c.ExecContext(t.Context(), fails); err == nil {
						t.Fatalf("%s does not fail", fails)
					}
					exec(t, c, "UPDATE n SET n=n+1", "COMMIT")
					got := value(t, c, "SELECT ROW_COUNT()")
					if c == direct && got != counts {
						t.Errorf("%s: after a COMMIT ROW_COUNT() is %s, directly %s", fails, counts, got)
					}
					counts = got
				}
				for range 3 {
					if got := value(t, b, question); got != here {
						t.Errorf("%s: another session's time zone is seen: %s instead of %s", fails, got, here)
					}
					want := value(t, direct, question)
					if got := value(t, a, question); got != want {
						t.Errorf("%s: the session reads %s, a direct one %s", fails, got, want)
					}
				}
				_ = a.Close()
			}
			f.CheckNoOwnEvents(t)
		})
	}
}

// TestLanesWhereTheServerReadsItsDisk: there are more of them than the server has
// processors while what is asked is not in its memory.
func TestLanesWhereTheServerReadsItsDisk(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1, ExtraArgs: []string{"--thread-pool-size=1", "--innodb-buffer-pool-size=8M"}})
	const rows = 20_000 // of a kilobyte
	f.Primary().Exec(t, "CREATE TABLE app.t (id INT PRIMARY KEY, v INT, pad VARCHAR(1000))",
		fmt.Sprintf("INSERT INTO app.t SELECT seq, 10*seq, REPEAT('x', 1000) FROM app.seq_1_to_%d", rows))
	f.WaitCaughtUp(t)
	r := start(t, f, inSessions)
	r.caughtUp(t)
	db := r.open(t)
	db.SetMaxOpenConns(24)
	var all []*sql.Conn
	for range 24 {
		all = append(all, conn(t, db))
	}
	r.byLane(t, all[0], "SELECT v FROM t WHERE id=1")
	if n := r.lanes.Count(); n != 1 {
		t.Errorf("%d lanes to a server with one processor", n)
	}
	stop := readers(t, all, func(session int, c *sql.Conn, n int) error {
		id := 1 + (session*7919+n*104729)%rows
		return reads10(c.QueryRowContext(t.Context(), fmt.Sprintf("SELECT v FROM t WHERE id=%d", id)), id)
	})
	r.eventually(t, "there are more lanes", func() bool { return r.lanes.Count() > 2 })
	stop()
	if got := r.monitor.View().Replicas[0].DiskReads; got < 0.1 {
		t.Errorf("%v pages a statement", got)
	}
	f.CheckNoOwnEvents(t)
}

// TestClientsOfLanesLeaveWithoutAWord: their sessions end, whatever they hold.
func TestClientsOfLanesLeaveWithoutAWord(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	f.Primary().Exec(t, "CREATE TABLE app.t (id INT)", "INSERT INTO app.t VALUES (1)")
	f.WaitCaughtUp(t)
	r := start(t, f, inSessions)
	r.caughtUp(t)
	var sockets []net.Conn
	name := fmt.Sprintf("word%d", time.Now().UnixNano())
	mysql.RegisterDialContext(name, func(ctx context.Context, address string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		sockets = append(sockets, c)
		return c, err
	})
	db, err := sql.Open("mysql", fmt.Sprintf("%s:%s@%s(%s)/app", farmtest.App.User, farmtest.App.Password, name, r.tcp))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for range 6 {
		c := conn(t, db)
		for range 3 {
			r.byLane(t, c, "SELECT id FROM t")
		}
	}
	for _, c := range sockets {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	r.eventually(t, "all sessions end", func() bool { return len(r.registry.Sessions()) == 0 })
}

// certificate makes one that signs itself, and its key, in files that a server may read.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := farmtest.ShortDir(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: certificate}, key: {Type: "PRIVATE KEY", Bytes: encoded}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TestLanesOverTLS: the connections to the servers are encrypted, and one of the
// sessions' too; lanes break meanwhile, and statements in them are blocked.
func TestLanesOverTLS(t *testing.T) {
	cert, key := certificate(t)
	f := farmtest.Start(t, farmtest.Options{Replicas: 1, ExtraArgs: []string{"--ssl-cert=" + cert, "--ssl-key=" + key}})
	f.Primary().Exec(t, "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)", "INSERT INTO app.t VALUES (0,0),(1,10),(2,20),(3,30),(4,40),(5,50)")
	f.WaitCaughtUp(t)
	r := start(t, f, func(c *config.Config) {
		inSessions(c)
		c.TLS.Servers.Mode = config.TLSRequired
	})
	r.caughtUp(t)
	db := r.open(t)
	var all []*sql.Conn
	for range 6 {
		all = append(all, conn(t, db))
	}
	r.byLane(t, all[0], "SELECT v FROM t WHERE id=0")
	var prepared []*sql.Stmt
	for _, c := range all {
		p, err := c.PrepareContext(t.Context(), "SELECT v FROM t WHERE id=?")
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		prepared = append(prepared, p)
	}
	stop := readers(t, all, func(i int, c *sql.Conn, n int) error {
		if n%2 == 0 {
			return reads10(c.QueryRowContext(t.Context(), fmt.Sprintf("SELECT v FROM t WHERE id=%d", i)), i)
		}
		return reads10(prepared[i].QueryRowContext(t.Context(), i), i)
	})
	for n := range 10 {
		before := r.laneReads()
		r.eventually(t, "lanes are used", func() bool { return r.laneReads() != before })
		if n%2 == 0 {
			killClients(t, f.Replica(0))
			continue
		}
		lock := conn(t, f.Replica(0).Admin(t))
		exec(t, lock, "LOCK TABLES app.t WRITE")
		time.Sleep(100 * time.Millisecond)
		exec(t, lock, "UNLOCK TABLES")
	}
	stop()
	f.CheckNoOwnEvents(t)
}
