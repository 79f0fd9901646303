package gtid_test

import (
	"testing"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
)

// usual are a session's position, what a commit adds to it, and a replica's.
var usual = map[farm.Flavor]struct{ session, commit, replica string }{
	farm.MariaDB: {"0-1-1234560", "0-1-1234561", "0-1-1234567"},
	farm.MySQL:   {u1 + ":1-1234560", u1 + ":1234561", u1 + ":1-1234567," + u2 + ":1-7"},
}

// BenchmarkPosition is what a write costs (its GTID is read and merged), and a
// read (is it there?, and the text to wait for).
func BenchmarkPosition(b *testing.B) {
	for flavor, u := range usual {
		session, commit, replica := mustParse(b, flavor, u.session), mustParse(b, flavor, u.commit), mustParse(b, flavor, u.replica)
		text, buf := []byte(u.commit), make([]byte, 0, 128)
		for name, do := range map[string]func() bool{
			"parse":    func() bool { p, err := gtid.ParseBytes(flavor, text); return err == nil && !p.IsZero() },
			"merge":    func() bool { return !session.Merge(commit).IsZero() },
			"contains": func() bool { return replica.Contains(session) },
			"append":   func() bool { buf = session.Append(buf[:0]); return len(buf) > 0 },
		} {
			b.Run(flavor.String()+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if !do() {
						b.Fatal("does not hold")
					}
				}
			})
		}
	}
}
