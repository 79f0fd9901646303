package clone_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
)

func (n *node) start(t *testing.T) {
	t.Helper()
	s, err := dbserver.Start(t.Context(), n.w.inst, n.config)
	if err != nil {
		t.Fatal(err)
	}
	n.server = s
	t.Cleanup(s.Kill)
}

func (n *node) stop(t *testing.T) {
	t.Helper()
	if err := n.server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (n *node) exec(t *testing.T, statements ...string) {
	t.Helper()
	if err := n.server.Exec(t.Context(), statements...); err != nil {
		t.Fatalf("%s: %v", n.name, err)
	}
}

func (n *node) value(t *testing.T, query string) string {
	t.Helper()
	rows, err := n.server.Query(t.Context(), query)
	if err != nil {
		t.Fatalf("%s: %v", n.name, err)
	}
	return rows[0].String("v")
}

// fill gives the node's server a schema with about so many MiB in it.
func (n *node) fill(t *testing.T, mib int) {
	t.Helper()
	n.exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.item (id INT PRIMARY KEY AUTO_INCREMENT, text MEDIUMTEXT)",
		"CREATE TABLE shop.count (id INT PRIMARY KEY, n INT)", "INSERT INTO shop.count VALUES (1, 0)")
	for range mib {
		n.exec(t, "INSERT INTO shop.item (text) VALUES "+strings.TrimSuffix(strings.Repeat("(REPEAT(SHA2(RAND(), 256), 1024)),", 16), ","))
	}
}

// write writes to the node's server until the function that it returns is called,
// which says how many transactions there were.
func (n *node) write(t *testing.T) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	var written atomic.Int64
	go func() {
		for ctx.Err() == nil {
			err := n.server.Exec(context.WithoutCancel(ctx), "BEGIN", "INSERT INTO shop.item (text) VALUES (REPEAT(SHA2(RAND(), 256), 50))",
				"UPDATE shop.count SET n=n+1", "COMMIT")
			if err != nil {
				done <- err
				return
			}
			written.Add(1)
		}
		done <- nil
	}()
	return func() int {
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		return int(written.Load())
	}
}

// follow makes the node's server follow another and waits until it has all that
// there is.
func (n *node) follow(t *testing.T, source *node) {
	t.Helper()
	if err := n.server.Follow(t.Context(), dbserver.Source{
		Address: netip.AddrPortFrom(source.config.Address, source.config.Port), User: replicator.User, Password: replicator.Password,
	}); err != nil {
		t.Fatal(err)
	}
	if err := n.server.AwaitFollowing(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.catchUp(t, source)
}

func (n *node) catchUp(t *testing.T, source *node) {
	t.Helper()
	position, wait := "SELECT @@gtid_current_pos AS v", "SELECT MASTER_GTID_WAIT('%s', 25) AS v"
	if n.w.inst.Flavor == farm.MySQL {
		position, wait = "SELECT @@gtid_executed AS v", "SELECT WAIT_FOR_EXECUTED_GTID_SET('%s', 25) AS v"
	}
	if outcome := n.value(t, fmt.Sprintf(wait, source.value(t, position))); outcome != "0" {
		t.Fatalf("%s did not catch up with %s: %q", n.name, source.name, outcome)
	}
}

// same checks that two servers hold the same.
func same(t *testing.T, a, b *node) {
	t.Helper()
	for _, table := range []string{"shop.item", "shop.count"} {
		sums := map[string]string{}
		for _, n := range []*node{a, b} {
			rows, err := n.server.Query(t.Context(), "CHECKSUM TABLE "+table)
			if err != nil {
				t.Fatal(err)
			}
			sums[n.name] = rows[0].String("Checksum")
		}
		if sums[a.name] != sums[b.name] || sums[a.name] == "" {
			t.Errorf("%s differs: %v", table, sums)
		}
	}
}

// owned checks whose all files of the node's server are, and that nothing was left.
func (n *node) owned(t *testing.T) {
	t.Helper()
	want := uint32(os.Geteuid())
	if n.config.Credential != nil {
		want = n.config.Credential.Uid
	}
	err := filepath.WalkDir(n.config.DataDir(), func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if uid := info.Sys().(*syscall.Stat_t).Uid; uid != want {
			t.Errorf("%s is the account %d's, not %d's", path, uid, want)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	n.clean(t)
}

// clean checks that no attempt has left anything.
func (n *node) clean(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(n.config.Dir, "incoming")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: incoming data is left: %v", n.name, err)
	}
	left, err := filepath.Glob(filepath.Join(n.config.TempDir(), "clone-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("%s: left: %v, %v", n.name, left, err)
	}
}
