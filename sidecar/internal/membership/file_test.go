package membership

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"farmhand/internal/filewatch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const good = `
epoch: 7
hosts:
  - {name: web1, role: web, address: 10.0.1.1}
  - {name: db2, role: replica, address: 10.0.0.2:3306, weight: 50, state: joining, attributes: {zone: b}}
  - {name: db1, role: primary, address: 10.0.0.1:3306}
`

func TestParseFile(t *testing.T) {
	s, err := parseFile("f", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	want := Snapshot{Epoch: 7, Hosts: []Host{
		{Name: "db1", Role: "primary", Address: "10.0.0.1:3306", State: Up},
		{Name: "db2", Role: "replica", Address: "10.0.0.2:3306", State: Joining, Weight: 50, Attributes: map[string]string{"zone": "b"}},
		{Name: "web1", Role: "web", Address: "10.0.1.1", State: Up},
	}}
	if !Same(s, want) {
		t.Errorf("got %+v", s)
	}
	same, err := parseFile("f", []byte("{\n\t\"epoch\": 7,\n\t\"hosts\": [\n"+
		"\t\t{\"name\": \"db1\", \"role\": \"primary\", \"address\": \"10.0.0.1:3306\"},\n"+
		"\t\t{\"name\": \"db2\", \"role\": \"replica\", \"address\": \"10.0.0.2:3306\", \"state\": \"joining\", \"weight\": 50, \"attributes\": {\"zone\": \"b\"}},\n"+
		"\t\t{\"name\": \"web1\", \"role\": \"web\", \"address\": \"10.0.1.1\"}\n\t]\n}\n"))
	if err != nil || !Same(s, same) {
		t.Errorf("as JSON: %v, %+v", err, same)
	}
}

func TestParseFileRefuses(t *testing.T) {
	host := func(fields string) string { return "epoch: 1\nhosts:\n  - {" + fields + "}\n" }
	for content, want := range map[string]string{
		"":                             "hosts: there are none",
		"hosts: []":                    "hosts: there are none",
		"hosts: [{name: a":             "f:1",
		"\xff\xfe":                     "f",
		"epoch: 1\nhosts: 3":           "expected a list",
		"epoch: 1\nhoots: []":          "hoots",
		`{"epoch": 1, "hoots": []}`:    "hoots",
		`{"epoch": -1, "hosts": []}`:   "epoch",
		`{"hosts": [{"name": "a b"}]}`: "hosts[0].name",
		`{"hosts": []}{}`:              "f:1",
		host("name: a, role: web"):     "hosts[0].address",
		host("name: a, address: h"):    "hosts[0].role",
		host("name: a, role: web, address: h, state: dead"):                             `f:3:45: hosts[0].state: "dead" is not possible`,
		host("name: a, role: replica, address: h"):                                      "hosts[0].address",
		host("name: a, role: web, address: h, weight: 3"):                               "only database servers have a weight",
		host("name: a, role: replica, address: 'h:1', weight: 3000"):                    "hosts[0].weight",
		strings.Replace(good, "7", "0", 1):                                              "epoch: 0 is out of bounds",
		strings.Replace(good, "name: db2", "name: db1", 1):                              "another host is called db1",
		strings.Replace(good, "10.0.0.2:", "10.0.0.1:", 1):                              "is already the address of db2",
		good + "  - {name: db3, role: primary, address: 10.0.0.3:3306}\n":               "db1 is the primary already",
		strings.Repeat("#", maxFile+1):                                                  "larger than",
		"hosts:\n" + strings.Repeat("- {name: a, role: web, address: h}\n", maxHosts+1): "at most 10000",
	} {
		if _, err := parseFile("f", []byte(content)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q:\n got %v\nwant %s", content, err, want)
		}
	}
}

// told is an observer.
type told struct {
	changed chan Snapshot
	trouble chan error
}

func newTold() told { return told{make(chan Snapshot, 100), make(chan error, 100)} }

func (o told) Changed(s Snapshot) { o.changed <- s }
func (o told) Trouble(err error)  { o.trouble <- err }

func next[T any](t *testing.T, from chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("nothing within 20 s")
		panic("not reached")
	}
}

// run runs a source until the test ends.
func run(t *testing.T, s Source) told {
	t.Helper()
	o := newTold()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, o) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return o
}

func TestFileIsFollowed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "members.yaml")
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	f := NewFile(path, zap.NewNop())
	f.timing = filewatch.Timing{Debounce: 5 * time.Millisecond, Settle: 50 * time.Millisecond, Poll: time.Hour, BlindPoll: time.Hour}
	o := run(t, f)
	if err := next(t, o.trouble); !os.IsNotExist(err) && !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v", err)
	}
	write(good)
	if s := next(t, o.changed); s.Epoch != 7 || len(s.Hosts) != 3 {
		t.Errorf("got %+v", s)
	}
	write("epoch: 8\nhosts: [")
	if err := next(t, o.trouble); !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
	write(good) // as it was: the trouble is over
	if s := next(t, o.changed); s.Epoch != 7 {
		t.Errorf("got %+v", s)
	}
	write(strings.Replace(good, "7", "8", 1))
	if s := next(t, o.changed); s.Epoch != 8 {
		t.Errorf("got %+v", s)
	}
}

// TestFileOfTheDocumentation is a good one.
func TestFileOfTheDocumentation(t *testing.T) {
	text, err := os.ReadFile("../../../docs/MEMBERSHIP.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(text), "```yaml\n")
	example, _, ended := strings.Cut(after, "```")
	if !ok || !ended {
		t.Fatal("there is none")
	}
	if s, err := parseFile("MEMBERSHIP.md", []byte(example)); err != nil || len(s.Hosts) != 5 {
		t.Errorf("%v, %+v", err, s)
	}
}
