package checker_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"farmhand/internal/checker"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
)

var (
	chaosTime = flag.Duration("chaos.time", 0, "run TestChaos for so long")
	chaosSeed = flag.Uint64("chaos.seed", 0, "the faults' seed; 0: a new one")
	chaosOut  = flag.String("chaos.out", os.TempDir(), "directory for the histories of what went wrong")
	chaosRace = flag.Bool("chaos.race", false, "build the proxies with the race detector")
	chaosSemi = flag.Bool("chaos.semisync", false, "judge every level on the semi-synchronous farm as well, where a replica may show a commit before the primary does")
	chaosOn   = flag.String("chaos.flavor", "MariaDB", "MariaDB or MySQL")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// round runs the workload for a time, under faults in the order of the seed, and
// judges it.
func (w *world) round(t *testing.T, level checker.Level, long time.Duration, seed uint64, faults ...fault) *checker.Report {
	t.Helper()
	w.prepare(t)
	w.serveAt(t, level)
	work := newWorkload()
	ctx, cancel := context.WithTimeout(context.Background(), long)
	var clients sync.WaitGroup
	finish := func() {
		cancel()
		clients.Wait()
	}
	defer finish()
	for n := range 6 * proxies {
		clients.Go(func() { work.client(ctx, n, w.proxies[n%proxies].db, seed) })
	}
	var done []string
	if len(faults) > 0 {
		w.torment(ctx, t, rand.New(rand.NewPCG(seed, 0)), faults, func(what string) { done = append(done, what) })
	} else {
		<-ctx.Done()
	}
	finish()
	rules := checker.Rules{Level: level, Pause: sessionIdle}
	for range accounts {
		rules.Balances = append(rules.Balances, balance)
	}
	states := w.states(t)
	r := checker.Check(work.history, states, rules)
	if len(r.Violations) > 0 || len(work.strange) > 0 {
		t.Errorf("seed %d, level %v: %v; %q; all of it is in %s", seed, level, r.Violations[:min(3, len(r.Violations))], work.strange,
			keep(t, r, work, done, states, seed))
	}
	if r.Reads == 0 || r.Writes == 0 {
		t.Errorf("%d reads and %d writes: nothing was tested; %v", r.Reads, r.Writes, work.refused)
	}
	t.Logf("errors of clients: %v", work.refused)
	return r
}

// keep writes what shows a violation to a file: seed, faults, violations, final
// states and the whole history.
func keep(t *testing.T, r *checker.Report, work *workload, faults []string, states []checker.State, seed uint64) string {
	t.Helper()
	f, err := os.Create(filepath.Join(*chaosOut, fmt.Sprintf("farmhand-violation-%v-%d-%d.json", r.Level, seed, time.Now().UnixNano())))
	if err != nil {
		t.Fatal(err)
	}
	e := json.NewEncoder(f)
	for _, part := range []any{
		map[string]any{"seed": seed, "level": r.Level, "faults": faults, "strange": work.strange, "wrong": r.Wrong},
		r.Violations, states,
	} {
		if err := e.Encode(part); err != nil {
			t.Fatal(err)
		}
	}
	for _, op := range work.history {
		if err := e.Encode(op); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

const tableHead = "level      rounds    reads   writes  stale: session     farm   strict  undone  unknown  failed  lost  twice  wrong  reads by server"

func line(r *checker.Report, rounds int) string {
	wrong := 0
	for _, n := range r.Wrong {
		wrong += n
	}
	var servers []string
	for _, id := range slices.Sorted(maps.Keys(r.ByServer)) {
		servers = append(servers, fmt.Sprintf("%d: %d", id, r.ByServer[id]))
	}
	return fmt.Sprintf("%-9v %7d %8d %8d %15d %8d %8d %7d %8d %7d %5d %6d %6d  %s", r.Level, rounds, r.Reads, r.Writes,
		r.Stale[checker.Session], r.Stale[checker.Farm], r.Stale[checker.Strict], r.Undone, r.Unknown, r.Failed, r.Lost, r.Duplicated, wrong,
		strings.Join(servers, ", "))
}

// TestStaleReadsAreSeen proves that the checker can see: on replicas that apply
// late every kind of stale read must turn up at the level eventual.
func TestStaleReadsAreSeen(t *testing.T) {
	farmtest.Long(t)
	w := newWorld(t, farm.MariaDB, 2, false)
	w.farm.SetDelay(t, time.Second)
	r := w.round(t, checker.Eventual, 3*time.Second, 0)
	t.Logf("\n%s\n%s", tableHead, line(r, 1))
	for _, level := range []checker.Level{checker.Session, checker.Farm, checker.Strict} {
		if r.Stale[level] == 0 {
			t.Errorf("no read was too old for level %v, with replicas that are a second behind", level)
		}
	}
	for _, level := range []checker.Level{checker.Session, checker.Farm, checker.Strict} {
		r := w.round(t, level, 2*time.Second, 0)
		t.Logf("\n%s\n%s", tableHead, line(r, 1))
		if r.Stale[level] > 0 {
			t.Errorf("%d reads too old at level %v", r.Stale[level], level)
		}
	}
	w.farm.CheckNoOwnEvents(t)
}

// TestLevelsHoldUnderFaults runs every level under a few faults of each kind.
func TestLevelsHoldUnderFaults(t *testing.T) {
	w := newWorld(t, farm.MariaDB, 2, false)
	for i, level := range checker.Levels {
		seed := uint64(1 + i)
		r := w.round(t, level, 5*time.Second, seed, faults...)
		t.Logf("seed %d\n%s\n%s", seed, tableHead, line(r, 1))
	}
}

// TestChangeOfPrimary holds the ledger over primaries that are killed and
// replaced: nothing that was acknowledged is lost, nothing happens twice. The
// levels of reads under semi-synchronous replication are for TestChaos, which
// finds them broken: a replica may show a commit before the primary does.
func TestChangeOfPrimary(t *testing.T) {
	for name, flavor := range flavors {
		t.Run(name, func(t *testing.T) {
			if flavor == farm.MySQL {
				farmtest.Long(t)
			}
			w := newWorld(t, flavor, 2, true)
			before := w.farm.Primary()
			r := w.round(t, checker.Eventual, 4*time.Second, 1, changePrimary)
			t.Logf("\n%s\n%s", tableHead, line(r, 1))
			if w.farm.Topology().Clusters["default"].Epoch == 1 {
				t.Errorf("%s is the primary still", before.Name())
			}
		})
	}
}

var flavors = map[string]farm.Flavor{"MariaDB": farm.MariaDB, "MySQL": farm.MySQL}

// TestChaos goes on for as long as -chaos.time says ("make chaos"): a round at
// every level on an asynchronous farm, then one of failovers on a
// semi-synchronous farm, where the ledger is held, and so on.
func TestChaos(t *testing.T) {
	if *chaosTime == 0 {
		t.Skip("needs -chaos.time; make chaos gives it")
	}
	flavor, ok := flavors[*chaosOn]
	if !ok {
		t.Fatalf("-chaos.flavor %q is neither MariaDB nor MySQL", *chaosOn)
	}
	seed := *chaosSeed
	if seed == 0 {
		seed = rand.Uint64()>>1 + 1
	}
	type kind struct {
		name   string
		level  checker.Level
		world  *world
		faults []fault
	}
	asynchronous, semiSynchronous := newWorld(t, flavor, 3, false), newWorld(t, flavor, 3, true)
	withFailover := append(faults[:len(faults):len(faults)], changePrimary)
	var kinds []kind
	for _, level := range checker.Levels {
		kinds = append(kinds, kind{"asynchronous", level, asynchronous, faults})
	}
	kinds = append(kinds, kind{"semi-synchronous, with failovers", checker.Eventual, semiSynchronous, withFailover})
	if *chaosSemi {
		for _, level := range checker.Levels[1:] {
			kinds = append(kinds, kind{"semi-synchronous, with failovers", level, semiSynchronous, withFailover})
		}
	}
	long := min(time.Minute, *chaosTime/time.Duration(len(kinds)))
	all := make([]*checker.Report, len(kinds))
	rounds := make([]int, len(kinds))
	fmt.Printf("chaos on %v for %v, rounds of %v, seed %d\n", flavor, *chaosTime, long, seed)
	until := time.Now().Add(*chaosTime)
	for n := 0; time.Now().Before(until); n++ {
		i := n % len(kinds)
		r := kinds[i].world.round(t, kinds[i].level, long, seed+uint64(n), kinds[i].faults...)
		if all[i] == nil {
			all[i] = r
		} else {
			all[i].Add(r)
		}
		rounds[i]++
		fmt.Printf("%v left, seed %d\n%s\n", time.Until(until).Round(time.Second), seed+uint64(n), tableHead)
		for i, r := range all {
			if r != nil {
				fmt.Printf("%s  (%s)\n", line(r, rounds[i]), kinds[i].name)
			}
		}
	}
	if r := all[0]; r != nil && r.Stale[checker.Strict] == 0 {
		t.Error("no stale read was seen at level eventual: the faults were too few to prove anything")
	}
}
