package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"farmhand/internal/backup"
	"farmhand/internal/objects"
)

// stocked is a store with a full backup and pieces of an archive, of which one is
// missing.
func stocked(t *testing.T) (dir, id string) {
	t.Helper()
	dir = t.TempDir()
	store, err := objects.Open(t.Context(), objects.Config{Directory: dir})
	if err != nil {
		t.Fatal(err)
	}
	id = backup.NewID(time.Now())
	w, err := backup.Create(t.Context(), store, "db", id, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(bytes.Repeat([]byte("data"), 1000)); err != nil {
		t.Fatal(err)
	}
	ended := time.Now().Add(-time.Hour)
	if _, err := w.Commit(func(m *backup.Manifest) {
		m.Flavor, m.ServerVersion, m.Tool, m.Source, m.Position = "MariaDB", "10.11", "mariadb-backup", "db2", "0-1-10"
		m.Began, m.Ended = ended.Add(-time.Minute), ended
	}); err != nil {
		t.Fatal(err)
	}
	for _, piece := range [][2]uint64{{11, 20}, {21, 30}, {41, 50}} {
		s, err := backup.CreateSegment(t.Context(), store, backup.Segment{
			Cluster: "db", Flavor: "MariaDB", Source: "db1", Epoch: 1, After: fmt.Sprintf("0-1-%d", piece[0]-1),
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write([]byte("binlog")); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Commit(func(s *backup.Segment) {
			s.Position = fmt.Sprintf("0-1-%d", piece[1])
			s.Lines = []backup.Line{{Server: 1, First: piece[0], Last: piece[1]}}
			s.First, s.Last = ended.Add(time.Duration(piece[0])*time.Minute), ended.Add(time.Duration(piece[1])*time.Minute)
		}); err != nil {
			t.Fatal(err)
		}
	}
	return dir, id
}

func TestBackupsAreShownWithoutAFarm(t *testing.T) {
	dir, id := stocked(t)
	at := []string{"--store", dir, "--cluster", "db"}
	text, err := scaler(t, append([]string{"backup", "list"}, at...)...)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{id, "F===", "??", "GAP: point-in-time recovery is unsafe", "0-1-30", "0-1-40", "3 pieces"} {
		if !strings.Contains(text, want) {
			t.Errorf("the list lacks %q:\n%s", want, text)
		}
	}
	if text, err = scaler(t, append([]string{"backup", "list", "--json"}, at...)...); err != nil {
		t.Fatal(err)
	}
	var l listed
	if err := json.Unmarshal([]byte(text), &l); err != nil || len(l.Backups) != 1 || l.Backups[0].Reached != "0-1-30" || len(l.Archive.Gaps) != 1 {
		t.Errorf("as JSON: %v\n%s", err, text)
	}
	if text, err = scaler(t, append([]string{"backup", "show", id[:18]}, at...)...); err != nil || !strings.Contains(text, "0-1-10") || !strings.Contains(text, "server db2") {
		t.Errorf("show: %v\n%s", err, text)
	}
	if text, err = scaler(t, append([]string{"backup", "verify"}, at...)...); err != nil || !strings.Contains(text, "is whole") {
		t.Errorf("verify: %v\n%s", err, text)
	}
	if _, err = scaler(t, append([]string{"backup", "verify", "--archive"}, at...)...); err == nil || !strings.Contains(err.Error(), "gap") {
		t.Errorf("verify with a gap: %v", err)
	}
	part := filepath.Join(dir, "db", "full", id, "part-000001")
	data, err := os.ReadFile(part)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(part, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = scaler(t, append([]string{"backup", "verify"}, at...)...); err == nil || !strings.Contains(err.Error(), "part-000001") {
		t.Errorf("verify of what is altered: %v", err)
	}
	if err := os.Remove(part); err != nil {
		t.Fatal(err)
	}
	if text, err = scaler(t, append([]string{"backup", "list"}, at...)...); err != nil || !strings.Contains(text, "DAMAGED") {
		t.Errorf("the list of what is damaged: %v\n%s", err, text)
	}
	for what, args := range map[string][]string{
		"no backup":      append([]string{"backup", "show", "1999"}, at...),
		"not a store":    {"backup", "list", "--store", "here", "--cluster", "db"},
		"cluster":        {"backup", "list", "--store", dir},
		"has no backups": {"backup", "show", "x", "--store", dir, "--cluster", "other"},
	} {
		if _, err := scaler(t, args...); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v: %v; want something about %q", args, err, what)
		}
	}
}
