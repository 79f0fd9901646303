package farmtest_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var flavors = map[string]farm.Flavor{"MariaDB": farm.MariaDB, "MySQL": farm.MySQL}

func eachFlavor(t *testing.T, run func(t *testing.T, flavor farm.Flavor)) {
	for name, flavor := range flavors {
		t.Run(name, func(t *testing.T) { run(t, flavor) })
	}
}

func TestReplicasFollowThePrimary(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 2})
		db := f.Primary().Open(t, farmtest.App)
		if _, err := db.Exec("CREATE TABLE t (id INT PRIMARY KEY)"); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec("INSERT INTO t VALUES (1), (2)"); err != nil {
			t.Fatal(err)
		}
		f.WaitCaughtUp(t)
		for _, s := range f.Replicas() {
			var rows, id int
			if err := s.Open(t, farmtest.App).QueryRow("SELECT COUNT(*), @@server_id FROM t").Scan(&rows, &id); err != nil {
				t.Fatal(err)
			}
			if rows != 2 || id != int(s.ServerID()) {
				t.Errorf("%s: %d rows from server %d, want 2 from %d", s.Name(), rows, id, s.ServerID())
			}
			if n := s.Counter(t, "Com_select"); n < 1 {
				t.Errorf("%s: Com_select is %d after a SELECT", s.Name(), n)
			}
		}
		f.CheckNoOwnEvents(t)
		if own := f.Primary().OwnEvents(t); len(own) != 2 {
			t.Errorf("the primary took 2 transactions, its binlog shows %q", own)
		}
	})
}

func TestApplicationCannotWriteToAReplica(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 1})
		if _, err := f.Replica(0).Open(t, farmtest.App).Exec("CREATE TABLE t (id INT)"); err == nil {
			t.Error("the application's account wrote to a replica")
		}
		// As administrator it works, and is found.
		f.Replica(0).Exec(t, "SET GLOBAL read_only=OFF", "CREATE TABLE app.t (id INT)")
		if own := f.Replica(0).OwnEvents(t); len(own) != 1 {
			t.Errorf("a write on a replica was not found: %q", own)
		}
	})
}

func TestServersComeBackAfterAKill(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 1})
		f.Primary().Exec(t, "CREATE TABLE app.t (id INT PRIMARY KEY)")
		f.Replica(0).Kill9(t)
		if f.Replica(0).Alive() {
			t.Fatal("alive after a kill")
		}
		f.Primary().Exec(t, "INSERT INTO app.t VALUES (1)")
		f.Replica(0).Restart(t)
		f.WaitCaughtUp(t)
		f.Primary().Kill9(t)
		f.Primary().Restart(t)
		f.Primary().Exec(t, "INSERT INTO app.t VALUES (2)")
		f.WaitCaughtUp(t)
		if rows := f.Replica(0).Query(t, "SELECT COUNT(*) AS n FROM app.t"); rows[0].String("n") != "2" {
			t.Errorf("replica has %s rows, want 2", rows[0].String("n"))
		}
	})
}

func TestDelayHoldsReplicasBack(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 1, Delay: time.Hour})
		f.Primary().Exec(t, "CREATE TABLE app.t (id INT PRIMARY KEY)")
		exists := func() string {
			return f.Replica(0).Query(t, "SELECT COUNT(*) AS n FROM information_schema.tables WHERE table_schema='app'")[0].String("n")
		}
		if n := exists(); n != "0" {
			t.Fatalf("a replica delayed by an hour shows %s new tables", n)
		}
		f.SetDelay(t, 0)
		f.WaitCaughtUp(t)
		if n := exists(); n != "1" {
			t.Fatalf("the replica shows %s tables after its delay was lifted, want 1", n)
		}
	})
}

func TestMonitorAccountReadsWhatTheProxyNeeds(t *testing.T) {
	queries := map[farm.Flavor][]string{
		farm.MariaDB: {"SHOW ALL SLAVES STATUS", "SELECT @@gtid_current_pos, @@gtid_binlog_pos, @@gtid_slave_pos, @@read_only", "SELECT COUNT(*) FROM mysql.user", "SELECT COUNT(*) FROM mysql.global_priv", "SHOW MASTER STATUS"},
		farm.MySQL:   {"SHOW REPLICA STATUS", "SELECT @@gtid_executed, @@read_only", "SELECT COUNT(*) FROM mysql.user", "SHOW BINARY LOG STATUS"},
	}
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 1})
		db := farmtest.OpenSchemaless(t, "tcp", f.Replica(0).Addr(), farmtest.Monitor)
		for _, query := range queries[flavor] {
			rows, err := db.Query(query)
			if err != nil {
				t.Errorf("%s: %v", query, err)
				continue
			}
			if err := rows.Close(); err != nil {
				t.Errorf("%s: %v", query, err)
			}
		}
		if _, err := db.Exec("CREATE TABLE app.t (id INT)"); err == nil {
			t.Error("the monitor's account may write")
		}
	})
}

func TestTopologyNamesEveryServer(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 2})
	cluster := f.Topology().Clusters["default"]
	if cluster.Primary.Address != f.Primary().Addr() {
		t.Errorf("primary is %s, want %s", cluster.Primary.Address, f.Primary().Addr())
	}
	seen := map[string]bool{cluster.Primary.Address: true}
	for i, r := range cluster.Replicas {
		if r.Address != f.Replica(i).Addr() || seen[r.Address] {
			t.Errorf("replica %d is %s, want %s, once", i, r.Address, f.Replica(i).Addr())
		}
		seen[r.Address] = true
	}
}

func TestWhatWasAcknowledgedSurvivesAChangeOfPrimary(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 2})
		f.SemiSync(t)
		f.Primary().Exec(t, "CREATE TABLE app.t (id INT PRIMARY KEY)", "INSERT INTO app.t VALUES (1)")
		old := f.Primary()
		old.Kill9(t)
		f.Promote(t)
		if f.Primary() == old || f.Topology().Clusters["default"].Epoch != 2 {
			t.Fatalf("%s is the primary, topology %v", f.Primary().Name(), f.Topology())
		}
		for _, s := range f.Replicas() {
			if s != old {
				s.Follow(t, f.Primary().Addr())
				f.Rebuild(t, old, s)
			}
		}
		old.Follow(t, f.Primary().Addr())
		f.Primary().Exec(t, "INSERT INTO app.t VALUES (2)")
		f.WaitCaughtUp(t)
		for _, s := range f.Servers() {
			if n := s.Query(t, "SELECT COUNT(*) AS n FROM app.t")[0].String("n"); n != "2" {
				t.Errorf("%s has %s rows, want 2", s.Name(), n)
			}
		}
	})
}
