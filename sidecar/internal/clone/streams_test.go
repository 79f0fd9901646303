package clone_test

import (
	"sync"
	"testing"

	"farmhand/internal/farm"
	"farmhand/sidecar/internal/clone"
)

const binlogState = "SELECT @@gtid_binlog_state AS v"

// swapped copies d's data to n and starts it.
func (n *node) swapped(t *testing.T, j clone.Joiner) {
	t.Helper()
	c, err := fetch(t, func() clone.Joiner { return j })
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Swap(); err != nil {
		t.Fatal(err)
	}
	n.start(t)
}

// lead makes n the primary of others.
func (n *node) lead(t *testing.T, others ...*node) {
	t.Helper()
	if err := n.server.Lead(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.exec(t, "INSERT INTO shop.item (text) VALUES ('"+n.name+" leads')")
	for _, other := range others { // which may have led
		other.exec(t, "STOP SLAVE", "SET GLOBAL gtid_slave_pos=@@GLOBAL.gtid_current_pos")
		other.follow(t, n)
	}
}

// TestACopyKnowsWhoWrote: a copy has the same history as its donor, also of servers
// that write no more, goes on with it as a replica, and hands it on as a primary.
func TestACopyKnowsWhoWrote(t *testing.T) {
	w := newWorld(t, farm.MariaDB)
	a, b, c := w.node(t, "db1", 1), w.node(t, "db2", 2), w.node(t, "db3", 3)
	a.initialise(t)
	b.initialise(t)
	b.follow(t, a)
	a.fill(t, 1)
	b.catchUp(t, a)
	b.lead(t, a)
	alike := func(nodes ...*node) {
		t.Helper()
		want := b.value(t, binlogState)
		for _, n := range nodes {
			if got := n.value(t, binlogState); got != want {
				t.Errorf("%s has %s, not %s", n.name, got, want)
			}
		}
		t.Log(want)
	}
	c.swapped(t, c.joiner(b.serve(t, nil)))
	alike(c)
	c.follow(t, b)
	b.exec(t, "INSERT INTO shop.item (text) VALUES ('next')")
	c.catchUp(t, b)
	alike(c, a)
	c.stop(t)
	c.start(t) // it is in its binlog
	alike(c)
	c.lead(t, a, b)
	alike(c, a)
	same(t, a, c)
	// A copy of a replica, onto a server that led.
	a.stop(t)
	a.swapped(t, a.joiner(b.serve(t, nil)))
	alike(a)
	a.follow(t, c)
	alike(a)
	c.owned(t)
}

// TestACopyKnowsWhoWroteMeanwhile: the donor takes the primary's place while it is
// copied.
func TestACopyKnowsWhoWroteMeanwhile(t *testing.T) {
	w := newWorld(t, farm.MariaDB)
	a, b, c := w.node(t, "db1", 1), w.node(t, "db2", 2), w.node(t, "db3", 3)
	a.initialise(t)
	b.initialise(t)
	b.follow(t, a)
	a.fill(t, 16)
	b.catchUp(t, a)
	j := c.joiner(b.serve(t, func(d *clone.Donor) { d.Rate = 8 << 20 }))
	before := b.value(t, binlogState)
	var failover sync.Once
	j.Tell = func(p clone.Progress) {
		if p.Phase != clone.Copying || p.Bytes == 0 {
			return
		}
		failover.Do(func() {
			a.exec(t, "INSERT INTO shop.item (text) VALUES ('the last')")
			b.catchUp(t, a)
			b.lead(t)
		})
	}
	c.swapped(t, j)
	if got, want := c.value(t, binlogState), b.value(t, binlogState); got != want || want == before {
		t.Errorf("the copy has %s, its donor %s, and before it %s", got, want, before)
	}
	c.follow(t, b)
	same(t, b, c)
}
