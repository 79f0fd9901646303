package drill_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	format "farmhand/internal/backup"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/restore"
	"farmhand/sidecar/internal/drill"
)

// written is a farm that is written to, its archive, and the drill of its full backup.
func written(t *testing.T, of farm.Flavor) (f *farmtest.Farm, m *format.Manifest, dir string, config drill.Config, stop func()) {
	t.Helper()
	f = farmtest.Start(t, farmtest.Options{Flavor: of, Replicas: 1})
	p, replica := f.Primary(), f.Replica(0)
	tables(t, p)
	if of == farm.MariaDB { // backups of MySQL are of InnoDB only
		p.Exec(t, "CREATE TABLE app.plain (n INT) ENGINE=Aria", "INSERT INTO app.plain VALUES (7)")
	}
	f.WaitCaughtUp(t)
	store, dir := directory(t)
	a := archiving(t, p, store, 1, position(t, p.Position(t)))
	end := writing(t, p, "p1")
	grow(t, p)
	m = full(t, replica, store, 1)
	grow(t, p)
	config = drill.Config{
		Install: farmtest.Need(t, of), Server: replica.Config(), Scratch: filepath.Join(farmtest.ShortDir(t), "scratch"),
		Store: store, Cluster: cluster,
	}
	return f, m, dir, config, func() {
		end()
		a.await(t, position(t, p.Position(t)))
		a.stop(t)
	}
}

// TestADrillProves a backup while the farm is written to.
func TestADrillProves(t *testing.T) {
	_, m, _, config, stop := written(t, farm.MariaDB)
	defer stop()
	var done, total int64
	config.Progress = func(d, t int64) { done, total = d, t }
	proof, err := drill.Run(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", proof)
	if has := position(t, proof.Position); proof.Backup != m.ID || has.Equal(position(t, m.Position)) || !has.Contains(position(t, m.Position)) {
		t.Errorf("of backup %s at %s it proves %+v", m.ID, m.Position, proof)
	}
	if proof.Tables < 2 || proof.Rows < 21 || !proof.Time.After(m.Ended.Add(-2e9)) || done == 0 || done > total {
		t.Errorf("it proves %+v, with %d of %d bytes", proof, done, total)
	}
	// app.made may be replaced each time it is looked at.
	if len(proof.Passed) == 0 || !strings.HasPrefix(proof.Passed[0], "app.plain: ") || strings.Contains(strings.Join(proof.Passed, " "), "app.ledger") {
		t.Errorf("not compared were %q", proof.Passed)
	}
}

// TestADrillFinds a row that differs, a backup that is damaged, and an archive that has a
// hole.
func TestADrillFinds(t *testing.T) {
	f, m, dir, config, stop := written(t, farm.MariaDB)
	stop()
	f.WaitCaughtUp(t)
	p, replica, store := f.Primary(), f.Replica(0), config.Store
	replica.Exec(t, "SET SESSION sql_log_bin=0", "UPDATE app.account SET balance=balance+1 WHERE id=7")
	_, err := drill.Run(t.Context(), config)
	var differs *drill.DiffersError
	if !errors.As(err, &differs) || len(differs.Differences) != 1 || differs.Differences[0].Table != "app.account" {
		t.Errorf("of another row it says: %v", err)
	}
	t.Log(err)
	replica.Exec(t, "SET SESSION sql_log_bin=0", "UPDATE app.account SET balance=balance-1 WHERE id=7")

	segments, _, err := format.ListSegments(t.Context(), store, cluster)
	if err != nil || len(segments) < 4 {
		t.Fatal(len(segments), err)
	}
	middle := segments[len(segments)-2].Key
	for name, c := range map[string]struct {
		key    string
		damage func(path string, data []byte) error
	}{
		"damaged backup":   {m.Parts[0].Key, func(path string, data []byte) error { data[len(data)/2] ^= 1; return os.WriteFile(path, data, 0o600) }},
		"missing piece":    {middle, func(path string, _ []byte) error { return os.Remove(path) }},
		"damaged piece":    {middle, func(path string, data []byte) error { data[9] ^= 1; return os.WriteFile(path, data, 0o600) }},
		"no backup at all": {m.Parts[0].Key, func(path string, _ []byte) error { return os.Remove(path) }},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, filepath.FromSlash(c.key))
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.damage(path, append([]byte(nil), data...)); err != nil {
				t.Fatal(err)
			}
			_, err = drill.Run(t.Context(), config)
			var cannot *restore.UnreachableError
			named := c.key
			if name == "missing piece" { // it is gone with its name; the gap tells its place
				named = segments[len(segments)-2].Position
			}
			if !errors.As(err, &cannot) || !strings.Contains(err.Error(), named) {
				t.Errorf("it does not name %s: %v", named, err)
			}
			t.Log(err)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		})
	}
	proof, err := drill.Run(t.Context(), config)
	if err != nil || proof.Position != p.Position(t) {
		t.Errorf("in the end it proves %+v, %v", proof, err)
	}
	if _, err := os.Stat(config.Scratch); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something is left: %v", err)
	}
}

// TestADrillOfMySQL proves a backup while the farm is written to, and finds a row that
// differs. The replica replicates afterwards.
func TestADrillOfMySQL(t *testing.T) {
	farmtest.Long(t)
	f, m, _, config, stop := written(t, farm.MySQL)
	proof, err := drill.Run(t.Context(), config)
	stop()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", proof)
	if has := position(t, proof.Position); proof.Backup != m.ID || has.Equal(position(t, m.Position)) || !has.Contains(position(t, m.Position)) {
		t.Errorf("of backup %s at %s it proves %+v", m.ID, m.Position, proof)
	}
	if proof.Tables < 2 || proof.Rows < 21 || !proof.Time.After(m.Ended) {
		t.Errorf("it proves %+v", proof)
	}
	f.WaitCaughtUp(t)
	f.Replica(0).Exec(t, "SET SESSION sql_log_bin=0", "SET GLOBAL super_read_only=OFF", "UPDATE app.account SET balance=balance+1 WHERE id=7")
	_, err = drill.Run(t.Context(), config)
	var differs *drill.DiffersError
	if !errors.As(err, &differs) || len(differs.Differences) != 1 || differs.Differences[0].Table != "app.account" {
		t.Errorf("of another row it says: %v", err)
	}
	if _, err := os.Stat(config.Scratch); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something is left: %v", err)
	}
}
