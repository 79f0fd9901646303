package mysqld

import (
	"testing"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
)

// TestALostAcknowledgementIsSaidAgain: the only follower has received transactions that it
// did not acknowledge, more than one of which waits, and connects again.
func TestALostAcknowledgementIsSaidAgain(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		w := newWorld(t, flavor, "db1", "db2")
		leads := part{"db1", cluster.Lead, "", false}
		w.assign(false, leads, part{"db2", cluster.Follow, "db1", false})
		db1, db2 := w.nodes["db1"], w.nodes["db2"]
		db1.start(true)
		db2.start(true)
		db1.done()
		db2.done()
		db1.admin("CREATE TABLE app.t (n INT PRIMARY KEY)")
		w.assign(true, leads, part{"db2", cluster.Follow, "db1", false})
		db1.done()
		wrote := make(chan error, 1)
		go func() { wrote <- db1.write("app") }()
		// Its heartbeat waits, too, and all has been sent.
		db1.await("it cannot commit", func(r *cluster.Report) bool { return r.Stalled > 3*beatEvery })
		w.assign(true, leads, part{"db2", cluster.Follow, "db1", true})
		db2.done()
		began := time.Now()
		db1.await("it commits again", func(r *cluster.Report) bool { return r.Stalled == 0 })
		t.Logf("acknowledged again after %v", time.Since(began))
		if err := <-wrote; err != nil {
			t.Error(err)
		}
	})
}
