package backupagent_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/backup"
	"farmhand/internal/cluster"
	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/gtid"
	"farmhand/internal/objects"
	"farmhand/internal/registry"
	"farmhand/sidecar/internal/backupagent"
	"farmhand/sidecar/internal/drill"
)

func TestMain(m *testing.M) {
	os.Exit(farmtest.Leakless{M: m, Patience: 10 * time.Second}.Run())
}

// shared is a registry that is only thought of.
type shared struct {
	mu      sync.Mutex
	values  map[string][]byte
	changed chan struct{} // closed at every change
	reports map[string]*cluster.BackupReport
	events  []farm.Event
}

func newShared() *shared {
	return &shared{values: map[string][]byte{}, changed: make(chan struct{}), reports: map[string]*cluster.BackupReport{}}
}

func (s *shared) put(t testing.TB, name string, value interface{ Encode() ([]byte, error) }) {
	t.Helper()
	data, err := value.Encode()
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values["clusters/app/"+name] = data
	close(s.changed)
	s.changed = make(chan struct{})
}

// seat is the registry as one node sees it.
type seat struct {
	*shared
	name string
}

func (s seat) Watch(ctx context.Context, r registry.Record, tell func(registry.Value) error) error {
	for {
		s.mu.Lock()
		data, changed := s.values[r.String()], s.changed
		s.mu.Unlock()
		if err := tell(registry.Value{Data: data}); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s seat) Report(_ context.Context, name string, value []byte) error {
	r, err := cluster.DecodeBackupReport(value)
	if err != nil || name != cluster.BackupReportName || r.Name != s.name {
		return fmt.Errorf("report %s of %s: %+v, %w", name, s.name, r, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reports[s.name] = r
	return nil
}

func (s *shared) report(name string) *cluster.BackupReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reports[name]
}

// told are the kinds of the events.
func (s *shared) told() (kinds []farm.EventKind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

// run runs an agent for a server, and returns what ends it.
func (s *shared) run(t *testing.T, name string, server *farmtest.Server, change ...func(*backupagent.Options)) (stop func()) {
	t.Helper()
	ids := 0
	o := backupagent.Options{
		Name: name, Cluster: "app", Install: farmtest.Need(t, server.Flavor()), Server: server.Config(), Replication: func() dbserver.Account { return farmtest.Replicator },
		Farm: seat{s, name}, Scratch: filepath.Join(t.TempDir(), "drill"), Log: zap.NewNop(),
		NewEventID: func() string { ids++; return fmt.Sprintf("%s-%d", name, ids) },
		Event: func(e farm.Event) error {
			if err := e.Check(); err != nil {
				return err
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.events = append(s.events, e)
			return nil
		},
	}
	for _, f := range change {
		f(&o)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- backupagent.New(o).Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the agent of %s ended with %v", name, err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func assignment(epoch farm.Epoch, leader, base string, servers ...*farmtest.Server) *cluster.Assignment {
	a := &cluster.Assignment{Epoch: epoch, Serial: uint64(epoch), Primary: leader, Base: base, NextID: 100}
	for i, s := range servers {
		server := cluster.Server{Name: fmt.Sprintf("db%d", i+1), Address: s.Addr(), ID: s.ServerID(), Task: cluster.Follow, Source: leader, State: farm.Serving, Weight: 1}
		if server.Name == leader {
			server.Task, server.Source, server.State = cluster.Lead, "", ""
		}
		a.Servers = append(a.Servers, server)
	}
	return a
}

func planOf(serial uint64, store string) *cluster.BackupPlan {
	return &cluster.BackupPlan{Serial: serial, Store: store, Every: 300 * time.Millisecond, Size: 1 << 20}
}

func position(t testing.TB, text string) gtid.Position {
	t.Helper()
	p, err := gtid.Read(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func at(t testing.TB, s *farmtest.Server) gtid.Position {
	t.Helper()
	return position(t, s.Position(t))
}

func (s *shared) awaitFull(t *testing.T, name, id string, state cluster.WorkState) *cluster.FullReport {
	t.Helper()
	var got *cluster.FullReport
	farmtest.Eventually(t, "the backup is "+string(state), func() error {
		r := s.report(name)
		if r == nil || r.Full == nil || r.Full.ID != id || r.Full.State != state {
			return fmt.Errorf("the report is %+v", r)
		}
		got = r.Full
		return nil
	})
	return got
}

// TestAFullBackupIsTakenOnce: whatever dies in between, there is one attempt under one
// name.
func TestAFullBackupIsTakenOnce(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	f.Primary().Exec(t, "CREATE TABLE app.item (id INT PRIMARY KEY AUTO_INCREMENT, text TEXT)", "INSERT INTO app.item (text) SELECT MD5(seq) FROM app.seq_1_to_5000")
	f.WaitCaughtUp(t)
	dir := t.TempDir()
	store, err := objects.Open(t.Context(), objects.Config{Directory: dir})
	if err != nil {
		t.Fatal(err)
	}
	s := newShared()
	s.put(t, cluster.Record, assignment(1, "db1", "", f.Servers()...))
	plan := planOf(1, dir)
	plan.Full = &cluster.FullTask{ID: backup.NewID(time.Now()), Node: "db2", Since: time.Now(), Why: "a test"}
	s.put(t, cluster.BackupsRecord, plan)
	stop := s.run(t, "db2", f.Replica(0))
	r := s.awaitFull(t, "db2", plan.Full.ID, cluster.Done)
	m, err := backup.Load(t.Context(), store, "app", plan.Full.ID)
	if err != nil || m.Position != r.Position || m.Source != "db2" || m.Epoch != 1 || r.Bytes != m.Bytes || r.Stored != m.Stored() {
		t.Fatalf("the manifest is %+v, %v; the report %+v", m, err, r)
	}
	// The next sidecar knows nothing of it and finds it.
	stop()
	s.mu.Lock()
	s.reports["db2"] = nil
	s.mu.Unlock()
	stop = s.run(t, "db2", f.Replica(0))
	s.awaitFull(t, "db2", plan.Full.ID, cluster.Done)
	if told := s.told(); len(told) != 1 || told[0] != farm.BackupComplete {
		t.Errorf("events are %v", told)
	}
	// One of which a part is there was begun by a process that has died.
	half := *plan
	half.Serial, half.Full = 2, &cluster.FullTask{ID: backup.NewID(time.Now()), Node: "db2", Since: time.Now()}
	part := "app/full/" + half.Full.ID + "/part-000001"
	if _, err := store.Put(t.Context(), part, strings.NewReader("half"), objects.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	s.put(t, cluster.BackupsRecord, &half)
	if r := s.awaitFull(t, "db2", half.Full.ID, cluster.Failed); !strings.Contains(r.Error, "begun before") {
		t.Errorf("it failed with %q", r.Error)
	}
	if _, err := store.Head(t.Context(), part); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("what there was of it: %v", err)
	}
	// One that is not wanted any more is given up and leaves nothing.
	slow := half
	slow.Serial, slow.Throttle, slow.Full = 3, 64<<10, &cluster.FullTask{ID: backup.NewID(time.Now()), Node: "db2", Since: time.Now()}
	s.put(t, cluster.BackupsRecord, &slow)
	farmtest.Eventually(t, "it has read something", func() error {
		if r := s.report("db2"); r.Full == nil || r.Full.ID != slow.Full.ID || r.Full.Bytes == 0 || r.Full.Total < r.Full.Bytes {
			return fmt.Errorf("the report is %+v", r.Full)
		}
		return nil
	})
	none := slow
	none.Serial, none.Full = 4, nil
	s.put(t, cluster.BackupsRecord, &none)
	s.awaitFull(t, "db2", slow.Full.ID, cluster.Failed)
	entries, err := backup.List(t.Context(), store, "app")
	if err != nil || len(entries) != 1 {
		t.Errorf("the store has %+v, %v", entries, err)
	}
	stop()
}

// TestTheArchiveGoesOnOverChangesOfPrimary: what the old primary alone has, and nobody
// acknowledged, is archived by it and not of the cluster's history afterwards.
func TestTheArchiveGoesOnOverChangesOfPrimary(t *testing.T) { goesOn(t, farm.MariaDB) }

// TestTheArchiveOfMySQLGoesOn is the same for MySQL.
func TestTheArchiveOfMySQLGoesOn(t *testing.T) {
	farmtest.Long(t)
	goesOn(t, farm.MySQL)
}

func goesOn(t *testing.T, flavor farm.Flavor) {
	f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 1})
	p, r := f.Primary(), f.Replica(0)
	dir := t.TempDir()
	store, err := objects.Open(t.Context(), objects.Config{Directory: dir})
	if err != nil {
		t.Fatal(err)
	}
	s := newShared()
	s.run(t, "db1", p)
	stop := s.run(t, "db2", r)
	first := assignment(1, "db1", "", f.Servers()...)
	s.put(t, cluster.Record, first)
	plan := planOf(1, dir)
	plan.Archive = &cluster.ArchiveTask{Node: "db1", Epoch: 1}
	s.put(t, cluster.BackupsRecord, plan)
	archived := func(name string, want gtid.Position) {
		t.Helper()
		farmtest.Eventually(t, name+" has archived "+want.String(), func() error {
			report := s.report(name)
			if report == nil || report.Archive == nil {
				return fmt.Errorf("the report is %+v", report)
			}
			if got := position(t, report.Archive.Position); !got.Contains(want) || report.Archive.Unstored == nil {
				return fmt.Errorf("the archive is %+v", report.Archive)
			}
			return nil
		})
	}
	archived("db1", position(t, "")) // it has begun
	base := s.report("db1").Archive.Position
	p.Exec(t, "CREATE TABLE app.item (id INT PRIMARY KEY AUTO_INCREMENT, text TEXT)", "INSERT INTO app.item (text) VALUES ('one')")
	f.WaitCaughtUp(t)
	archived("db1", at(t, p))
	p.Exec(t, "INSERT INTO app.item (text) VALUES ('both have it')")
	f.WaitCaughtUp(t)
	common := at(t, p)
	r.StopReplication(t)
	p.Exec(t, "INSERT INTO app.item (text) VALUES ('alone')", "INSERT INTO app.item (text) VALUES ('alone, too')")
	archived("db1", at(t, p))
	p.Kill9(t)
	r.Lead(t)
	s.put(t, cluster.Record, assignment(2, "db2", common.String(), f.Servers()...))
	next := *plan
	next.Serial, next.Archive = 2, &cluster.ArchiveTask{Node: "db2", Epoch: 2}
	s.put(t, cluster.BackupsRecord, &next)
	r.Exec(t, "INSERT INTO app.item (text) VALUES ('after the failover')", "INSERT INTO app.item (text) VALUES ('and so on')")
	archived("db2", at(t, r))
	farmtest.Eventually(t, "the deposed one archives nothing", func() error {
		if a := s.report("db1").Archive; a != nil {
			return fmt.Errorf("it reports %+v", a)
		}
		return nil
	})
	segments, faults, err := backup.ListSegments(t.Context(), store, "app")
	if err != nil || faults != nil {
		t.Fatal(err, faults)
	}
	chain, err := backup.Follow(flavor, position(t, base), segments)
	if err != nil || chain.Gaps != nil || chain.Fork != nil || !chain.Reached.Equal(at(t, r)) {
		t.Fatalf("the chain goes to %v of %v, gaps %v, fork %v, %v", chain.Reached, at(t, r), chain.Gaps, chain.Fork, err)
	}
	for _, segment := range chain.Segments {
		for _, l := range segment.Lines {
			alone := position(t, fmt.Sprintf("%d-%d-%d", l.Domain, l.Server, l.Last))
			if l.Server == p.ServerID() && !common.Contains(alone) {
				t.Errorf("%s has what the old primary alone had after %v: %+v", segment.Key, common, l)
			}
		}
	}
	if flavor != farm.MySQL {
		return
	}
	// Nobody archives, and the binlog goes: there is a gap, and the archive goes on after it.
	stop()
	r.Exec(t, "INSERT INTO app.item (text) VALUES ('not archived')", "FLUSH BINARY LOGS")
	logs := r.Query(t, "SHOW BINARY LOGS")
	r.Exec(t, "PURGE BINARY LOGS TO '"+logs[len(logs)-1].String("Log_name")+"'", "INSERT INTO app.item (text) VALUES ('archived again')")
	s.run(t, "db2", r)
	archived("db2", at(t, r))
	if a := s.report("db2").Archive; a.Lost == "" {
		t.Errorf("the loss is not told: %+v", a)
	}
	if segments, faults, err = backup.ListSegments(t.Context(), store, "app"); err != nil || faults != nil {
		t.Fatal(err, faults)
	}
	before := chain.Reached
	if chain, err = backup.Follow(flavor, position(t, base), segments); err != nil || len(chain.Gaps) != 1 || !chain.Reached.Equal(before) {
		t.Errorf("the chain goes to %v, %v before; gaps %v, %v", chain.Reached, before, chain.Gaps, err)
	}
}

func TestADrillIsReported(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{})
	s := newShared()
	s.put(t, cluster.Record, assignment(1, "db1", "", f.Servers()...))
	plan := planOf(1, t.TempDir())
	plan.Drill = &cluster.DrillTask{ID: "d1", Node: "db1", Since: time.Now()}
	s.put(t, cluster.BackupsRecord, plan)
	outcome := make(chan error, 1)
	s.run(t, "db1", f.Primary(), func(o *backupagent.Options) {
		o.Drill = func(_ context.Context, c drill.Config) (drill.Proof, error) {
			c.Progress(50, 100)
			return drill.Proof{Backup: "b", Position: "0-1-7", Time: time.Unix(1e9, 0)}, <-outcome
		}
	})
	await := func(state cluster.WorkState, id string) (got *cluster.DrillReport) {
		t.Helper()
		farmtest.Eventually(t, "the drill is "+string(state), func() error {
			r := s.report("db1")
			if r == nil || r.Drill == nil || r.Drill.ID != id || r.Drill.State != state || r.Drill.Done != 50 {
				return fmt.Errorf("the report is %+v", r)
			}
			got = r.Drill
			return nil
		})
		return got
	}
	await(cluster.Working, "d1")
	outcome <- nil
	if r := await(cluster.Done, "d1"); r.Backup != "b" || r.Position != "0-1-7" || !r.Until.Equal(time.Unix(1e9, 0)) {
		t.Errorf("proven is %+v", r)
	}
	again := *plan
	again.Serial, again.Drill = 2, &cluster.DrillTask{ID: "d2", Node: "db1", Since: time.Now()}
	s.put(t, cluster.BackupsRecord, &again)
	outcome <- &drill.DiffersError{Backup: "b", Position: "0-1-8", Differences: []drill.Difference{{Table: "app.item", Restored: "1 row", Replica: "2 rows"}}}
	if r := await(cluster.Failed, "d2"); !strings.Contains(r.Differs, "app.item") {
		t.Errorf("what differs is %+v", r)
	}
	farmtest.Eventually(t, "both are told of", func() error {
		if told := s.told(); len(told) != 2 || told[0] != farm.DrillComplete || told[1] != farm.DrillFailed {
			return fmt.Errorf("events are %v", told)
		}
		return nil
	})
}
