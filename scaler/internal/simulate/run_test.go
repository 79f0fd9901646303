package simulate

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"farmhand/scaler/internal/decide"
	"farmhand/scaler/internal/farmfile"
)

func farmOf(t *testing.T, content string) *farmfile.Farm {
	t.Helper()
	path := filepath.Join(t.TempDir(), "farm.yaml")
	if err := os.WriteFile(path, []byte("name: shop\nroles:\n"+content), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := farmfile.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// rows makes a trace of a row for every minute.
func rows(t *testing.T, head string, rows ...string) *Trace {
	t.Helper()
	at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	text := "time," + head + "\n"
	for _, row := range rows {
		text += at.Format(time.RFC3339) + "," + row + "\n"
		at = at.Add(time.Minute)
	}
	trace, err := Read("t", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return trace
}

func times(n int, row string) []string {
	var list []string
	for range n {
		list = append(list, row)
	}
	return list
}

const (
	scaled = "  db: {kind: mysql, count: {min: 3, max: 6}, scaling: [{kind: cpu}]}\n"
	webs   = "  db: {kind: mysql}\n  web: {kind: web, count: {min: 1, max: 6}, scaling: [{kind: load, scale_in: 0.3}]}\n"
)

func assumptions(names ...string) Assumptions {
	a := Assumptions{Launch: time.Minute, WarmUp: time.Minute, Drain: time.Minute, Roles: map[string]Assumption{}}
	for _, name := range names {
		a.Roles[name] = Assumption{Capacity: 1000, Price: 0.5}
	}
	return a
}

func run(t *testing.T, f *farmfile.Farm, trace *Trace, a Assumptions) *Result {
	t.Helper()
	r, err := Run(f, trace, a)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestALoadThatFits: nothing happens, and the sums are what a person would get.
func TestALoadThatFits(t *testing.T) {
	r := run(t, farmOf(t, scaled), rows(t, "db.reads,db.writes", times(121, "1000,100")...), assumptions("db")).Roles[0]
	// Two replicas have 500 reads and 100 writes of 1000 each. A fixed fleet is
	// to bear 1500 reads with 150 writes on each: two replicas and a primary.
	want := RoleResult{
		Name: "db", Fewest: 3, Most: 3, Count: 3, Unit: "reads", Steps: []Step{},
		Fleet: Fleet{Hours: 6, Cost: 3, Worst: 0.6}, Fixed: Fleet{Hours: 6, Cost: 3, Worst: 0.6},
	}
	if p := r.Points[7]; len(r.Points) != 720 || p.Load != 1000 || p.Capacity != 1800 || p.Servers != 3 || p.Ready != 3 {
		t.Errorf("%d points such as %+v", len(r.Points), p)
	}
	r.Points = nil
	for _, f := range []*Fleet{&r.Fleet, &r.Fixed} {
		f.Hours, f.Cost = math.Round(f.Hours*1e6)/1e6, math.Round(f.Cost*1e6)/1e6
	}
	if !reflect.DeepEqual(r, want) {
		t.Errorf("got  %+v\nwant %+v", r, want)
	}
}

// TestOverloadLastsAsLongAsServersTake: the time from the decision to where a
// replica has caught up is overloaded, and what is not served is what is above.
func TestOverloadLastsAsLongAsServersTake(t *testing.T) {
	f := farmOf(t, scaled)
	trace := rows(t, "db.reads,db.writes", append(times(10, "1000,0"), times(60, "2400,0")...)...)
	var overloaded [2]float64
	for i, launch := range []time.Duration{time.Minute, 6 * time.Minute} {
		a := assumptions("db")
		a.Launch = launch
		r := run(t, f, trace, a).Roles[0]
		overloaded[i] = r.Fleet.Overloaded
		if r.Fleet.Worst != 1.2 || r.Launched == 0 || r.Fixed.Overloaded != 0 {
			t.Errorf("%+v", r)
		}
		if at := slices.IndexFunc(r.Steps, func(s Step) bool { return s.What == "overloaded" }); at < 0 ||
			r.Steps[at].Why != "2167 reads per second are more than the 2000 that the ready servers can do" || len(r.Steps[at].Reasons) < 2 {
			t.Errorf("the overload is told in %+v", r.Steps)
		}
		var notServed, asked float64
		for _, p := range r.Points {
			notServed, asked = notServed+max(0, p.Load-p.Capacity), asked+p.Load
		}
		if math.Abs(r.Fleet.NotServed-notServed/asked) > 1e-9 || notServed == 0 {
			t.Errorf("%v is not served; by the points it is %v", r.Fleet.NotServed, notServed/asked)
		}
	}
	if overloaded[1]-overloaded[0] != 300 || overloaded[0] < 120 {
		t.Errorf("overloaded for %v seconds", overloaded)
	}
}

// TestMaxIsToBlame: an overload that more servers were not allowed against is told
// apart from one that lasts until they are there.
func TestMaxIsToBlame(t *testing.T) {
	f := farmOf(t, strings.Replace(scaled, "max: 6", "max: 4", 1))
	r := run(t, f, rows(t, "db.reads", append(times(5, "1000"), times(60, "3600")...)...), assumptions("db")).Roles[0]
	full := 0.0
	for _, p := range r.Points {
		if p.Ready == 4 && p.Load > 3000 {
			full += Tick.Seconds()
		}
	}
	if r.AtMax != full || full == 0 || r.Fleet.Overloaded <= full {
		t.Errorf("overloaded for %v s, %v of them with all; want %v", r.Fleet.Overloaded, r.AtMax, full)
	}
}

// TestServersArePaidForFromLaunchToEnd: also while they warm up and drain.
func TestServersArePaidForFromLaunchToEnd(t *testing.T) {
	f := farmOf(t, webs)
	trace := rows(t, "web.requests", append(append(times(5, "900"), times(20, "1500")...), times(60, "200")...)...)
	r := run(t, f, trace, assumptions("web")).Roles[0]
	if r.Launched == 0 || r.Terminated == 0 || r.Fewest != 1 {
		t.Fatalf("%+v", r)
	}
	hours := 0.0
	for _, p := range r.Points {
		hours += float64(p.Servers) * Tick.Hours()
	}
	if math.Abs(hours-r.Fleet.Hours) > 1e-9 {
		t.Errorf("%v hours; by the points %v", r.Fleet.Hours, hours)
	}
	for _, s := range r.Steps {
		n, wait := -1, time.Minute
		if s.What == "overloaded" {
			continue
		}
		if strings.HasPrefix(s.What, string(decide.Launch)) {
			if _, err := fmt.Sscanf(s.What, "launch %d", &n); err != nil {
				t.Fatal(err)
			}
		}
		i := int(s.At.Sub(r.Points[0].At) / Tick)
		before, during := r.Points[i-1], r.Points[i+int(wait/Tick)-1]
		after := r.Points[i+int(wait/Tick)]
		switch {
		case n > 0 && (during.Servers != before.Servers+n || during.Ready != before.Ready || after.Ready != before.Ready+n):
			t.Errorf("%s: %+v, %+v, %+v", s.What, before, during, after)
		case n < 0 && (during.Servers != before.Servers || during.Ready != before.Ready-1 || after.Servers != before.Servers-1):
			t.Errorf("%s: %+v, %+v, %+v", s.What, before, during, after)
		}
	}
}

// TestNothingGoesWhileTheTraceIsSilent: an empty cell is no load of zero.
func TestNothingGoesWhileTheTraceIsSilent(t *testing.T) {
	f := farmOf(t, scaled)
	low := append(times(10, "2600,0"), times(120, "100,0")...)
	if r := run(t, f, rows(t, "db.reads,db.writes", low...), assumptions("db")).Roles[0]; r.Terminated == 0 {
		t.Errorf("%+v", r)
	}
	silent := append(times(10, "2600,0"), times(120, ",0")...)
	if r := run(t, f, rows(t, "db.reads,db.writes", silent...), assumptions("db")).Roles[0]; r.Terminated != 0 || r.Most < 5 {
		t.Errorf("%+v", r.Steps)
	}
}

// TestMetricsOfTheTrace: one that does not follow from the load is taken from its
// column, and left out without one.
func TestMetricsOfTheTrace(t *testing.T) {
	f := farmOf(t, "  db: {kind: mysql, count: {min: 3, max: 6}, scaling: [{kind: cpu}, {kind: lag}, {kind: connections, scale_out: 100, scale_in: 10}, {kind: command, command: x, scale_out: 4, scale_in: 2}]}\n  web: {kind: web}\n")
	r := run(t, f, rows(t, "db.reads,db.lag", times(30, "100,20")...), assumptions("db"))
	if want := []string{"db: connections", "db: x", "web"}; !reflect.DeepEqual(r.LeftOut, want) {
		t.Errorf("left out: %q", r.LeftOut)
	}
	if r.Roles[0].Most != 6 {
		t.Errorf("a lag of 20 s launches nothing: %+v", r.Roles[0].Steps)
	}
	// 220 connections are 110 for each of two replicas, and 73 for three.
	r = run(t, f, rows(t, "db.reads,db.connections", append(times(5, "100,150"), times(60, "100,220")...)...), assumptions("db"))
	if r.Roles[0].Most != 5 || !strings.Contains(r.Roles[0].Steps[0].Why, "connections is 102, above 100, and lately 110: it asks for 5") {
		t.Errorf("%+v", r.Roles[0].Steps)
	}
}

// TestTheSameAgain: a replay of the night has one result.
func TestTheSameAgain(t *testing.T) {
	trace, err := ReadFile(nightFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"campaign-farm.yaml", "farm.example.yaml"} {
		f, err := farmfile.Load("../../../testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		first := run(t, f, trace, assumptions("db", "web"))
		if second := run(t, f, trace, assumptions("db", "web")); !reflect.DeepEqual(first, second) {
			t.Errorf("%s: two replays differ", file)
		}
		if len(first.Roles) != 2 || first.Roles[0].Launched == 0 || first.Roles[0].Terminated == 0 {
			t.Errorf("%s: %+v", file, first.Roles)
		}
	}
}

func TestWhatCannotBeReplayed(t *testing.T) {
	f := farmOf(t, scaled+"  web: {kind: web}\n")
	two := func(head, row string) *Trace { return rows(t, head, row, row) }
	for _, c := range []struct {
		trace  *Trace
		change func(*Assumptions)
		want   string
	}{
		{two("cache.reads", "1"), nil, "the trace has cache.reads, but the farm has no role cache (it has db, web)"},
		{two("web.reads", "1"), nil, "the trace has web.reads, but web is of kind web; expected requests"},
		{two("db.lag", "1"), nil, "the trace has no load of a role; expected a column such as db.reads"},
		{two("db.reads", "1"), func(a *Assumptions) { delete(a.Roles, "db") }, "what a server of db can do is not known; expected --capacity db=N, its queries per second"},
		{two("db.reads", "1"), func(a *Assumptions) { a.Roles["x"] = Assumption{} }, "something is assumed of x, but the farm has no such role"},
		{two("db.reads", "1"), func(a *Assumptions) { a.Roles["db"] = Assumption{Capacity: -1} }, "--capacity db=-1 is out of bounds; expected more than 0 and at most 1e+09"},
		{two("db.reads", "1"), func(a *Assumptions) { a.Roles["db"] = Assumption{1, math.NaN()} }, "--price db=NaN is out of bounds; expected 0 to 1e+06"},
		{two("db.reads", "1"), func(a *Assumptions) { a.Launch = -1 }, "--launch -1ns is out of bounds; expected 0 to 24h0m0s"},
		{two("db.reads,db.writes", "1,700"), nil, "at 2026-11-26T12:00:00Z db has 700 writes per second: with half as many again that is more than the 1000 of --capacity, and every server has them all; no number of servers is enough"},
		{two("db.reads", "100000000"), nil, "at 2026-11-26T12:00:00Z db needs more than 10000 servers of --capacity 1000"},
	} {
		a := assumptions("db", "web")
		if c.change != nil {
			c.change(&a)
		}
		if _, err := Run(f, c.trace, a); err == nil || err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
}
