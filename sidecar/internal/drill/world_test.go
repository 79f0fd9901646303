package drill_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	format "farmhand/internal/backup"
	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/gtid"
	"farmhand/internal/mysqladmin"
	"farmhand/internal/objects"
	"farmhand/internal/restore"
	"farmhand/sidecar/internal/archive"
	"farmhand/sidecar/internal/backup"
)

const cluster = "app"

func TestMain(m *testing.M) {
	if text := os.Getenv(killed); text != "" {
		if err := play(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(farmtest.Leakless{M: m, Patience: 5 * time.Second}.Run())
}

func position(t testing.TB, text string) gtid.Position {
	t.Helper()
	p, err := gtid.Read(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func directory(t testing.TB) (objects.Store, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := objects.Open(t.Context(), objects.Config{Directory: dir})
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

// archiver is one that runs.
type archiver struct {
	cancel context.CancelFunc
	done   chan error
	mu     sync.Mutex
	status archive.Status
}

// archiving archives the binlog of a server from a position on.
func archiving(t *testing.T, s *farmtest.Server, store objects.Store, epoch farm.Epoch, from gtid.Position) *archiver {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	a := &archiver{cancel: cancel, done: make(chan error, 1), status: archive.Status{Position: from}}
	run := archive.Archiver{
		Flavor: s.Flavor(), Node: s.Name(), Address: netip.MustParseAddrPort(s.Addr()), Account: func() dbserver.Account { return farmtest.Replicator }, ServerID: 900, Cluster: cluster, Epoch: epoch,
		Store: store, Position: from, Every: 300 * time.Millisecond, Writer: makes[s.Flavor()].writer(t, s), Had: position(t, s.Position(t)), Tell: func(s archive.Status) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.status = s
		},
	}
	go func() { a.done <- run.Run(ctx) }()
	t.Cleanup(cancel)
	return a
}

func (a *archiver) await(t *testing.T, p gtid.Position) {
	t.Helper()
	farmtest.Eventually(t, "the archive has "+p.String(), func() error {
		a.mu.Lock()
		defer a.mu.Unlock()
		if !a.status.Position.Contains(p) {
			return fmt.Errorf("it has %s; %w", a.status.Position, errors.Join(a.status.Err, errors.New("not yet")))
		}
		return nil
	})
}

func (a *archiver) stop(t *testing.T) {
	t.Helper()
	a.cancel()
	if err := <-a.done; err != nil {
		t.Fatal(err)
	}
}

func full(t *testing.T, s *farmtest.Server, store objects.Store, epoch farm.Epoch) *format.Manifest {
	t.Helper()
	m, err := backup.Take(t.Context(), backup.Full{
		Install: farmtest.Need(t, s.Flavor()), Config: s.Config(), Store: store, Cluster: cluster, Node: s.Name(), Epoch: epoch,
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// tables makes those of the ledger: every transaction has a line in it.
func tables(t *testing.T, s *farmtest.Server) {
	t.Helper()
	s.Exec(t, "CREATE TABLE app.ledger (id VARCHAR(40) PRIMARY KEY)",
		"CREATE TABLE app.account (id INT PRIMARY KEY, balance BIGINT)", "INSERT INTO app.account WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM s WHERE n<20) SELECT n, 1000 FROM s")
}

// writing has some clients write to a server until the function that it returns is
// called, or the server dies. It returns the lines of which a client was told that they
// are there.
func writing(t *testing.T, s *farmtest.Server, phase string) (stop func() []string) {
	t.Helper()
	db := s.Open(t, farmtest.App)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var mu sync.Mutex
	var told []string
	for w := range 3 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 7))
			for n := 0; ctx.Err() == nil; n++ {
				id := fmt.Sprintf("%s-%d-%d", phase, w, n)
				tx, err := db.Begin()
				if err != nil {
					return
				}
				for _, statement := range []string{
					fmt.Sprintf("INSERT INTO ledger VALUES ('%s')", id),
					fmt.Sprintf("UPDATE account SET balance=balance-3 WHERE id=%d", 1+r.IntN(20)),
					fmt.Sprintf("UPDATE account SET balance=balance+3 WHERE id=%d", 1+r.IntN(20)),
				} {
					if err == nil {
						_, err = tx.Exec(statement)
					}
				}
				if err != nil {
					_ = tx.Rollback() // a deadlock, or the server is gone
					if mysqlGone(err) {
						return
					}
					continue
				}
				if tx.Commit() != nil {
					return
				}
				mu.Lock()
				told = append(told, id)
				mu.Unlock()
				if n%20 == 3 && w == 0 { // what mariadb-binlog makes no SQL of
					for _, statement := range makes[s.Flavor()].made {
						if _, err := db.Exec(statement); err != nil {
							return
						}
					}
				}
			}
		})
	}
	return func() []string {
		cancel()
		all.Wait()
		return told
	}
}

// mysqlGone: it is none of the server's errors.
func mysqlGone(err error) bool { return !strings.HasPrefix(err.Error(), "Error ") }

// history is what the flavor's own program says of all binlogs of a server: who else reads
// them than Farmhand.
func history(t *testing.T, s *farmtest.Server) []transaction {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.Config().DataDir(), "binlog.[0-9]*"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	all := inFiles(t, s.Flavor(), files)
	at := gtid.Position{}
	for i := range all {
		at = at.Merge(position(t, all[i].id))
		all[i].position = at.String()
	}
	return all
}

// dated gives the transactions after a position the times that the archive has: those of
// the server that wrote them. A MariaDB server that replicated them can date them
// otherwise, by a second.
func dated(t *testing.T, of farm.Flavor, store objects.Store, m *format.Manifest, all []transaction) {
	t.Helper()
	segments, faults, err := format.ListSegments(t.Context(), store, cluster)
	if err != nil || faults != nil {
		t.Fatal(err, faults)
	}
	chain, err := m.Continue(segments)
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for i := range chain.Segments {
		path := filepath.Join(t.TempDir(), "segment")
		f, err := os.Create(path)
		if err == nil {
			err = errors.Join(chain.Segments[i].Save(t.Context(), store, nil, f), f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, path)
	}
	at := map[string]time.Time{}
	for _, x := range inFiles(t, of, files) {
		if _, again := at[x.id]; !again {
			at[x.id] = x.at
		}
	}
	moved := 0
	for i := range all {
		if archived, ok := at[all[i].id]; ok && !archived.Equal(all[i].at) {
			all[i].at = archived
			moved++
		}
	}
	t.Logf("%d transactions are dated otherwise by a server that replicated them", moved)
}

// inFiles is what the flavor's own program reads in binlog files.
func inFiles(t *testing.T, of farm.Flavor, files []string) (all []transaction) {
	t.Helper()
	k := makes[of]
	cmd := exec.Command(k.tool(t)[0], slices.Concat(k.tool(t)[1:], k.options, files)...)
	cmd.Env = append(os.Environ(), "TZ=UTC")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if err := k.read(lines.Text(), &all); err != nil {
			t.Fatal(err)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// place is where a test restores to. Its server has the id of a server that wrote
// what is replayed.
func place(t *testing.T, of farm.Flavor, dir string) restore.Into {
	t.Helper()
	at := farmtest.FreePort(t)
	return restore.Into{Install: farmtest.Need(t, of), Config: dbserver.Config{
		Dir: filepath.Join(dir, "restored"), Address: at.Addr(), Port: at.Port(), Socket: filepath.Join(dir, "s"),
		ServerID: 1, RedoLog: 16 << 20, ParentDeath: syscall.SIGKILL, ExtraArgs: farmtest.Frugal(of),
	}}
}

// exact restores to a target and compares with what must be there: the lines of the
// ledger of the first transactions.
func exact(t *testing.T, source restore.Source, target restore.Target, want []transaction) error {
	t.Helper()
	plan, err := restore.Find(t.Context(), source, target, "")
	if err != nil {
		return err
	}
	into := place(t, plan.Flavor(), farmtest.ShortDir(t))
	data, err := plan.Restore(t.Context(), into)
	if err != nil {
		return err
	}
	if err := data.Swap(); err != nil {
		t.Fatal(err)
	}
	same(t, into, data.Position, want)
	return nil
}

// same compares the data that a position says it is of with what must be there.
func same(t *testing.T, into restore.Into, at string, want []transaction) {
	t.Helper()
	last := want[len(want)-1]
	var lines []string
	for _, x := range want {
		if x.line != "" {
			lines = append(lines, x.line)
		}
	}
	slices.Sort(lines)
	err := dbserver.Settle(t.Context(), into.Install, into.Config, func(ctx context.Context, conn *mysqladmin.Conn) error {
		rows, err := conn.Query(ctx, "SELECT id FROM app.ledger ORDER BY id")
		if err != nil {
			return err
		}
		var got []string
		for _, row := range rows {
			got = append(got, row.String("id"))
		}
		if !slices.Equal(got, lines) {
			t.Errorf("at %s the ledger has %d lines, and must have %d; only there: %v, only in the history: %v",
				at, len(got), len(lines), without(got, lines), without(lines, got))
		}
		if rows, err = conn.Query(ctx, "SELECT SUM(balance) AS sum FROM app.account"); err != nil {
			return err
		}
		if sum := rows[0].String("sum"); sum != "20000" {
			t.Errorf("at %s half a transaction was restored: the sum is %s", at, sum)
		}
		if at != last.position {
			t.Errorf("the restore says it is at %s, and is to be at %s", at, last.position)
		}
		return makes[into.Install.Flavor].knows(ctx, t, conn, want)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

var errNotYet = errors.New("not yet")
