package gtid_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
)

const (
	u1 = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	u2 = "3e11fa47-71ca-11e1-9e33-c80aa9429563"
)

func mustParse(t testing.TB, flavor farm.Flavor, s string) gtid.Position {
	t.Helper()
	p, err := gtid.Parse(flavor, s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		flavor   farm.Flavor
		in, want string
	}{
		{farm.MariaDB, "", ""},
		{farm.MariaDB, " \n", ""},
		{farm.MariaDB, "0-1-123", "0-1-123"},
		{farm.MariaDB, "1-2-5,0-1-123", "0-1-123,1-2-5"},
		{farm.MariaDB, " 0-1-1 ,\n4294967295-4294967295-9223372036854775806 ", "0-1-1,4294967295-4294967295-9223372036854775806"},
		{farm.MariaDB, "0-1-5,0-2-7,0-1-6", "0-2-7"},
		{farm.MariaDB, "0-1-0", ""},
		{farm.MySQL, "", ""},
		{farm.MySQL, u1 + ":1-5:7", u1 + ":1-5:7"},
		{farm.MySQL, strings.ToUpper(u1) + ":23", u1 + ":23"},
		{farm.MySQL, u2 + ":4,\n" + u1 + ":1-3 : 3 - 9:11-12:10", u1 + ":1-12," + u2 + ":4"},
		{farm.MySQL, u1 + ":1-5:TAG:1-3:b_1:7," + u1 + ":6", u1 + ":1-6:b_1:7:tag:1-3"},
		{farm.MySQL, "," + u1 + ":5-3,,", ""},
		{farm.MySQL, u1, ""},
		{farm.MySQL, u1 + ":1:9223372036854775806", u1 + ":1:9223372036854775806"},
	} {
		got, err := gtid.Parse(c.flavor, c.in)
		if err != nil || got.String() != c.want {
			t.Errorf("Parse(%v, %q) = %q, %v; want %q", c.flavor, c.in, got, err, c.want)
		}
		fromBytes, err := gtid.ParseBytes(c.flavor, []byte(c.in))
		if err != nil || fromBytes.String() != c.want {
			t.Errorf("ParseBytes(%v, %q) = %q, %v; want %q", c.flavor, c.in, fromBytes, err, c.want)
		}
		if got.IsZero() != (c.want == "") {
			t.Errorf("Parse(%v, %q).IsZero() = %v", c.flavor, c.in, got.IsZero())
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct {
		flavor farm.Flavor
		in     string
	}{
		{farm.UnknownFlavor, ""},
		{farm.MariaDB, "0"},
		{farm.MariaDB, "0-1"},
		{farm.MariaDB, "0-1-"},
		{farm.MariaDB, "0-1-1,"},
		{farm.MariaDB, "0-1-1 0-1-2"},
		{farm.MariaDB, "0-1-9223372036854775807"},
		{farm.MariaDB, "4294967296-1-1"},
		{farm.MariaDB, u1 + ":1"},
		{farm.MySQL, "0-1-1"},
		{farm.MySQL, u1 + ":"},
		{farm.MySQL, u1 + ":0"},
		{farm.MySQL, u1 + ":1-"},
		{farm.MySQL, u1 + ":1-5;"},
		{farm.MySQL, u1 + ":9223372036854775807"},
		{farm.MySQL, u1 + ":tag" + strings.Repeat("x", 30) + ":1"},
		{farm.MySQL, u1[:35] + "g:1"},
	} {
		if got, err := gtid.Parse(c.flavor, c.in); err == nil {
			t.Errorf("Parse(%v, %q) = %q, want an error", c.flavor, c.in, got)
		}
	}
}

func TestContains(t *testing.T) {
	for _, c := range []struct {
		flavor farm.Flavor
		p, q   string
		want   bool
	}{
		{farm.MariaDB, "", "", true},
		{farm.MariaDB, "0-1-1", "", true},
		{farm.MariaDB, "", "0-1-1", false},
		{farm.MariaDB, "0-1-100", "0-1-100", true},
		{farm.MariaDB, "0-2-101", "0-1-100", true}, // another server wrote since
		{farm.MariaDB, "0-1-99", "0-1-100", false},
		{farm.MariaDB, "1-1-200", "0-1-100", false},
		{farm.MariaDB, "0-1-100,1-1-5", "1-1-5", true},
		{farm.MariaDB, "0-1-100,1-1-5", "1-1-6", false},
		{farm.MariaDB, "0-1-100,1-1-5", "0-1-100,2-1-1", false},
		{farm.MySQL, u1 + ":1-100", u1 + ":100", true},
		{farm.MySQL, u1 + ":1-100", u1 + ":1-101", false},
		{farm.MySQL, u1 + ":1-5:7-9", u1 + ":6", false},
		{farm.MySQL, u1 + ":1-5:7-9", u1 + ":2-3:8", true},
		{farm.MySQL, u1 + ":1-5:7-9", u1 + ":5-7", false},
		{farm.MySQL, u1 + ":1-5", u2 + ":1", false},
		{farm.MySQL, u1 + ":1-5," + u2 + ":1-3", u2 + ":1", true},
		{farm.MySQL, u1 + ":1-5:tag:1-3", u1 + ":tag:3", true},
		{farm.MySQL, u1 + ":1-5", u1 + ":tag:3", false},
	} {
		p, q := mustParse(t, c.flavor, c.p), mustParse(t, c.flavor, c.q)
		if got := p.Contains(q); got != c.want {
			t.Errorf("%q contains %q: %v, want %v", p, q, got, c.want)
		}
	}
}

func TestFlavorsDoNotMix(t *testing.T) {
	maria, mysql := mustParse(t, farm.MariaDB, "0-1-1"), mustParse(t, farm.MySQL, u1+":1")
	if maria.Contains(mysql) || mysql.Contains(maria) {
		t.Error("a position contains one of the other flavor")
	}
	both := maria.Merge(mysql)
	if maria.Contains(both) || mysql.Contains(both) {
		t.Error("a server's position contains a merger of both flavors")
	}
	if _, err := gtid.Parse(farm.MariaDB, both.String()); err == nil {
		t.Errorf("%q can be read as a position", both)
	}
}

// positions draws positions that meet often: few sources, small numbers.
func positions(flavor farm.Flavor) *rapid.Generator[gtid.Position] {
	return rapid.Custom(func(t *rapid.T) gtid.Position {
		var parts []string
		for range rapid.IntRange(0, 6).Draw(t, "parts") {
			n := rapid.IntRange(1, 12)
			if flavor == farm.MariaDB {
				parts = append(parts, fmt.Sprintf("%d-%d-%d", rapid.IntRange(0, 3).Draw(t, "domain"), n.Draw(t, "server"), n.Draw(t, "number")))
				continue
			}
			part := rapid.SampledFrom([]string{u1, u2, u1 + ":tag"}).Draw(t, "source")
			parts = append(parts, fmt.Sprintf("%s:%d-%d", part, n.Draw(t, "first"), n.Draw(t, "last")))
		}
		p, err := gtid.Parse(flavor, strings.Join(parts, ","))
		if err != nil {
			t.Fatal(err)
		}
		return p
	})
}

func anyPosition() *rapid.Generator[gtid.Position] {
	return rapid.Custom(func(t *rapid.T) gtid.Position {
		flavor := rapid.SampledFrom([]farm.Flavor{farm.MariaDB, farm.MySQL, farm.MySQL, farm.MariaDB}).Draw(t, "flavor")
		p := positions(flavor).Draw(t, "position")
		if rapid.IntRange(0, 9).Draw(t, "mix") == 0 {
			p = p.Merge(positions(farm.MariaDB).Draw(t, "other"))
		}
		return p
	})
}

func TestMergeIsTheLeastUpperBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := anyPosition().Draw(t, "a"), anyPosition().Draw(t, "b"), anyPosition().Draw(t, "c")
		ab := a.Merge(b)
		if got := b.Merge(a); got.String() != ab.String() {
			t.Fatalf("%q ∪ %q is %q one way and %q the other", a, b, ab, got)
		}
		if got, want := ab.Merge(c), a.Merge(b.Merge(c)); got.String() != want.String() {
			t.Fatalf("(a ∪ b) ∪ c is %q, a ∪ (b ∪ c) is %q", got, want)
		}
		if got := a.Merge(a); got.String() != a.String() {
			t.Fatalf("%q ∪ itself is %q", a, got)
		}
		if !ab.Contains(a) || !ab.Contains(b) {
			t.Fatalf("%q does not contain what it was merged from, %q and %q", ab, a, b)
		}
		if c.Contains(a) && c.Contains(b) != c.Contains(ab) {
			t.Fatalf("%q is an upper bound of %q and %q but not of %q", c, a, b, ab)
		}
		if a.Contains(b) != ab.Equal(a) {
			t.Fatalf("%q contains %q: %v, but their merger is %q", a, b, a.Contains(b), ab)
		}
		if !a.Compact().Contains(a) {
			t.Fatalf("%q, compacted to %q, does not contain itself", a, a.Compact())
		}
	})
}

func TestTextRoundTrip(t *testing.T) {
	for _, flavor := range []farm.Flavor{farm.MariaDB, farm.MySQL} {
		rapid.Check(t, func(t *rapid.T) {
			p := positions(flavor).Draw(t, "p")
			q, err := gtid.ParseBytes(flavor, p.Append(nil))
			if err != nil || q.String() != p.String() || !q.Equal(p) {
				t.Fatalf("%q read back as %q, %v", p, q, err)
			}
		})
	}
}

// TestContainsByMembers checks Contains and Merge against sets of single
// transactions.
func TestContainsByMembers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := positions(farm.MySQL).Draw(t, "a"), positions(farm.MySQL).Draw(t, "b")
		members := func(p gtid.Position) map[string]bool {
			set := map[string]bool{}
			for _, source := range []string{u1, u2, u1 + ":tag"} {
				for n := 1; n <= 12; n++ {
					one := fmt.Sprintf("%s:%d", source, n)
					q, err := gtid.Parse(farm.MySQL, one)
					if err != nil {
						t.Fatal(err)
					}
					if p.Contains(q) {
						set[one] = true
					}
				}
			}
			return set
		}
		inA, inB, inBoth := members(a), members(b), members(a.Merge(b))
		subset := true
		for one := range inB {
			subset = subset && inA[one]
			if !inBoth[one] {
				t.Fatalf("%s of %q is not in the merger with %q", one, b, a)
			}
		}
		for one := range inBoth {
			if !inA[one] && !inB[one] {
				t.Fatalf("%s of neither %q nor %q is in their merger", one, a, b)
			}
		}
		if a.Contains(b) != subset {
			t.Fatalf("%q contains %q: %v, by members %v", a, b, a.Contains(b), subset)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "0-1-123", "0-1-1,1-2-5", u1 + ":1-5:7", u1 + ":1-5:tag:1-3," + u2 + ":9", "0-1-1,", u1 + ":", ":", "-", ",,",
		u1 + ":5-3", "0-1-18446744073709551615", u1 + ":1:1:1-2:2-3", "\t0-1-1\v",
	} {
		f.Add(true, s)
		f.Add(false, s)
	}
	f.Fuzz(func(t *testing.T, mariadb bool, s string) {
		flavor := farm.MySQL
		if mariadb {
			flavor = farm.MariaDB
		}
		p, err := gtid.Parse(flavor, s)
		fromBytes, errBytes := gtid.ParseBytes(flavor, []byte(s))
		if (err == nil) != (errBytes == nil) || p.String() != fromBytes.String() {
			t.Fatalf("%q: %q, %v as a string; %q, %v as bytes", s, p, err, fromBytes, errBytes)
		}
		if err != nil {
			return
		}
		again, err := gtid.Parse(flavor, p.String())
		if err != nil || again.String() != p.String() {
			t.Fatalf("%q is %q, read back as %q, %v", s, p, again, err)
		}
		if !p.Contains(again) || !p.Merge(again).Equal(p) || !p.Compact().Contains(p) {
			t.Fatalf("%q does not obey the algebra", p)
		}
	})
}

func TestUsualCasesDoNotAllocate(t *testing.T) {
	for _, c := range []struct {
		flavor  farm.Flavor
		had, ok string
		server  string
	}{
		{farm.MariaDB, "0-1-100", "0-1-101", "0-1-102"},
		{farm.MySQL, u1 + ":1-100", u1 + ":101", u1 + ":1-102"},
		{farm.MySQL, u1 + ":1-100", u1 + ":101", u1 + ":1-102," + u2 + ":1-7"},
	} {
		had, server, text := mustParse(t, c.flavor, c.had), mustParse(t, c.flavor, c.server), []byte(c.ok)
		buf := make([]byte, 0, 128)
		if n := testing.AllocsPerRun(100, func() {
			p, err := gtid.ParseBytes(c.flavor, text)
			if err != nil || !server.Contains(had.Merge(p)) {
				t.Errorf("%q does not contain %q", server, p)
			}
			buf = p.Append(buf[:0])
		}); n != 0 {
			t.Errorf("%v: %v allocations for reading, merging, comparing and writing %q", c.flavor, n, c.ok)
		}
	}
}
