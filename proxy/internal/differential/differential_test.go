package differential

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"farmhand/internal/farmtest"
	"farmhand/proxy/internal/config"
)

// number is an environment variable's number, or what holds without it.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// workers is how many sessions run at once.
const workers = 6

func TestSessionsAreAnsweredAsDirectly(t *testing.T) { compare(t, 40_000, false) }

// TestSessionsThatShareConnectionsAreAnsweredAsDirectly has fewer server
// connections than sessions and others that press for them, so that a session
// may find itself on another connection at any statement. make soak runs it.
func TestSessionsThatShareConnectionsAreAnsweredAsDirectly(t *testing.T) { compare(t, 8_000, true) }

func compare(t *testing.T, few uint64, pressed bool) {
	seed := number(t, "FARMHAND_DIFFERENTIAL_SEED", 1)
	statements := int64(number(t, "FARMHAND_DIFFERENTIAL_STATEMENTS", few))
	failures := int(number(t, "FARMHAND_DIFFERENTIAL_FAILURES", 1))
	var until time.Time
	if s := os.Getenv("FARMHAND_DIFFERENTIAL_TIME"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatal(err)
		}
		until, statements = time.Now().Add(d), 1<<62
	}
	only, single := os.LookupEnv("FARMHAND_DIFFERENTIAL_SESSION")
	w := begin(t, []time.Duration{0, time.Second}, func(c *config.Config) {
		c.Digests.Max = 0
		if pressed {
			c.Pool.MaxPerServer = connections
		}
	})
	if pressed {
		press(t, w.proxy)
	}

	if single {
		index := number(t, "FARMHAND_DIFFERENTIAL_SESSION", 0)
		if !w.check(t, seed, index, "app_d0", newCounts()) {
			t.Errorf("session %s fails", only)
		}
		return
	}
	began, c := time.Now(), newCounts()
	var next atomic.Uint64
	var failed atomic.Int64
	var group sync.WaitGroup
	for n := range workers {
		group.Go(func() {
			r := newRunner(w.alone.Addr(), w.proxy, c)
			defer r.close()
			for c.ran() < statements && int(failed.Load()) < failures && (until.IsZero() || time.Now().Before(until)) {
				index, schema := next.Add(1)-1, fmt.Sprintf("app_d%d", n)
				s := generate(seed, index, schema)
				if d := r.run(s.steps); d != nil {
					failed.Add(1)
					if strings.Contains(d.proxy, "error 1205 ") {
						t.Log(w.holders(t))
					}
					r.close()
					w.explain(t, r, seed, index, s, d)
				}
			}
		})
	}
	group.Wait()
	took := time.Since(began)
	t.Logf("%d statements in %d sessions of seed %d, %.0f a second:\n%v", c.ran(), next.Load(), seed, float64(c.ran())/took.Seconds(), c)
	for _, s := range w.farm.Replicas() {
		if st := s.Query(t, "SHOW SLAVE STATUS")[0]; st.String("Slave_SQL_Running") != "Yes" || st.String("Slave_IO_Running") != "Yes" {
			t.Errorf("%s does not replicate: %s%s", s.Name(), st.String("Last_SQL_Error"), st.String("Last_IO_Error"))
		}
	}
	onPrimary, onReplicas := selects(t, w.farm.Primary()), int64(0)
	for _, s := range w.farm.Replicas() {
		n := selects(t, s)
		t.Logf("%s served %d SELECTs", s.Name(), n)
		onReplicas += n
	}
	share := float64(onReplicas) / float64(max(1, onReplicas+onPrimary))
	t.Logf("replicas served %.1f %% of the SELECTs", 100*share)
	if share < 0.05 {
		t.Errorf("replicas served %.1f %% of the SELECTs: this tests no splitting", 100*share)
	}
	w.farm.CheckNoOwnEvents(t)
}

// holders says who has transactions open on the farm's primary, after a wait for a
// lock that was in vain.
func (w *worlds) holders(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, r := range w.farm.Primary().Query(t, "SELECT p.id, p.user, p.db, p.command, p.time, p.state, LEFT(p.info, 100) AS info, x.trx_state, x.trx_started, x.trx_rows_locked, LEFT(x.trx_query, 100) AS q "+
		"FROM information_schema.processlist p LEFT JOIN information_schema.innodb_trx x ON x.trx_mysql_thread_id = p.id ORDER BY p.id") {
		fmt.Fprintf(&b, "connection %s of %s in %s: %s for %s s, %s, %q; transaction %s since %s with %s rows, %q\n", r.String("id"), r.String("user"), r.String("db"),
			r.String("command"), r.String("time"), r.String("state"), r.String("info"), r.String("trx_state"), r.String("trx_started"), r.String("trx_rows_locked"), r.String("q"))
	}
	rows, err := farmtest.OpenSchemaless(t, "tcp", w.proxy, farmtest.App).QueryContext(t.Context(), "SHOW FARMHAND SESSIONS")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		row, into := make([]string, len(columns)), make([]any, len(columns))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "session %q\n", row)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// check runs one session and reports what differs; false if anything does.
func (w *worlds) check(t *testing.T, seed, index uint64, schema string, c *counts) bool {
	t.Helper()
	r := newRunner(w.alone.Addr(), w.proxy, c)
	defer r.close()
	s := generate(seed, index, schema)
	d := r.run(s.steps)
	if d != nil {
		r.close()
		w.explain(t, r, seed, index, s, d)
	}
	return d == nil
}

// explain reduces a session that failed to the steps that it takes, and reports
// them.
func (w *worlds) explain(t *testing.T, r *runner, seed, index uint64, s session, d *divergence) {
	t.Helper()
	quiet := newRunner(r.pairs[0].direct.address, r.pairs[0].proxy.address, nil)
	defer quiet.close()
	small, last := w.reduce(quiet, s, d, time.Minute)
	t.Errorf("session %d of seed %d differs (FARMHAND_DIFFERENTIAL_SEED=%d FARMHAND_DIFFERENTIAL_SESSION=%d), reduced from %d steps to %d after the scene of %d:\n%s",
		index, seed, seed, index, d.at+1-s.scene, len(small)-s.scene, s.scene, last.describe(small, s.scene))
}

// tries is how often a session is run that is to fail: what differs may depend
// on how far a replica is.
const tries = 2

// reduce returns the fewest steps found within a time that still differ, and how they do.
func (w *worlds) reduce(r *runner, s session, d *divergence, within time.Duration) ([]step, *divergence) {
	last := d
	steps := s.steps[:d.at+1]
	if d.at < s.scene {
		return steps, d
	}
	limit := time.Now().Add(within)
	small := shrink(steps, s.scene, 400, func(candidate []step) bool {
		for range tries {
			if time.Now().After(limit) {
				return false
			}
			if again := r.run(candidate); again != nil && again.at >= s.scene {
				last = again
				return true
			}
		}
		return false
	})
	return small[:last.at+1], last
}
