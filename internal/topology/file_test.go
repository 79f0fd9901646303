package topology

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"farmhand/internal/farm"
)

func sample(epoch farm.Epoch) farm.Topology {
	return farm.Topology{Version: 1, Clusters: map[string]farm.Cluster{"main": {
		Epoch:    epoch,
		Primary:  &farm.Server{Name: "db1", Address: "10.0.0.1:3306", Weight: 100},
		Replicas: []farm.Server{{Name: "db2", Address: "10.0.0.2:3306", Weight: 100, State: farm.Serving}},
	}}}
}

func TestWriteReadsBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "topology.json")
	must(t, Write(path, sample(1)))
	got, err := Read(path)
	must(t, err)
	if !reflect.DeepEqual(got, sample(1)) {
		t.Errorf(" got %+v\nwant %+v", got, sample(1))
	}
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode() != 0o644 {
		t.Errorf("a new file has mode %v", info.Mode())
	}

	must(t, os.Chmod(path, 0o640))
	must(t, Write(path, sample(2)))
	if info, err = os.Stat(path); err != nil || info.Mode() != 0o640 {
		t.Errorf("the mode was 0640, is %v (%v)", info.Mode(), err)
	}
	onlyFile(t, path)
}

// onlyFile wants no temporary file left.
func onlyFile(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	must(t, err)
	if len(entries) != 1 || entries[0].Name() != filepath.Base(path) {
		t.Errorf("the directory has %v", entries)
	}
}

func TestWriteRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "topology.json")
	must(t, Write(path, sample(1)))
	before, err := os.ReadFile(path)
	must(t, err)

	noEpoch, twice, primaryState := sample(0), sample(1), sample(1)
	twice.Clusters["main"].Replicas[0].Address = "10.0.0.1:3306"
	primaryState.Clusters["main"].Primary.State = farm.Serving
	for want, bad := range map[string]farm.Topology{
		"0 is not a whole number from 1":               noEpoch,
		"expected 1, the version of the format":        {},
		"already the address of clusters.main.primary": twice,
		"a primary has no state":                       primaryState,
	} {
		if err := Write(path, bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v; want %s", err, want)
		}
	}
	after, err := os.ReadFile(path)
	must(t, err)
	if string(before) != string(after) {
		t.Error("the file was changed")
	}
	onlyFile(t, path)
}

func TestWriteLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "topology.json")
	must(t, os.Mkdir(path, 0o755)) // a directory cannot be renamed over
	if err := Write(path, sample(1)); err == nil {
		t.Error("wrote over a directory")
	}
	onlyFile(t, path)
	if err := Write(filepath.Join(dir, "none", "topology.json"), sample(1)); err == nil {
		t.Error("wrote into a directory that is not there")
	}
}
