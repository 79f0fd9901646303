package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	format "farmhand/internal/backup"
	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/objects"
	"farmhand/internal/restore"
	"farmhand/sidecar/internal/backup"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(other); text != "" {
		if err := play(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(farmtest.Leakless{M: m, Patience: 5 * time.Second}.Run())
}

// fill gives a server a table with so many MiB that cannot be compressed.
func fill(t testing.TB, s *farmtest.Server, mib int) {
	t.Helper()
	db := s.Admin(t)
	s.Exec(t, "CREATE TABLE app.item (id INT PRIMARY KEY AUTO_INCREMENT, data LONGBLOB)",
		"CREATE TABLE app.account (id INT PRIMARY KEY, balance BIGINT, changes INT) ENGINE=InnoDB",
		"INSERT INTO app.account WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM s WHERE n<100) SELECT n, 1000, 0 FROM s")
	noise := rand.NewChaCha8([32]byte{7})
	data := make([]byte, 1<<20)
	for range mib {
		_, _ = noise.Read(data) // never fails
		if _, err := db.Exec("INSERT INTO app.item (data) VALUES (?)", data); err != nil {
			t.Fatal(err)
		}
	}
}

// load writes to a server until the function that it returns is called.
func load(t *testing.T, s *farmtest.Server) (stop func() int) {
	t.Helper()
	db := s.Open(t, farmtest.App)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	var written atomic.Int64
	go func() {
		r := rand.New(rand.NewPCG(1, 2))
		for ctx.Err() == nil {
			tx, err := db.Begin()
			for _, statement := range []string{
				fmt.Sprintf("UPDATE account SET balance=balance-7, changes=changes+1 WHERE id=%d", 1+r.IntN(100)),
				fmt.Sprintf("UPDATE account SET balance=balance+7, changes=changes+1 WHERE id=%d", 1+r.IntN(100)),
				"INSERT INTO item (data) VALUES (REPEAT(MD5(RAND()), 100))",
			} {
				if err == nil {
					_, err = tx.Exec(statement)
				}
			}
			if err == nil {
				err = tx.Commit()
			}
			if err != nil {
				done <- err
				return
			}
			written.Add(1)
		}
		done <- nil
	}()
	return func() int {
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		return int(written.Load())
	}
}

func directory(t testing.TB) (objects.Store, string) {
	t.Helper()
	dir := t.TempDir()
	return open(t, objects.Config{Directory: dir}), dir
}

func open(t testing.TB, c objects.Config) objects.Store {
	t.Helper()
	s, err := objects.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// of is a full backup of a server.
func of(t testing.TB, s *farmtest.Server, store objects.Store) backup.Full {
	return backup.Full{
		Install: farmtest.Need(t, s.Flavor()), Config: s.Config(), Store: store, Cluster: "app", Node: s.Name(), Epoch: 3,
	}
}

// to is the restore of a backup to a server of its own, of which there is nothing.
func to(t *testing.T, store objects.Store, m *format.Manifest) into {
	t.Helper()
	place := farmtest.FreePort(t)
	dir := farmtest.ShortDir(t)
	return into{&restore.Plan{Source: restore.Source{Store: store, Cluster: "app"}, Manifest: m}, restore.Into{Install: farmtest.Need(t, farm.MariaDB), Config: dbserver.Config{
		Dir: filepath.Join(dir, "restored"), Address: place.Addr(), Port: place.Port(), Socket: filepath.Join(dir, "s"),
		ServerID: 99, RedoLog: 16 << 20, ReadOnly: true, ParentDeath: syscall.SIGKILL,
	}}}
}

// into is a restore, and where to.
type into struct {
	*restore.Plan
	restore.Into
}

func (i into) restore(ctx context.Context) (*restore.Restored, error) {
	return i.Plan.Restore(ctx, i.Into)
}

// start puts restored data in place and starts a server on it.
func start(t *testing.T, f into, r *restore.Restored) *dbserver.Server {
	t.Helper()
	if err := r.Swap(); err != nil {
		t.Fatal(err)
	}
	s, err := dbserver.Start(t.Context(), f.Install, f.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

// content is the checksum of every table.
func content(t *testing.T, query func(string) map[string]string) map[string]string {
	t.Helper()
	return query("CHECKSUM TABLE app.item, app.account")
}

func checksums(t *testing.T, s *dbserver.Server) map[string]string {
	return content(t, func(sql string) map[string]string {
		rows, err := s.Query(t.Context(), sql)
		if err != nil {
			t.Fatal(err)
		}
		sums := map[string]string{}
		for _, row := range rows {
			sums[row.String("Table")] = row.String("Checksum")
		}
		return sums
	})
}

func checksumsOf(t *testing.T, s *farmtest.Server) map[string]string {
	return content(t, func(sql string) map[string]string {
		sums := map[string]string{}
		for _, row := range s.Query(t, sql) {
			sums[row.String("Table")] = row.String("Checksum")
		}
		return sums
	})
}

// TestARestoredServerIsExactlyThatOfThePosition takes backups of a replica and of a
// primary that is written to meanwhile, and compares what is restored with a
// replica that was stopped at their position.
func TestARestoredServerIsExactlyThatOfThePosition(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 2})
	fill(t, f.Primary(), 40)
	f.WaitCaughtUp(t)
	witness := f.Replica(1)
	server := farmtest.StartS3(t)
	stores := map[string]objects.Store{
		"S3": open(t, objects.Config{Bucket: farmtest.S3Bucket, Region: farmtest.S3Region, Endpoint: server.Endpoint()}),
	}
	stores["directory"], _ = directory(t)
	for _, c := range []struct {
		store   string
		from    *farmtest.Server
		logical bool
	}{{"directory", f.Replica(0), false}, {"S3", f.Primary(), false}, {"S3", f.Replica(0), true}} {
		t.Run(fmt.Sprintf("%s to %s, as statements: %v", c.from.Name(), c.store, c.logical), func(t *testing.T) {
			store := stores[c.store]
			witness.StopReplication(t)
			stop := load(t, f.Primary())
			before := f.Primary().Position(t)
			farmtest.Eventually(t, "there is load", func() error {
				if f.Primary().Position(t) == before {
					return errors.New("nothing was written")
				}
				return nil
			})
			var read int64
			take := of(t, c.from, store)
			take.Tell, take.Logical = func(bytes int64) { read = bytes }, c.logical
			m, err := backup.Take(t.Context(), take)
			written := stop()
			if err != nil {
				t.Fatal(err)
			}
			after := f.Primary().Position(t)
			if m.Position == before || m.Position == after || read == 0 || m.Bytes < 40<<20 || len(m.Parts) < 3 || m.Epoch != 3 || m.Source != c.from.Name() {
				t.Errorf("before it was %s, %d transactions later %s; read were %d bytes; the manifest: %+v", before, written, after, read, m)
			}
			witness.Exec(t, "START SLAVE UNTIL master_gtid_pos='"+m.Position+"'")
			witness.WaitPosition(t, m.Position)

			var phases []restore.Phase
			to := to(t, store, m)
			to.Tell = func(p restore.Progress) {
				if len(phases) == 0 || phases[len(phases)-1] != p.Phase {
					phases = append(phases, p.Phase)
				}
			}
			restored, err := to.restore(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			want := []restore.Phase{restore.Fetching, restore.Recovering, restore.Checking}
			if c.logical {
				want = slices.Delete(want, 1, 2)
			}
			if restored.Position != m.Position || !slices.Equal(phases, want) {
				t.Errorf("restored is %+v after %v", restored, phases)
			}
			s := start(t, to, restored)
			if got, want := checksums(t, s), checksumsOf(t, witness); len(got) != 2 || !maps.Equal(got, want) {
				t.Errorf("at %s the restored server has %v, a replica %v", m.Position, got, want)
			}
			rows, err := s.Query(t.Context(), "SELECT SUM(balance) AS balance FROM app.account")
			if err != nil || rows[0].String("balance") != "100000" {
				t.Errorf("half a transaction was restored: %v %v", rows, err)
			}
			// And it can be followed up from there.
			if err := s.Follow(t.Context(), source(f)); err != nil {
				t.Fatal(err)
			}
			if err := s.AwaitFollowing(t.Context()); err != nil {
				t.Fatal(err)
			}
			if rows, err := s.Query(t.Context(), "SELECT MASTER_GTID_WAIT('"+after+"', 25) AS outcome"); err != nil || rows[0].String("outcome") != "0" {
				t.Fatalf("it does not catch up: %v %v", rows, err)
			}
			if got, want := checksums(t, s), checksumsOf(t, f.Primary()); !maps.Equal(got, want) {
				t.Errorf("after following it has %v, the primary %v", got, want)
			}
			witness.StopReplication(t)
			witness.StartReplication(t)
			f.WaitCaughtUp(t)
		})
	}
}

func source(f *farmtest.Farm) dbserver.Source {
	c := f.Primary().Config()
	return dbserver.Source{Address: netip.AddrPortFrom(c.Address, c.Port), User: farmtest.Replicator.User, Password: farmtest.Replicator.Password}
}

// hooked is a store that calls before for every object that is put.
type hooked struct {
	objects.Store
	before func(key string) error
}

func (h hooked) Put(ctx context.Context, key string, r io.Reader, o objects.PutOptions) (objects.Object, error) {
	if err := h.before(key); err != nil {
		return objects.Object{}, err
	}
	return h.Store.Put(ctx, key, r, o)
}

var errHook = errors.New("the store has had enough")

// TestWhateverDiesNothingCounts kills what takes part in a backup at several points.
func TestWhateverDiesNothingCounts(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{})
	fill(t, f.Primary(), 60)
	tool := func(t *testing.T, _ context.CancelFunc) error {
		pids := children(t, "mariadb-backup")
		if len(pids) != 1 {
			return fmt.Errorf("there are %d mariadb-backup", len(pids))
		}
		return syscall.Kill(pids[0], syscall.SIGKILL)
	}
	for name, die := range map[string]func(*testing.T, context.CancelFunc) error{
		"mariadb-backup": tool,
		"the server": func(t *testing.T, _ context.CancelFunc) error {
			if f.Primary().Alive() {
				f.Primary().Kill9(t)
			}
			return nil
		},
		"the caller": func(_ *testing.T, cancel context.CancelFunc) error { cancel(); return nil },
		"the store":  func(*testing.T, context.CancelFunc) error { return errHook },
	} {
		for _, part := range []string{"part-000001", "part-000003"} {
			t.Run(name+" at "+part, func(t *testing.T) {
				if !f.Primary().Alive() {
					f.Primary().Restart(t)
				}
				store, dir := directory(t)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				take := of(t, f.Primary(), hooked{store, func(key string) error {
					if strings.HasSuffix(key, part) {
						return die(t, cancel)
					}
					return nil
				}})
				m, err := backup.Take(ctx, take)
				if err == nil {
					t.Fatalf("it was taken: %+v", m)
				}
				t.Log(err)
				entries, err := format.List(t.Context(), store, "app")
				if err != nil || len(entries) > 0 {
					t.Errorf("in %s there is %+v, %v", dir, entries, err)
				}
				if left, err := filepath.Glob(filepath.Join(take.Config.TempDir(), "*")); err != nil || len(left) > 0 {
					t.Errorf("left are %q, %v", left, err)
				}
			})
		}
	}
	if !f.Primary().Alive() {
		f.Primary().Restart(t)
	}
	store, _ := directory(t)
	if _, err := backup.Take(t.Context(), of(t, f.Primary(), store)); err != nil {
		t.Errorf("the next one: %v", err)
	}
}

// children are the pids of this process's children of a name.
func children(t *testing.T, name string) (pids []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		var pid, parent int
		var state string
		head, rest, _ := bytes.Cut(text, []byte(" ("))
		comm, rest, _ := bytes.Cut(rest, []byte(") "))
		if _, err := fmt.Sscan(string(head)+" "+string(rest), &pid, &state, &parent); err != nil {
			t.Fatal(err)
		}
		if parent == os.Getpid() && strings.HasPrefix(name, string(comm)) && state != "Z" {
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestARestoreNamesWhatIsWrongAndLeavesNothing(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{})
	fill(t, f.Primary(), 60)
	store, dir := directory(t)
	m, err := backup.Take(t.Context(), of(t, f.Primary(), store))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, m.Parts[2].Key)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(whole)
	damaged[1000] ^= 1
	for name, damage := range map[string]func() error{
		"missing":   func() error { return os.Remove(path) },
		"corrupted": func() error { return os.WriteFile(path, damaged, 0o600) },
		"shorter":   func() error { return os.WriteFile(path, whole[:1000], 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := damage(); err != nil {
				t.Fatal(err)
			}
			to := to(t, store, m)
			_, err := to.restore(t.Context())
			var fault *format.FaultError
			if !errors.As(err, &fault) || fault.Key != m.Parts[2].Key {
				t.Errorf("it says: %v", err)
			}
			if _, err := os.Stat(filepath.Join(to.Config.Dir, "incoming")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("something is left: %v", err)
			}
		})
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	other := *m
	other.ServerVersion = "11.4.2-MariaDB"
	if _, err := to(t, store, &other).restore(t.Context()); err == nil {
		t.Error("the data of another series was restored")
	}
	other = *m
	other.Position = "0-1-1"
	if _, err := to(t, store, &other).restore(t.Context()); err == nil || !strings.Contains(err.Error(), m.Position) {
		t.Errorf("a manifest with another position: %v", err)
	}
	if _, err := to(t, store, m).restore(t.Context()); err != nil {
		t.Errorf("the whole backup: %v", err)
	}
}
