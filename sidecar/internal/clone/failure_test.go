package clone_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/pki"
	"farmhand/sidecar/internal/clone"
)

// slow is a rate, in bytes per second, at which a copy takes long enough to be
// disturbed.
const slow = 4 << 20

// pair is a donor and a joiner with data of its own.
func (w *world) pair(t *testing.T, change func(*clone.Donor)) (*donor, *node) {
	t.Helper()
	a, b := w.node(t, "db1", 1), w.node(t, "db2", 2)
	a.initialise(t)
	a.fill(t, 12)
	b.initialise(t)
	b.exec(t, "CREATE DATABASE old")
	return a.serve(t, change), b
}

// untouched checks that the joiner has its old data and nothing else, that its
// server can be restarted on that, and that a copy then works.
func (b *node) untouched(t *testing.T, d *donor) {
	t.Helper()
	b.stop(t)
	b.start(t)
	if b.value(t, "SELECT COUNT(*) AS v FROM information_schema.schemata WHERE schema_name='old'") != "1" {
		t.Error("the old data is not what it was")
	}
	b.stop(t)
	c, err := clone.Fetch(t.Context(), b.joiner(d.serve(t, nil))) // not as slowly
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Swap(); err != nil {
		t.Fatal(err)
	}
	b.start(t)
	b.follow(t, d.node)
	same(t, d.node, b)
	b.owned(t)
	d.clean(t)
	d.nobodyLeft(t)
}

// nobodyLeft checks that nothing is left at the donor by which it could be copied.
func (d *donor) nobodyLeft(t *testing.T) {
	t.Helper()
	farmtest.Eventually(t, "the account for copies is gone", func() error {
		if n := d.value(t, "SELECT COUNT(*) AS v FROM mysql.user WHERE user='farmhand_clone'"); n != "0" {
			return fmt.Errorf("%s accounts", n)
		}
		return nil
	})
}

// at calls do once so many bytes of a copy have come in, from another goroutine.
func at(j *clone.Joiner, bytes int64, do func()) {
	done := false
	j.Tell = func(p clone.Progress) {
		if !done && p.Bytes >= bytes {
			done = true
			do()
		}
	}
}

// TestWhatFailsLeavesTheOldData disturbs one copy after the other.
func TestWhatFailsLeavesTheOldData(t *testing.T) {
	eachFlavor(t, func(t *testing.T, w *world) {
		mariadb := w.inst.Flavor == farm.MariaDB
		stall := 4 * time.Second
		if !mariadb {
			stall = 20 * time.Second // the joiner makes a server first
		}
		d, b := w.pair(t, func(d *clone.Donor) { d.Rate, d.Stall = slow, stall })
		for _, c := range []struct {
			what    string
			disturb func(t *testing.T, link *farmtest.Link)
			says    string
		}{
			{"the link breaks", func(_ *testing.T, link *farmtest.Link) { link.Reset() }, "db1 at 127."},
			{"the link is silent", func(_ *testing.T, link *farmtest.Link) { link.Stall() }, fmt.Sprintf("nothing came in for %v", stall)},
			{"the donor fails after the first bytes", func(t *testing.T, _ *farmtest.Link) {
				if mariadb {
					killChild(t, "mariadb-backup")
					return
				}
				for _, id := range d.rows(t, "SELECT id AS v FROM information_schema.processlist WHERE user='farmhand_clone'") {
					d.exec(t, "KILL "+id)
				}
			}, map[bool]string{true: "the donor failed: run mariadb-backup: signal: killed", false: "CLONE INSTANCE"}[mariadb]},
		} {
			t.Run(c.what, func(t *testing.T) {
				link := farmtest.NewLink(t, d.address)
				j := b.joiner(d)
				j.Address, j.Stall = link.Addr(), stall
				at(&j, 2<<20, func() { c.disturb(t, link) })
				var err error
				farmtest.Eventually(t, "the donor is free", func() error {
					if _, err = clone.Fetch(t.Context(), j); errors.Is(err, clone.ErrBusy) {
						return err
					}
					return nil
				})
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("not %q, but: %v", c.says, err)
				}
				if g := <-d.given; g.Err == nil {
					t.Errorf("the donor believes that it gave everything: %+v", g)
				}
				b.clean(t)
			})
		}
		b.untouched(t, d)
	})
}

func (n *node) rows(t *testing.T, query string) (values []string) {
	t.Helper()
	rows, err := n.server.Query(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		values = append(values, row.String("v"))
	}
	return values
}

// killChild kills the child of this process that runs a program.
func killChild(t *testing.T, program string) {
	t.Helper()
	for pid, argv := range processes(t) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err == nil && filepath.Base(argv[0]) == program && bytes.Contains(status, []byte("PPid:\t"+strconv.Itoa(os.Getpid())+"\n")) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
			return
		}
	}
	t.Errorf("no %s runs", program)
}

// processes are the command lines of all processes.
func processes(t *testing.T) map[int][]string {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	found := map[int][]string{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil || len(text) == 0 {
			continue // it has ended
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			t.Fatal(err)
		}
		found[pid] = strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
	}
	return found
}

// TestTablesThatWouldBeEmpty: MySQL's clone plugin makes empty tables of those that InnoDB does
// not have. Nothing is copied then, and they are named.
func TestTablesThatWouldBeEmpty(t *testing.T) {
	w := newWorld(t, farm.MySQL)
	d, b := w.pair(t, nil)
	d.exec(t, "CREATE DATABASE IF NOT EXISTS app", "CREATE TABLE app.words (w VARCHAR(50), FULLTEXT (w)) ENGINE=MyISAM", "INSERT INTO app.words VALUES ('farm')")
	if _, err := clone.Fetch(t.Context(), b.joiner(d)); err == nil || !strings.Contains(err.Error(), "app.words (MyISAM)") {
		t.Errorf("copied though words would be empty: %v", err)
	}
	d.exec(t, "ALTER TABLE app.words ENGINE=InnoDB")
	b.untouched(t, d)
}

func TestADonorRefuses(t *testing.T) {
	eachFlavor(t, func(t *testing.T, w *world) {
		d, b := w.pair(t, func(d *clone.Donor) {
			d.Rate = slow
			d.Allow = func(_ context.Context, joiner string) error {
				if joiner == "db2" {
					return nil
				}
				return fmt.Errorf("%s is not to be cloned from here", joiner)
			}
		})
		stranger := b.joiner(d)
		stranger.Files = w.certify(t, w.authority, "web-1")
		var refused *clone.RefusedError
		if _, err := clone.Fetch(t.Context(), stranger); !errors.As(err, &refused) || refused.Status != 403 || !strings.Contains(refused.Reason, "web-1 is not to be") {
			t.Errorf("a stranger: %v", err)
		}
		old := b.joiner(d)
		old.Install.Version = "5.5.62"
		if _, err := clone.Fetch(t.Context(), old); !errors.As(err, &refused) || refused.Status != 409 || !strings.Contains(refused.Reason, "5.5.62") {
			t.Errorf("another version: %v", err)
		}
		foreign, err := pki.NewAuthority("shop", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		forger := b.joiner(d)
		forger.Files = w.certify(t, foreign, "db2-forged")
		if _, err := clone.Fetch(t.Context(), forger); err == nil || errors.As(err, &refused) && refused.Status == 403 {
			t.Errorf("a node of another farm: %v", err)
		}
		wrong := b.joiner(d)
		wrong.Donor = "db7"
		if _, err := clone.Fetch(t.Context(), wrong); err == nil || !strings.Contains(err.Error(), "there is the node db1") {
			t.Errorf("another donor: %v", err)
		}

		// One at a time: c asks while b is given.
		c := w.node(t, "db3", 3)
		second := c.joiner(d)
		second.Files = b.files
		asked := make(chan error, 1)
		first := b.joiner(d)
		ctx, cancel := context.WithCancel(t.Context())
		at(&first, 1<<20, func() {
			_, err := clone.Fetch(ctx, second)
			asked <- err
			cancel()
		})
		if _, err := clone.Fetch(ctx, first); !errors.Is(err, context.Canceled) {
			t.Errorf("a copy that was cancelled: %v", err)
		}
		if err := <-asked; !errors.Is(err, clone.ErrBusy) || !strings.Contains(err.Error(), "gives its data to db2 now") {
			t.Errorf("a second one: %v", err)
		}
		if g := <-d.given; !errors.Is(g.Err, context.Canceled) {
			t.Errorf("what the donor says of that: %+v", g)
		}
		third := c.joiner(d)
		third.Files = b.files
		ctx, cancel = context.WithCancel(t.Context())
		at(&third, 1<<20, cancel)
		farmtest.Eventually(t, "the donor is free again", func() error {
			if _, err := clone.Fetch(ctx, third); !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		})
		b.clean(t)
		c.clean(t)
		d.nobodyLeft(t)
	})
}
