package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"farmhand/scaler/internal/daemon"
	"farmhand/scaler/internal/localfarm"
)

const shop = `
name: shop
provider: {kind: local, parameters: {directory: /srv/shop}}
roles:
  db: {kind: mysql, count: 3}
  web: {kind: web}
`

// TestWhatAFarmFileChanges compares farm files.
func TestWhatAFarmFileChanges(t *testing.T) {
	was := &daemon.File{Path: "/farm.yaml", Text: shop}
	for _, c := range []struct {
		from, to string
		lines    string
		fewer    bool
		wrong    string
	}{
		{from: "shop", to: "shop"},
		{from: "count: 3", to: "count: 5", lines: "roles.db.count: 3 -> 5"},
		{from: "count: 3", to: "count: 2", lines: "roles.db.count: 3 -> 2", fewer: true},
		{from: "count: 3", to: "parameters: {buffer_pool: 1GiB}", lines: "roles.db.parameters.buffer_pool: 128MiB -> 1GiB"},
		{from: "name: shop", to: "name: other", wrong: "name cannot be changed"},
		{from: "/srv/shop", to: "/srv/other", wrong: "directory cannot be changed"},
		{from: "  web: {kind: web}\n", to: "", wrong: "role web is missing"},
	} {
		now, err := (&daemon.File{Path: "/farm.yaml", Text: strings.Replace(shop, c.from, c.to, 1)}).Farm()
		if err != nil {
			t.Fatal(err)
		}
		changes, err := compare(was, now)
		if (err != nil) != (c.wrong != "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: %v", c.to, err)
		}
		if err == nil && (strings.Join(changes.lines, "\n") != c.lines || changes.fewer != c.fewer) {
			t.Errorf("%s: %+v", c.to, changes)
		}
	}
}

// TestTheFileThatUpMakes: it is good, made anew from other flags, and left alone once
// a person has changed it.
func TestTheFileThatUpMakes(t *testing.T) {
	dir := t.TempDir()
	file := func(flags ...string) (string, error) {
		c := up()
		if err := c.ParseFlags(append([]string{"--local", dir}, flags...)); err != nil {
			t.Fatal(err)
		}
		s := shape{host: "127.0.0.1", port: 3306, first: "127.0.10.1", serverPort: 3306, replicas: 2}
		for _, f := range flags {
			if f == "--replicas=4" {
				s.replicas = 4
			}
		}
		f, _, err := s.file(localfarm.Dir{Path: dir}, "", c.Flags())
		return f.Text, err
	}
	first, err := file()
	if err != nil || !strings.Contains(first, "count: 3") {
		t.Fatalf("%v\n%s", err, first)
	}
	more, err := file("--replicas=4")
	if err != nil || !strings.Contains(more, "count: 5") {
		t.Errorf("%v\n%s", err, more)
	}
	if again, err := file(); err != nil || again != more {
		t.Errorf("without flags it is another one: %v\n%s", err, again)
	}
	mine := strings.Replace(strings.TrimPrefix(more, generated+"\n"), "count: 5", "count: 7", 1)
	if err := os.WriteFile(filepath.Join(dir, "farm.yaml"), []byte(mine), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := file("--replicas=4"); err == nil || !strings.Contains(err.Error(), "leave out --replicas") {
		t.Errorf("flags against a person's file: %v", err)
	}
	if kept, err := file(); err != nil || kept != mine {
		t.Errorf("a person's file: %v\n%s", err, kept)
	}
}
