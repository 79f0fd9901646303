package volume_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"farmhand/internal/farmtest"
	"farmhand/scaler/internal/volume"
)

func TestMain(m *testing.M) {
	if os.Getenv(asVictim) != "" {
		victim()
	}
	// What an earlier run that was killed has left.
	left, err := filepath.Glob(filepath.Join(base, prefix+"*"))
	if err == nil {
		for _, dir := range left {
			var pid int
			if _, err = fmt.Sscanf(filepath.Base(dir), prefix+"%d-", &pid); err == nil && errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
				err = sweep(dir)
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(farmtest.Leakless{M: m, Patience: 5 * time.Second}.Run())
}

const (
	base   = "/var/tmp"
	prefix = "farmhand-volumes-"
)

// options are those of volumes in a new directory, which is gone at the test's end
// with everything that was made of it.
func options(t *testing.T) volume.LocalOptions {
	t.Helper()
	dir, err := os.MkdirTemp(base, fmt.Sprintf("%s%d-", prefix, os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sweep(dir); err != nil {
			t.Error(err)
		}
	})
	return volume.LocalOptions{Dir: filepath.Join(dir, "volumes"), Archive: filepath.Join(dir, "snapshots")}
}

// sweep unmounts, detaches and removes all that is below a directory.
func sweep(dir string) error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var errs []error
	for line := range strings.Lines(string(text)) {
		if path := strings.Fields(line)[4]; strings.HasPrefix(path, dir+"/") {
			_ = exec.Command("fsfreeze", "--unfreeze", path).Run() // most are not frozen
			errs = append(errs, tool("umount", path))
		}
	}
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, path := range backing {
		if file, err := os.ReadFile(path); err == nil && strings.HasPrefix(string(file), dir+"/") {
			errs = append(errs, tool("losetup", "--detach", "/dev/"+strings.Split(path, "/")[3]))
		}
	}
	return errors.Join(append(errs, err, os.RemoveAll(dir))...)
}

func tool(args ...string) error {
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// specs are a volume of each sort; those that this machine cannot have are skipped.
var specs = map[string]volume.Spec{
	"directory": {Kind: volume.Directory},
	"xfs":       {Kind: volume.Single, Size: 300 << 20, FileSystem: "xfs"},
	"ext4":      {Kind: volume.Single, Size: 64 << 20, FileSystem: "ext4"},
	"btrfs":     {Kind: volume.Single, Size: 256 << 20, FileSystem: "btrfs"},
	"raid0":     {Kind: volume.Array, Size: 512 << 20, Disks: 2, Layout: volume.Striped},
	"raid1":     {Kind: volume.Array, Size: 256 << 20, Disks: 2, Layout: volume.Mirrored},
	"raid10":    {Kind: volume.Array, Size: 512 << 20, Disks: 4, Layout: volume.Both},
}

// need skips the test if this machine cannot have such a volume.
func need(t *testing.T, sort string) volume.Spec {
	t.Helper()
	s := specs[sort]
	s.Name = "probe-1"
	store := volume.NewLocal(options(t))
	_, err := store.Create(t.Context(), s)
	if errors.Is(err, volume.ErrUnable) {
		t.Skipf("not tested: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Delete(context.Background(), s.Name); err != nil {
		t.Fatal(err)
	}
	return specs[sort]
}

// named is a spec with a name.
func named(s volume.Spec, name string) volume.Spec {
	s.Name = name
	return s
}
