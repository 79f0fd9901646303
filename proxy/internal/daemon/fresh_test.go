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

func TestFarmSeesWhatAnyNodeWasToldWasCommitted(t *testing.T) {
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

func TestDelayedReplicasAndTheLevels(t *testing.T) {
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

func TestStrictSeesEveryCommitAndFarmThoseBeforeItBegan(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	f.Primary().Exec(t, "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)", "INSERT INTO app.t VALUES (1,0)")
	writer := start(t, f, nil)
	reader := start(t, f, func(c *config.Config) {
		c.Reads.Consistency = config.Strict
		c.Reads.Pause = config.Duration(time.Hour)
		c.Hints.Enabled = true
	})
	f.SetDelay(t, 10*time.Second)
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

// TestReadsNeverGoBack has a session read from a replica that keeps up, takes
// that away, and looks whether the one that is late shows an older value.
func TestReadsNeverGoBack(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 2})
	f.Primary().Exec(t, "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)", "INSERT INTO app.t VALUES (1,0)")
	r := start(t, f, level(config.Session))
	writer := start(t, f, nil)
	f.Replica(1).SetDelay(t, 30*time.Second)
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

func TestManySessionsShareAQueryForThePosition(t *testing.T) {
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

// metric is the value of a counter without labels.
func metric(t *testing.T, r *running, name string) float64 {
	t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// TestAReadOnlyPrimaryGivesNoPosition: a server that was deposed is fenced, and
// what it knows of commits is old.
func TestAReadOnlyPrimaryGivesNoPosition(t *testing.T) {
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
