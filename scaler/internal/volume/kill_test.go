package volume_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"farmhand/scaler/internal/volume"
)

// everything kills with all sorts of volume: an xfs of the least size takes its time to
// make.
var everything = flag.Bool("volume.all", false, "kill in the middle of each step with every sort of volume (about 10 minutes)")

// asVictim has an order in it for which this process does one thing with a volume and
// is killed on the way.
const asVictim = "FARMHAND_TEST_VOLUME_VICTIM"

// order is what a victim does, and at which of the different steps it is killed.
type order struct {
	Dir, Archive, What, Snapshot string
	Spec                         volume.Spec
	At                           int
}

// does are the things that a victim does with db-1.
var does = map[string]func(context.Context, *volume.Local, order) error{
	"create": func(ctx context.Context, l *volume.Local, o order) error { return second(l.Create(ctx, o.Spec)) },
	"attach": func(ctx context.Context, l *volume.Local, _ order) error { return second(l.Attach(ctx, "db-1", "db1")) },
	"detach": func(ctx context.Context, l *volume.Local, _ order) error { return l.Detach(ctx, "db-1", "db1") },
	"delete": func(ctx context.Context, l *volume.Local, _ order) error { return l.Delete(ctx, "db-1") },
	"grow": func(ctx context.Context, l *volume.Local, o order) error {
		return second(l.Grow(ctx, "db-1", o.Spec.Size+96<<20))
	},
	"snapshot": func(ctx context.Context, l *volume.Local, _ order) error {
		return second(l.Snapshot(ctx, "db-1", volume.SnapshotOptions{}))
	},
	"restore": func(ctx context.Context, l *volume.Local, o order) error {
		return second(l.Restore(ctx, o.Snapshot, named(o.Spec, "db-2")))
	},
	"rotate": func(ctx context.Context, l *volume.Local, o order) error { return l.DeleteSnapshot(ctx, o.Snapshot) },
}

func second[T any](_ T, err error) error { return err }

func victim() {
	var o order
	err := json.Unmarshal([]byte(os.Getenv(asVictim)), &o)
	if err == nil {
		seen := map[string]bool{}
		l := volume.NewLocal(volume.LocalOptions{Dir: o.Dir, Archive: o.Archive, Step: func(step string) {
			if seen[step] = true; len(seen) >= o.At {
				fmt.Println(step)
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}})
		err = does[o.What](context.Background(), l, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// kill has a victim do something, and returns the step at which it was killed; empty if
// it had done all of it before.
func (o order) kill(t *testing.T) string {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asVictim+"="+string(text))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL:
		return strings.TrimSpace(string(out))
	}
	t.Fatalf("%s: %v: %s", o.What, err, out)
	return ""
}

// TestKilledInTheMiddleOfEachStep kills whoever does something with a volume at each of
// its steps. Who comes next does it again, and finds no harm done.
func TestKilledInTheMiddleOfEachStep(t *testing.T) {
	all := []string{"create", "attach", "detach", "delete", "snapshot", "restore", "rotate"}
	sorts := map[string][]string{"ext4": all, "directory": all, "xfs": {"grow"}, "raid1": {"attach"}}
	if *everything {
		sorts["xfs"], sorts["raid1"], sorts["raid10"] = append(all, "grow"), append(all, "grow"), append(all, "grow")
	}
	for sort, whats := range sorts {
		for _, what := range whats {
			t.Run(sort+" "+what, func(t *testing.T) {
				spec := need(t, sort)
				o := options(t)
				killed := 0
				for {
					k := killing{t, volume.NewLocal(o), order{Dir: o.Dir, Archive: o.Archive, What: what, Spec: named(spec, "db-1"), At: killed + 1}}
					step := k.once()
					if step == "" {
						break
					}
					t.Logf("killed before %q", step)
					killed++
				}
				if killed == 0 {
					t.Error("nobody was killed")
				}
			})
		}
	}
}

// killing is one time.
type killing struct {
	*testing.T
	l *volume.Local
	o order
}

func (k killing) must(err error) {
	k.Helper()
	if err != nil {
		k.Fatal(err)
	}
}

// held is the volume attached to db1, which has written the text.
func (k killing) held(text string) volume.Volume {
	k.Helper()
	v, err := k.l.Attach(k.Context(), "db-1", "db1")
	k.must(err)
	if text != "" {
		k.must(os.WriteFile(filepath.Join(v.Path, "text"), []byte(text), 0o600))
	}
	return v
}

func (k killing) wants(v volume.Volume, text string) {
	k.Helper()
	got, err := os.ReadFile(filepath.Join(v.Path, "text"))
	if err != nil || string(got) != text || v.Trouble != "" {
		k.Errorf("%+v has %q, %v, want %q", v, got, err, text)
	}
}

// snapshot is one of the volume with the text.
func (k killing) snapshot(text string) volume.Snapshot {
	k.Helper()
	k.held(text)
	k.must(k.l.Detach(k.Context(), "db-1", "db1"))
	s, err := k.l.Snapshot(k.Context(), "db-1", volume.SnapshotOptions{})
	k.must(err)
	return s
}

// restored is a new volume from a snapshot.
func (k killing) restored(id, text string) {
	k.Helper()
	_, err := k.l.Restore(k.Context(), id, named(k.o.Spec, "db-2"))
	k.must(err)
	v, err := k.l.Attach(k.Context(), "db-2", "db2")
	k.must(err)
	k.wants(v, text)
	k.must(k.l.Detach(k.Context(), "db-2", "db2"))
	k.must(k.l.Delete(k.Context(), "db-2"))
}

// once kills once, at the step that the order says.
func (k killing) once() (step string) {
	ctx := k.Context()
	if k.o.What != "create" {
		k.must(second(k.l.Create(ctx, k.o.Spec)))
	}
	defer func() {
		if err := k.l.Detach(ctx, "db-1", "db1"); err != nil && !errors.Is(err, volume.ErrUnknown) {
			k.Error(err)
		}
		k.must(k.l.Delete(ctx, "db-1"))
		if found, err := filepath.Glob(filepath.Join(k.o.Dir, "db-*")); err != nil || len(found) > 0 {
			k.Errorf("left: %v, %v", found, err)
		}
		backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
		k.must(err)
		for _, path := range backing {
			if file, err := os.ReadFile(path); err == nil && strings.HasPrefix(string(file), k.o.Dir) {
				k.Errorf("left: %s of %s", path, file)
			}
		}
	}()
	again := func() { k.Helper(); k.must(does[k.o.What](ctx, k.l, k.o)) }
	switch k.o.What {
	case "create":
		step = k.o.kill(k.T)
		again()
		k.wants(k.held("x"), "x")
	case "attach":
		k.held("before")
		k.must(k.l.Detach(ctx, "db-1", "db1"))
		step = k.o.kill(k.T)
		if v, err := k.l.Describe(ctx, "db-1"); err != nil || v.Instance != "" && second(k.l.Attach(ctx, "db-1", "db2")) == nil {
			k.Errorf("attached to two: %+v, %v", v, err)
		}
		again()
		k.wants(k.held(""), "before")
	case "detach":
		k.held("before")
		step = k.o.kill(k.T)
		again()
		k.wants(k.held(""), "before")
	case "delete":
		step = k.o.kill(k.T)
		again()
		if _, err := k.l.Describe(ctx, "db-1"); !errors.Is(err, volume.ErrUnknown) {
			k.Errorf("deleted: %v", err)
		}
	case "grow":
		before := k.held("before")
		step = k.o.kill(k.T)
		again()
		v := k.held("")
		k.wants(v, "before")
		if more := v.Used + v.Free - before.Used - before.Free; k.o.Spec.Kind != volume.Directory && more < 80<<20 {
			k.Errorf("it is larger by %d bytes only", more)
		}
	case "snapshot":
		first := k.snapshot("first")
		v := k.held("second")
		if k.o.Spec.Kind == volume.Directory {
			k.must(k.l.Detach(ctx, "db-1", "db1"))
		}
		step = k.o.kill(k.T)
		k.held("third") // writes go on at once, whoever has frozen them
		k.must(os.WriteFile(filepath.Join(v.Path, "text"), []byte("fourth"), 0o600))
		if k.o.Spec.Kind == volume.Directory {
			k.must(k.l.Detach(ctx, "db-1", "db1"))
		}
		again()
		all, err := k.l.Snapshots(ctx)
		k.must(err)
		k.restored(first.ID, "first")
		k.restored(all[len(all)-1].ID, "fourth")
		for _, s := range all {
			k.must(k.l.DeleteSnapshot(ctx, s.ID))
		}
		k.noBlocks()
	case "restore":
		s := k.snapshot("first")
		k.o.Snapshot = s.ID
		step = k.o.kill(k.T)
		if v, err := k.l.Describe(ctx, "db-2"); err == nil && v.Trouble != "" {
			if _, err := k.l.Attach(ctx, "db-2", "db2"); err == nil {
				k.Errorf("attached though it is %+v", v)
			}
		}
		again()
		k.restored(s.ID, "first")
		k.must(k.l.DeleteSnapshot(ctx, s.ID))
	case "rotate":
		first, second := k.snapshot("first"), k.snapshot("second")
		k.o.Snapshot = first.ID
		step = k.o.kill(k.T)
		again()
		k.restored(second.ID, "second")
		k.must(k.l.DeleteSnapshot(ctx, second.ID))
		k.noBlocks()
	}
	return step
}

func (k killing) noBlocks() {
	k.Helper()
	found, err := filepath.Glob(filepath.Join(k.o.Archive, "*", "blocks", "??", "*"))
	if err != nil || len(found) > 0 {
		k.Errorf("blocks that nobody needs: %v, %v", found, err)
	}
}
