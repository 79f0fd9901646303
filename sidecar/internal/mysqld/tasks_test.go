package mysqld

import (
	"fmt"
	"testing"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/gtid"
)

// flavors are those that the contract is tested with.
var flavors = []farm.Flavor{farm.MariaDB, farm.MySQL}

func eachFlavor(t *testing.T, test func(*testing.T, farm.Flavor)) {
	for _, flavor := range flavors {
		t.Run(flavor.String(), func(t *testing.T) { test(t, flavor) })
	}
}

// three is a cluster in which db1 leads and the others follow.
func three(t *testing.T, flavor farm.Flavor, semiSync bool) (w *world, db1, db2, db3 *node) {
	t.Helper()
	w = newWorld(t, flavor, "db1", "db2", "db3")
	w.assign(semiSync, part{"db1", cluster.Lead, "", false}, part{"db2", cluster.Follow, "db1", true}, part{"db3", cluster.Follow, "db1", true})
	for _, n := range w.nodes {
		n.start(true)
	}
	for _, n := range w.nodes {
		n.done()
	}
	return w, w.nodes["db1"], w.nodes["db2"], w.nodes["db3"]
}

// rows are the numbers in the table of the tests.
func (n *node) rows() ([]int64, error) {
	rows, err := n.try("SELECT n FROM app.t ORDER BY n")
	var all []int64
	for _, row := range rows {
		v, _ := row.Int("n")
		all = append(all, v)
	}
	return all, err
}

func (n *node) awaitRows(want ...int64) {
	n.w.t.Helper()
	farmtest.Eventually(n.w.t, fmt.Sprintf("%s has %v", n.name, want), func() error {
		if got, err := n.rows(); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("%v, %v", got, err)
		}
		return nil
	})
}

func position(t *testing.T, flavor farm.Flavor, text string) gtid.Position {
	t.Helper()
	p, err := gtid.Parse(flavor, text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// has waits until n has executed all that was executed by of.
func (n *node) has(of *cluster.Report) {
	n.w.t.Helper()
	want := position(n.w.t, n.w.flavor, of.Executed)
	n.await("it has executed "+of.Executed, func(r *cluster.Report) bool { return position(n.w.t, n.w.flavor, r.Executed).Contains(want) })
}

func TestThreeServersLeadAndFollow(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		_, db1, db2, db3 := three(t, flavor, true)
		db1.admin("CREATE TABLE app.t (n INT PRIMARY KEY)", "INSERT INTO app.t VALUES (1)")
		for _, n := range []*node{db2, db3} {
			n.awaitRows(1)
			n.await("all of a replica is known", func(r *cluster.Report) bool {
				return r.Intact && r.Beat != nil && *r.Beat < 5*time.Second && r.ReceivedAge != nil && r.Replication.Acknowledges && !r.Writable && r.Errant == ""
			})
		}
		db1.await("all of a primary is known", func(r *cluster.Report) bool {
			return r.Intact && r.SemiSync && len(r.Receivers) == 2 && r.Beat != nil && r.Load[cluster.LoadThreadsRunning] > 0 && r.Lease
		})
	})
}

// TestEveryTaskFromEveryState has db2 do each task after each, and each again.
func TestEveryTaskFromEveryState(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		w := newWorld(t, flavor, "db1", "db2")
		db1, db2 := w.nodes["db1"], w.nodes["db2"]
		db1.start(true)
		db2.start(true)
		task := map[bool]cluster.Task{true: cluster.Lead, false: cluster.Follow}
		source := func(task cluster.Task, other string) string {
			if task == cluster.Follow {
				return other
			}
			return ""
		}
		assign := func(first, second cluster.Task) {
			w.assign(true, part{"db1", first, source(first, "db2"), true}, part{"db2", second, source(second, "db1"), true})
		}
		leads := false // db2 does
		is := func(second cluster.Task) {
			t.Helper()
			switch {
			case second == cluster.Lead && !leads:
				// In order: the other one yields first.
				assign(cluster.Yield, cluster.Follow)
				yielded := db1.done()
				db2.done()
				db2.has(yielded)
				w.raise()
				assign(cluster.Follow, cluster.Lead)
				db1.done()
			case leads && second != cluster.Lead:
				// The other one must have all of it before it leads.
				assign(cluster.Follow, second)
				left := db2.await("it does not lead", func(r *cluster.Report) bool {
					return r.Serial == w.serial && !r.Writable && r.Task == second && (r.Done || second == cluster.Follow)
				})
				if second != cluster.Fence && second != cluster.Retire {
					db1.has(left)
				}
				w.raise()
				assign(cluster.Lead, second)
				db1.done()
			default:
				assign(task[!leads], second)
			}
			leads = second == cluster.Lead
			db2.done()
			// While both followed it was compared with a server that had yet to receive.
			got := db2.await("its source has all that it has", func(r *cluster.Report) bool { return r.Done && r.Errant == "" })
			if got.Writable != leads {
				t.Fatalf("%s: %s", second, show(got))
			}
			pid := got.PID
			assign(task[!leads], second) // again
			if got := db2.done(); got.PID != pid || got.Writable != leads {
				t.Fatalf("%s again: %s", second, show(got))
			}
		}
		all := []cluster.Task{cluster.Follow, cluster.Hold, cluster.Yield, cluster.Lead, cluster.Fence, cluster.Retire}
		for _, from := range all {
			for _, to := range all {
				if testing.Verbose() {
					t.Logf("%s, %s", from, to)
				}
				is(from)
				is(to)
			}
		}
	})
}

// TestChangesForProxiesRestartNothing: no statement is even sent.
func TestChangesForProxiesRestartNothing(t *testing.T) {
	w, _, db2, _ := three(t, farm.MariaDB, true)
	before := db2.now()
	for range 3 {
		w.assign(true, part{"db1", cluster.Lead, "", false}, part{"db2", cluster.Follow, "db1", true}, part{"db3", cluster.Follow, "db1", true})
		if r := db2.done(); r.PID != before.PID || r.Replication.Receiver != "Yes" {
			t.Error(show(r))
		}
	}
	w.assign(true, part{"db1", cluster.Lead, "", false}, part{"db2", cluster.Follow, "db1", false}, part{"db3", cluster.Follow, "db1", true})
	if r := db2.done(); r.Replication.Acknowledges {
		t.Error(show(r))
	}
}

// TestFailover kills the primary with a commit that nobody has acknowledged. It comes
// back as a replica without it.
func TestFailover(t *testing.T) {
	w, db1, db2, db3 := three(t, farm.MariaDB, true)
	db1.admin("CREATE TABLE app.t (n INT PRIMARY KEY)", "INSERT INTO app.t VALUES (1)")
	db2.awaitRows(1)
	db3.awaitRows(1)
	began := time.Now()
	w.assign(true, part{"db1", cluster.Lead, "", false}, part{"db2", cluster.Hold, "", true}, part{"db3", cluster.Hold, "", true})
	held2 := db2.done()
	t.Logf("hold: %v", time.Since(began))
	held3 := db3.done()
	// A heartbeat may have come to one of them only, which then leads.
	next, other := db2, db3
	if !position(t, farm.MariaDB, held2.Received).Contains(position(t, farm.MariaDB, held3.Received)) {
		next, other = db3, db2
	}
	client := db1.client()
	answer := make(chan error, 1)
	go func() {
		_, err := client.Exec(t.Context(), "INSERT INTO app.t VALUES (2)")
		answer <- err
	}()
	db1.await("the heartbeat waits", func(r *cluster.Report) bool { return r.Stalled > time.Second })
	select {
	case err := <-answer:
		t.Fatalf("a commit that nobody acknowledged was answered: %v", err)
	default:
	}

	pid := db1.now().PID
	began = time.Now()
	db1.kill(pid)
	crashed := db1.await("its crash is known", func(r *cluster.Report) bool { return r.Process == cluster.Crashed })
	t.Logf("crash known: %v", time.Since(began))
	if crashed.Task != cluster.Lead || crashed.Answers {
		t.Error(show(crashed))
	}
	if err := <-answer; err == nil {
		t.Error("the client of the killed primary was told that its commit succeeded")
	}

	w.raise()
	began = time.Now()
	w.assign(true, part{"db1", cluster.Fence, "", false}, part{next.name, cluster.Lead, "", false}, part{other.name, cluster.Follow, next.name, true})
	next.done()
	t.Logf("promotion: %v", time.Since(began))
	other.done()
	db1.done()
	next.admin("INSERT INTO app.t VALUES (3)")

	w.assign(true, part{"db1", cluster.Follow, next.name, true}, part{next.name, cluster.Lead, "", false}, part{other.name, cluster.Follow, next.name, true})
	db1.done()
	db1.awaitRows(1, 3)
	r := db1.await("it is compared", func(r *cluster.Report) bool { return r.Intact })
	if r.Errant != "" {
		t.Error(show(r))
	}
}

// TestAFormerPrimaryTakesItsOwnTransactionsFromOthers: what it gives up when it is
// started again may be on the others, who have it under its id. With its old id
// it would skip that.
func TestAFormerPrimaryTakesItsOwnTransactionsFromOthers(t *testing.T) {
	for name, dies := range map[string]func(*node){
		"killed":                                func(n *node) { n.kill(n.now().PID) },
		"told to follow without having yielded": func(*node) {},
	} {
		t.Run(name, func(t *testing.T) {
			w, db1, db2, db3 := three(t, farm.MariaDB, true)
			db1.admin("CREATE TABLE app.t (n INT PRIMARY KEY)", "INSERT INTO app.t VALUES (1)")
			db2.awaitRows(1)
			// They receive, and do not say so: the commit waits on the primary.
			w.assign(true, part{"db1", cluster.Lead, "", false}, part{"db2", cluster.Follow, "db1", false}, part{"db3", cluster.Follow, "db1", false})
			db2.done()
			db3.done()
			client := db1.client()
			answer := make(chan error, 1)
			go func() {
				_, err := client.Exec(t.Context(), "INSERT INTO app.t VALUES (2)")
				answer <- err
			}()
			db2.awaitRows(1, 2)
			dies(db1)
			w.raise()
			db1.id = 9
			w.assign(true, part{"db1", cluster.Follow, "db2", true}, part{"db2", cluster.Lead, "", false}, part{"db3", cluster.Follow, "db2", true})
			if err := <-answer; err == nil {
				t.Error("a commit that nobody acknowledged was told to have succeeded")
			}
			db2.done()
			db1.done()
			db2.admin("INSERT INTO app.t VALUES (3)")
			db1.awaitRows(1, 2, 3)
			if r := db1.await("it is compared", func(r *cluster.Report) bool { return r.Intact }); r.Errant != "" {
				t.Error(show(r))
			}
		})
	}
}

// TestSwitchover: after Yield nothing changes any more, whoever tries.
func TestSwitchover(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		w, db1, db2, db3 := three(t, flavor, true)
		db1.admin("CREATE TABLE app.t (n INT PRIMARY KEY AUTO_INCREMENT)", "CREATE USER boss@'%' IDENTIFIED BY 'boss'", "GRANT ALL PRIVILEGES ON *.* TO boss@'%'")
		stop := make(chan struct{})
		writes := make(chan int)
		for range 3 {
			go func() { // one after the other, with a new connection whenever it breaks
				n := 0
				for {
					select {
					case <-stop:
						writes <- n
						return
					default:
						if db1.write("boss") == nil {
							n++
						}
					}
				}
			}()
		}
		idle := db1.adminConn()
		for _, statement := range []string{"BEGIN", "INSERT INTO app.t VALUES (1000000)"} {
			if _, err := idle.Exec(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
		db1.await("a transaction is open", func(r *cluster.Report) bool { return r.Open == 1 })
		if _, err := idle.Exec(t.Context(), "ROLLBACK"); err != nil {
			t.Fatal(err)
		}
		db1.await("there is something to yield", func(r *cluster.Report) bool { return len(r.Executed) > 0 && r.Open == 0 })
		began := time.Now()
		w.assign(true, part{"db1", cluster.Yield, "", false}, part{"db2", cluster.Follow, "db1", true}, part{"db3", cluster.Follow, "db1", true})
		yielded := db1.done()
		t.Logf("yield: %v", time.Since(began))
		db2.has(yielded)
		t.Logf("yield and catch up: %v", time.Since(began))
		close(stop)
		total := 0
		for range 3 {
			total += <-writes
		}
		if now := db1.await("it is still yielded", func(r *cluster.Report) bool { return r.Time.After(yielded.Time) && r.Done }); now.Executed != yielded.Executed {
			t.Errorf("yielded at %s, and is at %s", yielded.Executed, now.Executed)
		}
		w.raise()
		began = time.Now()
		w.assign(true, part{"db1", cluster.Follow, "db2", true}, part{"db2", cluster.Lead, "", false}, part{"db3", cluster.Follow, "db2", true})
		db2.done()
		t.Logf("lead: %v", time.Since(began))
		db1.done()
		db3.done()
		rows, err := db2.rows()
		if err != nil || len(rows) < total {
			t.Errorf("%d commits were acknowledged, %d rows are there: %v", total, len(rows), err)
		}
		db1.await("it is compared", func(r *cluster.Report) bool { return r.Intact && r.Errant == "" })
	})
}

// TestPromotionWithAFullRelayLog: what was received is applied before the replica
// takes writes, also if it takes long.
func TestPromotionWithAFullRelayLog(t *testing.T) {
	w, db1, db2, _ := three(t, farm.MariaDB, true)
	db1.admin("CREATE TABLE app.t (n INT PRIMARY KEY)")
	db2.awaitRows()
	lock := db2.adminConn()
	if _, err := lock.Exec(t.Context(), "FLUSH TABLES WITH READ LOCK"); err != nil {
		t.Fatal(err)
	}
	db1.admin("INSERT INTO app.t SELECT seq FROM app.seq_1_to_500")
	for i := range 100 {
		db1.admin(fmt.Sprintf("INSERT INTO app.t VALUES (%d)", 1000+i))
	}
	w.assign(true, part{"db1", cluster.Lead, "", false}, part{"db2", cluster.Hold, "", true}, part{"db3", cluster.Hold, "", true})
	held := db2.done()
	executed, received := position(t, farm.MariaDB, held.Executed), position(t, farm.MariaDB, held.Received)
	if executed.Contains(received) {
		t.Fatalf("the lock holds nothing up: %s", show(held))
	}
	w.raise()
	w.assign(true, part{"db1", cluster.Fence, "", false}, part{"db2", cluster.Lead, "", false}, part{"db3", cluster.Hold, "", true})
	if r := db2.await("it applies", func(r *cluster.Report) bool { return r.Serial == w.serial && r.Detail != "" }); r.Writable || r.Done {
		t.Error(show(r))
	}
	if _, err := lock.Exec(t.Context(), "UNLOCK TABLES"); err != nil {
		t.Fatal(err)
	}
	db2.await("it leads", func(r *cluster.Report) bool { return r.Writable })
	if rows, err := db2.rows(); err != nil || len(rows) != 600 {
		t.Errorf("%d rows, %v", len(rows), err)
	}
}

// TestErrantTransactionIsSeen on a replica, also after a restart of it.
func TestErrantTransactionIsSeen(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		w, _, db2, _ := three(t, flavor, true)
		off := "SET GLOBAL read_only=OFF"
		if flavor == farm.MySQL {
			off = "SET GLOBAL super_read_only=OFF"
		}
		db2.admin(off, "CREATE TABLE app.errant (n INT)")
		r := db2.await("it is seen", func(r *cluster.Report) bool { return r.Errant != "" })
		t.Log(r.Errant)
		db2.stop()
		w.lose(errLost)
		db2.start(true)
		w.lose(nil)
		// MariaDB's strict mode may have stopped the applier by now.
		if r := db2.await("it answers", func(r *cluster.Report) bool { return r.Answers }); r.Errant == "" {
			t.Error("forgotten:", show(r))
		}
	})
}
