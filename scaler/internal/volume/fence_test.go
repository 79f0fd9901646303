package volume_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"farmhand/internal/backup"
	"farmhand/scaler/internal/volume"
)

// one is a volume db-1 of that sort, attached to db1.
func one(t *testing.T, sort string, o volume.LocalOptions) (*volume.Local, volume.Volume) {
	t.Helper()
	l := volume.NewLocal(o)
	if _, err := l.Create(t.Context(), named(specs[sort], "db-1")); err != nil {
		t.Fatal(err)
	}
	v, err := l.Attach(t.Context(), "db-1", "db1")
	if err != nil {
		t.Fatal(err)
	}
	return l, v
}

func TestAVolumeIsTakenOnlyFromWhoIsProvenGone(t *testing.T) {
	need(t, "ext4")
	o := options(t)
	alive, lost := "process 7 (mariadbd)", error(nil)
	o.Alive = func(_ context.Context, instance string) (string, error) {
		if instance != "db1" {
			t.Errorf("asked for %s", instance)
		}
		return alive, lost
	}
	l, v := one(t, "ext4", o)
	if err := l.Detach(t.Context(), "db-1", "db1"); !errors.Is(err, volume.ErrInUse) || !strings.Contains(err.Error(), alive) {
		t.Errorf("detached from one that lives: %v", err)
	}
	alive, lost = "", errors.New("nobody knows")
	if err := l.Detach(t.Context(), "db-1", "db1"); !errors.Is(err, lost) {
		t.Errorf("detached from one of which nobody knows: %v", err)
	}
	lost = nil
	// A process that is nobody's, and has a file open.
	held, err := os.Create(filepath.Join(v.Path, "held"))
	if err != nil {
		t.Fatal(err)
	}
	for name, let := range map[string]func(context.Context, string, string) error{"detach": l.Detach, "rest": l.Rest} {
		if err := let(t.Context(), "db-1", "db1"); !errors.Is(err, volume.ErrInUse) {
			t.Errorf("%s while a file is open: %v", name, err)
		}
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Rest(t.Context(), "db-1", "db1"); err != nil {
		t.Fatal(err)
	}
	if v, err := l.Describe(t.Context(), "db-1"); err != nil || v.Instance != "db1" || v.Path != "" || len(v.Devices) != 0 {
		t.Errorf("at rest it is %+v, %v", v, err)
	}
	if _, err := l.Attach(t.Context(), "db-1", "db2"); !errors.Is(err, volume.ErrAttached) {
		t.Errorf("attached to another while it rests: %v", err)
	}
	if v, err := l.Attach(t.Context(), "db-1", "db1"); err != nil || v.Path == "" || v.Epoch != 1 {
		t.Errorf("after the rest it is %+v, %v", v, err)
	}
	if err := l.Detach(t.Context(), "db-1", "db1"); err != nil {
		t.Error(err)
	}
}

func TestDisksThatAreMountedElsewhereAreRefused(t *testing.T) {
	need(t, "ext4")
	o := options(t)
	l, v := one(t, "ext4", o)
	if err := l.Detach(t.Context(), "db-1", "db1"); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", filepath.Join(o.Dir, "db-1", "disk-1")).Output()
	if err != nil {
		t.Fatal(err)
	}
	device, elsewhere := strings.TrimSpace(string(out)), filepath.Join(filepath.Dir(o.Dir), "elsewhere")
	if err := errors.Join(os.Mkdir(elsewhere, 0o755), tool("mount", device, elsewhere)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Attach(t.Context(), "db-1", "db2"); !errors.Is(err, volume.ErrInUse) || !strings.Contains(err.Error(), elsewhere) {
		t.Errorf("attached while somebody has it mounted: %v", err)
	}
	if err := tool("umount", elsewhere); err != nil {
		t.Fatal(err)
	}
	// Something else in its place.
	if err := tool("mount", "-t", "tmpfs", "none", filepath.Join(o.Dir, "db-1", "data")); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"attach": second(l.Attach(t.Context(), "db-1", "db2")),
		"delete": l.Delete(t.Context(), "db-1"),
	} {
		if err == nil {
			t.Errorf("%s with something else in its place", what)
		}
	}
	if err := tool("umount", filepath.Join(o.Dir, "db-1", "data")); err != nil {
		t.Fatal(err)
	}
	if again, err := l.Attach(t.Context(), "db-1", "db2"); err != nil || again.Path != v.Path {
		t.Errorf("then %+v, %v", again, err)
	}
	if err := l.Detach(t.Context(), "db-1", "db2"); err != nil {
		t.Fatal(err)
	}
}

// TestAnUncleanFileSystemIsCheckedBeforeItIsMounted takes a volume away as a crash of
// the machine does, and damages one.
func TestAnUncleanFileSystemIsCheckedBeforeItIsMounted(t *testing.T) {
	for _, sort := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(sort, func(t *testing.T) {
			need(t, sort)
			o := options(t)
			var steps []string
			o.Step = func(step string) { steps = append(steps, step) }
			l, v := one(t, sort, o)
			text := filepath.Join(v.Path, "text")
			if err := os.WriteFile(text, []byte("written"), 0o600); err != nil {
				t.Fatal(err)
			}
			crash := func() {
				t.Helper()
				if err := tool("umount", v.Path); err != nil {
					t.Fatal(err)
				}
				for _, d := range v.Devices {
					if err := tool("losetup", "--detach", d); err != nil {
						t.Fatal(err)
					}
				}
			}
			crash()
			steps = nil
			again, err := l.Attach(t.Context(), "db-1", "db1")
			if err != nil || !slices.Contains(steps, "check") {
				t.Fatalf("attached %+v, %v, by %v; want a check", again, err, steps)
			}
			if got, err := os.ReadFile(text); err != nil || string(got) != "written" {
				t.Errorf("it has %q, %v", got, err)
			}
			v = again
			crash()
			disk, err := os.OpenFile(filepath.Join(o.Dir, "db-1", "disk-1"), os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = disk.WriteAt(bytes.Repeat([]byte{0xa5}, 16<<20), 0); err != nil {
				t.Fatal(err)
			}
			if err := disk.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Attach(t.Context(), "db-1", "db1"); err == nil {
				t.Error("a file system that was overwritten was mounted")
			}
			if err := l.Detach(t.Context(), "db-1", "db1"); err != nil {
				t.Error(err)
			}
			steps = nil
			if _, err := l.Attach(t.Context(), "db-1", "db2"); err == nil {
				t.Error("and is so for another")
			}
		})
	}
}

func TestAMissingDiskIsNamed(t *testing.T) {
	need(t, "raid1")
	o := options(t)
	l, _ := one(t, "raid1", o)
	if err := l.Detach(t.Context(), "db-1", "db1"); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(o.Dir, "db-1", "disk-2")
	if err := os.Rename(disk, disk+".away"); err != nil {
		t.Fatal(err)
	}
	if v, err := l.Describe(t.Context(), "db-1"); err != nil || !strings.Contains(v.Trouble, disk) {
		t.Errorf("it is %+v, %v", v, err)
	}
	if _, err := l.Attach(t.Context(), "db-1", "db2"); err == nil || !strings.Contains(err.Error(), "disk 2 of 2 is missing") {
		t.Errorf("attached: %v", err)
	}
	if err := os.Rename(disk+".away", disk); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Attach(t.Context(), "db-1", "db2"); err != nil {
		t.Error(err)
	}
	if err := l.Detach(t.Context(), "db-1", "db2"); err != nil {
		t.Error(err)
	}
}

func TestWritesAreNeverHeldUpForLong(t *testing.T) {
	need(t, "ext4")
	o := options(t)
	l, v := one(t, "ext4", o)
	content := make([]byte, 8<<20)
	if _, err := rand.Read(content); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(v.Path, "content"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	// Longer than the limit: it is given up, and nothing is kept.
	slow := o
	slow.Step = func(step string) {
		if step == "frozen" { // nothing is read before the limit is over
			<-time.After(300 * time.Millisecond)
		}
	}
	if s, err := volume.NewLocal(slow).Snapshot(t.Context(), "db-1", volume.SnapshotOptions{Freeze: 100 * time.Millisecond}); err == nil || !strings.Contains(err.Error(), "writes were let go on") {
		t.Errorf("snapshot %+v, %v", s, err)
	}
	// The caller's hold ends too, whatever happens.
	held, released := 0, 0
	options := volume.SnapshotOptions{Hold: func(context.Context) (func() error, error) {
		held++
		return func() error { released++; return nil }, nil
	}}
	s, err := l.Snapshot(t.Context(), "db-1", options)
	if err != nil || s.Moment != volume.Quiet || held != 1 || released != 1 {
		t.Errorf("snapshot %+v, %v; held %d times and released %d times", s, err, held, released)
	}
	options.Hold = func(context.Context) (func() error, error) { return nil, errors.New("it does not hold still") }
	if _, err := l.Snapshot(t.Context(), "db-1", options); err == nil || !strings.Contains(err.Error(), "it does not hold still") {
		t.Errorf("snapshot: %v", err)
	}
	if all, err := l.Snapshots(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("the snapshots are %+v, %v", all, err)
	}
	// Frozen by somebody who is gone, guard and all: who comes next thaws it.
	if err := tool("fsfreeze", "--freeze", v.Path); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Attach(t.Context(), "db-1", "db1"); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(v.Path, "content"), []byte("goes on"), 0o600); err != nil {
		t.Error(err)
	}
	if err := l.Detach(t.Context(), "db-1", "db1"); err != nil {
		t.Error(err)
	}
}

// TestAnArrayIsOfOneMomentInASnapshot writes two files in turns, one of which is never
// behind, while it is copied and grown.
func TestAnArrayIsOfOneMomentInASnapshot(t *testing.T) {
	need(t, "raid0")
	l, v := one(t, "raid0", options(t))
	stop, stopped := make(chan struct{}), make(chan error, 1)
	started := make(chan struct{})
	go func() {
		stopped <- func() error {
			for n := 1; ; n++ {
				for _, name := range []string{"first", "second"} {
					f, err := os.OpenFile(filepath.Join(v.Path, name), os.O_CREATE|os.O_WRONLY, 0o600)
					if err == nil {
						_, err = fmt.Fprintf(f, "%08d", n)
					}
					if err = errors.Join(err, f.Close()); err != nil {
						return err
					}
				}
				if n == 100 {
					close(started)
				}
				select {
				case <-stop:
					return nil
				default:
				}
			}
		}()
	}()
	<-started
	var taken []volume.Snapshot
	for range 3 {
		s, err := l.Snapshot(t.Context(), "db-1", volume.SnapshotOptions{})
		if err != nil {
			t.Error(err)
			break
		}
		taken = append(taken, s)
	}
	if _, err := l.Grow(t.Context(), "db-1", v.Size+64<<20); err != nil {
		t.Error(err)
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	for n, s := range taken {
		name := fmt.Sprintf("copy-%d", n+1)
		if _, err := l.Restore(t.Context(), s.ID, volume.Spec{Name: name, Kind: volume.Directory}); err != nil {
			t.Fatal(err)
		}
		c, err := l.Attach(t.Context(), name, "reader")
		if err != nil {
			t.Fatal(err)
		}
		var first, second int
		for name, number := range map[string]*int{"first": &first, "second": &second} {
			text, err := os.ReadFile(filepath.Join(c.Path, name))
			if err == nil {
				*number, err = strconv.Atoi(string(text))
			}
			if err != nil {
				t.Error(err)
			}
		}
		if first != second && first != second+1 {
			t.Errorf("snapshot %s has %d and %d", s.ID, first, second)
		}
	}
	if err := l.Detach(t.Context(), "db-1", "db1"); err != nil {
		t.Error(err)
	}
}

func TestADamagedBlockIsNamed(t *testing.T) {
	o := options(t)
	l, v := one(t, "directory", o)
	if err := os.WriteFile(filepath.Join(v.Path, "text"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Detach(t.Context(), "db-1", "db1"); err != nil {
		t.Fatal(err)
	}
	s, err := l.Snapshot(t.Context(), "db-1", volume.SnapshotOptions{})
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := filepath.Glob(filepath.Join(o.Archive, "db-1", "blocks", "??", "*"))
	if err != nil || len(blocks) != 1 {
		t.Fatalf("the blocks are %v, %v", blocks, err)
	}
	if err := os.WriteFile(blocks[0], []byte("tex!"), 0o600); err != nil {
		t.Fatal(err)
	}
	copied := volume.Spec{Name: "db-2", Kind: volume.Directory}
	if _, err := l.Restore(t.Context(), s.ID, copied); err == nil || !strings.Contains(err.Error(), "text: block") {
		t.Errorf("restored: %v", err)
	}
	if _, err := l.Attach(t.Context(), "db-2", "db2"); err == nil {
		t.Error("what was not restored as a whole was attached")
	}
	// After a crash of the machine a block may have its name and not its content: it is
	// not believed, and stored anew.
	if err := os.WriteFile(filepath.Join(o.Archive, "db-1", "unsynced"), []byte("another boot"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Snapshot(t.Context(), "db-1", volume.SnapshotOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Restore(t.Context(), s.ID, copied); err != nil {
		t.Error(err)
	}
}

func TestChoose(t *testing.T) {
	free := func(name string, epoch int64) volume.Volume {
		return volume.Volume{Spec: volume.Spec{Name: name}, Epoch: epoch}
	}
	taken := free("db-1", 1)
	taken.Instance = "db1"
	broken := free("db-2", 1)
	broken.Trouble = "a disk is missing"
	for _, c := range []struct {
		all              []volume.Volume
		pinned, unpinned string
	}{
		{nil, "db-1", "db-1"},
		{[]volume.Volume{taken}, "db-2", "db-2"},
		{[]volume.Volume{taken, broken}, "db-3", "db-3"},
		{[]volume.Volume{taken, free("db-4", 2), free("db-3", 1)}, "db-3", "db-2"},
		{[]volume.Volume{taken, free("db-2", 0)}, "db-2", "db-2"}, // of a launch that was cut short
		{[]volume.Volume{free("web-1", 1), free("db-01", 1), free("db2-1", 1)}, "db-1", "db-1"},
	} {
		if got := volume.Choose("db", true, c.all); got != c.pinned {
			t.Errorf("pinned, of %+v it is %s, want %s", c.all, got, c.pinned)
		}
		if got := volume.Choose("db", false, c.all); got != c.unpinned {
			t.Errorf("of %+v it is %s, want %s", c.all, got, c.unpinned)
		}
	}
}

func TestPrune(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	var all []volume.Snapshot
	for n := range 4 {
		for _, name := range []string{"db-1", "db-2"} {
			at := now.Add(-time.Duration(n) * time.Hour)
			all = append(all, volume.Snapshot{ID: fmt.Sprintf("%s %d", name, n), Volume: name, Taken: at})
		}
	}
	for what, c := range map[string]struct {
		policy backup.Policy
		kept   string
	}{
		"no rule":           {backup.Policy{}, "db-1 0,db-1 1,db-1 2,db-1 3,db-2 0,db-2 1,db-2 2,db-2 3"},
		"by number":         {backup.Policy{Last: 2}, "db-1 0,db-1 1,db-2 0,db-2 1"},
		"by age":            {backup.Policy{For: time.Minute}, "db-1 0,db-2 0"},
		"whichever is more": {backup.Policy{Last: 1, For: 150 * time.Minute}, "db-1 0,db-1 1,db-1 2,db-2 0,db-2 1,db-2 2"},
	} {
		var kept []string
		for _, v := range volume.Prune(c.policy, all, now) {
			if v.Keep {
				kept = append(kept, v.ID)
			}
		}
		if got := strings.Join(kept, ","); got != c.kept {
			t.Errorf("%s: kept %s, want %s", what, got, c.kept)
		}
	}
}

// TestWhatAMachineLacksIsNamed: nothing less is made instead.
func TestWhatAMachineLacksIsNamed(t *testing.T) {
	o := options(t)
	l := volume.NewLocal(o)
	for what, c := range map[string]struct {
		machine func(*volume.Machine)
		spec    volume.Spec
		want    string
	}{
		"no right":        {func(m *volume.Machine) { m.Right = func(int) bool { return false } }, specs["ext4"], "CAP_SYS_ADMIN"},
		"no loop devices": {func(m *volume.Machine) { m.Root = "/nowhere" }, specs["ext4"], "no loop devices"},
		"no mkfs":         {func(m *volume.Machine) { m.Look = without("mkfs.ext4") }, specs["ext4"], "ext4 needs the program mkfs.ext4"},
		"no btrfs":        {func(m *volume.Machine) { m.Look = without("mkfs.btrfs") }, specs["raid0"], "btrfs needs the program mkfs.btrfs"},
		"no losetup":      {func(m *volume.Machine) { m.Look = without("losetup") }, specs["xfs"], "losetup"},
	} {
		if what != "no right" {
			if err := l.Able(); err != nil {
				t.Logf("%s: not tested: %v", what, err)
				continue
			}
		}
		poor := l.On(c.machine)
		if v, err := poor.Create(t.Context(), named(c.spec, "db-1")); !errors.Is(err, volume.ErrUnable) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: made %+v, %v; want %q", what, v, err, c.want)
		}
	}
	if all, err := l.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("there are %+v, %v", all, err)
	}
}

func without(program string) func(string) (string, error) {
	return func(name string) (string, error) {
		if name == program {
			return "", &exec.Error{Name: name, Err: exec.ErrNotFound}
		}
		return exec.LookPath(name)
	}
}
