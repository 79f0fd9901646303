package gtid_test

import (
	"testing"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
)

// BenchmarkPosition is what a write costs (its GTID is read and merged), and a
// read (is it there?, and the text to wait for).
func BenchmarkPosition(b *testing.B) {
	for _, u := range []struct {
		flavor                   farm.Flavor
		session, commit, replica string
	}{
		{farm.MariaDB, "0-1-1234560", "0-1-1234561", "0-1-1234567"},
		{farm.MySQL, u1 + ":1-1234560", u1 + ":1234561", u1 + ":1-1234567," + u2 + ":1-7"},
	} {
		session, commit, replica := mustParse(b, u.flavor, u.session), mustParse(b, u.flavor, u.commit), mustParse(b, u.flavor, u.replica)
		text, buf := []byte(u.commit), make([]byte, 0, 128)
		for _, op := range []struct {
			name string
			do   func() bool
		}{
			{"parse", func() bool { p, err := gtid.ParseBytes(u.flavor, text); return err == nil && !p.IsZero() }},
			{"merge", func() bool { return !session.Merge(commit).IsZero() }},
			{"contains", func() bool { return replica.Contains(session) }},
			{"append", func() bool { buf = session.Append(buf[:0]); return len(buf) > 0 }},
		} {
			b.Run(u.flavor.String()+"/"+op.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if !op.do() {
						b.Fatal("does not hold")
					}
				}
			})
		}
	}
}
