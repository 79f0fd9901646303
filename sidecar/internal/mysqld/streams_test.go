package mysqld

import (
	"slices"
	"testing"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/gtid"
)

func streamsOf(t *testing.T, text string) gtid.Streams {
	t.Helper()
	s, err := gtid.ParseStreams(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestErrantStreams(t *testing.T) {
	for _, c := range []struct{ own, source, errant, after string }{
		{"", "", "", ""},
		{"0-1-10,0-2-12", "0-1-11,0-2-12,0-3-13", "", ""},
		{"0-1-10,0-2-12", "0-1-10", "0-2-12", "0-2-0"},
		{"0-1-10,0-2-12,1-1-4", "0-1-9,1-1-2", "0-1-10,0-2-12,1-1-4", "0-2-0,1-1-2"},
	} {
		if errant, after := errantStreams(streamsOf(t, c.own), streamsOf(t, c.source)); errant != c.errant || after != c.after {
			t.Errorf("%s against %s: %q after %q", c.own, c.source, errant, after)
		}
	}
}

func TestMissingStreams(t *testing.T) {
	for name, c := range map[string]struct{ own, source, executed, missing string }{
		"nothing":                       {},
		"all":                           {"0-1-10,0-2-12", "0-1-10,0-2-12", "0-2-12", ""},
		"behind":                        {"0-1-10,0-2-11", "0-1-10,0-2-12,0-3-13", "0-2-11", ""},
		"ahead of the first look":       {"0-1-10,0-2-14", "0-1-10,0-2-12", "0-2-14", ""},
		"the end of one":                {"0-1-9,0-2-12", "0-1-10,0-2-12", "0-2-12", "0-1-10"},
		"all of one":                    {"0-2-12", "0-1-10,0-2-12", "0-2-12", "0-1-10"},
		"a domain that has not come":    {"0-2-12", "0-2-12,1-1-4", "0-2-12", ""},
		"a domain that is missing":      {"0-2-12,1-1-3", "0-2-12,1-1-4", "0-2-12,1-1-4", "1-1-4"},
		"what it has and the other not": {"0-1-10,0-2-13", "0-1-10", "0-1-10", ""},
	} {
		if missing := missingStreams(streamsOf(t, c.own), streamsOf(t, c.source), streamsOf(t, c.executed)); missing != c.missing {
			t.Errorf("%s: %q", name, missing)
		}
	}
}

// TestMissingMustLast.
func TestMissingMustLast(t *testing.T) {
	var h history
	now := time.Now()
	for i, c := range []struct {
		found   string
		after   time.Duration
		missing string
	}{
		{"0-1-5", 0, ""},
		{"0-1-7", missingFor, ""}, // another one
		{"0-1-7", missingFor / 2, ""},
		{"0-1-7", missingFor / 2, "0-1-7"},
		{"0-1-7,0-2-9", missingFor, "0-1-7"},
		{"", 0, ""},
		{"0-1-7", missingFor, ""},
	} {
		now = now.Add(c.after)
		h.setMissing(c.found, now)
		if _, missing, _ := h.get(); missing != c.missing {
			t.Errorf("%d: %q", i, missing)
		}
	}
}

// compared waits until n has been compared with its source for long enough to see
// all that can be seen, and fails if something is.
func (n *node) compared() {
	n.w.t.Helper()
	first := n.await("it is intact", func(r *cluster.Report) bool { return r.Done && r.Intact })
	n.await("it has been compared for a while", func(r *cluster.Report) bool {
		if r.Errant+r.Missing != "" {
			n.w.t.Fatal(show(r))
		}
		return r.Time.Sub(first.Time) > missingFor+2*compareEvery
	})
}

// TestACopyLeads: its replicas are not taken for errant, though some of what they have
// was written by a server that led before the copy was made.
func TestACopyLeads(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		w := newWorld(t, flavor, "db1", "db2", "db3")
		certify(t, w)
		db1, db2, db3 := w.nodes["db1"], w.nodes["db2"], w.nodes["db3"]
		db1.start(true)
		db2.start(true)
		db3.start(false)
		// handOver makes to the primary of all the others, in order.
		handOver := func(to *node, retired ...*node) {
			w.raise()
			var parts []part
			for _, n := range []*node{db1, db2, db3} {
				switch {
				case n == to:
					parts = append(parts, part{n.name, cluster.Lead, "", false})
				case slices.Contains(retired, n):
					parts = append(parts, part{n.name, cluster.Retire, "", false})
				default:
					parts = append(parts, part{n.name, cluster.Follow, to.name, true})
				}
			}
			w.assign(true, parts...)
			to.done()
		}
		handOver(db1, db3)
		db2.done()
		db1.admin("CREATE TABLE app.t (n INT PRIMARY KEY)", "INSERT INTO app.t VALUES (1)")
		w.assign(true, part{"db1", cluster.Yield, "", false}, part{"db2", cluster.Follow, "db1", true}, part{"db3", cluster.Retire, "", false})
		db2.has(db1.done())
		handOver(db2, db3)
		db1.done()
		w.assign(true, part{"db1", cluster.Follow, "db2", true}, part{"db2", cluster.Lead, "", false}, part{"db3", cluster.Clone, "db1", true})
		db3.done()
		db2.admin("INSERT INTO app.t VALUES (2)")
		db3.awaitRows(1, 2)
		db3.compared()
		w.assign(true, part{"db1", cluster.Follow, "db2", true}, part{"db2", cluster.Yield, "", false}, part{"db3", cluster.Follow, "db2", true})
		db3.has(db2.done())
		handOver(db3)
		db3.admin("INSERT INTO app.t VALUES (3)")
		for _, n := range []*node{db1, db2} {
			n.done()
			n.awaitRows(1, 2, 3)
			n.compared()
		}
	})
}

// TestAHoleIsSeen: a server skips what carries its own server id, and nothing else
// shows it. (MariaDB does not if it acknowledges.)
func TestAHoleIsSeen(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		w := newWorld(t, flavor, "db1", "db2", "db3")
		certify(t, w)
		db1, db2, db3 := w.nodes["db1"], w.nodes["db2"], w.nodes["db3"]
		assign := func(task cluster.Task, source string) {
			w.assign(true, part{"db1", cluster.Lead, "", false}, part{"db2", task, source, false}, part{"db3", cluster.Follow, "db1", true})
		}
		assign(cluster.Follow, "db1")
		for _, n := range w.nodes {
			n.start(true)
			defer n.stop()
		}
		for _, n := range w.nodes {
			n.done()
		}
		db1.admin("CREATE TABLE app.t (n INT PRIMARY KEY)", "INSERT INTO app.t VALUES (1)")
		db2.awaitRows(1)
		db2.compared()
		db1.admin("SET GLOBAL server_id=2")
		db1.admin("INSERT INTO app.t VALUES (2)")
		db1.admin("SET GLOBAL server_id=1")
		db1.admin("INSERT INTO app.t VALUES (3)")
		began := time.Now()
		db2.awaitRows(1, 3)
		r := db2.await("it is seen", func(r *cluster.Report) bool { return r.Missing != "" })
		t.Log(r.Missing, time.Since(began))
		if r.Errant != "" {
			t.Error(show(r))
		}
		db2.stop()
		w.lose(errLost)
		db2.start(true)
		w.lose(nil)
		if r := db2.await("it answers", func(r *cluster.Report) bool { return r.Answers }); r.Missing == "" {
			t.Error("forgotten:", show(r))
		}
		db3.awaitRows(1, 2, 3)
		assign(cluster.Clone, "db3")
		db2.await("it copies", func(r *cluster.Report) bool { return r.Process == cluster.Copying })
		db2.done()
		db2.awaitRows(1, 2, 3)
		db2.compared()
		db3.compared()
	})
}
