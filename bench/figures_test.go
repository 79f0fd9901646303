package main

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestLatencies(t *testing.T) {
	var l latencies
	if got := l.quantile(0.5); got != 0 {
		t.Errorf("the median of nothing is %v", got)
	}
	for ms := 1; ms <= 1000; ms++ {
		l.add(time.Duration(ms)*time.Millisecond, 1)
	}
	for q, want := range map[float64]float64{0.5: 500, 0.95: 950, 0.99: 990, 1: 1000} {
		if got := l.quantile(q); math.Abs(got-want) > want*0.016 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	l.add(time.Hour, 100000)
	if got := l.quantile(0.5); math.Abs(got-3.6e6) > 3.6e6*0.016 {
		t.Errorf("an hour is read as %v ms", got)
	}
}

func TestBucketsAreInOrder(t *testing.T) {
	last := -1
	for ns := uint64(0); ns < 1<<62; ns = ns + ns/90 + 1 {
		b := bucketOf(ns)
		if b < last || b >= len(latencies{}.counts) {
			t.Fatalf("%d ns is in bucket %d after %d", ns, b, last)
		}
		if middle := middleOf(b); math.Abs(middle-float64(ns)) > float64(ns)*0.016 {
			t.Fatalf("%d ns is in a bucket about %v", ns, middle)
		}
		last = b
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   spread
		text   string
	}{
		{[]float64{3}, spread{3, 3, 3}, "3.00"},
		{[]float64{5, 1}, spread{3, 1, 5}, "3.00 (1.00–5.00)"},
		{[]float64{900, 1, 20.54}, spread{20.54, 1, 900}, "20.5 (1.00–900)"},
	} {
		if got := spreadOf(c.values); got != c.want || got.String() != c.text {
			t.Errorf("%v: %v %q, want %v %q", c.values, got, got.String(), c.want, c.text)
		}
	}
}

func TestNumber(t *testing.T) {
	for want, v := range map[string]float64{
		"0": 0, "12346": 12345.6, "100": 100, "99.9": 99.94, "1.23": 1.234, "0.123": 0.1234, "0.0012": 0.00123, "–": math.NaN(), "-1.50": -1.5,
	} {
		if got := number(v); got != want {
			t.Errorf("%v is printed as %q, want %q", v, got, want)
		}
	}
}

func TestParseSysbench(t *testing.T) {
	const text = `Threads started!

Latency histogram (values are in milliseconds)
       value  ------------- distribution ------------- count
       0.500 |****************************************** 90
       2.000 |****                                      9
     100.000 |                                          1

SQL statistics:
    queries:                             200    (50.12 per sec.)
`
	w, err := parseSysbench(text, 4*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(w.units-200.48) > 0.001 || w.elapsed != 4*time.Second || w.times.total != 100 {
		t.Errorf("%v units in %v, %d times", w.units, w.elapsed, w.times.total)
	}
	for q, want := range map[float64]float64{0.5: 0.5, 0.95: 2, 0.99: 2, 1: 100} {
		if got := w.times.quantile(q); math.Abs(got-want) > want*0.016 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if _, err := parseSysbench("FATAL: no", time.Second); err == nil {
		t.Error("nonsense is taken for a report")
	}
}

func TestReadSysbench(t *testing.T) {
	h, begun, ended := counted()
	text, started, err := readSysbench(strings.NewReader("Initializing\nThreads started!\nqueries\n"), time.Hour, h)
	if err != nil || !started || *begun != 1 || *ended != 1 || !strings.HasSuffix(text, "queries\n") {
		t.Errorf("began %v, %d times, ended %d times: %q, %v", started, *begun, *ended, text, err)
	}
	h.begin = func() error { return errors.New("no") }
	if _, _, err = readSysbench(strings.NewReader("Threads started!\n"), time.Hour, h); err == nil {
		t.Error("a hook's error is lost")
	}
}

func TestParsePerf(t *testing.T) {
	const text = `# started on Wed Nov 25 15:17:39 2026

 Performance counter stats for process id '9812':

             1,144      raw_syscalls:sys_enter
                 7      syscalls:sys_enter_read
     <not counted>      syscalls:sys_enter_futex

       0.204198075 seconds time elapsed
`
	c, err := parsePerf(text)
	if err != nil || c.all != 1144 || c.byName["read"] != 7 || c.byName["futex"] != 0 || len(c.byName) != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := parsePerf("event syntax error"); err == nil {
		t.Error("nonsense is taken for counts")
	}
}

func TestParseStrace(t *testing.T) {
	const text = `strace: Process 30632 attached
syscall              calls
---------------- ---------
read                    12
futex                    1
---------------- ---------
total                   13
`
	c, err := parseStrace(text)
	if err != nil || c.all != 13 || c.byName["read"] != 12 || c.byName["futex"] != 1 || len(c.byName) != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := parseStrace("strace: attach: ptrace(PTRACE_SEIZE, 1): Operation not permitted"); err == nil {
		t.Error("nonsense is taken for counts")
	}
}

func TestStatusField(t *testing.T) {
	const text = "Name:\tproxy\nVmHWM:\t   21180 kB\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t150\n"
	for name, want := range map[string]int64{"VmHWM": 21180, "voluntary_ctxt_switches": 7, "nonvoluntary_ctxt_switches": 150} {
		if got, err := statusField(text, name); got != want || err != nil {
			t.Errorf("%s is %d, %v, want %d", name, got, err, want)
		}
	}
	if _, err := statusField(text, "VmRSS"); err == nil {
		t.Error("a field that is not there is found")
	}
}

func TestEstablishedTo(t *testing.T) {
	const line = "   1: 0100007F:D2F0 013C007F:0CEA %s 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000000000000000 20 4 30 10 -1\n"
	if remote, inode := establishedTo(strings.Replace(line, "%s", "01", 1)); remote != "127.0.60.1:3306" || inode != "4711" {
		t.Errorf("read as %q, %q", remote, inode)
	}
	if remote, inode := establishedTo(strings.Replace(line, "%s", "06", 1)); remote != "" || inode != "" {
		t.Errorf("TIME_WAIT is taken for established: %q, %q", remote, inode)
	}
	if remote, _ := establishedTo("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"); remote != "" {
		t.Errorf("the head is read as %q", remote)
	}
}

// TestOwnUsage: the process's own figures are those that the kernel tells it.
func TestOwnUsage(t *testing.T) {
	pids := []int{os.Getpid()}
	if err := forgetPeak(pids); err != nil {
		t.Fatal(err)
	}
	var before, after unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &before); err != nil {
		t.Fatal(err)
	}
	u, err := usageOf(pids)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Getrusage(unix.RUSAGE_SELF, &after); err != nil {
		t.Fatal(err)
	}
	total := func(r unix.Rusage) time.Duration { return time.Duration(r.Utime.Nano() + r.Stime.Nano()) }
	const slack = 20 * time.Millisecond // the kernel brings its sums up to date at ticks
	if u.cpu < total(before)-slack || u.cpu > total(after)+slack {
		t.Errorf("%v of CPU time, not between %v and %v", u.cpu, total(before), total(after))
	}
	if u.switches < 1 || u.switches > after.Nvcsw+after.Nivcsw {
		t.Errorf("%d switches, not up to %d", u.switches, after.Nvcsw+after.Nivcsw)
	}
	if most, err := peak(pids); err != nil || most < 1<<20 || most > 8<<30 {
		t.Errorf("%d bytes resident at most, %v", most, err)
	}
}

// twoCells are results of one workload for the proxy and haproxy.
func twoCells(w workload) *results {
	return &results{
		workloads: []workload{w}, subjects: []string{directName, haproxyReads, farmhandName},
		cells: map[string]map[string]*cell{w.title(): {
			haproxyReads: {samples: []sample{{rate: 100, cpu: 10, p99: 1, peak: 20}, {rate: 300, cpu: 20, p99: 3, peak: 20}}},
			farmhandName: {
				samples: []sample{{rate: 50, cpu: 11, p99: 2, peak: 30}, {rate: 330, cpu: 30, p99: 3, peak: 40}},
				calls:   map[string]float64{"read": 2.25, "futex": 0.001, "nanosleep": 0.004, "clock_nanosleep": 0.002}, callsAll: 2.26,
			},
		}},
	}
}

func TestRatioIsOfRounds(t *testing.T) {
	w := workload{name: selectText, clients: 64}
	r := twoCells(w)
	got, ok := ratio(r.cell(w, farmhandName), r.cell(w, haproxyReads), cpuOf)
	if want := (spread{1.3, 1.1, 1.5}); !ok || math.Abs(got.median-want.median) > 1e-9 || got.min != want.min || got.max != want.max {
		t.Errorf("%v, want %v", got, want)
	}
	if _, ok := ratio(r.cell(w, farmhandName), r.cell(w, directName), cpuOf); ok {
		t.Error("there is a ratio to what was not measured")
	}
}

func TestLimits(t *testing.T) {
	counter := counter{name: "perf", prepare: func([]int, string) (counting, error) { return nil, nil }}
	r := twoCells(workload{name: selectText, clients: 64})
	r.idle = &idleSessions{sessions: 1000, loggedIn: 5000, used: 9000, cap: 15, connections: 48}
	states := map[string]state{}
	for _, l := range r.limits(counter) {
		states[l.what] = l.state
	}
	for what, want := range map[string]state{
		"CPU/query ÷ haproxy: point select, text, 64":       broken, // 1.3
		"CPU/query ÷ haproxy: point select, text, 16":       unmeasured,
		"queries/s ÷ haproxy: point select, text, 64":       broken, // 0.8
		"futex calls/query, 64 connections":                 kept,
		"nanosleep calls/query, 64 connections":             broken, // 0.006
		"system calls/query, 64 connections":                kept,
		"resident bytes of an idle session, of 1000":        broken,
		"1000 sessions over few server connections":         kept,
		"CPU/byte ÷ haproxy: 16 MB results":                 unmeasured,
		"connections/s ÷ direct, +1 ms to the servers, 16":  unmeasured,
		"p99 ÷ haproxy at 70 % of its rate, 16 connections": unmeasured,
	} {
		if states[what] != want {
			t.Errorf("%s: %q, want %q", what, states[what], want)
		}
	}
	r.idle.cap, r.idle.refused = 0, "unknown key"
	for _, l := range r.idleLimits()[1:] {
		if l.state != unmeasured || !strings.Contains(l.note, "unknown key") {
			t.Errorf("without a cap: %+v", l)
		}
	}
	for _, l := range r.callLimits(counterOfNone()) {
		if l.state != unmeasured || l.measured == "" {
			t.Errorf("without a counter: %+v", l)
		}
	}
}

func counterOfNone() counter { return counter{} }

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		value, bound float64
		atMost       bool
		want         state
	}{{1, 1, true, kept}, {1, 1, false, kept}, {2, 1, true, broken}, {2, 1, false, kept}, {0.5, 1, false, broken}, {0.5, 1, true, kept}, {math.NaN(), 1, true, broken}, {math.NaN(), 1, false, broken}} {
		if got := verdict(c.value, c.atMost, c.bound); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestGrids(t *testing.T) {
	g := grid{"Title", []string{"a", "long"}, [][]string{{"µµµ", "1"}, {"b", ""}}, []string{"A note."}}
	if got, want := g.plain(), "Title\n  a    long\n  µµµ  1\n  b\n  A note.\n\n"; got != want {
		t.Errorf("plain:\n%s", got)
	}
	if got, want := g.markdown(), "**Title**\n\n| a | long |\n|---|---|\n| µµµ | 1 |\n| b |  |\n\nA note.\n\n"; got != want {
		t.Errorf("markdown:\n%s", got)
	}
}

func TestFiguresNameWhatFailed(t *testing.T) {
	w := workload{name: selectText, clients: 64, unit: query}
	r := twoCells(w)
	r.cells[w.title()][directName] = &cell{err: errors.New("it is gone")}
	g := r.figures(3, 2)
	if len(g.rows) != 3 || g.rows[0][3] != "failed" || !strings.Contains(strings.Join(g.notes, ""), "it is gone") || !r.failed() {
		t.Errorf("%+v", g)
	}
	if got := g.rows[2][3] + g.rows[2][8]; got != "190 (50.0–330)"+"2.26" {
		t.Errorf("the proxy's row: %v", g.rows[2])
	}
}

func TestHistory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	if rec, err := lastRecord(path); rec != nil || err != nil {
		t.Fatalf("without a file: %v, %v", rec, err)
	}
	r := twoCells(workload{name: selectText, clients: 64})
	o := options{seconds: 3, rounds: 2}
	first, err := recordOf(t.Context(), r, r.limits(counterOfNone()), o)
	if err != nil {
		t.Fatal(err)
	}
	now := first
	first.Commit, first.Machine.Model = "first", "another"
	r.cells[r.workloads[0].title()][farmhandName].samples = []sample{{rate: 380, cpu: 20.5, p99: 1.25, peak: 70}}
	second, err := recordOf(t.Context(), r, nil, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, rec := range []record{now, first} {
		if err := appendRecord(path, rec); err != nil {
			t.Fatal(err)
		}
	}
	last, err := lastRecord(path)
	if err != nil || last == nil || last.Commit != "first" {
		t.Fatalf("the last is %+v, %v", last, err)
	}
	g := change(*last, second, r)
	if len(g.rows) != 2 || strings.Join(g.rows[1][2:], " ") != "+100 % -50 % +0 % +0 % +100 %" {
		t.Errorf("change: %v", g.rows)
	}
	if len(g.notes) != 1 || !strings.Contains(g.notes[0], "another machine") {
		t.Errorf("notes: %v", g.notes)
	}
}

func TestFlags(t *testing.T) {
	for _, c := range []struct {
		args            string
		rounds, seconds int
		history         string
		workloads       int
	}{
		{"", 3, 3, historyFile, len(workloads)},
		{"-quick -rounds 5", 5, 2, historyFile, -1},
		{"-only ^16", 3, 3, "", 2},
		{"-only ^16 -history h", 3, 3, "h", 2},
	} {
		o, err := parseFlags(strings.Fields(c.args))
		if err != nil {
			t.Fatal(err)
		}
		if n := len(chosen(o)); o.rounds != c.rounds || o.seconds != c.seconds || o.history != c.history || c.workloads >= 0 && n != c.workloads {
			t.Errorf("%q: %+v, %d workloads", c.args, o, n)
		}
	}
	for _, args := range []string{"-only (", "-rounds -1", "quick"} {
		if _, err := parseFlags(strings.Fields(args)); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}

// TestWorkloadsAreTheNamed: what the criteria ask for is there.
func TestWorkloadsAreTheNamed(t *testing.T) {
	r := &results{workloads: workloads, cells: map[string]map[string]*cell{}}
	s := []sample{{rate: 1, cpu: 1, p99: 1}}
	for _, w := range workloads {
		if r.cells[w.title()] != nil {
			t.Errorf("%s is there twice", w.title())
		}
		r.cells[w.title()] = map[string]*cell{
			directName: {samples: s}, haproxyReads: {samples: s}, farmhandName: {samples: s, calls: map[string]float64{}},
		}
	}
	r.idle = &idleSessions{cap: 1}
	for _, l := range r.limits(counter{prepare: preparePerf}) {
		if l.state == unmeasured {
			t.Errorf("nothing measures %q", l.what)
		}
	}
}

func TestProgress(t *testing.T) {
	var out strings.Builder
	p := &progress{to: &out, began: time.Now().Add(-time.Minute), steps: 3}
	p.step("%s", "one")
	p.step("two")
	if got := out.String(); !strings.Contains(got, "[  1/3, ? left] one\n") || !strings.Contains(got, "[  2/3, 2m0s left] two\n") {
		t.Errorf("%q", got)
	}
}
