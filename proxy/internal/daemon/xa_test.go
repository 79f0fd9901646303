package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"farmhand/internal/farmtest"
	"farmhand/proxy/internal/config"
)

// parallel starts a farm whose replica applies in parallel and logs what it
// applies, so that its position runs ahead of XA transactions.
func parallel(t *testing.T) *farmtest.Farm {
	t.Helper()
	f := farmtest.Start(t, farmtest.Options{Replicas: 1, ExtraArgs: []string{"--slave-parallel-threads=4"}})
	f.Primary().Exec(t, "CREATE TABLE app.t (k INT PRIMARY KEY)", "CREATE TABLE app.other (k INT AUTO_INCREMENT PRIMARY KEY)")
	return f
}

// TestSemantics33XAOnReplicasThatApplyInParallel commits by XA through the
// proxy, beside others' writes, and reads at once, in the same session and in a
// new one.
func TestSemantics33XAOnReplicasThatApplyInParallel(t *testing.T) {
	f := parallel(t)
	p := start(t, f, level(config.Farm))
	f.WaitCaughtUp(t)
	const writers, others, each = 3, 3, 120
	over, end := context.WithCancel(t.Context())
	defer end()
	var beside errgroup.Group
	primary, replica := f.Primary().Open(t, farmtest.App), f.Replica(0).Open(t, farmtest.App)
	for range others {
		beside.Go(func() error {
			for i := 1; over.Err() == nil; i++ {
				if _, err := primary.Exec("INSERT INTO other () VALUES ()"); err != nil {
					return err
				}
				if i%10 > 0 {
					continue
				}
				// The replica is to keep up, or it would serve nothing.
				var position string
				var reached int
				if err := primary.QueryRow("SELECT @@gtid_binlog_pos").Scan(&position); err != nil {
					return err
				}
				if err := replica.QueryRow("SELECT MASTER_GTID_WAIT('" + position + "', 20)").Scan(&reached); err != nil {
					return err
				}
			}
			return nil
		})
	}
	db := p.open(t)
	db.SetMaxIdleConns(0)
	var stale, byReplica atomic.Int64
	var group errgroup.Group
	for w := range writers {
		group.Go(func() (err error) {
			own, err := db.Conn(t.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, own.Close()) }()
			for i := range each {
				k := w*each + i
				for _, s := range []string{"XA START 'x%d'", "INSERT INTO t VALUES (%d)", "XA END 'x%d'", "XA PREPARE 'x%d'", "XA COMMIT 'x%d'"} {
					if _, err := own.ExecContext(t.Context(), fmt.Sprintf(s, k)); err != nil {
						return fmt.Errorf(s+": %w", k, err)
					}
				}
				read := fmt.Sprintf("SELECT COUNT(*), @@server_id FROM t WHERE k=%d", k)
				ask := own.QueryRowContext
				if i%2 == 1 {
					ask = db.QueryRowContext
				}
				var n, server int
				if err := ask(t.Context(), read).Scan(&n, &server); err != nil {
					return fmt.Errorf("%s: %w", read, err)
				}
				if n == 0 {
					stale.Add(1)
				}
				if server == int(f.Replica(0).ServerID()) {
					byReplica.Add(1)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	end()
	if err := beside.Wait(); err != nil {
		t.Error(err)
	}
	t.Logf("%d reads, %d of them by the replica", writers*each, byReplica.Load())
	if n := stale.Load(); n > 0 {
		t.Errorf("%d of %d reads missed an XA transaction that was committed before", n, writers*each)
	}
}

// TestAPreparedXATransactionIsWaitedForNowhere prepares an XA transaction and
// looks who serves reads while it is undecided and after.
func TestAPreparedXATransactionIsWaitedForNowhere(t *testing.T) {
	f := parallel(t)
	p := start(t, f, func(c *config.Config) { c.Reads.Wait = config.Duration(5 * time.Second) })
	w := conn(t, f.Primary().Open(t, farmtest.App))
	serves := func() string {
		t.Helper()
		f.Primary().Exec(t, "INSERT INTO app.other () VALUES ()")
		return value(t, p.fresh(t), "SELECT @@server_id FROM other LIMIT 1")
	}
	replica := fmt.Sprint(f.Replica(0).ServerID())
	if got := serves(); got != replica {
		t.Errorf("without XA server %s serves a read that waits, want the replica", got)
	}
	for _, s := range []string{"XA START 'x'", "INSERT INTO t VALUES (1)", "XA END 'x'", "XA PREPARE 'x'"} {
		exec(t, w, s)
	}
	f.WaitCaughtUp(t)
	if got := serves(); got == replica {
		t.Error("the replica serves a read though its position may be ahead of a prepared transaction")
	}
	position := f.Primary().Position(t)
	f.WaitCaughtUp(t)
	p.eventually(t, "the monitor sees the prepared transaction", func() bool {
		s := p.monitor.View().Replicas[0]
		return s.AheadOfXA && s.Branches == 1 && !strings.Contains(s.Position.String(), position)
	})
	if s := p.monitor.View().Replicas[0]; !s.Eligible {
		t.Errorf("the replica is unfit: %s", s.Reason)
	}
	exec(t, w, "XA COMMIT 'x'")
	f.WaitCaughtUp(t)
	p.eventually(t, "the monitor sees that it is committed", func() bool { return p.monitor.View().Replicas[0].Branches == 0 })
	if got := serves(); got != replica {
		t.Errorf("after the commit server %s serves a read that waits, want the replica", got)
	}
}
