package route

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
	"farmhand/proxy/internal/classify"
	"farmhand/proxy/internal/consistency"
	"farmhand/proxy/internal/monitor"
)

// work is what a session does for every statement, on farms of 2 and of 10
// replicas. Each must cost no allocation.
func work(tb testing.TB) map[string]func() {
	at := func(n int) gtid.Position {
		p, err := gtid.Parse(farm.MariaDB, fmt.Sprintf("0-1-%d", n))
		if err != nil {
			tb.Fatal(err)
		}
		return p
	}
	const written = 1_000_000
	now := time.Unix(100, 0)
	view := func(replicas, position int) *monitor.View {
		v := &monitor.View{Primary: server("p", farm.Primary, nil)}
		for i := range replicas {
			v.Replicas = append(v.Replicas, server(fmt.Sprintf("r%d", i), farm.Replica, func(s *monitor.Server) { s.Position = at(position) }))
		}
		return v
	}
	read := func(v *monitor.View, n Need, want string) func() {
		return func() {
			if c := Read(v, &n, WhenNeeded, now, 0.99); c.Server == nil || c.Server.Name != want {
				tb.Fatalf("%+v, want %s", c, want)
			}
		}
	}
	decide := func(sql string, f Facts, want Target) func() {
		m := classify.Classify([]byte(sql), classify.Mode{MariaDB: true, Version: 101119})
		return func() {
			if d := Decide(&m, &f); d.Target != want {
				tb.Fatalf("%q: %v", sql, d)
			}
		}
	}
	all := map[string]func(){
		"decide/read":        decide("SELECT c FROM t WHERE id = 1", Facts{}, Replica),
		"decide/write":       decide("UPDATE t SET a = 1", Facts{}, Primary),
		"decide/transaction": decide("SELECT 1", Facts{InTransaction: true}, Transaction),
	}
	for _, n := range []int{2, 10} {
		last := fmt.Sprintf("r%d", n-1)
		had, lacks := view(n, written), view(n, written-10)
		progress := consistency.NewProgress()
		for _, s := range lacks.Replicas {
			progress.Saw(s, at(written), now.Add(time.Second))
		}
		need := Need{Position: at(written), Progress: consistency.NewProgress(), MaxLag: time.Minute, Wait: time.Second}
		kept, seen := need, need
		kept.Prefer, seen.Progress = last+":1", progress
		all[fmt.Sprintf("read/%d replicas/any", n)] = read(had, Need{}, last)
		all[fmt.Sprintf("read/%d replicas/probed", n)] = read(had, need, last)
		all[fmt.Sprintf("read/%d replicas/kept", n)] = read(had, kept, last)
		all[fmt.Sprintf("read/%d replicas/seen", n)] = read(lacks, seen, last)
		all[fmt.Sprintf("read/%d replicas/to be waited for", n)] = read(lacks, need, last)
	}
	return all
}

func BenchmarkRoute(b *testing.B) {
	all := work(b)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		do := all[name]
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				do()
			}
		})
	}
}

func TestNoAllocation(t *testing.T) {
	for name, do := range work(t) {
		if n := testing.AllocsPerRun(100, do); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
