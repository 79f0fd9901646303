package mysqld

import (
	"context"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"farmhand/internal/backup"
	"farmhand/internal/cluster"
	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/gtid"
	"farmhand/internal/objects"
	"farmhand/internal/restore"
	"farmhand/sidecar/internal/archive"
	take "farmhand/sidecar/internal/backup"
)

// archived has the archive of a node's binlog go from a position to where the node is.
func archived(t *testing.T, n *node, store objects.Store, epoch farm.Epoch, from string) string {
	t.Helper()
	to := n.admin("SELECT @@gtid_binlog_pos AS p")[0].String("p")
	want, err := gtid.Parse(farm.MariaDB, to)
	if err != nil {
		t.Fatal(err)
	}
	begin, err := gtid.Parse(farm.MariaDB, from)
	if err != nil {
		t.Fatal(err)
	}
	there := make(chan struct{}, 1)
	a := archive.Archiver{
		Flavor: farm.MariaDB, Node: n.name, Address: netip.MustParseAddrPort(n.server.Addr()), Account: func() dbserver.Account { return replication }, ServerID: 1<<31 + n.id, Cluster: "db", Epoch: epoch, Store: store,
		Position: begin, Every: 50 * time.Millisecond,
		Tell: func(s archive.Status) {
			if s.Position.Contains(want) {
				wake(there)
			}
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	select {
	case <-there:
	case err := <-ended:
		t.Fatal(err)
	case <-time.After(time.Minute):
		t.Fatalf("the archive does not come to %s", to)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	return to
}

// TestDataOfABackup: a new server gets its data from a backup and follows, and a
// cluster is taken back to a moment; what there was before stays until that is confirmed.
func TestDataOfABackup(t *testing.T) {
	w := newWorld(t, farm.MariaDB, "db1", "db2", "db3")
	certify(t, w)
	db1, db2, db3 := w.nodes["db1"], w.nodes["db2"], w.nodes["db3"]
	dir := t.TempDir()
	store, err := objects.Open(t.Context(), objects.Config{Directory: dir})
	if err != nil {
		t.Fatal(err)
	}
	db1.start(true)
	db2.start(true)
	db3.start(false)
	w.assign(false, part{"db1", cluster.Lead, "", false}, part{"db2", cluster.Follow, "db1", true}, part{"db3", cluster.Retire, "", false})
	db1.done()
	db2.done()
	db1.admin("CREATE TABLE app.t (n INT PRIMARY KEY)", "INSERT INTO app.t VALUES (1)")
	db2.awaitRows(1)
	m, err := take.Take(t.Context(), take.Full{Install: db2.inst, Config: db2.server, Store: store, Cluster: "db", Node: "db2", Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	db1.admin("INSERT INTO app.t VALUES (2)")
	two := archived(t, db1, store, 1, m.Position)
	db1.admin("INSERT INTO app.t VALUES (3)")
	three := archived(t, db1, store, 1, two)
	db1.admin("INSERT INTO app.t VALUES (4)") // the archive does not have it

	copied := &cluster.Restore{ID: "copy-1", Store: dir, Cluster: "db"}
	w.assignAs(false, func(a *cluster.Assignment) { a.Servers[2].Restore = copied },
		part{"db1", cluster.Lead, "", false}, part{"db2", cluster.Follow, "db1", true}, part{"db3", cluster.Clone, "db1", false})
	if r := db3.done(); r.Copied == nil || !r.Copied.Stored || r.Copied.Bytes == 0 {
		t.Error(show(r))
	}
	db3.awaitRows(1, 2, 3, 4)
	w.assign(false, part{"db1", cluster.Lead, "", false}, part{"db2", cluster.Follow, "db1", true}, part{"db3", cluster.Follow, "db1", true})
	db3.done()
	db3.await("it is intact", func(r *cluster.Report) bool { return r.Intact && r.Errant == "" && r.Missing == "" })

	// A moment that cannot be reached changes nothing.
	w.raise()
	over := cluster.Restore{ID: "20260101T000000Z-1", Store: dir, Cluster: "db", To: "0-1-99999", Over: true, Led: true}
	back := func(a *cluster.Assignment) {
		a.Servers[0].Restore = &over
		a.Servers[0].ID = uint32(10 + a.Epoch)
	}
	parts := []part{{"db1", cluster.Lead, "", false}, {"db2", cluster.Clone, "db1", false}, {"db3", cluster.Clone, "db1", false}}
	w.assignAs(false, back, parts...)
	db1.await("it says why not", func(r *cluster.Report) bool { return strings.Contains(r.RestoreError, "the archive ends at") })

	w.raise()
	over.ID, over.To = "20260101T000001Z-2", two
	w.assignAs(false, back, parts...)
	r := db1.done()
	if r.Restored != over.ID || r.Aside == "" {
		t.Error(show(r))
	}
	if rows := db1.admin("SELECT GROUP_CONCAT(n ORDER BY n) AS n FROM app.t"); rows[0].String("n") != "1,2" {
		t.Errorf("there are %s", rows[0].String("n"))
	}
	db1.admin("INSERT INTO app.t VALUES (30)")
	db2.done()
	db3.done()
	db2.awaitRows(1, 2, 30)
	w.assign(false, part{"db1", cluster.Lead, "", false}, part{"db2", cluster.Follow, "db1", true}, part{"db3", cluster.Follow, "db1", true})
	for _, n := range []*node{db2, db3} {
		n.await("it follows what was restored", func(r *cluster.Report) bool {
			return r.Done && r.Task == cluster.Follow && r.Intact && r.Errant+r.Missing == ""
		})
	}

	// What was given up is no part of the history, also where nothing has its numbers yet.
	plan, err := restore.Find(t.Context(), restore.Source{Store: store, Cluster: "db"}, restore.Target{}, "")
	if err != nil || len(plan.Reach.Ranges) != 1 || plan.Reach.Ranges[0].To != two {
		t.Errorf("%+v, %v; %s was given up", plan, err, three)
	}
	// What is archived from now on is of the new history.
	archived(t, db1, store, 3, two)
	if _, faults, err := backup.ListSegments(t.Context(), store, "db"); err != nil || faults != nil {
		t.Error(faults, err)
	}
	into := restore.Into{Install: db1.inst, Config: db1.server}
	into.Config.Dir, into.Config.Socket = filepath.Join(farmtest.ShortDir(t), "again"), filepath.Join(farmtest.ShortDir(t), "s")
	if plan, err = restore.Find(t.Context(), restore.Source{Store: store, Cluster: "db"}, restore.Target{}, ""); err != nil {
		t.Fatal(err)
	}
	got, err := plan.Restore(t.Context(), into)
	if err != nil {
		t.Fatal(err)
	}
	if now := db1.admin("SELECT @@gtid_binlog_pos AS p")[0].String("p"); !strings.HasPrefix(got.Position, strings.Join(strings.Split(now, "-")[:2], "-")+"-") {
		t.Errorf("restored to %s, and db1 is at %s", got.Position, now)
	}

	// A later failover does not remove what is kept, and a person does.
	if found, err := asides(db1.server.Dir); err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	w.assignAs(false, func(a *cluster.Assignment) { a.Confirmed = over.ID },
		part{"db1", cluster.Lead, "", false}, part{"db2", cluster.Follow, "db1", true}, part{"db3", cluster.Follow, "db1", true})
	db1.await("nothing is kept aside", func(r *cluster.Report) bool { return r.Aside == "" })
	if found, err := asides(db1.server.Dir); err != nil || len(found) != 0 {
		t.Error(found, err)
	}
}
