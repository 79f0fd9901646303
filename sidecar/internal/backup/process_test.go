package backup_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	format "farmhand/internal/backup"
	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/gtid"
	"farmhand/internal/objects"
	"farmhand/internal/restore"
	"farmhand/sidecar/internal/archive"
	"farmhand/sidecar/internal/backup"
)

// other makes the test binary a process that takes or restores a backup, as
// described in the variable.
const other = "FARMHAND_TEST_OTHER"

type job struct {
	Flavor farm.Flavor // default MariaDB
	Config dbserver.Config
	Store  objects.Config
	ID     string // to restore; empty: to take one
	Hang   bool   // in the middle of the stream
}

func play(text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	ctx := context.Background()
	if j.Flavor == farm.UnknownFlavor {
		j.Flavor = farm.MariaDB
	}
	inst, err := dbserver.Find(ctx, j.Flavor, farmtest.MySQLRoot())
	if err != nil {
		return err
	}
	store, err := objects.Open(ctx, j.Store)
	if err != nil {
		return err
	}
	if j.ID == "" {
		var tell func(int64)
		if j.Hang {
			tell = func(int64) {
				if _, err := os.Stat(filepath.Join(dbserver.Scratch(j.Config).Dir, "error.log")); err != nil {
					return // a server has not run on it yet
				}
				fmt.Println("sends")
				time.Sleep(time.Hour) // until it is killed
			}
		}
		m, err := backup.Take(ctx, backup.Full{
			Tell:    tell,
			Install: inst, Config: j.Config, Cluster: "app", Node: "db1",
			Store: hooked{store, func(key string) error { fmt.Println("put", key); return nil }},
		})
		if err != nil {
			return err
		}
		fmt.Println("took", m.ID)
	} else {
		plan, err := restore.Find(ctx, restore.Source{Store: store, Cluster: "app"}, restore.Target{}, j.ID)
		if err != nil {
			return err
		}
		data, err := plan.Restore(ctx, restore.Into{
			Install: inst, Config: j.Config, Tell: func(p restore.Progress) { fmt.Println(p.Phase) },
		})
		if err != nil {
			return err
		}
		fmt.Println("replayed", data.Replayed)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		if kib, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			fmt.Println("memory", strings.TrimSpace(kib))
		}
	}
	return nil
}

// run starts a process with a job. The function that it returns reads what the
// process says until a line begins with word, and returns the rest of that.
func run(t *testing.T, j job) (process *os.Process, until func(word string) string) {
	t.Helper()
	return runIn(t, os.Args[0], j)
}

// runIn is run in a process of another test binary.
func runIn(t *testing.T, program string, j job) (process *os.Process, until func(word string) string) {
	t.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), other+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // may have ended
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	return cmd.Process, func(word string) string {
		for lines.Scan() {
			if rest, ok := strings.CutPrefix(lines.Text(), word); ok {
				return strings.TrimSpace(rest)
			}
		}
		t.Fatalf("the other process ended without %q: %v", word, lines.Err())
		return ""
	}
}

func TestABackupWhoseProcessIsKilledDoesNotCount(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{})
	fill(t, f.Primary(), 60)
	dir := t.TempDir()
	place := objects.Config{Directory: dir}
	store := open(t, place)
	for i, at := range []string{"part-000001", "part-000003", "manifest.json"} {
		process, until := run(t, job{Config: f.Primary().Config(), Store: place})
		for !strings.HasSuffix(until("put"), at) {
		}
		if err := process.Kill(); err != nil {
			t.Fatal(err)
		}
		if _, err := process.Wait(); err != nil {
			t.Fatal(err)
		}
		entries, err := format.List(t.Context(), store, "app")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Manifest == nil {
				continue
			}
			// The manifest may have been put before the kill; then all must be there.
			if at != "manifest.json" || !e.Good() || format.Verify(t.Context(), store, e.Manifest) != nil {
				t.Errorf("kill %d: %s counts: %v", i, e.ID, e.Fault)
			}
		}
	}
	// What is left is in nobody's way.
	_, until := run(t, job{Config: f.Primary().Config(), Store: place})
	id := until("took")
	m, err := format.Load(t.Context(), store, "app", id)
	if err != nil {
		t.Fatal(err)
	}
	// Nor is that of a restore that is killed.
	to := to(t, store, m)
	process, until := run(t, job{Config: to.Config, Store: place, ID: id})
	until(string(restore.Recovering))
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := process.Wait(); err != nil {
		t.Fatal(err)
	}
	if done, err := dbserver.Initialised(to.Config.Dir); done || err != nil {
		t.Errorf("there is a server in the directory of a restore that was killed: %v", err)
	}
	if _, err := to.restore(t.Context()); err != nil {
		t.Errorf("the next restore: %v", err)
	}
}

// TestMemory: what a process needs for a backup and for its restore, the replay
// included and the programs that it runs apart, is bounded.
func TestMemory(t *testing.T) { memory(t, farm.MariaDB) }

// TestMemoryOfMySQL is the same for MySQL.
func TestMemoryOfMySQL(t *testing.T) {
	farmtest.Long(t)
	memory(t, farm.MySQL)
}

func memory(t *testing.T, flavor farm.Flavor) {
	// The race detector's own memory is not to be told from the rest.
	program := filepath.Join(t.TempDir(), "backup.test")
	if out, err := exec.Command("go", "test", "-c", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("build the tests without the race detector: %v: %s", err, out)
	}
	f := farmtest.Start(t, farmtest.Options{Flavor: flavor})
	fill(t, f.Primary(), 256)
	place := objects.Config{Directory: t.TempDir()}
	_, until := runIn(t, program, job{Flavor: flavor, Config: f.Primary().Config(), Store: place})
	id, taking := until("took"), until("memory")
	m, err := format.Load(t.Context(), open(t, place), "app", id)
	if err != nil {
		t.Fatal(err)
	}
	f.Primary().Exec(t, "CREATE TABLE app.more AS SELECT * FROM app.item LIMIT 0")
	for range 8 { // transactions of 16 MiB
		f.Primary().Exec(t, "INSERT INTO app.more SELECT * FROM app.item LIMIT 16")
	}
	archived := archiveAll(t, f.Primary(), open(t, place), m.Position)
	_, until = runIn(t, program, job{Flavor: flavor, Config: to(t, open(t, place), m).Config, Store: place, ID: id})
	replayed, restoring := until("replayed"), until("memory")
	t.Logf("%d MiB: taking needed %s, restoring and replaying %s transactions of %d MiB %s", m.Bytes>>20, taking, replayed, archived>>20, restoring)
	if replayed != "9" || archived < 128<<20 {
		t.Errorf("%s transactions were replayed, of %d bytes", replayed, archived)
	}
	for what, text := range map[string]string{"taking": taking, "restoring": restoring} {
		var kib int
		if _, err := fmt.Sscan(text, &kib); err != nil || kib > 256<<10 {
			t.Errorf("%s needed %s %v", what, text, err)
		}
	}
}

// archiveAll archives a server's binlog from a position to where it is. It returns how
// many bytes of binlog that are.
func archiveAll(t *testing.T, s *farmtest.Server, store objects.Store, from string) (bytes int64) {
	t.Helper()
	begin, err := gtid.Read(from)
	if err != nil {
		t.Fatal(err)
	}
	end, err := gtid.Read(s.Position(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err = archive.Archiver{
		Flavor: s.Flavor(), Node: s.Name(), Address: netip.MustParseAddrPort(s.Addr()), Account: func() dbserver.Account { return farmtest.Replicator }, ServerID: 900, Cluster: "app", Epoch: 3, Store: store, Position: begin,
		Every: 300 * time.Millisecond,
		Tell: func(s archive.Status) {
			if s.Stored != nil {
				bytes += s.Stored.Bytes
			}
			if s.Position.Contains(end) {
				cancel()
			}
		},
	}.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}
