package clone_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/sidecar/internal/clone"
)

// TestACopyUnderLoadFollowsTheDonor copies a server that is written to onto one
// that has other data, and lets the copy follow from where it ends.
func TestACopyUnderLoadFollowsTheDonor(t *testing.T) {
	eachFlavor(t, func(t *testing.T, w *world) {
		a, b := w.node(t, "db1", 1), w.node(t, "db2", 2)
		a.initialise(t)
		a.fill(t, 24)
		b.place(t)
		b.rekey(t)
		b.start(t)
		b.exec(t, "CREATE DATABASE old")
		d := a.serve(t, nil)

		var phases []clone.Phase
		var last clone.Progress
		j := b.joiner(d)
		j.Tell = func(p clone.Progress) {
			if len(phases) == 0 || phases[len(phases)-1] != p.Phase {
				phases = append(phases, p.Phase)
			}
			last = p
		}
		stop := a.write(t)
		c, err := fetch(t, func() clone.Joiner { phases = nil; return j })
		if err != nil {
			t.Fatal(err)
		}
		if b.value(t, "SELECT COUNT(*) AS v FROM information_schema.schemata WHERE schema_name='old'") != "1" {
			t.Error("the old data is gone before the swap")
		}
		if err := c.Swap(); err == nil {
			t.Error("the data of a running server was replaced")
		}
		b.stop(t)
		if err := c.Swap(); err != nil {
			t.Fatal(err)
		}
		b.start(t) // with the password that it had
		if b.value(t, "SELECT COUNT(*) AS v FROM information_schema.schemata WHERE schema_name='old'") != "0" {
			t.Error("there is old data in the copy")
		}
		b.follow(t, a)
		written := stop()
		b.catchUp(t, a)
		same(t, a, b)
		if got := b.value(t, "SELECT n AS v FROM shop.count"); got != strconv.Itoa(written) {
			t.Errorf("the copy has counted %s of %d", got, written)
		}
		if g := <-d.given; g.Err != nil || g.Joiner != "db2" || g.Bytes == 0 {
			t.Errorf("given: %+v", g)
		}
		if fmt.Sprint(phases) != "[asking copying recovering checking]" || last.Bytes < 24<<20 || last.Total < 24<<20 {
			t.Errorf("phases %v, at last %+v", phases, last)
		}
		t.Logf("%d MiB in %v, %d transactions meanwhile, position %s", c.Bytes>>20, c.Took, written, c.Position)
		b.owned(t)
	})
}

// fetch copies data as attempt says, once more where mariadb-backup has lost its place in a log that is
// being written (MDEV-39468): a node does so by itself.
func fetch(t *testing.T, attempt func() clone.Joiner) (*clone.Copy, error) {
	t.Helper()
	for again := true; ; again = false {
		c, err := clone.Fetch(t.Context(), attempt())
		if err == nil || !again || !strings.Contains(err.Error(), "Was only able to copy log from") {
			return c, err
		}
		t.Logf("once more: %v", err)
	}
}

// TestACopyOfAReplicaFollowsThePrimary copies a server that follows another, and
// lets the copy follow that.
func TestACopyOfAReplicaFollowsThePrimary(t *testing.T) {
	eachFlavor(t, func(t *testing.T, w *world) {
		a, b, c := w.node(t, "db1", 1), w.node(t, "db2", 2), w.node(t, "db3", 3)
		a.initialise(t)
		b.initialise(t)
		b.follow(t, a)
		a.fill(t, 12)
		b.catchUp(t, a)
		stop := a.write(t)
		j := c.joiner(b.serve(t, nil))
		fetched, err := fetch(t, func() clone.Joiner { return j })
		if err != nil {
			t.Fatal(err)
		}
		if err := fetched.Swap(); err != nil {
			t.Fatal(err)
		}
		c.start(t)
		c.follow(t, a)
		written := stop()
		c.catchUp(t, a)
		same(t, a, c)
		b.catchUp(t, a)
		same(t, a, b)
		if got := c.value(t, "SELECT n AS v FROM shop.count"); got != strconv.Itoa(written) {
			t.Errorf("the copy has counted %s of %d", got, written)
		}
		if w.inst.Flavor == farm.MySQL && b.value(t, "SELECT @@super_read_only AS v") != "1" || b.value(t, "SELECT @@read_only AS v") != "1" {
			t.Error("the donor takes writes")
		}
		c.owned(t)
	})
}

// TestACommitThatWaitsIsNotTornFromItsPosition: a commit that waits for a replica's
// acknowledgement is in the binlog and not in the data. A copy must not be taken in
// between; the donor gives up waiting, and the server goes on.
func TestACommitThatWaitsIsNotTornFromItsPosition(t *testing.T) {
	w := newWorld(t, farm.MariaDB)
	a, b := w.node(t, "db1", 1), w.node(t, "db2", 2)
	a.initialise(t)
	a.fill(t, 1)
	a.exec(t, "SET GLOBAL rpl_semi_sync_master_timeout=600000", "SET GLOBAL rpl_semi_sync_master_wait_no_slave=ON",
		"SET GLOBAL rpl_semi_sync_master_wait_point=AFTER_SYNC", "SET GLOBAL rpl_semi_sync_master_enabled=ON")
	committed := make(chan error, 1)
	go func() { committed <- a.server.Exec(context.Background(), "INSERT INTO shop.count VALUES (2, 0)") }()
	farmtest.Eventually(t, "a commit waits", func() error {
		if n := a.value(t, "SELECT COUNT(*) AS v FROM information_schema.processlist WHERE state LIKE 'Waiting for semi-sync ACK%'"); n != "1" {
			return fmt.Errorf("%s do", n)
		}
		return nil
	})
	d := a.serve(t, func(d *clone.Donor) { d.Stall = 4 * time.Second })
	if _, err := clone.Fetch(t.Context(), b.joiner(d)); err == nil || !strings.Contains(err.Error(), "nothing was sent for 4s") {
		t.Errorf("a copy while a commit waits: %v", err)
	}
	a.exec(t, "SET GLOBAL rpl_semi_sync_master_enabled=OFF")
	if err := <-committed; err != nil {
		t.Error(err)
	}
	a.exec(t, "INSERT INTO shop.count VALUES (3, 0)") // nothing holds a lock any more
	c, err := clone.Fetch(t.Context(), b.joiner(d))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Swap(); err != nil {
		t.Fatal(err)
	}
	b.start(t)
	same(t, a, b)
	if at := b.value(t, "SELECT @@gtid_slave_pos AS v"); at != c.Position || at != a.value(t, "SELECT @@gtid_binlog_pos AS v") {
		t.Errorf("the copy is at %s, and said to be at %s", at, c.Position)
	}
}
