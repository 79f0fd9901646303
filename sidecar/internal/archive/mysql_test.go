package archive_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"farmhand/internal/backup"
	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/gtid"
	"farmhand/internal/mysqladmin"
	"farmhand/internal/objects"
	"farmhand/sidecar/internal/archive"
	full "farmhand/sidecar/internal/backup"
)

func set(t *testing.T, text string) gtid.Position {
	t.Helper()
	p, err := gtid.Parse(farm.MySQL, text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// mysqlArchiver is one of a server that leads in an epoch.
func mysqlArchiver(t *testing.T, s *farmtest.Server, address string, store objects.Store, from gtid.Position) archive.Archiver {
	a := archiver(s, address, store, from)
	a.Writer = s.Query(t, "SELECT @@GLOBAL.server_uuid AS v")[0].String("v")
	a.Had = set(t, s.Position(t))
	a.Every, a.Size = 300*time.Millisecond, 64<<10
	return a
}

// writeMySQL writes transactions of all kinds.
func writeMySQL(t *testing.T, s *farmtest.Server, n int) {
	t.Helper()
	for i := range n {
		switch i % 8 {
		case 0:
			s.Exec(t, "DROP TABLE IF EXISTS app.made", "CREATE TABLE app.made AS SELECT * FROM app.item LIMIT 5")
		case 1:
			s.Exec(t, "USE app", "SET SESSION binlog_format=STATEMENT", "INSERT INTO app.item (text) VALUES (CONCAT('statement ', NOW()))")
		case 2:
			s.Exec(t, "USE app", "SET GTID_NEXT='AUTOMATIC:tagged'", "INSERT INTO app.item (text) VALUES ('with a tag')", "SET GTID_NEXT='AUTOMATIC'")
		case 3:
			x := fmt.Sprintf("'x%d-%d'", n, i)
			s.Exec(t, "XA START "+x, "INSERT INTO app.item (text) VALUES ('in two phases')", "XA END "+x, "XA PREPARE "+x, "XA COMMIT "+x)
		case 4:
			s.Exec(t, "SET SESSION binlog_transaction_compression=ON", "INSERT INTO app.item (text) VALUES (REPEAT('compressed ', 1000))")
		default:
			s.Exec(t, "BEGIN", "INSERT INTO app.item (text) VALUES (REPEAT(SHA2(RAND(), 256), 20))",
				fmt.Sprintf("UPDATE app.item SET text=CONCAT(text, '!') WHERE id=%d", 1+i), "COMMIT")
		}
	}
}

// sums are the checksums of tables.
func sums(rows []mysqladmin.Row) map[string]string {
	m := map[string]string{}
	for _, row := range rows {
		m[row.String("Table")] = row.String("Checksum")
	}
	return m
}

// TestAMySQLBackupAndItsArchiveAreTheServer is the same for MySQL in short: what is written
// in every way that a binlog knows, over a broken connection, a killed server and a new
// binlog.
func TestAMySQLBackupAndItsArchiveAreTheServer(t *testing.T) {
	inst := farmtest.Need(t, farm.MySQL)
	p := farmtest.Start(t, farmtest.Options{Flavor: farm.MySQL}).Primary()
	p.Exec(t, "CREATE TABLE app.item (id INT PRIMARY KEY AUTO_INCREMENT, text LONGTEXT)")
	writeMySQL(t, p, 8)
	store, err := objects.Open(t.Context(), objects.Config{Directory: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	m, err := full.Take(t.Context(), full.Full{Install: inst, Config: p.Config(), Store: store, Cluster: "app", Node: "db1", Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	if m.Position != set(t, p.Position(t)).String() || m.Flavor != "MySQL" || m.Stream != "tar" || m.ServerVersion != inst.Version {
		t.Errorf("the server is at %s; %+v", p.Position(t), m)
	}
	link := farmtest.NewLink(t, p.Addr())
	r := run(t, mysqlArchiver(t, p, link.Addr(), store, set(t, m.Position)))
	for _, fault := range []func(){
		link.Reset,
		func() { p.Kill9(t); p.Restart(t) },
		func() { p.Exec(t, "FLUSH BINARY LOGS") },
	} {
		writeMySQL(t, p, 8)
		fault()
		writeMySQL(t, p, 8)
	}
	end := set(t, p.Position(t))
	r.await(t, end)
	r.stop(t)
	segments, faults, err := backup.ListSegments(t.Context(), store, "app")
	if err != nil || faults != nil {
		t.Fatal(err, faults)
	}
	c, err := m.Continue(segments)
	if err != nil || c.Gaps != nil || !c.Reached.Equal(end) || !c.Until.After(m.Ended) {
		t.Fatalf("it goes to %v, the server to %v; %v, gaps %v", c.Reached, end, err, c.Gaps)
	}
	readable(t, inst, store, c.Segments[:3])

	place, dir := farmtest.FreePort(t), farmtest.ShortDir(t)
	config := dbserver.Config{
		Dir: filepath.Join(dir, "restored"), Address: place.Addr(), Port: place.Port(), Socket: filepath.Join(dir, "s"),
		ServerID: 1, RedoLog: 16 << 20, ParentDeath: syscall.SIGKILL, ExtraArgs: farmtest.Frugal(farm.MySQL),
	}
	data := restoreNewest(t, store, inst, config)
	const contents = "CHECKSUM TABLE app.item, app.made"
	want := sums(p.Query(t, contents))
	uuid := p.Query(t, "SELECT @@GLOBAL.server_uuid AS v")[0].String("v")
	if err := dbserver.Settle(t.Context(), inst, config, func(ctx context.Context, conn *mysqladmin.Conn) error {
		rows, err := conn.Query(ctx, contents)
		if err != nil {
			return err
		}
		if got := sums(rows); !maps.Equal(got, want) {
			t.Errorf("restored and replayed: %v, the server: %v", got, want)
		}
		if rows, err = conn.Query(ctx, "SELECT @@GLOBAL.gtid_executed AS executed, @@GLOBAL.server_uuid AS uuid"); err != nil {
			return err
		}
		if at := set(t, rows[0].String("executed")); !at.Equal(end) || data.Position != end.String() || rows[0].String("uuid") == uuid {
			t.Errorf("the data is at %v, the restore says %s, the server is at %v; it is %s, as %s", at, data.Position, end, rows[0].String("uuid"), uuid)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	t.Run("what is purged is a gap", func(t *testing.T) {
		p.Exec(t, "FLUSH BINARY LOGS")
		logs := p.Query(t, "SHOW BINARY LOGS")
		p.Exec(t, "PURGE BINARY LOGS TO '"+logs[len(logs)-1].String("Log_name")+"'")
		var lost *archive.LostError
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		from := set(t, m.Position)
		if err := mysqlArchiver(t, p, p.Addr(), store, from).Run(ctx); !errors.As(err, &lost) || !lost.Position.Equal(from) {
			t.Errorf("it says: %v", err)
		}
	})
}

// readable has somebody else than Farmhand read the segments.
func readable(t *testing.T, inst dbserver.Install, store objects.Store, segments []backup.Segment) {
	t.Helper()
	tool, err := inst.Tool("mysqlbinlog")
	if err != nil {
		t.Skip(err)
	}
	for i := range segments {
		var file strings.Builder
		if err := segments[i].Save(t.Context(), store, nil, &file); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(tool[0], append(tool[1:], "--no-defaults", "--verify-binlog-checksum", "-")...)
		cmd.Stdin = strings.NewReader(file.String())
		out, err := cmd.CombinedOutput()
		if n := strings.Count(string(out), "SET @@SESSION.GTID_NEXT= '") - strings.Count(string(out), "GTID_NEXT= 'AUTOMATIC'"); err != nil || n != segments[i].Transactions {
			t.Fatalf("mysqlbinlog reads %d transactions of the %d of %s, %v:\n%s", n, segments[i].Transactions, segments[i].Key, err, out)
		}
	}
}
