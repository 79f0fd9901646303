package decide_test

import (
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"farmhand/scaler/internal/decide"
	"farmhand/scaler/internal/farmfile"
)

// What the scenarios' servers take.
const (
	step       = 10 * time.Second
	launchTime = time.Minute
	warmTime   = 30 * time.Second
	drainTime  = 30 * time.Second
)

// world is a role that does what is decided.
type world struct {
	policy  decide.Policy
	now     time.Time
	picture decide.Picture
	began   map[string]time.Time // when a server's state did
	named   int
	values  map[string]value // of the metrics, by name
}

// value is what a metric shows.
type value struct {
	amount  float64
	total   bool // the servers share it
	missing bool
	silent  int
}

func newWorld(policy decide.Policy, now time.Time, n int) *world {
	w := &world{policy: policy, now: now, began: map[string]time.Time{}, values: map[string]value{}}
	w.picture.Readings = make([][]decide.Sample, len(policy.Metrics))
	for range n {
		w.launch()
	}
	for i := range w.picture.Servers {
		w.picture.Servers[i].State = decide.Ready
	}
	w.picture.Wanted = n
	return w
}

func (w *world) launch() {
	w.named++
	name := "db" + strconv.Itoa(w.named)
	w.began[name] = w.now
	w.picture.Servers = append(w.picture.Servers, decide.Server{
		Name: name, State: decide.Launching, Primary: w.policy.Primary && w.named == 1,
	})
}

func (w *world) server(t *testing.T, name string) *decide.Server {
	t.Helper()
	for i := range w.picture.Servers {
		if w.picture.Servers[i].Name == name {
			return &w.picture.Servers[i]
		}
	}
	t.Fatalf("there is no server %s", name)
	return nil
}

// carriers is how many servers share the load.
func (w *world) carriers() float64 {
	n := 0
	for _, s := range w.picture.Servers {
		if s.State == decide.Ready && !s.Primary {
			n++
		}
	}
	return float64(max(n, 1))
}

// tick lets a step pass: what the provider was asked for happens, metrics are
// measured, a decision is made and begun.
func (w *world) tick() decide.Decision {
	w.now = w.now.Add(step)
	var left []decide.Server
	for _, s := range w.picture.Servers {
		switch since := w.now.Sub(w.began[s.Name]); {
		case s.State == decide.Launching && since >= launchTime:
			s.State, w.began[s.Name] = decide.Warming, w.now
		case s.State == decide.Warming && since >= warmTime:
			s.State, s.ReadyAt = decide.Ready, w.now
		case s.State == decide.Draining && since >= drainTime:
			w.picture.LastIn = w.now
			continue
		}
		left = append(left, s)
	}
	w.picture.Servers = left
	for i, m := range w.policy.Metrics {
		v := w.values[m.Name]
		sample := decide.Sample{At: w.now, Value: v.amount, Silent: v.silent}
		if v.total {
			sample.Value /= w.carriers()
		}
		if !v.missing {
			w.picture.Readings[i] = append(w.picture.Readings[i], sample)
		}
		w.picture.Readings[i] = slices.DeleteFunc(w.picture.Readings[i], func(s decide.Sample) bool {
			return s.At.Before(w.now.Add(-m.Window))
		})
	}
	d := decide.Decide(w.picture, w.policy, w.now)
	w.picture.Wanted = d.Wanted
	for _, a := range d.Actions {
		for range a.Count {
			w.launch()
		}
		for i := range w.picture.Servers {
			if s := &w.picture.Servers[i]; s.Name == a.Server {
				s.State, w.began[s.Name] = decide.Draining, w.now
			}
		}
	}
	return d
}

// event is a line of a timeline, such as "18:00 cpu 60% together".
func (w *world) event(t *testing.T, words []string) {
	t.Helper()
	switch words[0] {
	case "lost", "unwell", "ready":
		s := w.server(t, words[1])
		if s.State == decide.Lost {
			s.ReadyAt = w.now // it is back
		}
		s.State = map[string]decide.State{"lost": decide.Lost, "unwell": decide.Unwell, "ready": decide.Ready}[words[0]]
	case "copied-from":
		w.server(t, words[1]).Source = true
	case "not-copied-from":
		w.server(t, words[1]).Source = false
	case "end":
	default:
		v := w.values[words[0]]
		v.missing, v.silent = false, 0
		switch {
		case words[1] == "missing":
			v.missing = true
		case words[1] == "silent":
			v.silent = 1
		default:
			v.amount, v.total = number(t, words[1]), len(words) > 2 && words[2] == "together"
		}
		if !slices.ContainsFunc(w.policy.Metrics, func(m decide.Metric) bool { return m.Name == words[0] }) {
			t.Fatalf("there is no metric %s", words[0])
		}
		w.values[words[0]] = v
	}
}

func number(t *testing.T, text string) float64 {
	t.Helper()
	if d, err := time.ParseDuration(text); err == nil {
		return d.Seconds()
	}
	digits, share := strings.CutSuffix(text, "%")
	f, err := strconv.ParseFloat(digits, 64)
	if err != nil || math.IsNaN(f) {
		t.Fatalf("%q is no value", text)
	}
	if share {
		f /= 100
	}
	return f
}

// TestScenarios runs testdata/*.txt: a farm file, a timeline of what happens to
// its role db, and what is decided, which is told whenever something is done or
// something else holds back.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 12 {
		t.Errorf("only %d scenarios", len(files))
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { scenario(t, file) })
	}
}

func scenario(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(archive.Files) != 3 {
		t.Fatalf("%d sections; expected farm.yaml, timeline and decisions", len(archive.Files))
	}
	path := filepath.Join(t.TempDir(), "farm.yaml")
	if err := os.WriteFile(path, archive.Files[0].Data, 0o644); err != nil {
		t.Fatal(err)
	}
	farm, err := farmfile.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	var w *world
	var held string
	for line := range strings.Lines(string(archive.Files[1].Data)) {
		words := strings.Fields(line)
		if len(words) < 2 {
			t.Fatalf("line %q", line)
		}
		at, err := time.ParseInLocation("2006-01-02 15:04:05", "2026-11-27 "+words[0], farm.TimeZone.Location)
		if err != nil {
			t.Fatal(err)
		}
		if w == nil {
			n, err := strconv.Atoi(words[1])
			if err != nil {
				t.Fatal(err)
			}
			w = newWorld(farm.Scaling("db"), at, n)
			continue
		}
		for w.now.Before(at) {
			d := w.tick()
			held = tell(&got, w.now, d, held)
		}
		w.event(t, words[1:])
	}
	if *update {
		archive.Files[2].Data = []byte(got.String())
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := string(archive.Files[2].Data); got.String() != want {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
}

// tell writes what was done, and what held back if it is not what did so before.
func tell(w *strings.Builder, now time.Time, d decide.Decision, before string) (held string) {
	for _, a := range d.Actions {
		what := a.Server
		if a.Kind == decide.Launch {
			what = strconv.Itoa(a.Count)
		}
		_, _ = fmt.Fprintf(w, "%s %s %s: %s\n", now.Format("15:04:05"), a.Kind, what, a.Why)
	}
	lines := map[string]bool{}
	kinds := map[string]bool{}
	for _, r := range d.Reasons {
		switch r.Kind {
		case decide.Seen, decide.Asked, decide.Replaced:
		default:
			kinds[string(r.Kind)] = true
			lines[fmt.Sprintf("%s   %s: %s\n", now.Format("15:04:05"), r.Kind, r.Text)] = true
		}
	}
	held = strings.Join(slices.Sorted(maps.Keys(kinds)), " ")
	if held != before {
		w.WriteString(strings.Join(slices.Sorted(maps.Keys(lines)), ""))
	}
	return held
}
