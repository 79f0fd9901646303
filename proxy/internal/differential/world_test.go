package differential

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"farmhand/internal/farmtest"
	"farmhand/internal/service"
	"farmhand/internal/topology"
	"farmhand/proxy/internal/config"
	"farmhand/proxy/internal/daemon"
)

// serverArgs are for the server that is asked directly and for the farm's.
var serverArgs = []string{
	"--log-bin-trust-function-creators=1", "--userstat=1", "--skip-innodb-stats-persistent", "--innodb-stats-auto-recalc=0",
	"--innodb-flush-log-at-trx-commit=0", "--expire-logs-days=0", "--max-binlog-size=64M", "--event-scheduler=OFF",
	"--innodb-lock-wait-timeout=5", "--lock-wait-timeout=10",
}

// worlds are a server that is asked directly and a farm behind a proxy, on
// which the same statements run in the same order.
type worlds struct {
	alone *farmtest.Server
	farm  *farmtest.Farm
	proxy string // host:port
}

// begin starts both. The farm's second replica is delay behind; the first only
// as far as its applier is.
func begin(t *testing.T, delays []time.Duration, change func(*config.Config)) *worlds {
	t.Helper()
	w := &worlds{alone: farmtest.Start(t, farmtest.Options{ExtraArgs: serverArgs}).Primary()}
	w.farm = farmtest.Start(t, farmtest.Options{Replicas: len(delays), ExtraArgs: serverArgs})
	for _, s := range []*farmtest.Server{w.alone, w.farm.Primary()} {
		s.Exec(t,
			"CREATE USER "+other.User+"@'%' IDENTIFIED BY '"+other.Password+"'",
			"GRANT ALL PRIVILEGES ON `app\\_%`.* TO "+other.User+"@'%'",
			// An account whose password is right but which may not use the schema.
			"CREATE SCHEMA forbidden", "CREATE TABLE forbidden.t (id INT)", "CREATE SCHEMA IF NOT EXISTS seed",
			"CREATE SCHEMA press", "CREATE TABLE press.t (id INT AUTO_INCREMENT PRIMARY KEY)",
			"GRANT ALL PRIVILEGES ON press.* TO "+other.User+"@'%'", "GRANT ALL PRIVILEGES ON press.* TO "+farmtest.App.User+"@'%'",
		)
	}
	w.farm.WaitCaughtUp(t)
	for i, d := range delays {
		if d > 0 {
			w.farm.Replica(i).SetDelay(t, d)
		}
	}
	w.startProxy(t, change)
	return w
}

func (w *worlds) startProxy(t *testing.T, change func(*config.Config)) {
	t.Helper()
	dir := farmtest.ShortDir(t)
	c := config.Default()
	c.Topology, c.Cluster = filepath.Join(dir, "topology.json"), "default"
	if err := topology.Write(c.Topology, w.farm.Topology()); err != nil {
		t.Fatal(err)
	}
	c.Monitor = config.Monitor{User: farmtest.Monitor.User, PasswordFile: filepath.Join(dir, "password")}
	if err := os.WriteFile(c.Monitor.PasswordFile, []byte(farmtest.Monitor.Password), 0o600); err != nil {
		t.Fatal(err)
	}
	w.proxy = farmtest.FreePort(t).String()
	c.Listen = []config.Listener{{TCP: w.proxy}}
	c.Admin.Address = ""
	c.Console.Admins = []string{farmtest.App.User}
	c.Health.Interval = config.Duration(20 * time.Millisecond)
	c.Health.Timeout = config.Duration(10 * time.Second) // the machine may be busy
	c.Health.SlowStart = 0
	// Every session has other capabilities, and so other server connections.
	c.Pool.IdleTimeout = config.Duration(time.Second)
	c.DrainTimeout = config.Duration(5 * time.Second)
	// Many write at once here, more than an applier keeps up with: a read that
	// waits is better than one on the primary, which would test nothing.
	c.Reads.Wait = config.Duration(900 * time.Millisecond)
	if change != nil {
		change(&c)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d, err := daemon.New(ctx, filepath.Join(dir, "proxy.yaml"), &c, zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel)), zap.NewAtomicLevel(), service.NewRegistry(service.Build{}), nil, nil)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx, context.Background(), func() {}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("proxy: %v", err)
		}
	})
	db := farmtest.OpenSchemaless(t, "tcp", w.proxy, farmtest.App)
	farmtest.Eventually(t, "a replica serves through the proxy", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		var id uint32
		if err := db.QueryRowContext(ctx, "SELECT @@server_id").Scan(&id); err != nil {
			return err
		}
		if id == w.farm.Primary().ServerID() {
			return fmt.Errorf("the primary serves reads")
		}
		return nil
	})
}

// selects counts the SELECTs that the applications' accounts ran on a server.
func selects(t *testing.T, s *farmtest.Server) int64 {
	t.Helper()
	n := int64(0)
	for _, r := range s.Query(t, "SELECT select_commands AS n FROM information_schema.user_statistics WHERE user IN ('"+farmtest.App.User+"', '"+other.User+"')") {
		v, err := strconv.ParseInt(r.String("n"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		n += v
	}
	return n
}
