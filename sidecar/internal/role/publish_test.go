package role

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"farmhand/internal/farm"
	"farmhand/internal/topology"
	"farmhand/sidecar/internal/membership"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func members(epoch farm.Epoch, hosts ...membership.Host) membership.Snapshot {
	return membership.Snapshot{Epoch: epoch, Hosts: hosts}
}

func host(name, role string, n string, state membership.State) membership.Host {
	return membership.Host{Name: name, Role: role, Address: "127.0.0." + n + ":3306", State: state}
}

func TestCluster(t *testing.T) {
	c := clusterOf(members(7,
		host("db1", "primary", "1", membership.Leaving), host("db2", "replica", "2", membership.Up), host("db3", "replica", "3", membership.Joining),
		host("db4", "replica", "4", membership.Leaving), host("db5", "replica", "5", membership.Down), host("web1", "web", "6", membership.Up)))
	if c.Epoch != 7 || c.Primary == nil || c.Primary.Name != "db1" || c.Primary.State != "" {
		t.Errorf("got %+v", c)
	}
	var replicas []string
	for _, r := range c.Replicas {
		replicas = append(replicas, r.Name+" "+string(r.State))
	}
	if got := strings.Join(replicas, ", "); got != "db2 serving, db3 warming, db4 draining" {
		t.Errorf("replicas: %s", got)
	}
}

func TestPublish(t *testing.T) {
	path := filepath.Join(t.TempDir(), "topology.json")
	now := time.Unix(1_800_000_000, 0)
	do := func(s membership.Snapshot) string {
		t.Helper()
		changed, err := publish(path, "main", clusterOf(s), now)
		must(t, err)
		return changed
	}
	db1, db2 := host("db1", "primary", "1", membership.Up), host("db2", "replica", "2", membership.Up)
	if got := do(members(7, db1, db2)); got != "written for the first time" {
		t.Errorf("got %q", got)
	}
	before, err := os.Stat(path)
	must(t, err)
	now = now.Add(time.Hour)
	if got := do(members(7, db1, db2)); got != "" {
		t.Errorf("got %q", got)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("a file that says the same was written: %v", err)
	}
	db2.State = membership.Leaving
	if got := do(members(7, db1, db2)); got != "draining db2" {
		t.Errorf("got %q", got)
	}

	// Others write it too.
	there, err := topology.Read(path)
	must(t, err)
	c := there.Clusters["main"]
	c.Epoch = 9
	there.Clusters["main"] = c
	there.Clusters["other"] = farm.Cluster{Epoch: 1, Replicas: []farm.Server{{Name: "x", Address: "127.0.0.9:3306"}}}
	must(t, topology.Write(path, there))
	for _, s := range []membership.Snapshot{members(8, db1), members(9, host("db3", "primary", "3", membership.Up))} {
		if _, err := publish(path, "main", clusterOf(s), now); err == nil || !strings.Contains(err.Error(), "stays as it is") {
			t.Errorf("epoch %d: %v", s.Epoch, err)
		}
	}
	do(members(10, host("db3", "primary", "3", membership.Up)))
	there, err = topology.Read(path)
	must(t, err)
	if there.Clusters["main"].Primary.Name != "db3" || there.Clusters["other"].Replicas[0].Name != "x" {
		t.Errorf("got %+v", there.Clusters)
	}
	if _, err := publish(path, "main", clusterOf(members(11, host("db9", "primary", "9", membership.Up))), now); err == nil || !strings.Contains(err.Error(), "already the address") {
		t.Errorf("an address of another cluster: %v", err)
	}
	if term := written(path, "main"); term != (membership.Term{Epoch: 10, Primary: "db3"}) {
		t.Errorf("term %+v", term)
	}

	// One of no use to anybody is replaced.
	must(t, os.WriteFile(path, []byte("{"), 0o644))
	if got := do(members(10, db1)); !strings.HasPrefix(got, "it was bad and is replaced (line 1") {
		t.Errorf("got %q", got)
	}
}

// TestNewestIsNotPutBack: what the source said first is written last, where a
// template took its time.
func TestNewestIsNotPutBack(t *testing.T) {
	snapshot := func(epoch farm.Epoch, serial uint64, primary string) membership.Snapshot {
		s := members(epoch, host(primary, "primary", "1", membership.Up))
		c := clusterOf(s)
		c.Primary.Address = fmt.Sprintf("10.0.0.1:%d", serial)
		s.Cluster, s.Serial = &c, serial
		return s
	}
	p := publisher{path: filepath.Join(t.TempDir(), "topology.json"), cluster: "db", log: zap.NewNop(), term: membership.Term{Epoch: 7, Primary: "db1"}}
	expect := func(want string) {
		t.Helper()
		got, err := topology.Read(p.path)
		must(t, err)
		if c := got.Clusters["db"]; c.Primary.Address != want {
			t.Errorf("the primary is at %s, want %s", c.Primary.Address, want)
		}
	}
	p.atOnce(snapshot(7, 2, "db1"))
	must(t, p.put(snapshot(7, 1, "db1")))
	expect("10.0.0.1:2")
	p.atOnce(snapshot(8, 3, "db2"))
	must(t, p.put(snapshot(7, 2, "db1")))
	expect("10.0.0.1:3")
	// Nor is what is refused written.
	p.atOnce(snapshot(7, 9, "db1"))
	p.atOnce(snapshot(8, 9, "db1"))
	expect("10.0.0.1:3")
	must(t, p.put(snapshot(8, 4, "db2")))
	expect("10.0.0.1:4")
}
