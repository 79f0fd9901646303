package topology

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"farmhand/internal/farm"
)

func TestParseValid(t *testing.T) {
	want := map[string]farm.Topology{
		"minimal": {Version: 1, Clusters: map[string]farm.Cluster{"main": {Epoch: 1, Replicas: []farm.Server{}}}},
		"escapes": {Version: 1, Clusters: map[string]farm.Cluster{"main": {
			Epoch:    2,
			Primary:  &farm.Server{Name: "db1", Address: "localhost:1", Weight: 100, Attributes: map[string]string{"note": "😀 é"}},
			Replicas: []farm.Server{},
		}}},
		"full": {
			Version: 1,
			Written: time.Date(2026, 1, 31, 12, 0, 0, 5e8, time.FixedZone("", 3600)),
			Clusters: map[string]farm.Cluster{
				"main": {
					Epoch:   farm.MaxEpoch,
					Primary: &farm.Server{Name: "db1", Address: "10.0.0.1:3306", Weight: 10, Attributes: map[string]string{"zone": "a"}},
					Replicas: []farm.Server{
						{Name: "db2", Address: "db2.example.org:3306", Weight: 100, State: farm.Serving},
						{Name: "db3", Address: "[fd00::3]:3306", Weight: 1000, State: farm.Warming},
						{Name: "db4", Address: "/run/db4/mysqld.sock", Weight: 100, State: farm.Draining},
						{Name: "db5", Address: "10.0.0.5:65535", Weight: 100, State: farm.Serving},
					},
				},
				"reports.2": {
					Epoch:    1,
					Primary:  &farm.Server{Name: "db1", Address: "10.0.0.1:3307", Weight: 100},
					Replicas: []farm.Server{},
				},
			},
		},
	}
	files, err := filepath.Glob("testdata/valid/*.json")
	must(t, err)
	if len(files) != len(want) {
		t.Errorf("%d files, %d wanted values", len(files), len(want))
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		got, err := Read(file)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !got.Written.Equal(want[name].Written) {
			t.Errorf("%s: written %v; want %v", name, got.Written, want[name].Written)
		}
		got.Written = want[name].Written
		if !reflect.DeepEqual(got, want[name]) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, want[name])
		}
	}
}

// invalid says for each file in testdata/invalid what is wrong and whether
// docs/topology.schema.json, read by hand, refuses it as well. Where it does not,
// it cannot: uniqueness, grammar and size are beyond a schema, and 1e2 is an
// integer to it.
var invalid = []struct {
	file   string
	schema bool
	want   []string
}{
	{"empty", true, []string{"line 1, column 1: the file is empty; expected a topology"}},
	{"blank", true, []string{"line 1, column 1: the file is empty; expected a topology"}},
	{"half", true, []string{"line 1, column 42: the file ends in the middle of a value; it may be half-written"}},
	{"no-closing-brace", true, []string{"line 2, column 1: the file ends in the middle of a value; it may be half-written"}},
	{"two-values", true, []string{"line 2, column 1: not JSON: invalid character '{' after top-level value"}},
	{"trailing-comma", true, []string{"line 1, column 66: not JSON: invalid character '}' looking for beginning of object key string"}},
	{"comment", true, []string{"line 2, column 3: not JSON: invalid character '/' looking for beginning of object key string"}},
	{"byte-order-mark", true, []string{"line 1, column 1: the file begins with a byte order mark; expected plain UTF-8"}},
	{"not-utf-8", true, []string{"line 1, column 31: this is not UTF-8 text"}},
	{"nul-bytes", true, []string{`line 1, column 1: not JSON: invalid character '\x00' looking for beginning of value`}},
	{"not-an-object", true, []string{"line 1, column 1: expected an object, found a list"}},
	{"deep", true, []string{"line 1, column 43: values are nested more than 16 levels deep"}},
	{"duplicate-key", false, []string{`line 3, column 3: the key "main" stands twice in one object; first in line 2`}},
	{"no-version", true, []string{`line 1, column 1: the key "version" is missing`}},
	{"version-2", true, []string{"line 1, column 13: version: expected 1, the version of the format that this program reads"}},
	{"version-text", true, []string{"line 1, column 13: version: expected 1, the version of the format that this program reads"}},
	{"no-clusters", true, []string{`line 1, column 1: the key "clusters" is missing`}},
	{"clusters-empty", true, []string{"line 1, column 28: clusters: expected at least one cluster"}},
	{"clusters-list", true, []string{"line 1, column 28: clusters: expected an object, found a list"}},
	{"written", true, []string{`line 1, column 27: written: "yesterday" is not a time; expected one such as 2026-01-31T12:00:00Z`}},
	{"cluster-name", true, []string{`line 1, column 29: clusters: "ma in" is not a name; expected 1 to 64 of the characters A-Z a-z 0-9 . _ -`}},
	{"cluster-null", true, []string{"line 1, column 37: clusters.main: expected an object, found null"}},
	{"unknown-key", true, []string{`line 1, column 67: clusters.main: unknown key "replica"; expected epoch, primary, replicas`}},
	{"key-case", true, []string{
		`line 1, column 37: clusters.main: the key "epoch" is missing`,
		`line 1, column 38: clusters.main: unknown key "Epoch"; expected epoch, primary, replicas`,
	}},
	{"no-epoch", true, []string{`line 1, column 37: clusters.main: the key "epoch" is missing`}},
	{"epoch-0", true, []string{"line 1, column 47: clusters.main.epoch: 0 is not a whole number from 1 to 9007199254740991"}},
	{"epoch-negative", true, []string{"line 1, column 47: clusters.main.epoch: -1 is not a whole number from 1 to 9007199254740991"}},
	{"epoch-fraction", true, []string{"line 1, column 47: clusters.main.epoch: 1.5 is not a whole number from 1 to 9007199254740991"}},
	{"epoch-exponent", false, []string{"line 1, column 47: clusters.main.epoch: 1e2 is not a whole number from 1 to 9007199254740991"}},
	{"epoch-huge", true, []string{"line 1, column 47: clusters.main.epoch: 9007199254740992 is not a whole number from 1 to 9007199254740991"}},
	{"epoch-text", true, []string{"line 1, column 47: clusters.main.epoch: expected a whole number from 1 to 9007199254740991, found a string"}},
	{"no-primary", true, []string{`line 1, column 37: clusters.main: the key "primary" is missing`}},
	{"primary-name-only", true, []string{"line 1, column 61: clusters.main.primary: expected an object, found a string"}},
	{"primary-state", true, []string{"line 1, column 109: clusters.main.primary.state: a primary has no state; leave the key out"}},
	{"replicas-null", true, []string{"line 1, column 79: clusters.main.replicas: expected a list, found null"}},
	{"replicas-object", true, []string{"line 1, column 79: clusters.main.replicas: expected a list, found an object"}},
	{"no-name", true, []string{`line 2, column 3: clusters.main.replicas[0]: the key "name" is missing`}},
	{"no-address", true, []string{`line 2, column 3: clusters.main.replicas[0]: the key "address" is missing`}},
	{"name-empty", true, []string{`line 2, column 12: clusters.main.replicas[0].name: "" is not a name; expected 1 to 64 of the characters A-Z a-z 0-9 . _ -`}},
	{"name-twice", false, []string{`line 3, column 12: clusters.main.replicas[1].name: the cluster has another server named "db2"`}},
	{"name-of-primary", false, []string{`line 2, column 25: clusters.main.replicas[0].name: the cluster has another server named "db1"`}},
	{"address-twice", false, []string{"line 3, column 30: clusters.main.replicas[1].address: DB2:03306 is already the address of clusters.main.replicas[0]"}},
	{"address-of-primary", false, []string{"line 2, column 43: clusters.main.replicas[0].address: /run//db.sock is already the address of clusters.main.primary"}},
	{"address-in-two-clusters", false, []string{"line 3, column 59: clusters.b.primary.address: 10.0.0.1:3306 is already the address of clusters.a.primary"}},
	{"address-no-port", true, []string{`line 2, column 30: clusters.main.replicas[0].address: "10.0.0.2" is not an address; expected host:port, [IPv6]:port or the absolute path of a unix socket`}},
	{"address-port-0", true, []string{`line 2, column 30: clusters.main.replicas[0].address: "0" is not a port in the address "10.0.0.2:0"; expected a number from 1 to 65535`}},
	{"address-port-65536", true, []string{`line 2, column 30: clusters.main.replicas[0].address: "65536" is not a port in the address "10.0.0.2:65536"; expected a number from 1 to 65535`}},
	{"address-anywhere", false, []string{`line 2, column 30: clusters.main.replicas[0].address: address "0.0.0.0:3306": 0.0.0.0 is no address that a server can be reached at`}},
	{"address-relative-socket", true, []string{`line 2, column 30: clusters.main.replicas[0].address: "run/mysqld.sock" is not an address; expected host:port, [IPv6]:port or the absolute path of a unix socket`}},
	{"weight-negative", true, []string{"line 2, column 52: clusters.main.replicas[0].weight: -1 is not a whole number from 0 to 1000"}},
	{"weight-1001", true, []string{"line 2, column 52: clusters.main.replicas[0].weight: 1001 is not a whole number from 0 to 1000"}},
	{"weight-text", true, []string{"line 2, column 52: clusters.main.replicas[0].weight: expected a whole number from 0 to 1000, found a string"}},
	{"state", true, []string{`line 2, column 51: clusters.main.replicas[0].state: expected "serving", "warming" or "draining"`}},
	{"state-null", true, []string{`line 2, column 51: clusters.main.replicas[0].state: expected "serving", "warming" or "draining"`}},
	{"attributes-list", true, []string{"line 2, column 56: clusters.main.replicas[0].attributes: expected an object, found a list"}},
	{"attributes-number", true, []string{"line 2, column 65: clusters.main.replicas[0].attributes.size: expected a string, found a number"}},
	{"attributes-name", true, []string{`line 2, column 57: clusters.main.replicas[0].attributes: "a b" is not a name; expected 1 to 64 of the characters A-Z a-z 0-9 . _ -`}},
	{"attributes-many", true, []string{"line 2, column 56: clusters.main.replicas[0].attributes: 65 attributes; expected at most 64"}},
	{"attributes-long", true, []string{"line 2, column 62: clusters.main.replicas[0].attributes.a: the value is longer than 256 characters"}},
	{"several", true, []string{
		`line 3, column 3: unknown key "color"; expected version, clusters, $schema, written`,
		`line 5, column 5: clusters: "é" is not a name; expected 1 to 64 of the characters A-Z a-z 0-9 . _ -`,
		"line 6, column 23: clusters.main.epoch: 0 is not a whole number from 1 to 9007199254740991",
		`line 6, column 37: clusters.main.primary: the key "address" is missing`,
		`line 6, column 46: clusters.main.primary.name: "é" is not a name; expected 1 to 64 of the characters A-Z a-z 0-9 . _ -`,
		`line 6, column 51: clusters.main.primary: unknown key "adress"; expected name, address, weight, state, attributes`,
	}},
}

func TestParseInvalid(t *testing.T) {
	files, err := filepath.Glob("testdata/invalid/*.json")
	must(t, err)
	if len(files) != len(invalid) {
		t.Errorf("%d files, %d wanted errors", len(files), len(invalid))
	}
	for _, test := range invalid {
		_, err := Read("testdata/invalid/" + test.file + ".json")
		var problems Problems
		if !errors.As(err, &problems) {
			t.Errorf("%s: %v; want problems", test.file, err)
			continue
		}
		var got []string
		for _, p := range problems {
			got = append(got, p.Error())
		}
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s:\n got %s\nwant %s", test.file, strings.Join(got, "\n     "), strings.Join(test.want, "\n     "))
		}
	}
}

func TestParseBoundsItsComplaints(t *testing.T) {
	list := strings.TrimSuffix(strings.Repeat("5,", 1000), ",")
	_, err := Parse([]byte(`{"version": 1, "clusters": {"main": {"epoch": 1, "primary": null, "replicas": [` + list + `]}}}`))
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != maxProblems {
		t.Errorf("%d problems; want %d", len(problems), maxProblems)
	}
	if _, err := Parse(make([]byte, MaxSize+1)); err == nil || !strings.Contains(err.Error(), "larger than 1048576 bytes") {
		t.Errorf("a file that is too large: %v", err)
	}
}

func TestReadOther(t *testing.T) {
	if _, err := Read(filepath.Join(t.TempDir(), "none.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := Read(t.TempDir()); err == nil || !strings.Contains(err.Error(), "a directory, not a file") {
		t.Errorf("a directory: %v", err)
	}
}

// FuzzParse holds the parser to what JSON is, and to reading back what it wrote.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/valid/*.json", "testdata/invalid/*.json"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatalf("no seeds: %v", err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Parse(data)
		if err != nil {
			var problems Problems
			if !errors.As(err, &problems) || len(problems) == 0 {
				t.Fatalf("%v is no Problems", err)
			}
			for _, p := range problems {
				if p.Line < 1 || p.Column < 1 || p.Line > 1+strings.Count(string(data), "\n") {
					t.Fatalf("%v is at no place of the file", p)
				}
			}
			return
		}
		if !json.Valid(data) {
			t.Fatal("accepted what is not JSON")
		}
		if err := json.Unmarshal(data, new(farm.Topology)); err != nil {
			t.Fatalf("accepted what encoding/json refuses: %v", err)
		}
		encoded, err := Encode(got)
		if err != nil {
			t.Fatalf("accepted what it would not write: %v", err)
		}
		again, err := Parse(encoded)
		if err != nil || !same(&got, &again) {
			t.Fatalf("read back as %+v, %v; was %+v", again, err, got)
		}
	})
}
