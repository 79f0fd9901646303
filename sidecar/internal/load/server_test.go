package load_test

import (
	"context"
	"testing"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/mysqladmin"
	"farmhand/sidecar/internal/load"
)

func TestServer(t *testing.T) {
	for _, flavor := range []farm.Flavor{farm.MariaDB, farm.MySQL} {
		t.Run(string(flavor), func(t *testing.T) { testServer(t, flavor) })
	}
}

func testServer(t *testing.T, flavor farm.Flavor) {
	primary := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 1}).Primary()
	primary.Exec(t, "CREATE USER watcher@'%' IDENTIFIED BY 'watcher'", "GRANT PROCESS ON *.* TO watcher@'%'")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dial := func() *mysqladmin.Conn {
		t.Helper()
		c, err := mysqladmin.Dial(ctx, mysqladmin.Target{Network: "unix", Address: primary.Socket(), User: "watcher", Password: "watcher"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() }) // the server may be gone
		return c
	}
	c := dial()
	// Of its users these are no clients. The replica that is connected is none either.
	s := load.NewServer(farmtest.Monitor.User, "watcher", "root")
	at := time.Now()
	sample := func(later time.Duration) map[string]float64 {
		t.Helper()
		at = at.Add(later)
		got, err := s.Sample(ctx, at, c)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	first := sample(0)
	if first[cluster.LoadClients] != 0 || first[cluster.LoadThreadsConnected] < 2 || first[cluster.LoadConnectionsShare] <= 0 || first[cluster.LoadConnectionsShare] > 1 {
		t.Errorf("without clients: %v", first)
	}
	if _, known := first[cluster.LoadQueries]; known || len(first) != 4 {
		t.Errorf("the first measurement has rates: %v", first)
	}

	db := primary.Open(t, farmtest.App)
	session, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"CREATE TABLE t (n INT)", "BEGIN", "INSERT INTO t VALUES (1)", "COMMIT"} {
		if _, err := session.ExecContext(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		var n int
		if err := session.QueryRowContext(ctx, "SELECT n FROM t").Scan(&n); err != nil {
			t.Fatal(err)
		}
	}
	second := sample(10 * time.Second)
	if got := second[cluster.LoadQueries]; got < 10.4 || got > 12 {
		t.Errorf("104 statements of a client in 10 s are %v per second", got)
	}
	if got := second[cluster.LoadReads]; got < 10 || got > 11 {
		t.Errorf("100 reads in 10 s are %v per second", got)
	}
	if second[cluster.LoadWrites] != 0.1 || second[cluster.LoadCommits] != 0.1 || second[cluster.LoadClients] != 1 || second[cluster.LoadServerSent] <= 0 {
		t.Errorf("one write, one commit and one client: %v", second)
	}
	if err := session.Close(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for got := sample(time.Second); got[cluster.LoadClients] != 0; got = sample(time.Second) {
		if ctx.Err() != nil {
			t.Fatalf("the client that went is still there: %v", got)
		}
	}

	// A server that was started anew has no rates at first.
	primary.Kill9(t)
	if got, err := s.Sample(ctx, at.Add(time.Second), c); err == nil || len(got) > 0 {
		t.Errorf("of a server that is gone: %v, %v", got, err)
	}
	primary.Restart(t)
	c = dial()
	if got := sample(2 * time.Second); len(got) != 4 {
		t.Errorf("after a restart: %v", got)
	}
	if got := sample(2 * time.Second); len(got) < 10 {
		t.Errorf("and then: %v", got)
	}
}
