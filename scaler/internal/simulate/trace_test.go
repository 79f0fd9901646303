package simulate

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

func TestTraceIsRead(t *testing.T) {
	trace, err := Read("t.csv", []byte("\ufeff# a comment\ntime,db.reads, db.writes\n2026-11-26T12:00:00Z,100,7\n2026-11-26T12:10:00Z,200,\n2026-11-26T13:20:00+01:00, 300 ,9\n"))
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		minute      float64
		read, write float64
	}{{-5, 100, 7}, {0, 100, 7}, {5, 150, math.NaN()}, {10, 200, math.NaN()}, {15, 250, math.NaN()}, {20, 300, 9}, {25, 300, 9}} {
		at := begin.Add(time.Duration(c.minute * float64(time.Minute)))
		if r, w := trace.at("db", "reads", at), trace.at("db", "writes", at); r != c.read || w != c.write && !(math.IsNaN(w) && math.IsNaN(c.write)) {
			t.Errorf("at minute %v: %v reads and %v writes; want %v and %v", c.minute, r, w, c.read, c.write)
		}
	}
}

func TestWrongTraces(t *testing.T) {
	const good = "2026-11-26T12:00:00Z,1\n2026-11-26T12:01:00Z,1\n"
	for content, want := range map[string]string{
		"":                                   "t.csv:1:1: it is empty; expected time,ROLE.reads,ROLE.writes,…",
		"when,db.reads\n" + good:             `t.csv:1:1: the first column is "when"; expected time`,
		"time\n2026-11-26T12:00:00Z\n":       "t.csv:1:1: it has times only; expected a column such as db.reads",
		"time,db.read\n" + good:              `t.csv:1:6: there is no column "db.read"; expected ROLE. and one of reads, writes, requests, connections, forced_reads, http_requests, lag, misses, queue_age, queue_wait`,
		"time,db.reads,db.reads\n":           "t.csv:1:15: db.reads is there already",
		"time,db.reads\n" + good[:22] + "\n": "t.csv:2:1: 1 rows; expected at least two, a beginning and an end",
		"# made up\ntime,db.reads\n12:00,1\n2026-11-26T12:00:00Z,-1\n2026-11-26T12:00:00Z,1,2\n": "t.csv:5:1: it has not as many columns as the first line",
		"time,db.reads\n2026-11-26T12:00:00Z,-1\n2026-11-26T11:00:00Z,x\n2027-11-26T11:00:00Z,NaN\nnow,1\n": `t.csv:2:22: db.reads is "-1"; expected a number from 0 to 1e+09, or nothing if it was not measured
t.csv:3:1: 2026-11-26T11:00:00Z is not after the time before it
t.csv:3:22: db.reads is "x"; expected a number from 0 to 1e+09, or nothing if it was not measured
t.csv:4:1: 2027-11-26T11:00:00Z is more than 31 days after the beginning
t.csv:4:22: db.reads is "NaN"; expected a number from 0 to 1e+09, or nothing if it was not measured
t.csv:5:1: "now" is not a time; expected one such as 2026-11-26T18:00:00+01:00`,
		"time,db.reads\n2026-11-26T12:00:00Z,\"1\n":               `t.csv:2:25: extraneous or missing " in quoted-field`,
		"time,db.reads\n" + strings.Repeat("now,1\n", 100) + good: `t.csv:21:1: "now" is not a time`,
		"time" + strings.Repeat(",a.reads", 64) + "\n" + good:     "t.csv:1:1: 65 columns; expected at most 64",
	} {
		_, err := Read("t.csv", []byte(content))
		var wrong *TraceError
		switch {
		case !errors.As(err, &wrong):
			t.Errorf("%q: got %v", content, err)
		case len(wrong.Problems) > maxProblems:
			t.Errorf("%d problems at a time", len(wrong.Problems))
		case !strings.Contains(err.Error(), want):
			t.Errorf("%q: got\n%v\nwant\n%s", content, err, want)
		}
	}
	if _, err := ReadFile(t.TempDir()); err == nil || !strings.HasPrefix(err.Error(), "read trace: ") {
		t.Errorf("a directory: %v", err)
	}
}

// FuzzRead: whatever is in a trace, it is refused with places in it, or bounded.
func FuzzRead(f *testing.F) {
	f.Add([]byte("# a\ntime,db.reads,web.requests\n2026-11-26T12:00:00Z,1,\n2026-11-26T12:01:00Z,1e3,4\n"))
	f.Add([]byte("time,db.lag\n\"x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		trace, err := Read("t", data)
		if err != nil {
			return
		}
		if len(trace.Times) < 2 || trace.Times[len(trace.Times)-1].Sub(trace.Times[0]) > maxSpan {
			t.Errorf("times %v", trace.Times)
		}
		for name, column := range trace.columns {
			if len(column) != len(trace.Times) {
				t.Errorf("%s has %d of %d values", name, len(column), len(trace.Times))
			}
			for _, v := range column {
				if v < 0 || v > maxLoad {
					t.Errorf("%s has %v", name, v)
				}
			}
		}
	})
}
