package archive_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"farmhand/internal/backup"
	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/gtid"
	"farmhand/internal/objects"
	"farmhand/internal/restore"
	"farmhand/sidecar/internal/archive"
	full "farmhand/sidecar/internal/backup"
)

func TestMain(m *testing.M) {
	os.Exit(farmtest.Leakless{M: m, Patience: 5 * time.Second}.Run())
}

func position(t *testing.T, text string) gtid.Position {
	t.Helper()
	p, err := gtid.Parse(farm.MariaDB, text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// running is an archiver that runs.
type running struct {
	cancel context.CancelFunc
	done   chan error

	mu      sync.Mutex
	status  archive.Status
	since   time.Time     // of what waits
	longest time.Duration // that something waited
	broken  error
}

// archiver is one of a server, at an address that can be another.
func archiver(s *farmtest.Server, address string, store objects.Store, from gtid.Position) archive.Archiver {
	return archive.Archiver{
		Flavor: s.Flavor(),
		Node:   s.Name(), Address: netip.MustParseAddrPort(address), Account: func() dbserver.Account { return farmtest.Replicator }, ServerID: 900, Cluster: "app", Epoch: 1,
		Store: store, Position: from,
	}
}

func run(t *testing.T, a archive.Archiver) *running {
	r := &running{done: make(chan error, 1)}
	a.Tell = func(s archive.Status) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if s.Waiting.IsZero() && !r.since.IsZero() && s.Err == nil {
			r.longest = max(r.longest, time.Since(r.since))
		}
		if s.Err != nil {
			r.broken = s.Err
		}
		r.since, r.status = s.Waiting, s
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { r.done <- a.Run(ctx) }()
	t.Cleanup(cancel)
	return r
}

func (r *running) now() archive.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// await waits until a position is stored.
func (r *running) await(t *testing.T, p gtid.Position) {
	t.Helper()
	farmtest.Eventually(t, "the archive has "+p.String(), func() error {
		if s := r.now(); !s.Position.Contains(p) {
			return fmt.Errorf("it has %s; %w", s.Position, errors.Join(s.Err, errors.New("not yet")))
		}
		return nil
	})
}

func (r *running) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	if err := <-r.done; err != nil {
		t.Fatal(err)
	}
}

// write writes some transactions of all kinds.
func write(t *testing.T, s *farmtest.Server, n int) {
	t.Helper()
	r := rand.New(rand.NewPCG(3, uint64(n)))
	for i := range n {
		switch i % 10 {
		case 0:
			s.Exec(t, fmt.Sprintf("CREATE OR REPLACE TABLE app.made%d AS SELECT seq FROM app.seq_1_to_10", r.IntN(5)))
		case 1:
			s.Exec(t, "SET STATEMENT binlog_format=STATEMENT FOR INSERT INTO app.item (text) VALUES (CONCAT('statement ', NOW()))",
				"INSERT INTO app.plain VALUES (RAND()*1000)") // no transaction's engine
		case 2:
			s.Exec(t, fmt.Sprintf("XA START 'x%d'", i), "INSERT INTO app.item (text) VALUES ('in two phases')",
				fmt.Sprintf("XA END 'x%d'", i), fmt.Sprintf("XA PREPARE 'x%d'", i), fmt.Sprintf("XA COMMIT 'x%d'", i))
		default:
			s.Exec(t, "BEGIN", "INSERT INTO app.item (text) VALUES (REPEAT(MD5(RAND()), 20))",
				fmt.Sprintf("UPDATE app.item SET text=CONCAT(text, '!') WHERE id=%d", 1+r.IntN(50)), "COMMIT")
		}
	}
}

func tables(t *testing.T, s *farmtest.Server) {
	t.Helper()
	s.Exec(t, "CREATE TABLE app.item (id INT PRIMARY KEY AUTO_INCREMENT, text LONGTEXT)", "CREATE TABLE app.plain (n INT) ENGINE=Aria")
}

const contents = "CHECKSUM TABLE app.item, app.plain, app.made0, app.made1, app.made2, app.made3, app.made4"

// restoreNewest puts the data of the newest position where the server of c has its data.
func restoreNewest(t *testing.T, store objects.Store, inst dbserver.Install, c dbserver.Config) *restore.Restored {
	t.Helper()
	plan, err := restore.Find(t.Context(), restore.Source{Store: store, Cluster: "app"}, restore.Target{}, "")
	if err != nil {
		t.Fatal(err)
	}
	data, err := plan.Restore(t.Context(), restore.Into{Install: inst, Config: c})
	if err != nil {
		t.Fatal(err)
	}
	if err := data.Swap(); err != nil {
		t.Fatal(err)
	}
	return data
}

// restored is a server on data that was restored to the newest position.
func restored(t *testing.T, store objects.Store) *dbserver.Server {
	t.Helper()
	place, dir := farmtest.FreePort(t), farmtest.ShortDir(t)
	inst := farmtest.Need(t, farm.MariaDB)
	c := dbserver.Config{
		Dir: filepath.Join(dir, "restored"), Address: place.Addr(), Port: place.Port(), Socket: filepath.Join(dir, "s"),
		ServerID: 99, RedoLog: 16 << 20, ParentDeath: syscall.SIGKILL,
	}
	restoreNewest(t, store, inst, c)
	s, err := dbserver.Start(t.Context(), inst, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

func chain(t *testing.T, store objects.Store, from string) backup.Chain {
	t.Helper()
	segments, faults, err := backup.ListSegments(t.Context(), store, "app")
	if err != nil || faults != nil {
		t.Fatal(err, faults)
	}
	c, err := backup.Follow(farm.MariaDB, position(t, from), segments)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestABackupAndItsArchiveAreTheServer breaks all that can break while an archive is
// made of a server that is written to. A full backup and the archive together must
// be the server.
func TestABackupAndItsArchiveAreTheServer(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{})
	p := f.Primary()
	tables(t, p)
	write(t, p, 50)
	s3 := farmtest.StartS3(t)
	store, err := objects.Open(t.Context(), objects.Config{Bucket: farmtest.S3Bucket, Region: farmtest.S3Region, Endpoint: s3.Endpoint()})
	if err != nil {
		t.Fatal(err)
	}
	m, err := full.Take(t.Context(), full.Full{Install: farmtest.Need(t, farm.MariaDB), Config: p.Config(), Store: store, Cluster: "app", Node: "db1"})
	if err != nil {
		t.Fatal(err)
	}
	link := farmtest.NewLink(t, p.Addr())
	a := archiver(p, link.Addr(), store, position(t, m.Position))
	a.Every, a.Size = 500*time.Millisecond, 64<<10
	r := run(t, a)
	at := func() gtid.Position { return position(t, p.Position(t)) }
	for what, fault := range map[string]func(){
		"nothing":        func() {},
		"the connection": link.Reset,
		"the server":     func() { p.Kill9(t); p.Restart(t) },
		"the store":      func() { s3.Kill9(t); s3.Restart(t) },
		"a new binlog":   func() { p.Exec(t, "FLUSH BINARY LOGS") },
		"a large transaction": func() {
			p.Exec(t, "BEGIN", "INSERT INTO app.item (text) SELECT REPEAT(MD5(RAND()), 32768) FROM app.seq_1_to_20", "COMMIT")
		},
	} {
		write(t, p, 30)
		fault()
		write(t, p, 30)
		r.await(t, at())
		t.Logf("after %s: %s", what, r.now().Position)
	}
	// The archiver itself; the next one goes on from what is stored.
	write(t, p, 10)
	r.stop(t)
	write(t, p, 20)
	c := chain(t, store, m.Position)
	if c.Gaps != nil || c.Fork != nil {
		t.Fatalf("there are gaps: %v, or a fork: %v", c.Gaps, c.Fork)
	}
	a.Position = c.Reached
	r = run(t, a)
	r.await(t, at())
	r.stop(t)

	c = chain(t, store, m.Position)
	if c.Gaps != nil || c.Fork != nil || !c.Reached.Equal(at()) {
		t.Fatalf("it goes to %v, the server to %v; gaps %v, fork %v", c.Reached, at(), c.Gaps, c.Fork)
	}
	s := restored(t, store)
	want := map[string]string{}
	for _, row := range p.Query(t, contents) {
		want[row.String("Table")] = row.String("Checksum")
	}
	rows, err := s.Query(t.Context(), contents)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, row := range rows {
		got[row.String("Table")] = row.String("Checksum")
	}
	if !maps.Equal(got, want) {
		t.Errorf("restored and replayed: %v, the server: %v", got, want)
	}
	if state, err := s.State(t.Context()); err != nil || !state.Executed.Equal(c.Reached) {
		t.Errorf("the restored server is at %v, %v; want %v", state.Executed, err, c.Reached)
	}

	// A segment that is missing is seen, and where.
	if len(c.Segments) < 5 {
		t.Fatalf("there are %d segments", len(c.Segments))
	}
	gone := c.Segments[len(c.Segments)/2]
	if err := store.Delete(t.Context(), gone.Key, ""); err != nil {
		t.Fatal(err)
	}
	c = chain(t, store, m.Position)
	if len(c.Gaps) != 1 || !c.Reached.Equal(position(t, gone.After)) || c.Gaps[0].Until != gone.Position {
		t.Errorf("without %+v it reaches %v, with the gaps %v", gone, c.Reached, c.Gaps)
	}
	// One that is altered is named.
	path := s3.Path(c.Segments[0].Key)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/3] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var fault *backup.FaultError
	if err := c.Segments[0].Save(t.Context(), store, nil, new(strings.Builder)); !errors.As(err, &fault) || fault.Key != c.Segments[0].Key {
		t.Errorf("an altered segment: %v", err)
	}
}

// TestTheLossWindow: under steady load nothing waits longer than five seconds.
func TestTheLossWindow(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{})
	p := f.Primary()
	tables(t, p)
	dir := t.TempDir()
	store, err := objects.Open(t.Context(), objects.Config{Directory: dir})
	if err != nil {
		t.Fatal(err)
	}
	r := run(t, archiver(p, p.Addr(), store, position(t, p.Position(t))))
	for end := time.Now().Add(8 * time.Second); time.Now().Before(end); {
		write(t, p, 10)
	}
	r.await(t, position(t, p.Position(t)))
	r.stop(t)
	if r.longest == 0 || r.longest > 5*time.Second || r.broken != nil {
		t.Errorf("something waited for %v; it broke by %v", r.longest, r.broken)
	}
	t.Logf("the longest wait was %v", r.longest)
}

func TestAServerThatCannotGoOnIsAGap(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{})
	p := f.Primary()
	store, err := objects.Open(t.Context(), objects.Config{Directory: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	p.Exec(t, "CREATE TABLE app.t (id INT)")
	from := position(t, p.Position(t))
	p.Exec(t, "INSERT INTO app.t VALUES (1)", "FLUSH BINARY LOGS", "INSERT INTO app.t VALUES (2)", "FLUSH BINARY LOGS", "INSERT INTO app.t VALUES (3)")
	farmtest.Eventually(t, "the binlogs are purged", func() error { // the engine lets them go a little later
		logs := p.Query(t, "SHOW BINARY LOGS")
		p.Exec(t, "PURGE BINARY LOGS TO '"+logs[len(logs)-1].String("Log_name")+"'")
		if len(logs) > 1 {
			return fmt.Errorf("there are %d", len(logs))
		}
		return nil
	})
	for name, at := range map[string]gtid.Position{"purged": from, "another history": position(t, "0-77-1000")} {
		t.Run(name, func(t *testing.T) {
			var lost *archive.LostError
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := archiver(p, p.Addr(), store, at).Run(ctx); !errors.As(err, &lost) || !lost.Position.Equal(at) {
				t.Errorf("it says: %v", err)
			}
		})
	}
}
