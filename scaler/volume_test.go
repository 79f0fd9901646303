package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"farmhand/internal/farmtest"
	"farmhand/scaler/internal/volume"
)

// TestFarmOnVolumes runs a farm whose servers have a volume each. A server that is
// replaced hands its volume, and its data, to the one that comes.
func TestFarmOnVolumes(t *testing.T) {
	farmtest.Long(t)
	l := newLocal(t)
	l.onVolumes(t, "{kind: volume, size: 1GiB, snapshots: {last: 1}}")
	l.start(t)
	l.await(t, "farm ready: 1 primary and 2 replicas behind")
	db := farmtest.Open(t, "unix", l.socket, app)
	for _, statement := range []string{"CREATE TABLE kept (i INT)", "INSERT INTO kept VALUES (1)"} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	volumes := l.volumes(t)
	if len(volumes) != 3 {
		t.Fatalf("the volumes are %+v", volumes)
	}
	for n, v := range volumes {
		var space unix.Statfs_t
		err := unix.Statfs(filepath.Join(v.Path, "data"), &space)
		if v.Name != fmt.Sprint("db-", n+1) || v.Trouble != "" || v.Epoch != 1 || v.Size != 1<<30 || len(v.Devices) != 1 || err != nil || space.Blocks*uint64(space.Bsize) > 1<<30 {
			t.Errorf("volume %+v, and its data is on %d blocks of %d, %v", v, space.Blocks, space.Bsize, err)
		}
	}
	l.awaitStatus(t, "the replica acknowledges", func(s status) bool { return s.Assignment.SemiSync })

	// A replica's disk is copied and grown while it works.
	replica := "db2"
	if l.status(t).Assignment.Primary == "db2" {
		replica = "db1"
	}
	var disk volume.Volume
	for _, v := range volumes {
		if v.Instance == replica {
			disk = v
		}
	}
	if out := output(t, "volume", "snapshot", disk.Name, "--local", l.dir); !strings.Contains(out, "crash-consistent") {
		t.Errorf("snapshot: %s", out)
	}
	if _, err := db.Exec("INSERT INTO kept VALUES (2)"); err != nil {
		t.Fatal(err)
	}
	if out := output(t, "volume", "snapshot", disk.Name, "--local", l.dir); !strings.Contains(out, "crash-consistent") {
		t.Errorf("snapshot: %s", out)
	}
	if out := output(t, "volume", "prune", "--dry-run", "--local", l.dir); !strings.Contains(out, "would remove 1 snapshots") {
		t.Errorf("prune --dry-run: %s", out)
	}
	if out := output(t, "volume", "prune", "--yes", "--local", l.dir); !strings.Contains(out, "removed "+disk.Name) {
		t.Errorf("prune: %s", out)
	}
	if out := output(t, "volume", "snapshots", "--local", l.dir); strings.Count(out, disk.Name) != 1 {
		t.Errorf("snapshots: %s", out)
	}
	if out := output(t, "volume", "grow", disk.Name, "1200MiB", "--local", l.dir); !strings.Contains(out, "1.2 GiB") {
		t.Errorf("grow: %s", out)
	}
	if out, err := scaler("volume", "delete", disk.Name, "--yes", "--local", l.dir).CombinedOutput(); err == nil || !strings.Contains(string(out), "attached to "+replica) {
		t.Errorf("delete of a volume that is used: %v, %s", err, out)
	}

	// Its replacement has the same disk, and follows without copying.
	if out := output(t, "terminate", replica, "--yes", "--local", l.dir); !strings.Contains(out, "done: "+replica+" is gone") {
		t.Errorf("terminate: %s", out)
	}
	l.awaitStatus(t, "the replacement serves", func(s status) bool {
		for _, n := range s.Nodes {
			if n.Name == "db4" && n.Database != nil && n.Database.Replication != nil {
				server, ok := s.Assignment.Server("db4")
				return ok && server.State == "serving"
			}
		}
		return false
	})
	events := output(t, "events", "--local", l.dir)
	if !strings.Contains(events, "db4 is new, and has the disk of one that is gone: it follows") || strings.Contains(events, "db4 copies") || strings.Contains(events, "db4 is new: it copies") {
		t.Errorf("db4 was not to copy anything:\n%s", events)
	}
	for _, v := range l.volumes(t) {
		if v.Name == disk.Name && (v.Instance != "db4" || v.Epoch != 2 || v.Size != 1200<<20) {
			t.Errorf("the disk is %+v", v)
		}
	}
	if all := l.volumes(t); len(all) != 3 {
		t.Errorf("the volumes are %+v", all)
	}
	if out := output(t, "status", "--local", l.dir); !strings.Contains(out, "db4") {
		t.Errorf("status: %s", out)
	}

	// Nothing is left mounted when the farm has stopped, and all is there again in the
	// next run.
	output(t, "down", "--local", l.dir)
	if err := l.wait(t); err != nil {
		t.Error(err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), l.dir) {
		t.Errorf("still mounted: %v, %s", err, mounts)
	}
	l.start(t)
	l.await(t, "farm ready")
	var rows int
	if err := farmtest.Open(t, "unix", l.socket, app).QueryRow("SELECT COUNT(*) FROM kept").Scan(&rows); err != nil || rows != 2 {
		t.Errorf("%d rows, %v", rows, err)
	}
}

// onVolumes has the farm be one of a primary and two replicas with that storage. It skips
// the test where there can be none.
func (l *local) onVolumes(t *testing.T, storage string) {
	t.Helper()
	probe := volume.NewLocal(volume.LocalOptions{Dir: filepath.Join(filepath.Dir(l.dir), "probe")})
	_, err := probe.Create(t.Context(), volume.Spec{Name: "probe-1", Kind: volume.Single, Size: 300 << 20})
	if errors.Is(err, volume.ErrUnable) {
		t.Skipf("not tested: %v", err)
	}
	if err == nil {
		err = probe.Delete(t.Context(), "probe-1")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.sweep(t) })
	l.withRoles(t, fmt.Sprintf("  db: {kind: mysql, count: 3, storage: %s}\n", storage))
}

// sweep unmounts and detaches what a farm that could not be stopped has left.
func (l *local) sweep(t *testing.T) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if path := strings.Fields(line)[4]; strings.HasPrefix(path, l.dir+"/") {
			_ = exec.Command("fsfreeze", "--unfreeze", path).Run() // it hardly ever is frozen
			if out, err := exec.Command("umount", path).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		}
	}
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Error(err)
	}
	for _, path := range backing {
		if file, err := os.ReadFile(path); err == nil && strings.HasPrefix(string(file), l.dir+"/") {
			if out, err := exec.Command("losetup", "--detach", "/dev/"+strings.Split(path, "/")[3]).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		}
	}
}

func (l *local) volumes(t *testing.T) (list []volume.Volume) {
	t.Helper()
	if err := json.Unmarshal([]byte(output(t, "volume", "list", "--json", "--local", l.dir)), &list); err != nil {
		t.Fatal(err)
	}
	return list
}
