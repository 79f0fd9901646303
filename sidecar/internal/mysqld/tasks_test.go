package mysqld

import (
	"testing"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
)

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

func TestThreeServersLeadAndFollow(t *testing.T) {
	_, db1, db2, _ := three(t, farm.MariaDB, true)
	db1.admin("CREATE TABLE app.t (n INT PRIMARY KEY)", "INSERT INTO app.t VALUES (1)")
	db2.await("db2 has what db1 has", func(r *cluster.Report) bool {
		rows, err := db2.try("SELECT n FROM app.t")
		return err == nil && len(rows) == 1 && r.Intact && r.Beat != nil
	})
	t.Log(show(db1.last))
	t.Log(show(db2.last))
}
