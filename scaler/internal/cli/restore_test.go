package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"farmhand/internal/backup"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/mariabackup"
	"farmhand/internal/mysqladmin"
	"farmhand/internal/objects"
)

// backedUp is a store with a full backup of a server that has a table app.item with
// three rows.
func backedUp(t *testing.T) (dir, id string) {
	t.Helper()
	s := farmtest.Start(t, farmtest.Options{}).Primary()
	s.Exec(t, "CREATE TABLE app.item (id INT PRIMARY KEY)", "INSERT INTO app.item VALUES (1), (2), (3)")
	dir = t.TempDir()
	store, err := objects.Open(t.Context(), objects.Config{Directory: dir})
	must(t, err)
	w, err := backup.Create(t.Context(), store, "app", backup.NewID(time.Now()), nil)
	must(t, err)
	finder := new(mariabackup.PositionFinder)
	must(t, mariabackup.Stream(t.Context(), s.Config(), "test", io.MultiWriter(w, finder)))
	position, err := finder.Position()
	must(t, err)
	m, err := w.Commit(func(m *backup.Manifest) {
		m.Flavor, m.ServerVersion, m.Tool, m.Position = farm.MariaDB.String(), farmtest.Need(t, farm.MariaDB).Version, mariabackup.Tool, position
	})
	must(t, err)
	return dir, m.ID
}

// when is a writer that calls do once a text has been written.
type when struct {
	bytes.Buffer
	text string
	do   func(sofar string)
}

func (w *when) Write(b []byte) (int, error) {
	n, err := w.Buffer.Write(b)
	if do := w.do; do != nil && strings.Contains(w.String(), w.text) {
		w.do = nil
		do(w.String())
	}
	return n, err
}

func TestADeveloperGetsAServerOfABackup(t *testing.T) {
	store, id := backedUp(t)
	into := filepath.Join(farmtest.ShortDir(t), "mine")
	args := []string{"restore", "--store", store, "--cluster", "app"}

	out, err := scaler(t, append(args, "--dry-run")...)
	must(t, err)
	if !strings.Contains(out, id) || !strings.Contains(out, "what can be restored:\n  GTID 0-1-") {
		t.Errorf("a dry run says:\n%s", out)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var progress bytes.Buffer
	shown := &when{text: "until Ctrl-C", do: func(string) {
		defer cancel()
		secret, err := os.ReadFile(filepath.Join(into, "admin.secret"))
		if err != nil {
			t.Error(err)
		}
		conn, err := mysqladmin.Dial(t.Context(), mysqladmin.Target{Network: "unix", Address: filepath.Join(into, "mariadb.sock"), User: "root", Password: string(secret)})
		if err != nil {
			t.Error(err)
			return
		}
		rows, err := conn.Query(t.Context(), "SELECT COUNT(*) AS there FROM app.item")
		if err := errors.Join(err, conn.Close()); err != nil || rows[0].String("there") != "3" {
			t.Errorf("there are %v rows, %v", rows, err)
		}
	}}
	c := New()
	c.SetArgs(append(args, "--into", into, "--start"))
	c.SetOut(shown)
	c.SetErr(&progress)
	if err := c.ExecuteContext(ctx); err != nil {
		t.Fatalf("%v\n%s\n%s", err, shown, &progress)
	}
	for _, phase := range []string{"fetching: 0%", "recovering", "checking"} {
		if !strings.Contains(progress.String(), phase) {
			t.Errorf("of its progress it says:\n%s", &progress)
		}
	}

	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"a directory that is in use": {[]string{"--into", into}, "something in it already"},
		"another position":           {[]string{"--into", into + "2", "--to", "0-1-100000"}, "the archive ends at"},
		"a time before all":          {[]string{"--into", into + "2", "--to", "2020-01-01T00:00:00Z"}, "was taken after that"},
		"a time after all":           {[]string{"--into", into + "2", "--to", "2100-01-01T00:00:00Z"}, "nothing is known"},
		"no such backup":             {[]string{"--into", into + "2", "--backup", "x"}, "no full backup x"},
		"no moment":                  {[]string{"--into", into + "2", "--to", "yesterday"}, "no moment"},
		"no place":                   {nil, "into"},
	} {
		t.Run(name, func(t *testing.T) {
			if out, err := scaler(t, append(args, c.args...)...); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("it says %v\n%s", err, out)
			}
			if _, err := os.Stat(into + "2"); !os.IsNotExist(err) {
				t.Errorf("something was made: %v", err)
			}
		})
	}
	if out, err := scaler(t, "restore", "--store", store+"x", "--cluster", "app", "--dry-run"); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a store that is not there: %v\n%s", err, out)
	}
	if _, err := os.Stat(store + "x"); !os.IsNotExist(err) {
		t.Errorf("the store was made: %v", err)
	}
}
