package backup_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/gtid"
	"farmhand/internal/mysqladmin"
	"farmhand/internal/objects"
	"farmhand/internal/restore"
	"farmhand/sidecar/internal/backup"
)

// mysqlInto is where a test restores to.
func mysqlInto(t *testing.T) restore.Into {
	t.Helper()
	place, dir := farmtest.FreePort(t), farmtest.ShortDir(t)
	return restore.Into{Install: farmtest.Need(t, farm.MySQL), Config: dbserver.Config{
		Dir: filepath.Join(dir, "restored"), Address: place.Addr(), Port: place.Port(), Socket: filepath.Join(dir, "s"),
		ServerID: 99, RedoLog: 16 << 20, ParentDeath: syscall.SIGKILL, ExtraArgs: farmtest.Frugal(farm.MySQL),
	}}
}

const recursive = "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM s WHERE n<100)"

// gone says what is left beside a server's data.
func gone(c dbserver.Config) error {
	if _, err := os.Lstat(dbserver.Scratch(c).Dir); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("something is left of the copy: %w", err)
	}
	return nil
}

// TestABackupOfMySQLIsExactlyThatOfItsPosition takes one of a replica that is written to,
// and compares what is restored with what the ledger has up to there. Each transaction
// writes its own number.
func TestABackupOfMySQLIsExactlyThatOfItsPosition(t *testing.T) {
	farmtest.Long(t)
	f := farmtest.Start(t, farmtest.Options{Flavor: farm.MySQL, Replicas: 1})
	p, replica := f.Primary(), f.Replica(0)
	p.Exec(t, "CREATE TABLE app.item (id INT PRIMARY KEY AUTO_INCREMENT, text TEXT)", "INSERT INTO app.item (text) "+recursive+" SELECT REPEAT(SHA2(n, 256), 100) FROM s")
	f.WaitCaughtUp(t)
	uuid := p.Query(t, "SELECT @@GLOBAL.server_uuid AS v")[0].String("v")
	before, err := gtid.Parse(farm.MySQL, p.Position(t))
	if err != nil {
		t.Fatal(err)
	}
	db := p.Open(t, farmtest.App)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int)
	go func() {
		n := 0
		for ; ctx.Err() == nil; n++ {
			if _, err := db.Exec("INSERT INTO item (text) VALUES ('under load')"); err != nil {
				t.Error(err)
				break
			}
		}
		done <- n
	}()
	store, _ := directory(t)
	m, err := backup.Take(t.Context(), of(t, replica, store))
	cancel()
	wrote := <-done
	if err != nil {
		t.Fatal(err)
	}
	at, err := m.At()
	if err != nil || !at.Contains(before) || wrote == 0 {
		t.Fatalf("the backup is at %v, %v; the server was at %v, and %d were written", at, err, before, wrote)
	}
	if err := gone(replica.Config()); err != nil {
		t.Error(err)
	}
	into := mysqlInto(t)
	plan := &restore.Plan{Source: restore.Source{Store: store, Cluster: "app"}, Manifest: m}
	data, err := plan.Restore(t.Context(), into)
	if err != nil {
		t.Fatal(err)
	}
	if err := data.Swap(); err != nil {
		t.Fatal(err)
	}
	s, err := dbserver.Start(t.Context(), into.Install, into.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	state, err := s.State(t.Context())
	if err != nil || !state.Executed.Equal(at) || data.Position != m.Position {
		t.Errorf("the restored server is at %v, %v; want %s", state.Executed, err, m.Position)
	}
	// One transaction a row: the numbers up to the position are the rows.
	rows, err := s.Query(t.Context(), "SELECT COUNT(*)-100 AS n, (SELECT COUNT(*) FROM mysql.slave_master_info) AS sources FROM app.item")
	if err != nil {
		t.Fatal(err)
	}
	n, _ := rows[0].Int("n")
	want, err := gtid.Parse(farm.MySQL, fmt.Sprintf("%s:1-%d", uuid, int64(last(t, before, uuid))+n))
	if err != nil || !at.Equal(want) {
		t.Errorf("it has %d rows more than before, at %v; before it was at %v", n, at, before)
	}
	if sources, _ := rows[0].Int("sources"); sources != 0 {
		t.Error("the restored server knows whom the one that was copied followed")
	}
	// The server can be followed and goes on.
	if err := s.Exec(t.Context(), "INSERT INTO app.item (text) VALUES ('goes on')"); err != nil {
		t.Error(err)
	}
	replica.StopReplication(t)
	replica.StartReplication(t)
	f.WaitCaughtUp(t)

	t.Run("what the plugin does not copy is refused by name", func(t *testing.T) {
		p.Exec(t, "CREATE TABLE app.plain (n INT) ENGINE=MyISAM")
		if _, err := backup.Take(t.Context(), of(t, p, store)); err == nil || !strings.Contains(err.Error(), "app.plain (MyISAM)") {
			t.Errorf("it says: %v", err)
		}
		p.Exec(t, "DROP TABLE app.plain")
		if err := gone(p.Config()); err != nil {
			t.Error(err)
		}
	})
	t.Run("another series is refused by name", func(t *testing.T) {
		other := *m
		other.ServerVersion = "8.0.44"
		plan := &restore.Plan{Source: restore.Source{Store: store, Cluster: "app"}, Manifest: &other}
		if _, err := plan.Restore(t.Context(), mysqlInto(t)); err == nil || !strings.Contains(err.Error(), "8.0.44") || !strings.Contains(err.Error(), into.Install.Version) {
			t.Errorf("it says: %v", err)
		}
	})
}

// last is the number of the last transaction that a server wrote.
func last(t *testing.T, p gtid.Position, uuid string) (n uint64) {
	t.Helper()
	own, err := p.WrittenBy(uuid)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(own.String(), uuid+":1-%d", &n); err != nil {
		t.Fatalf("%v: %v", own, err)
	}
	return n
}

// TestAKilledBackupOfMySQLLeavesNothing kills the process while the server copies and
// while the copy is sent.
func TestAKilledBackupOfMySQLLeavesNothing(t *testing.T) {
	inst := farmtest.Need(t, farm.MySQL)
	s := farmtest.Start(t, farmtest.Options{Flavor: farm.MySQL}).Primary()
	place := objects.Config{Directory: t.TempDir()}
	for _, sends := range []bool{false, true} {
		process, until := run(t, job{Flavor: farm.MySQL, Config: s.Config(), Store: place, Hang: true})
		if sends {
			until("sends")
		} else {
			farmtest.Eventually(t, "the server copies", func() error {
				_, err := os.Stat(dbserver.Scratch(s.Config()).DataDir())
				return err
			})
		}
		if err := process.Kill(); err != nil {
			t.Fatal(err)
		}
		if _, err := process.Wait(); err != nil {
			t.Fatal(err)
		}
		if gone(s.Config()) == nil {
			t.Error("nothing was left; the kill came too late")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := backup.Clear(ctx, inst, s.Config()); err != nil {
			t.Error(err)
		}
		if err := gone(s.Config()); err != nil {
			t.Error(err)
		}
		for _, row := range s.Query(t, "SELECT INFO AS info FROM performance_schema.processlist WHERE INFO LIKE 'CLONE%'") {
			t.Errorf("the server goes on: %s", row.String("info"))
		}
	}
	if _, err := backup.Take(t.Context(), of(t, s, open(t, place))); err != nil {
		t.Errorf("the next one: %v", err)
	}
	// Not only the process, but also the server.
	if err := os.MkdirAll(dbserver.Scratch(s.Config()).DataDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	s.Kill9(t)
	if err := backup.Clear(t.Context(), inst, s.Config()); err != nil {
		t.Error(err)
	}
	if err := gone(s.Config()); err != nil {
		t.Error(err)
	}
}

// TestADumpOfMySQLIsRestored takes statements, and makes a server of them.
func TestADumpOfMySQLIsRestored(t *testing.T) {
	farmtest.Long(t)
	s := farmtest.Start(t, farmtest.Options{Flavor: farm.MySQL}).Primary()
	s.Exec(t, "CREATE TABLE app.item (id INT PRIMARY KEY AUTO_INCREMENT, text TEXT)", "INSERT INTO app.item (text) VALUES ('one'), ('two')",
		"CREATE TABLE app.plain (n INT) ENGINE=MyISAM", "INSERT INTO app.plain VALUES (7)",
		"CREATE USER somebody@'%' IDENTIFIED BY 'secret'", "GRANT SELECT ON app.* TO somebody@'%'",
		"CREATE ROLE reader", "GRANT reader TO somebody@'%'", "SET DEFAULT ROLE reader TO somebody@'%'")
	store, _ := directory(t)
	full := of(t, s, store)
	full.Logical = true
	m, err := backup.Take(t.Context(), full)
	if err != nil {
		t.Fatal(err)
	}
	at, err := gtid.Parse(farm.MySQL, s.Position(t))
	if err != nil || m.Position != at.String() {
		t.Errorf("it is at %s, the server at %s, %v", m.Position, at, err)
	}
	into := mysqlInto(t)
	plan, err := restore.Find(t.Context(), restore.Source{Store: store, Cluster: "app"}, restore.Target{}, m.ID)
	if err != nil {
		t.Fatal(err)
	}
	data, err := plan.Restore(t.Context(), into)
	if err != nil {
		t.Fatal(err)
	}
	if err := data.Swap(); err != nil {
		t.Fatal(err)
	}
	if err := dbserver.Settle(t.Context(), into.Install, into.Config, func(ctx context.Context, conn *mysqladmin.Conn) error {
		rows, err := conn.Query(ctx, "SELECT (SELECT GROUP_CONCAT(text) FROM app.item) AS items, (SELECT n FROM app.plain) AS plain, @@GLOBAL.gtid_executed AS executed,"+
			" (SELECT COUNT(*) FROM mysql.db WHERE User='somebody' AND Db='app') AS grants,"+
			" (SELECT DEFAULT_ROLE_USER FROM mysql.default_roles WHERE USER='somebody') AS role")
		if err != nil {
			return err
		}
		r := rows[0]
		if r.String("items") != "one,two" || r.String("plain") != "7" || r.String("executed") != m.Position || r.String("grants") != "1" || r.String("role") != "reader" {
			t.Errorf("restored are %v", r)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	restored, err := dbserver.Start(t.Context(), into.Install, into.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(restored.Kill)
	somebody := farmtest.OpenSchemaless(t, "tcp", restored.Addr(), dbserver.Account{User: "somebody", Password: "secret"})
	if err := somebody.Ping(); err != nil {
		t.Errorf("an account does not come in with its password: %v", err)
	}
}
