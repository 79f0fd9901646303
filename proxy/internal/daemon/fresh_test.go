package daemon

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/topology"
	"farmhand/proxy/internal/config"
)

func level(l config.Consistency) func(*config.Config) {
	return func(c *config.Config) { c.Reads.Consistency = l }
}

// fresh is a new session of the application, which ends with the test.
func (r *running) fresh(t *testing.T) *sql.Conn {
	t.Helper()
	db := r.open(t)
	db.SetMaxIdleConns(0)
	return conn(t, db)
}

// followed waits until the proxy sees that every replica follows: to change its
// delay a replica is stopped for a moment.
func (r *running) followed(t *testing.T) {
	t.Helper()
	began := time.Now()
	r.eventually(t, "every replica follows", func() bool {
		for _, s := range r.monitor.View().Replicas {
			if !s.Eligible || s.Probed.Before(began) {
				return false
			}
		}
		return true
	})
}

func eachFlavor(t *testing.T, run func(t *testing.T, flavor farm.Flavor)) {
	for _, flavor := range []farm.Flavor{farm.MariaDB, farm.MySQL} {
		t.Run(flavor.String(), func(t *testing.T) { run(t, flavor) })
	}
}

// postAndRead writes by one proxy and reads, in a new session each time, by
// another one; it returns how many pages were stale.
func postAndRead(t *testing.T, writer, reader *running, pages int) (stale int) {
	t.Helper()
	w := writer.conn(t)
	for i := range pages {
		exec(t, w, fmt.Sprintf("UPDATE t SET v=v+1 WHERE id=%d", 1+i%2))
		c := reader.fresh(t)
		if got := value(t, c, "SELECT SUM(v) FROM t"); got != fmt.Sprint(i+1) {
			stale++
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return stale
}

func TestSemantics33FreshReadsWaitOnReplicas(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 2})
		f.Primary().Exec(t, "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)", "INSERT INTO app.t VALUES (1,0),(2,0)")
		writer := start(t, f, nil)
		reader := start(t, f, level(config.Farm))
		const pages = 60
		before := f.Replica(0).Counter(t, "Com_select") + f.Replica(1).Counter(t, "Com_select")
		if stale := postAndRead(t, writer, reader, pages); stale > 0 {
			t.Errorf("%d of %d pages are stale", stale, pages)
		}
		// Replicas that keep up are waited for, and serve.
		if served := f.Replica(0).Counter(t, "Com_select") + f.Replica(1).Counter(t, "Com_select") - before; served < pages {
			t.Errorf("replicas served %d statements of %d pages", served, pages)
		}
	})
}

func TestSemantics30LevelsWithLateReplicas(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 2})
		f.Primary().Exec(t, "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)", "INSERT INTO app.t VALUES (1,0),(2,0)")
		writer := start(t, f, nil)
		readers := map[config.Consistency]*running{}
		for _, l := range []config.Consistency{config.Eventual, config.Farm, config.Strict} {
			readers[l] = start(t, f, level(l))
		}
		f.SetDelay(t, 5*time.Second)
		const pages = 20
		for l, reader := range readers {
			f.Primary().Exec(t, "UPDATE app.t SET v=0")
			reader.followed(t)
			stale := postAndRead(t, writer, reader, pages)
			if l == config.Eventual && stale == 0 {
				t.Error("eventual: no page is stale, so this test sees nothing")
			}
			if l != config.Eventual && stale > 0 {
				t.Errorf("%s: %d of %d pages are stale", l, stale, pages)
			}
		}
		f.SetDelay(t, 0)
	})
}

func TestSemantics30LevelsByHintAndStrict(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	f.Primary().Exec(t, "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)", "INSERT INTO app.t VALUES (1,0)")
	writer := start(t, f, nil)
	reader := start(t, f, func(c *config.Config) {
		c.Reads.Consistency = config.Strict
		c.Reads.Pause = config.Duration(time.Hour)
		c.Hints.Enabled = true
	})
	f.SetDelay(t, 10*time.Second)
	reader.followed(t)
	w, c := writer.conn(t), reader.conn(t)
	for i := range 5 {
		exec(t, w, "UPDATE t SET v=v+1")
		if got := value(t, c, "SELECT v FROM t"); got != fmt.Sprint(i+1) {
			t.Errorf("strict: after commit %d the session reads %s", i+1, got)
		}
	}
	// The hint makes a read of the same session less demanding, and its own
	// earlier reads still count.
	exec(t, w, "UPDATE t SET v=v+1")
	if got := value(t, c, "/* farmhand: consistency=session */ SELECT v FROM t"); got < "5" {
		t.Errorf("a read at the level session went back to %s", got)
	}
	other := reader.conn(t)
	if got := value(t, other, "/* farmhand: consistency=eventual */ SELECT v FROM t"); got != "0" {
		t.Errorf("eventual by hint: %s, expected the delayed replica's 0", got)
	}
	if got := value(t, other, "SELECT v FROM t"); got != "6" {
		t.Errorf("strict without the hint: %s, want 6", got)
	}
	f.SetDelay(t, 0)
}

// TestSemantics34ReadsNeverGoBack has a session read from a replica that keeps up, takes
// that away, and looks whether the one that is late shows an older value.
func TestSemantics34ReadsNeverGoBack(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 2})
	f.Primary().Exec(t, "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)", "INSERT INTO app.t VALUES (1,0)")
	r := start(t, f, level(config.Session))
	writer := start(t, f, nil)
	f.Replica(1).SetDelay(t, 30*time.Second)
	r.followed(t)
	w := writer.conn(t)
	var c *sql.Conn
	for c = r.conn(t); r.servedBy(t, c) != f.Replica(0).Name(); c = r.conn(t) {
	}
	exec(t, w, "UPDATE t SET v=1")
	f.Replica(0).WaitPosition(t, f.Primary().Position(t))
	if got := value(t, c, "SELECT v FROM t"); got != "1" {
		t.Fatalf("the replica that keeps up shows %s", got)
	}
	top := f.Topology()
	cluster := top.Clusters["default"]
	cluster.Replicas[0].State = farm.Draining
	if err := topology.Write(r.topology, top); err != nil {
		t.Fatal(err)
	}
	r.eventually(t, "the replica drains", func() bool { return !r.monitor.View().Server(f.Replica(0).Name()).Eligible })
	if got := value(t, c, "SELECT v FROM t"); got != "1" {
		t.Errorf("after its replica was drained the session reads %s: it went back", got)
	}
	// A session that has seen nothing may have the late one's.
	if got := value(t, r.conn(t), "SELECT v FROM t"); got != "0" {
		t.Errorf("another session reads %s; the late replica should serve it", got)
	}
	// What was seen on the primary counts as well.
	p := r.conn(t)
	if got := value(t, p, "/* farmhand: primary */ SELECT v FROM t"); got != "1" {
		t.Fatalf("the primary shows %s", got)
	}
	if got := value(t, p, "SELECT v FROM t"); got != "1" {
		t.Errorf("after a read on the primary the session reads %s: it went back", got)
	}
}

func TestSemantics32SessionsShareAQueryForThePosition(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	r := start(t, f, level(config.Farm))
	const all = 200
	var wg sync.WaitGroup
	errs := make(chan error, all)
	for range all {
		wg.Go(func() {
			_, err := r.index.Read(context.Background())
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := metric(t, r, "farmhand_proxy_read_index_queries_total"); n < 1 || n > all/2 {
		t.Errorf("%v queries for %d questions", n, all)
	}
	r.index.Close()
	if _, err := r.index.Read(context.Background()); err == nil {
		t.Error("a closed index answers")
	}
}

// metric is the value of a counter or a gauge without labels.
func metric(t *testing.T, r *running, name string) float64 {
	t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue() + f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// TestSemantics32AReadOnlyPrimaryGivesNoPosition: a server that was deposed is fenced, and
// what it knows of commits is old.
func TestSemantics32AReadOnlyPrimaryGivesNoPosition(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	f.Primary().Exec(t, "CREATE TABLE app.t (id INT PRIMARY KEY)")
	r := start(t, f, func(c *config.Config) {
		c.Reads.Consistency = config.Farm
		c.Writes.Wait = config.Duration(300 * time.Millisecond)
	})
	f.Primary().Exec(t, "SET GLOBAL read_only=1")
	c := r.conn(t)
	if _, err := c.ExecContext(t.Context(), "SELECT COUNT(*) FROM t"); err == nil {
		t.Error("a farm read was served though no primary could say what was committed")
	} else {
		t.Log(err)
	}
	f.Primary().Exec(t, "SET GLOBAL read_only=0")
	r.eventually(t, "reads are served again", func() bool {
		_, err := r.fresh(t).ExecContext(t.Context(), "SELECT COUNT(*) FROM t")
		return err == nil
	})
}

// TestSemantics31PositionsCostNoStatement counts what the servers are asked: a
// write and the read after it are a statement each.
func TestSemantics31PositionsCostNoStatement(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 1})
		f.Primary().Exec(t, "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)", "INSERT INTO app.t VALUES (1,0)")
		r := start(t, f, func(c *config.Config) {
			c.Reads.Consistency = config.Session
			c.Health.Interval = config.Duration(time.Minute) // probes are statements too
			c.Pool.IdlePerUser = 0                           // no spare connections, which are prepared
		})
		c := r.conn(t)
		exec(t, c, "UPDATE t SET v=v+1")
		if got := value(t, c, "SELECT v FROM t"); got != "1" { // the replica is connected to
			t.Fatalf("the session reads %s", got)
		}
		const writes = 20
		counters := func() (updates, selects, all int64) {
			p, s := f.Primary(), f.Replica(0)
			return p.Counter(t, "Com_update"), p.Counter(t, "Com_select") + s.Counter(t, "Com_select"), p.Counter(t, "Com_set_option") + s.Counter(t, "Com_set_option")
		}
		updates, selects, sets := counters()
		for i := range writes {
			exec(t, c, "UPDATE t SET v=v+1")
			if got := value(t, c, "SELECT v FROM t"); got != fmt.Sprint(i+2) {
				t.Errorf("after write %d the session reads %s", i+2, got)
			}
		}
		u, s, o := counters()
		// A read may be preceded by one wait on its replica.
		if u -= updates; u != writes {
			t.Errorf("%d updates for %d", u, writes)
		}
		if s -= selects; s < writes || s > 2*writes {
			t.Errorf("%d selects for %d reads", s, writes)
		}
		if o -= sets; o != 0 {
			t.Errorf("%d SETs", o)
		}
	})
}

// TestSemantics35PositionsAreOfAnEpoch loses a commit with its primary: the
// session that made it goes on at the new primary's position, on the replicas
// too, and never reads anything older than what survived.
func TestSemantics35PositionsAreOfAnEpoch(t *testing.T) {
	for _, l := range []config.Consistency{config.Session, config.Farm} {
		t.Run(string(l), func(t *testing.T) {
			eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
				f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 2})
				f.Primary().Exec(t, "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)", "INSERT INTO app.t VALUES (1,0)")
				r := start(t, f, level(l))
				c := r.conn(t)
				exec(t, c, "UPDATE t SET v=1")
				f.WaitCaughtUp(t)
				for _, s := range f.Replicas() {
					s.StopReplication(t)
				}
				for range 5 {
					exec(t, c, "UPDATE t SET v=v+1") // on the primary alone
				}
				if got := value(t, c, "SELECT v FROM t"); got != "6" {
					t.Fatalf("the session reads %s of its own writes", got)
				}
				f.Primary().Kill9(t)
				next, other := f.Replica(0), f.Replica(1)
				next.Lead(t)
				next.Exec(t, "UPDATE app.t SET v=v+100")
				other.Follow(t, next.Addr())
				top := f.Topology()
				cluster := top.Clusters["default"]
				primary := next.Describe()
				cluster.Epoch, cluster.Primary, cluster.Replicas = 2, &primary, cluster.Replicas[1:]
				top.Clusters["default"] = cluster
				if err := topology.Write(r.topology, top); err != nil {
					t.Fatal(err)
				}
				if got := value(t, c, "SELECT v FROM t"); got != "101" {
					t.Errorf("after the change of primary the session reads %s, want 101", got)
				}
				w := r.conn(t)
				served := map[string]bool{}
				for i := range 40 {
					exec(t, w, "UPDATE t SET v=v+1")
					if got := value(t, w, "SELECT v FROM t"); got != fmt.Sprint(102+i) {
						t.Errorf("a session that wrote reads %s, want %d", got, 102+i)
					}
					if got, least := value(t, c, "SELECT v+0 FROM t"), 101; got < fmt.Sprint(least) {
						t.Errorf("the old session reads %s", got)
					}
				}
				r.eventually(t, "the new primary's replica serves the old session", func() bool {
					served[r.servedBy(t, c)] = true
					return served[other.Name()]
				})
			})
		})
	}
}

// TestSemantics36PartitionsMakeNoReadStale stops, delays and cuts replication off
// in every way; what sees it is compared with what does not.
func TestSemantics36PartitionsMakeNoReadStale(t *testing.T) {
	for _, flavor := range []farm.Flavor{farm.MariaDB, farm.MySQL} {
		f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 1})
		f.Primary().Exec(t, "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)", "INSERT INTO app.t VALUES (1,0),(2,0)")
		link := farmtest.NewLink(t, f.Primary().Addr())
		f.Replica(0).Follow(t, link.Addr())
		f.WaitCaughtUp(t)
		writer := start(t, f, nil)
		readers := []*running{start(t, f, level(config.Farm)), start(t, f, level(config.Strict)), start(t, f, level(config.Eventual))}
		for name, fault := range map[string]struct{ begin, end func() }{
			"stopped":     {func() { f.Replica(0).StopReplication(t) }, func() { f.Replica(0).StartReplication(t) }},
			"late":        {func() { f.Replica(0).SetDelay(t, 3*time.Second) }, func() { f.Replica(0).SetDelay(t, 0) }},
			"cut":         {link.Cut, link.Restore},
			"silent":      {link.Stall, link.Restore},
			"slow":        {func() { link.Slow(300*time.Millisecond, 0) }, link.Restore},
			"interrupted": {link.Reset, link.Restore},
		} {
			t.Run(flavor.String()+"/"+name, func(t *testing.T) {
				f.Primary().Exec(t, "UPDATE app.t SET v=0")
				fault.begin()
				for i, r := range readers {
					f.Primary().Exec(t, "UPDATE app.t SET v=0")
					const pages = 15
					stale := postAndRead(t, writer, r, pages)
					t.Logf("reader %d: %d of %d pages stale", i, stale, pages)
					if i < 2 && stale > 0 {
						t.Errorf("%d of %d pages are stale", stale, pages)
					}
				}
				fault.end()
				f.WaitCaughtUp(t)
			})
		}
	}
}

// TestSemantics30AWriteIsNoRead: a session that has written and not read yet
// sees, when it begins to read, what others were told was committed after its
// write.
func TestSemantics30AWriteIsNoRead(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 1})
		f.Primary().Exec(t, "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)", "INSERT INTO app.t VALUES (1,0),(2,0)")
		link := farmtest.NewLink(t, f.Primary().Addr())
		f.Replica(0).Follow(t, link.Addr())
		r := start(t, f, func(c *config.Config) {
			c.Reads.Consistency = config.Farm
			c.Reads.Pause = config.Duration(time.Hour)
		})
		c, other := r.conn(t), r.conn(t)
		exec(t, c, "UPDATE t SET v=1 WHERE id=1")
		r.caughtUp(t)
		link.Stall()
		exec(t, other, "UPDATE t SET v=1 WHERE id=2")
		if got := value(t, c, "SELECT SUM(v) FROM t"); got != "2" {
			t.Errorf("the session reads %s, want 2", got)
		}
		link.Restore()
	})
}
