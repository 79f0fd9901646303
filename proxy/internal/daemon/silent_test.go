package daemon

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/topology"
)

// TestReadsLeaveAReplicaThatFellSilent: a replica that stands still keeps its
// connections open and says nothing more on them. Reads that wait for its answer
// get one from another server.
func TestReadsLeaveAReplicaThatFellSilent(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 2})
	r := start(t, f, nil)
	setup := r.conn(t)
	exec(t, setup, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1,1),(2,2)")
	f.WaitCaughtUp(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	silent := f.Replica(1)
	var clients sync.WaitGroup
	paused := make(chan struct{})
	const readers = 8
	asking := make(chan struct{}, readers)
	for range readers {
		c := r.conn(t)
		clients.Go(func() {
			asked := false
			for after := 0; after < 20; {
				var v int
				if err := c.QueryRowContext(ctx, "SELECT v FROM t WHERE id=2").Scan(&v); err != nil || v != 2 {
					t.Errorf("a read: %d, %v", v, err)
					return
				}
				if !asked {
					asked = true
					asking <- struct{}{}
				}
				select {
				case <-paused:
					after++
				default:
				}
			}
		})
	}
	for range readers {
		<-asking
	}
	silent.Pause(t)
	close(paused)
	clients.Wait()
	silent.Continue(t)
}

// TestAWriteOnADeposedPrimaryThatFellSilentEnds: a write that waits for a primary
// which stands still waits on, for that may go on; once another is the primary its
// outcome is unknown, and the session goes on there.
func TestAWriteOnADeposedPrimaryThatFellSilentEnds(t *testing.T) {
	for name, c := range map[string]struct{ noticed, stays bool }{
		"it is known to be down, and stays as a replica": {true, true},
		"it is known to be down, and leaves":             {true, false},
		"it leaves as it falls silent":                   {false, false},
	} {
		t.Run(name, func(t *testing.T) { writeOnDeposed(t, c.noticed, c.stays) })
	}
}

func writeOnDeposed(t *testing.T, noticed, stays bool) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 2})
	r := start(t, f, nil)
	c := r.conn(t)
	exec(t, c, "CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
	f.WaitCaughtUp(t)
	old, next, other := f.Primary(), f.Replica(0), f.Replica(1)
	old.Pause(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := c.ExecContext(ctx, "INSERT INTO t VALUES (2)")
		done <- err
	}()
	if noticed {
		r.eventually(t, "the primary is known to be down", func() bool { return !r.monitor.View().Primary.Writable })
		select {
		case err := <-done:
			t.Fatalf("the write ended while the primary might go on: %v", err)
		default:
		}
	}
	next.Lead(t)
	other.Follow(t, next.Addr())
	top := f.Topology()
	cluster := top.Clusters["default"]
	primary, deposed := next.Describe(), *cluster.Primary
	cluster.Epoch, cluster.Primary = 2, &primary
	cluster.Replicas = []farm.Server{other.Describe()}
	if stays {
		cluster.Replicas = append(cluster.Replicas, deposed)
	}
	top.Clusters["default"] = cluster
	if err := topology.Write(r.topology, top); err != nil {
		t.Fatal(err)
	}
	var refused *mysql.MySQLError
	if err := <-done; !errors.As(err, &refused) || refused.Number != codeLost || !strings.Contains(refused.Message, "outcome is unknown") {
		t.Errorf("the write that waited for the old primary: %v", err)
	}
	if _, err := c.ExecContext(ctx, "INSERT INTO t VALUES (3)"); err != nil {
		t.Errorf("the session's next write: %v", err)
	}
	old.Continue(t)
}

// codeLost is CR_SERVER_LOST.
const codeLost = 2013
