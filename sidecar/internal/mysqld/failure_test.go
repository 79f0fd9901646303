package mysqld

import (
	"testing"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
)

// TestASingleServer initialises itself, furnishes the application, goes on without
// lease or registry, and starts again at once when it dies.
func TestASingleServer(t *testing.T) {
	w := newWorld(t, farm.MariaDB, "db1")
	db1 := w.nodes["db1"]
	db1.start(false)
	db1.await("it is empty", func(r *cluster.Report) bool { return r.Empty && r.Process == cluster.Absent })
	w.assign(false, part{"db1", cluster.Lead, "", false})
	first := db1.done()
	db1.admin("CREATE TABLE shop.t (n INT)")
	w.lose(errLost)
	db1.lease(time.Time{})
	db1.kill(first.PID)
	began := time.Now()
	db1.await("it is known to have died", func(r *cluster.Report) bool { return r.Process == cluster.Crashed })
	t.Logf("crash known: %v", time.Since(began))
	// To take writes again it has to hear that it still leads.
	db1.await("it runs again", func(r *cluster.Report) bool { return r.Process == cluster.Running && r.Answers && r.PID != first.PID })
	w.lose(nil)
	db1.lease(time.Now().Add(time.Hour))
	db1.done()
	// What an application drops stays dropped.
	db1.admin("DROP DATABASE shop")
	db1.stop()
	db1.start(false)
	db1.await("it leads again", func(r *cluster.Report) bool { return r.Done && r.Writable })
	if _, err := db1.try("USE shop"); err == nil {
		t.Error("the application's schema was made again")
	}
}

// TestAPrimaryThatDiesWaitsForOthers before it starts again, and does if nobody took
// its place.
func TestAPrimaryThatDiesWaitsForOthers(t *testing.T) {
	_, db1, _, _ := three(t, farm.MariaDB, true)
	db1.kill(db1.now().PID)
	began := time.Now()
	db1.await("it has died", func(r *cluster.Report) bool { return r.Process == cluster.Crashed })
	db1.await("it leads again", func(r *cluster.Report) bool { return r.Done && r.Writable })
	if took := time.Since(began); took < leadAgain {
		t.Errorf("it was started again after %v", took)
	}
}

// TestAHungServerIsReported: questions have a limit.
func TestAHungServerIsReported(t *testing.T) {
	_, db1, _, _ := three(t, farm.MariaDB, true)
	pause9(t, db1.await("it has written something", func(r *cluster.Report) bool { return r.Executed != "" }).PID)
	r := db1.await("it does not answer", func(r *cluster.Report) bool { return !r.Answers })
	if r.Process != cluster.Running || r.Done || r.Executed == "" {
		t.Error(show(r))
	}
	for range 3 {
		at := r.Time
		r = db1.await("reports go on", func(r *cluster.Report) bool { return r.Time.After(at) && !r.Answers })
	}
	resume9(t, r.PID)
	db1.await("it answers again", func(r *cluster.Report) bool { return r.Answers && r.Done })
}

// TestSelfFencing: a primary without a lease goes on while commits are acknowledged,
// and is killed when they are not.
func TestSelfFencing(t *testing.T) {
	w, db1, _, _ := three(t, farm.MariaDB, true)
	db1.admin("CREATE TABLE app.t (n INT PRIMARY KEY)")
	w.lose(errLost)
	db1.lease(time.Now())
	from := db1.await("the lease has lapsed", func(r *cluster.Report) bool { return !r.Lease }).Time
	for range 8 { // four seconds
		r := db1.await("it goes on", func(r *cluster.Report) bool { return r.Time.After(from) })
		if r.Process != cluster.Running || r.Lease {
			t.Fatal(show(r))
		}
		from = r.Time
	}
	if err := db1.write("app"); err != nil {
		t.Error(err)
	}
	for _, n := range []*node{w.nodes["db2"], w.nodes["db3"]} {
		n.admin("STOP SLAVE IO_THREAD")
	}
	began := time.Now()
	// The followers' own sidecars would start the receivers again: they are away, too.
	for _, n := range []*node{w.nodes["db2"], w.nodes["db3"]} {
		pause9(t, n.now().PID)
		defer resume9(t, n.now().PID)
	}
	if r := db1.await("it is killed", func(r *cluster.Report) bool { return r.Process == cluster.Crashed }); r.Writable {
		t.Error(show(r))
	}
	t.Logf("fenced after %v", time.Since(began))
}
