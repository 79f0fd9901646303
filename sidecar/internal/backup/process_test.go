package backup_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	format "farmhand/internal/backup"
	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/objects"
	"farmhand/internal/restore"
	"farmhand/sidecar/internal/backup"
)

// other makes the test binary a process that takes or restores a backup, as
// described in the variable.
const other = "FARMHAND_TEST_OTHER"

type job struct {
	Config dbserver.Config
	Store  objects.Config
	ID     string // to restore; empty: to take one
}

func play(text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	ctx := context.Background()
	inst, err := dbserver.Find(ctx, farm.MariaDB)
	if err != nil {
		return err
	}
	store, err := objects.Open(ctx, j.Store)
	if err != nil {
		return err
	}
	if j.ID == "" {
		m, err := backup.Take(ctx, backup.Full{
			Install: inst, Config: j.Config, Cluster: "app", Node: "db1",
			Store: hooked{store, func(key string) error { fmt.Println("put", key); return nil }},
		})
		if err != nil {
			return err
		}
		fmt.Println("took", m.ID)
	} else {
		m, err := format.Load(ctx, store, "app", j.ID)
		if err != nil {
			return err
		}
		if _, err := (&restore.Plan{Source: restore.Source{Store: store, Cluster: "app"}, Manifest: m}).Restore(ctx, restore.Into{
			Install: inst, Config: j.Config, Tell: func(p restore.Progress) { fmt.Println(p.Phase) },
		}); err != nil {
			return err
		}
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
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
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

// TestMemory: what a process needs for a backup and for its restore, the programs
// that it runs apart, is bounded.
func TestMemory(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{})
	fill(t, f.Primary(), 256)
	place := objects.Config{Directory: t.TempDir()}
	_, until := run(t, job{Config: f.Primary().Config(), Store: place})
	id, taking := until("took"), until("memory")
	m, err := format.Load(t.Context(), open(t, place), "app", id)
	if err != nil {
		t.Fatal(err)
	}
	_, until = run(t, job{Config: to(t, open(t, place), m).Config, Store: place, ID: id})
	restoring := until("memory")
	t.Logf("%d MiB: taking needed %s, restoring %s", m.Bytes>>20, taking, restoring)
	for what, text := range map[string]string{"taking": taking, "restoring": restoring} {
		var kib int
		if _, err := fmt.Sscan(text, &kib); err != nil || kib > 256<<10 {
			t.Errorf("%s needed %s %v", what, text, err)
		}
	}
}
