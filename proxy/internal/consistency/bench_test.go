package consistency

import (
	"testing"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
	"farmhand/proxy/internal/monitor"
)

// lagging is a server that has come further than its last probe says, and the
// position that it is known to have.
func lagging(tb testing.TB) (*Progress, *monitor.Server, gtid.Position) {
	at := func(text string) gtid.Position {
		p, err := gtid.Parse(farm.MariaDB, text)
		if err != nil {
			tb.Fatal(err)
		}
		return p
	}
	s := &monitor.Server{Server: farm.Server{Name: "r", Address: "r:1"}, Probed: time.Unix(100, 0), Position: at("0-1-1000")}
	p, position := NewProgress(), at("0-1-2000")
	p.Saw(s, position, time.Unix(101, 0))
	return p, s, position
}

// BenchmarkReached: all sessions ask, of the same few servers.
func BenchmarkReached(b *testing.B) {
	p, s, position := lagging(b)
	ask := func(pb *testing.PB) {
		for pb.Next() {
			if !p.Reached(s, position) {
				b.Error("what was seen is forgotten")
				return
			}
		}
	}
	b.Run("seen", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(ask)
	})
	probed := *s
	probed.Position = position
	s = &probed
	b.Run("probed", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(ask)
	})
}

func TestNoAllocation(t *testing.T) {
	p, s, position := lagging(t)
	if n := testing.AllocsPerRun(100, func() {
		if !p.Reached(s, position) || p.Late(s) {
			t.Error("what was seen is forgotten")
		}
		p.Saw(s, position, time.Unix(102, 0))
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
