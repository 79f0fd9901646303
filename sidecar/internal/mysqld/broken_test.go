package mysqld

import (
	"path/filepath"
	"strings"
	"testing"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
)

// TestBrokenData: a server that ends whenever it is started is known to have broken data
// once one on empty data starts, is copied then, and its binlogs stay. One with settings
// that no server starts with is not.
func TestBrokenData(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		w := newWorld(t, flavor, "db1", "db2", "db3")
		certify(t, w)
		db1, db2, db3 := w.nodes["db1"], w.nodes["db2"], w.nodes["db3"]
		db3.server.ExtraArgs = append(db3.server.ExtraArgs, "--no-such-setting")
		db1.start(true)
		db2.start(true)
		db3.start(true)
		lead := part{"db1", cluster.Lead, "", false}
		w.assign(false, lead, part{"db2", cluster.Follow, "db1", true}, part{"db3", cluster.Follow, "db1", true})
		db1.done()
		db1.admin("CREATE TABLE app.t (n INT PRIMARY KEY)", "INSERT INTO app.t VALUES (1)")
		db2.done()
		db2.awaitRows(1)

		farmtest.BreakData(t, db2.server.Dir)
		db2.kill(db2.now().PID)
		if r := db2.await("its data is known to be broken", func(r *cluster.Report) bool { return r.Broken != "" }); r.Process != cluster.Crashed {
			t.Error(show(r))
		}
		db3.await("it is tried whether another one starts", func(r *cluster.Report) bool { return strings.Contains(r.Detail, "empty data") })
		after := db3.await("none does", func(r *cluster.Report) bool { return !strings.Contains(r.Detail, "empty data") })
		if after.Broken != "" || after.Process == cluster.Running {
			t.Error(show(after))
		}

		w.assign(false, lead, part{"db2", cluster.Clone, "db1", true}, part{"db3", cluster.Follow, "db1", true})
		if r := db2.done(); r.Broken != "" {
			t.Error(show(r))
		}
		db2.awaitRows(1)
		kept, err := filepath.Glob(filepath.Join(db2.server.Dir, "quarantine", "*-binlogs", "binlog.[0-9]*"))
		if err != nil || len(kept) == 0 {
			t.Errorf("%v, %v", kept, err)
		}
		if left, err := filepath.Glob(filepath.Join(db2.server.Dir, "trial")); err != nil || len(left) > 0 {
			t.Errorf("%v, %v", left, err)
		}
	})
}
