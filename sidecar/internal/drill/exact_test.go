package drill_test

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	format "farmhand/internal/backup"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/gtid"
	"farmhand/internal/objects"
	"farmhand/internal/restore"
)

var (
	points = flag.Int("exact.points", 2, "how many moments are restored to")
	seed   = flag.Uint64("exact.seed", 0, "which; 0: others each time")
)

// random is the test's source of chance, which it names.
func random(t *testing.T) *rand.Rand {
	t.Helper()
	from := *seed
	if from == 0 {
		from = uint64(time.Now().UnixNano())
	}
	t.Logf("-exact.seed %d", from)
	return rand.New(rand.NewPCG(from, 1))
}

// TestRestores writes a ledger over two failovers, with one full backup and an archive.
func TestRestores(t *testing.T) { restores(t, farm.MariaDB) }

// TestRestoresOfMySQL is the same for MySQL, whose servers take longer to start.
func TestRestoresOfMySQL(t *testing.T) {
	farmtest.Long(t)
	restores(t, farm.MySQL)
}

func restores(t *testing.T, of farm.Flavor) {
	r := random(t)
	store, dir := directory(t)
	m, all := world(t, of, store)
	t.Run("any moment is the ledger's prefix", func(t *testing.T) { moments(t, r, store, m, all) })
	t.Run("a fault is named or does no harm", func(t *testing.T) { befall(t, r, of, store, dir, m, all) })
}

// moments restores to moments at random.
func moments(t *testing.T, r *rand.Rand, store objects.Store, m *format.Manifest, all []transaction) {
	begin := 0 // the first transaction after the backup
	for has := position(t, m.Position); has.Contains(position(t, all[begin].position)); {
		begin++
	}
	source := restore.Source{Store: store, Cluster: cluster}
	t.Logf("%d transactions, %d of them after the backup at %s, over %v", len(all), len(all)-begin, m.Position, all[len(all)-1].at.Sub(all[begin].at))
	if err := exact(t, source, restore.Target{}, all); err != nil {
		t.Fatal(err)
	}
	if err := exact(t, source, restore.Target{Position: m.Position}, all[:begin]); err != nil {
		t.Error(err)
	}
	for i := range *points {
		if i%2 == 0 {
			n := begin + r.IntN(len(all)-begin)
			t.Logf("restore to %s", all[n].position)
			if err := exact(t, source, restore.Target{Position: all[n].position}, all[:n+1]); err != nil {
				t.Error(err)
			}
			continue
		}
		span := int(all[len(all)-1].at.Sub(m.Ended) / time.Millisecond)
		at := m.Ended.Add(time.Duration(r.IntN(span)) * time.Millisecond)
		n := begin
		for n < len(all) && !all[n].at.After(at) {
			n++
		}
		t.Logf("restore to %s, before transaction %d, %s", at, n, all[n].position)
		if err := exact(t, source, restore.Target{Time: at}, all[:n]); err != nil {
			t.Error(err)
		}
	}
}

// world is a farm under load with two failovers, of which there are a full backup from
// before them and an archive to the end. It returns the whole history.
func world(t *testing.T, of farm.Flavor, store objects.Store) (*format.Manifest, []transaction) {
	t.Helper()
	f := farmtest.Start(t, farmtest.Options{Flavor: of, Replicas: 2})
	tables(t, f.Primary())
	f.WaitCaughtUp(t)
	f.SemiSync(t)
	epoch := farm.Epoch(1)
	at := position(t, f.Primary().Position(t))
	a := archiving(t, f.Primary(), store, epoch, at)
	told := writing(t, f.Primary(), "p1")
	grow(t, f.Primary())
	m := full(t, f.Replica(0), store, epoch)
	lines := map[string]bool{}
	for _, phase := range []string{"p2", "p3"} {
		grow(t, f.Primary())
		f.Primary().Kill9(t)
		for _, line := range told() {
			lines[line] = true
		}
		a.stop(t)
		f.Promote(t)
		var dead *farmtest.Server
		for _, s := range f.Replicas() {
			if s.Alive() {
				s.Follow(t, f.Primary().Addr())
			} else {
				dead = s
			}
		}
		for _, s := range f.Replicas() {
			if s != dead {
				f.Rebuild(t, dead, s)
				break
			}
		}
		dead.Follow(t, f.Primary().Addr())
		epoch++
		// Some of it comes again, from the new primary.
		a = archiving(t, f.Primary(), store, epoch, earlier(t, store, m))
		told = writing(t, f.Primary(), phase)
	}
	grow(t, f.Primary())
	for _, line := range told() {
		lines[line] = true
	}
	a.await(t, position(t, f.Primary().Position(t)))
	a.stop(t)
	all := history(t, f.Primary())
	if got := all[len(all)-1].position; !position(t, got).Equal(position(t, f.Primary().Position(t))) {
		t.Fatalf("the binlogs are read up to %s, and the server is at %s", got, f.Primary().Position(t))
	}
	dated(t, of, store, m, all)
	for _, x := range all {
		delete(lines, x.line)
	}
	if len(lines) > 0 {
		t.Fatalf("acknowledged lines are in no binlog: %v", lines)
	}
	return m, all
}

// grow returns when a server has been written to for some time.
func grow(t *testing.T, s *farmtest.Server) {
	t.Helper()
	from, began := s.Position(t), time.Now()
	farmtest.Eventually(t, s.Name()+" is written to", func() error {
		if s.Position(t) == from || time.Since(began) < 2*time.Second {
			return errNotYet
		}
		return nil
	})
}

// earlier is a position in the middle of what the archive has.
func earlier(t *testing.T, store objects.Store, m *format.Manifest) gtid.Position {
	t.Helper()
	segments, faults, err := format.ListSegments(t.Context(), store, cluster)
	if err != nil || faults != nil {
		t.Fatal(err, faults)
	}
	c, err := m.Continue(segments)
	if err != nil || len(c.Segments) < 3 {
		t.Fatalf("%d segments, %v", len(c.Segments), err)
	}
	return position(t, c.Segments[len(c.Segments)-2].After)
}
