package dbserver_test

import (
	"os"
	"path/filepath"
	"testing"

	"farmhand/internal/dbserver"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestIncomingDataTakesThePlaceOfTheOld does it on a directory without data, and
// again on what has come of that.
func TestIncomingDataTakesThePlaceOfTheOld(t *testing.T) {
	c := dbserver.Config{Dir: filepath.Join(t.TempDir(), "server")}
	secrets := map[string]bool{}
	for _, text := range []string{"first", "second"} {
		for _, attempt := range []string{"given up", text} {
			in, err := dbserver.PrepareIncoming(c)
			if err != nil {
				t.Fatal(err)
			}
			left, err := os.ReadDir(in.DataDir())
			if err != nil || len(left) != 0 {
				t.Errorf("of an attempt before: %v, %v", left, err)
			}
			write(t, filepath.Join(in.DataDir(), "t"), attempt)
		}
		if err := dbserver.ReplaceData(c); err != nil {
			t.Fatal(err)
		}
		if got := read(t, filepath.Join(c.DataDir(), "t")); got != text {
			t.Errorf("the data is %q", got)
		}
		done, err := dbserver.Initialised(c.Dir)
		if err != nil || !done {
			t.Errorf("initialised: %v, %v", done, err)
		}
		secrets[read(t, filepath.Join(c.Dir, "admin.secret"))] = true
		if _, err := os.Stat(dbserver.Incoming(c).Dir); !os.IsNotExist(err) {
			t.Errorf("something is left: %v", err)
		}
	}
	if len(secrets) != 1 {
		t.Error("the administrator's password has changed with the data")
	}
	if err := dbserver.ReplaceData(c); err == nil {
		t.Error("data was replaced by none")
	}
}

func TestDataInUseIsNotReplaced(t *testing.T) {
	inst, _, c := fresh(t)
	s := start(t, inst, c)
	if _, err := dbserver.PrepareIncoming(c); err != nil {
		t.Fatal(err)
	}
	if err := dbserver.ReplaceData(c); err == nil {
		t.Fatal("the data of a running server was replaced")
	}
	if err := s.Exec(t.Context(), "CREATE DATABASE d"); err != nil {
		t.Error(err)
	}
}
