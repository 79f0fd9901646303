package monitor_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/gtid"
	"farmhand/proxy/internal/monitor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait for something that must happen.
const patience = time.Minute

func eachFlavor(t *testing.T, run func(t *testing.T, flavor farm.Flavor)) {
	t.Run("MariaDB", func(t *testing.T) { run(t, farm.MariaDB) })
	t.Run("MySQL", func(t *testing.T) { run(t, farm.MySQL) })
}

// watched is a monitor that runs until the test ends.
type watched struct {
	*monitor.Monitor
	t       *testing.T
	metrics *prometheus.Registry
	logs    *observer.ObservedLogs
	stop    func()
}

func watch(t *testing.T, cluster farm.Cluster, change ...func(*monitor.Config)) *watched {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	w := &watched{t: t, metrics: prometheus.NewRegistry(), logs: logs}
	config := monitor.Config{
		User:      farmtest.Monitor.User,
		Password:  farmtest.Monitor.Password,
		Interval:  100 * time.Millisecond,
		SlowStart: -1,
		Log:       zap.New(core),
		Metrics:   w.metrics,
	}
	for _, c := range change {
		c(&config)
	}
	w.Monitor = monitor.New(config)
	w.SetCluster(&cluster)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(w.stop)
	return w
}

func clusterOf(f *farmtest.Farm) farm.Cluster { return f.Topology().Clusters["default"] }

// await waits for a view of which ok says that it is as it should be.
func (w *watched) await(what string, ok func(*monitor.View) bool) *monitor.View {
	w.t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		v := w.View()
		if ok(v) {
			return v
		}
		select {
		case <-w.Changed(v.Generation):
		case <-limit.C:
			w.t.Fatalf("waited %v for: %s; the last view:\n%s", patience, what, describe(v))
		}
	}
}

// awaitServer waits for a state of one server.
func (w *watched) awaitServer(name, what string, ok func(*monitor.Server) bool) *monitor.Server {
	w.t.Helper()
	v := w.await(name+": "+what, func(v *monitor.View) bool {
		s := v.Server(name)
		return s != nil && ok(s)
	})
	return v.Server(name)
}

// awaitSound waits until everything serves and lags are known.
func (w *watched) awaitSound() *monitor.View {
	w.t.Helper()
	return w.await("every server serves", func(v *monitor.View) bool {
		for _, s := range v.Replicas {
			if !s.Eligible {
				return false
			}
		}
		return v.Primary != nil && v.Primary.Writable && v.Primary.Eligible
	})
}

// series returns how many label values a metric has.
func (w *watched) series(name string) int {
	w.t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			return len(family.GetMetric())
		}
	}
	return 0
}

func describe(v *monitor.View) string {
	var b strings.Builder
	servers := v.Replicas
	if v.Primary != nil {
		servers = append([]*monitor.Server{v.Primary}, servers...)
	}
	for _, s := range servers {
		fmt.Fprintf(&b, "%s %s %s eligible=%v writable=%v lag=%v/%v at %q: %s %+v\n",
			s.Name, s.Role, s.Status, s.Eligible, s.Writable, s.Lag, s.LagKnown, s.Position, s.Reason, s.Replication)
	}
	return b.String()
}

func takesReads(s *monitor.Server) bool { return s.Eligible }

func takesNoReads(s *monitor.Server) bool { return !s.Eligible }

func TestASoundFarm(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 2})
		f.Primary().Exec(t, "CREATE TABLE app.t (id INT PRIMARY KEY)")
		w := watch(t, clusterOf(f))
		w.awaitSound()
		position, err := gtid.Parse(flavor, f.Primary().Position(t))
		if err != nil {
			t.Fatal(err)
		}
		v := w.await("all at the primary's position", func(v *monitor.View) bool {
			for _, s := range v.Replicas {
				if !s.Position.Contains(position) || !s.LagKnown {
					return false
				}
			}
			return v.Primary.Position.Contains(position)
		})
		if v.Epoch != 1 || v.Primary.Role != farm.Primary || v.Primary.ServerID != 1 {
			t.Errorf("primary: %+v", v.Primary)
		}
		version := f.Primary().Query(t, "SELECT VERSION() AS v, @@sql_mode AS mode")[0]
		for _, s := range append(v.Replicas, v.Primary) {
			if s.Status != monitor.Up || s.Reason != "" || s.Flavor != flavor || s.LastError != "" || s.Since.IsZero() {
				t.Errorf("%s: %+v", s.Name, s)
			}
			if s.Greeting.Version != version.String("v") {
				t.Errorf("%s greets as %q, VERSION() is %q", s.Name, s.Greeting.Version, version.String("v"))
			}
			if s.Greeting.AuthPlugin == "" || s.Greeting.Collation == 0 || s.Greeting.Capabilities == 0 {
				t.Errorf("%s: greeting %+v", s.Name, s.Greeting)
			}
			if extended := s.Greeting.Capabilities>>32 != 0; extended != (flavor == farm.MariaDB) {
				t.Errorf("%s: capabilities %#x", s.Name, s.Greeting.Capabilities)
			}
			if got := s.Variables["sql_mode"]; got != version.String("mode") || s.Variables["max_allowed_packet"] == "" {
				t.Errorf("%s: sql_mode %q, want %q, of %v", s.Name, got, version.String("mode"), s.Variables)
			}
			if s.EffectiveWeight != 100 {
				t.Errorf("%s: weight %d", s.Name, s.EffectiveWeight)
			}
		}
		for _, s := range v.Replicas {
			if s.Role != farm.Replica || s.Writable || !s.ReadOnly || s.Replication == nil || !s.Replication.Following {
				t.Errorf("%s: %+v, %+v", s.Name, s, s.Replication)
			}
		}
		checkCollations(t, f, v.Collations())
		if n := w.series("farmhand_proxy_replication_lag_seconds"); n != 3 {
			t.Errorf("%d servers' lag in the metrics, want 3", n)
		}
	})
}

// checkCollations compares with what the server itself says of some ids.
func checkCollations(t *testing.T, f *farmtest.Farm, c *monitor.Collations) {
	t.Helper()
	if c == nil {
		t.Fatal("no collations")
	}
	for _, row := range f.Primary().Query(t, "SELECT ID, COLLATION_NAME, CHARACTER_SET_NAME, IS_DEFAULT FROM information_schema.COLLATIONS WHERE ID IS NOT NULL") {
		id, _ := row.Int("ID")
		got, ok := c.ByID(uint16(id))
		want := monitor.Collation{
			ID: uint16(id), Name: row.String("COLLATION_NAME"), Charset: row.String("CHARACTER_SET_NAME"),
			Default: row.String("IS_DEFAULT") == "Yes",
		}
		if !ok || got != want {
			t.Errorf("collation %d: %+v, want %+v", id, got, want)
		}
		if byName, ok := c.ByName(strings.ToUpper(want.Name)); !ok || byName != want {
			t.Errorf("collation %s: %+v, want %+v", want.Name, byName, want)
		}
	}
	if d, ok := c.DefaultOf("latin1"); !ok || d.Name != "latin1_swedish_ci" {
		t.Errorf("latin1's default: %+v", d)
	}
	if f.Primary().Flavor() != farm.MariaDB {
		return
	}
	uca, ok := c.ByName("utf8mb4_uca1400_ai_ci")
	if !ok || uca.ID < 256 || uca.Charset != "utf8mb4" {
		t.Errorf("utf8mb4_uca1400_ai_ci: %+v, %v", uca, ok)
	}
	rows := f.Primary().Query(t, fmt.Sprintf("SELECT FULL_COLLATION_NAME AS n FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY WHERE ID = %d", uca.ID))
	if len(rows) != 1 || rows[0].String("n") != uca.Name {
		t.Errorf("collation %d: %+v, the server says %v", uca.ID, uca, rows)
	}
}

func TestAReplicaIsKilledAndComesBack(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 2})
	w := watch(t, clusterOf(f), func(c *monitor.Config) { c.SlowStart = 3 * time.Second })
	w.awaitSound()
	if s := w.View().Server("replica1"); s.EffectiveWeight != 100 {
		t.Errorf("weight %d at the start, want 100: there is nothing to be slow about", s.EffectiveWeight)
	}
	f.Replica(0).Kill9(t)
	s := w.awaitServer("replica1", "down", func(s *monitor.Server) bool { return s.Status == monitor.Down })
	if s.Eligible || s.EffectiveWeight != 0 || !strings.Contains(s.Reason, "down") || s.Greeting.Version == "" {
		t.Errorf("killed: %+v", s)
	}
	if other := w.View().Server("replica2"); !other.Eligible {
		t.Errorf("the other replica: %s", other.Reason)
	}
	f.Replica(0).Restart(t)
	s = w.awaitServer("replica1", "takes reads again", takesReads)
	if s.EffectiveWeight >= 100 {
		t.Errorf("weight %d right after it came back, want a slow start", s.EffectiveWeight)
	}
	w.awaitServer("replica1", "has its full weight again", func(s *monitor.Server) bool { return s.EffectiveWeight == 100 })
	for _, message := range []string{"server is down", "server takes reads"} {
		if w.logs.FilterMessage(message).FilterField(zap.String("server", "replica1")).Len() == 0 {
			t.Errorf("no %q in the log", message)
		}
	}
	if n := w.logs.FilterMessage("server is down").Len(); n != 1 {
		t.Errorf("%d times down in the log, want once", n)
	}
}

func TestAReportTakesAServerOutAtOnce(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	w := watch(t, clusterOf(f))
	w.awaitSound()
	for _, name := range []string{"replica1", "primary"} {
		w.Report(name, errors.New("connection reset by peer"))
		// No probe can have come between: it takes a new connection.
		if s := w.View().Server(name); s.Eligible || s.Writable || !strings.Contains(s.Reason, "connection reset by peer") {
			t.Errorf("%s: eligible %v, writable %v, %q right after a report", name, s.Eligible, s.Writable, s.Reason)
		}
		w.awaitServer(name, "takes reads again", func(s *monitor.Server) bool {
			return s.Eligible && s.Writable == (s.Role == farm.Primary) && s.LastError == ""
		})
	}
	w.Report("nobody", errors.New("of no concern"))
	w.Report("replica1", nil)
	if s := w.View().Server("replica1"); !s.Eligible {
		t.Errorf("no error took it out: %s", s.Reason)
	}
}

func TestStoppedReplication(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 1})
		w := watch(t, clusterOf(f))
		w.awaitSound()
		word := "SLAVE"
		if flavor == farm.MySQL {
			word = "REPLICA"
		}
		for _, c := range []struct{ thread, reason string }{
			{"SQL_THREAD", "applier"}, {"IO_THREAD", "receiver"}, {"", "stopped"},
		} {
			f.Replica(0).Exec(t, "STOP "+word+" "+c.thread)
			s := w.awaitServer("replica1", "stopped "+c.thread, takesNoReads)
			if s.Status != monitor.Up || !strings.Contains(s.Reason, c.reason) || !strings.Contains(s.Reason, "stopped") {
				t.Errorf("STOP %s: %v, %q", c.thread, s.Status, s.Reason)
			}
			f.Replica(0).StartReplication(t)
			w.awaitServer("replica1", "takes reads again", takesReads)
		}
	})
}

func TestBrokenReplication(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 1})
		f.Primary().Exec(t, "CREATE TABLE app.t (id INT PRIMARY KEY)")
		f.WaitCaughtUp(t)
		w := watch(t, clusterOf(f))
		w.awaitSound()
		f.Replica(0).Exec(t, "SET GLOBAL read_only=OFF", "SET sql_log_bin=0", "INSERT INTO app.t VALUES (1)", "SET GLOBAL read_only=ON")
		f.Primary().Exec(t, "INSERT INTO app.t VALUES (1)")
		s := w.awaitServer("replica1", "is broken", takesNoReads)
		if !strings.Contains(s.Reason, "broken") || !strings.Contains(s.Reason, "1062") {
			t.Errorf("reason: %q", s.Reason)
		}
		if s.Replication == nil || s.Replication.Error == "" {
			t.Errorf("replication: %+v", s.Replication)
		}
	})
}

func TestADelayedReplicasLagIsMeasured(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		const delay = 2 * time.Second
		f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 1, Delay: delay})
		f.Primary().Exec(t, "CREATE TABLE app.t (id INT PRIMARY KEY AUTO_INCREMENT)")
		w := watch(t, clusterOf(f))
		w.awaitServer("replica1", "lag known", func(s *monitor.Server) bool { return s.LagKnown })

		// Every view after a write must admit that the write may be missing.
		marked := time.Now()
		f.Primary().Exec(t, "INSERT INTO app.t VALUES ()")
		committed := time.Now()
		position, err := gtid.Parse(flavor, f.Primary().Position(t))
		if err != nil {
			t.Fatal(err)
		}
		var most time.Duration
		s := w.awaitServer("replica1", "has the write", func(s *monitor.Server) bool {
			if s.Position.Contains(position) {
				return true
			}
			if behind := s.Probed.Sub(committed); s.LagKnown && s.Lag < behind {
				t.Errorf("lag is %v, but a write of %v before is missing", s.Lag, behind)
			}
			most = max(most, s.Lag)
			return false
		})
		if took := s.Probed.Sub(marked); took < delay/2 {
			t.Fatalf("the replica is not delayed: it had the write after %v", took)
		}
		if !s.LagKnown || most < delay/2 || most > 5*delay {
			t.Errorf("greatest lag %v of a replica delayed by %v", most, delay)
		}
		if s.Replication.Delay != delay {
			t.Errorf("delay %v, want %v", s.Replication.Delay, delay)
		}
		if !s.Eligible {
			t.Errorf("a late replica is for the caller to judge, but: %s", s.Reason)
		}
		w.awaitServer("replica1", "no more lag than the interval when nothing is written", func(s *monitor.Server) bool {
			return s.LagKnown && s.Lag < delay/2
		})
	})
}

func TestAReplicaOfSomethingElse(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 2})
		w := watch(t, clusterOf(f))
		w.awaitSound()
		host, port, _ := strings.Cut(f.Replica(0).Addr(), ":")
		if flavor == farm.MySQL {
			f.Replica(1).Exec(t, "STOP REPLICA",
				fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_HOST='%s', SOURCE_PORT=%s", host, port), "START REPLICA")
		} else {
			f.Replica(1).Exec(t, "STOP SLAVE", fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='%s', MASTER_PORT=%s", host, port), "START SLAVE")
		}
		s := w.awaitServer("replica2", "is found out", func(s *monitor.Server) bool {
			return s.Replication != nil && !s.Replication.Following && s.Replication.Receiver == "Yes"
		})
		if s.Eligible || s.LagKnown || !strings.Contains(s.Reason, f.Replica(0).Addr()) || !strings.Contains(s.Reason, "not the primary") {
			t.Errorf("%+v", s)
		}
		if flavor == farm.MySQL {
			f.Replica(1).Exec(t, "STOP REPLICA", "RESET REPLICA ALL")
		} else {
			f.Replica(1).Exec(t, "STOP SLAVE", "RESET SLAVE ALL")
		}
		s = w.awaitServer("replica2", "is no replica", func(s *monitor.Server) bool { return s.Replication == nil })
		if s.Eligible || !strings.Contains(s.Reason, "not a replica") {
			t.Errorf("%+v", s)
		}
		if s := w.View().Server("replica1"); !s.Eligible {
			t.Errorf("replica1: %s", s.Reason)
		}
	})
}

func TestThePrimaryDiesAndComesBack(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 1})
		f.Primary().Exec(t, "CREATE TABLE app.t (id INT PRIMARY KEY)")
		w := watch(t, clusterOf(f))
		w.awaitSound()
		w.awaitServer("replica1", "lag known", func(s *monitor.Server) bool { return s.LagKnown })
		f.Primary().Kill9(t)
		p := w.awaitServer("primary", "down", func(s *monitor.Server) bool { return s.Status == monitor.Down })
		if p.Writable || p.Eligible || p.Reason == "" {
			t.Errorf("a dead primary: %+v", p)
		}
		s := w.awaitServer("replica1", "its receiver has noticed", func(s *monitor.Server) bool {
			return s.Replication.Receiver != "Yes" && w.View().Primary.Status == monitor.Down
		})
		if !s.Eligible || !s.LagKnown {
			t.Errorf("a replica whose primary died: eligible %v, lag known %v: %s", s.Eligible, s.LagKnown, s.Reason)
		}
		later := w.awaitServer("replica1", "its lag grows", func(s *monitor.Server) bool { return s.Lag > time.Second })
		if !later.Eligible || !later.LagKnown {
			t.Errorf("later: %+v", later)
		}
		// Whoever promotes another stops the receivers.
		if flavor == farm.MySQL {
			f.Replica(0).Exec(t, "STOP REPLICA IO_THREAD")
		} else {
			f.Replica(0).Exec(t, "STOP SLAVE IO_THREAD")
		}
		s = w.awaitServer("replica1", "its receiver is stopped", func(s *monitor.Server) bool { return s.Replication.Receiver == "No" })
		if !s.Eligible {
			t.Errorf("a replica whose receiver was stopped while the primary is dead: %s", s.Reason)
		}
		f.Primary().Restart(t)
		w.awaitServer("primary", "takes writes again", func(s *monitor.Server) bool { return s.Writable })
		w.awaitServer("replica1", "its stopped receiver counts again", takesNoReads)
		f.Replica(0).StartReplication(t)
		w.awaitSound()
		w.awaitServer("replica1", "lag is small again", func(s *monitor.Server) bool { return s.LagKnown && s.Lag < time.Second })
	})
}

func TestAReplicaIsKnownBehindADeadPrimaryItNeverSawAlive(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	f.Primary().Kill9(t)
	w := watch(t, clusterOf(f))
	s := w.awaitServer("replica1", "takes reads", takesReads)
	if s.LagKnown {
		t.Errorf("lag %v is said to be known; nobody can know it", s.Lag)
	}
}

func TestAReadOnlyPrimary(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 1})
		w := watch(t, clusterOf(f))
		w.awaitSound()
		f.Primary().Exec(t, "SET GLOBAL read_only=ON")
		p := w.awaitServer("primary", "takes no writes", func(s *monitor.Server) bool { return !s.Writable })
		if !p.Eligible || !strings.Contains(p.Reason, "read-only") {
			t.Errorf("%+v", p)
		}
		f.Primary().Exec(t, "SET GLOBAL read_only=OFF")
		w.awaitServer("primary", "takes writes again", func(s *monitor.Server) bool { return s.Writable && s.Reason == "" })
	})
}

func TestAFrozenServer(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	w := watch(t, clusterOf(f), func(c *monitor.Config) { c.Timeout = 300 * time.Millisecond })
	w.awaitSound()
	f.Replica(0).Pause(t)
	s := w.awaitServer("replica1", "down", func(s *monitor.Server) bool { return s.Status == monitor.Down })
	if s.Eligible {
		t.Errorf("%+v", s)
	}
	f.Replica(0).Continue(t)
	w.awaitServer("replica1", "takes reads again", takesReads)
}

func TestPromotion(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 2})
		f.Primary().Exec(t, "CREATE TABLE app.t (id INT PRIMARY KEY)")
		f.WaitCaughtUp(t)
		w := watch(t, clusterOf(f))
		w.awaitSound()
		f.Primary().Kill9(t)
		w.awaitServer("primary", "down", func(s *monitor.Server) bool { return s.Status == monitor.Down })

		none := clusterOf(f)
		none.Epoch, none.Primary = 2, nil
		w.SetCluster(&none)
		if v := w.View(); v.Primary != nil || v.Epoch != 2 || len(v.Replicas) != 2 || !v.Replicas[0].Eligible {
			t.Errorf("without a primary:\n%s", describe(v))
		}

		// The new primary is named before it is ready.
		next := clusterOf(f)
		next.Epoch, next.Primary, next.Replicas = 3, &next.Replicas[0], next.Replicas[1:]
		w.SetCluster(&next)
		p := w.awaitServer("replica1", "probed as primary", func(s *monitor.Server) bool { return s.Role == farm.Primary && s.Reason != "" })
		if p.Writable || p.Eligible || !strings.Contains(p.Reason, "read-only") {
			t.Errorf("named but not promoted: %+v", p)
		}
		s := w.awaitServer("replica2", "does not follow the new primary", takesNoReads)
		if !strings.Contains(s.Reason, "not the primary replica1") {
			t.Errorf("replica2: %s", s.Reason)
		}

		host, port, _ := strings.Cut(f.Replica(0).Addr(), ":")
		if flavor == farm.MySQL {
			f.Replica(0).Exec(t, "STOP REPLICA", "RESET REPLICA ALL", "SET GLOBAL super_read_only=OFF", "SET GLOBAL read_only=OFF")
			f.Replica(1).Exec(t, "STOP REPLICA",
				fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_HOST='%s', SOURCE_PORT=%s", host, port), "START REPLICA")
		} else {
			f.Replica(0).Exec(t, "STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only=OFF")
			f.Replica(1).Exec(t, "STOP SLAVE", fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='%s', MASTER_PORT=%s", host, port), "START SLAVE")
		}
		w.awaitSound()
		f.Replica(0).Exec(t, "INSERT INTO app.t VALUES (1)")
		position, err := gtid.Parse(flavor, f.Replica(0).Position(t))
		if err != nil {
			t.Fatal(err)
		}
		w.awaitServer("replica2", "has the new primary's write, in time", func(s *monitor.Server) bool {
			return s.Position.Contains(position) && s.LagKnown && s.Lag < time.Second
		})
	})
}

func TestTopologyStates(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 2})
	w := watch(t, clusterOf(f))
	w.awaitSound()
	c := clusterOf(f)
	c.Epoch = 2
	c.Replicas[0].State, c.Replicas[1].State = farm.Warming, farm.Draining
	w.SetCluster(&c)
	v := w.View()
	if v.Epoch != 2 || v.Replicas[0].Eligible || v.Replicas[1].Eligible ||
		!strings.Contains(v.Replicas[0].Reason, "warming") || !strings.Contains(v.Replicas[1].Reason, "draining") {
		t.Errorf("warming and draining:\n%s", describe(v))
	}
	if s := v.Replicas[0]; s.Status != monitor.Up || !s.LagKnown && s.Greeting.Version == "" {
		t.Errorf("what was known is lost: %+v", s)
	}
	c.Replicas = c.Replicas[:1]
	c.Replicas[0].State = farm.Serving
	w.SetCluster(&c)
	if v := w.View(); len(v.Replicas) != 1 || !v.Replicas[0].Eligible || v.Server("replica2") != nil {
		t.Errorf("one removed:\n%s", describe(v))
	}
	families, err := w.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if strings.Contains(family.String(), "replica2") {
			t.Errorf("metrics still have the removed server: %s", family)
		}
	}
	w.SetCluster(nil)
	if v := w.View(); v.Primary != nil || len(v.Replicas) != 0 {
		t.Errorf("no cluster:\n%s", describe(v))
	}
	generation := w.View().Generation
	w.stop()
	if left, err := w.metrics.Gather(); err != nil || len(left) != 0 {
		t.Errorf("metrics left after Run: %v, %v", left, err)
	}
	select {
	case <-w.Changed(generation - 1):
	default:
		t.Error("Changed of an old generation is not closed")
	}
}
