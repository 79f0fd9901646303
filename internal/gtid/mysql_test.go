package gtid_test

import (
	"database/sql"
	"slices"
	"strings"
	"testing"

	gomysql "github.com/go-mysql-org/go-mysql/mysql"
	"pgregory.net/rapid"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/gtid"
)

// TestLikeGoMySQL compares the algebra with another implementation's, which has
// no tags.
func TestLikeGoMySQL(t *testing.T) {
	other := func(t *rapid.T, s string) gomysql.GTIDSet {
		set, err := gomysql.ParseMysqlGTIDSet(s)
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	untagged := positions(farm.MySQL).Filter(func(p gtid.Position) bool { return !strings.Contains(p.String(), "tag") })
	rapid.Check(t, func(t *rapid.T) {
		a, b := untagged.Draw(t, "a"), untagged.Draw(t, "b")
		oa, ob := other(t, a.String()), other(t, b.String())
		if got, want := a.Contains(b), oa.Contain(ob); got != want {
			t.Fatalf("%q contains %q: %v, go-mysql says %v", a, b, got, want)
		}
	})
}

func TestReadKnowsWhoseItIs(t *testing.T) {
	for text, want := range map[string]farm.Flavor{
		"": farm.UnknownFlavor, "0-1-5": farm.MariaDB, "12345678-1234-1234": farm.MariaDB, u1 + ":1-5": farm.MySQL, " ,\n" + u1 + ":1": farm.MySQL,
	} {
		if p, err := gtid.Read(text); err != nil || p.Flavor() != want {
			t.Errorf("%q is %v's, %v", text, p.Flavor(), err)
		}
	}
	for _, text := range []string{"x", u1, "0-1", u1 + ":0-1-5"} {
		if p, err := gtid.Read(text); err == nil && !p.IsZero() {
			t.Errorf("%q is %v", text, p)
		}
	}
}

func TestWhatAServerWrote(t *testing.T) {
	p, err := gtid.Parse(farm.MySQL, u1+":1-5:7:tag:2,"+u2+":3")
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Writers(); !slices.Equal(got, []string{u1, u2}) && !slices.Equal(got, []string{u2, u1}) {
		t.Errorf("%v is of %v", p, got)
	}
	for uuid, want := range map[string]string{u1: u1 + ":1-5:7:tag:2", strings.ToUpper(u2): u2 + ":3", strings.Repeat("0", 8) + u1[8:]: ""} {
		if got, err := p.WrittenBy(uuid); err != nil || got.String() != want {
			t.Errorf("%s wrote %v, %v; want %s", uuid, got, err, want)
		}
	}
	if _, err := p.WrittenBy("x"); err == nil {
		t.Error("x is a UUID")
	}
	one, err := gtid.Single([16]byte{0: 0x3e, 15: 1}, "tag", 9)
	if err != nil || one.String() != "3e000000-0000-0000-0000-000000000001:tag:9" {
		t.Errorf("%v, %v", one, err)
	}
	if _, err := gtid.Single([16]byte{}, "", 0); err == nil {
		t.Error("there is a transaction 0")
	}
}

// TestLikeMySQL compares reading and the algebra with a real server's.
func TestLikeMySQL(t *testing.T) {
	db := farmtest.Start(t, farmtest.Options{Flavor: farm.MySQL}).Primary().Admin(t)
	t.Run("algebra", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			a, b := positions(farm.MySQL).Draw(t, "a"), positions(farm.MySQL).Draw(t, "b")
			var subset bool
			var rest string
			if err := db.QueryRow("SELECT GTID_SUBSET(?, ?), GTID_SUBTRACT(?, '')", b.String(), a.String(), a.Merge(b).String()).
				Scan(&subset, &rest); err != nil {
				t.Fatal(err)
			}
			if got := a.Contains(b); got != subset {
				t.Fatalf("%q contains %q: %v, the server says %v", a, b, got, subset)
			}
			if got := a.Merge(b).String(); strings.ReplaceAll(rest, "\n", "") != got {
				t.Fatalf("we write %q, the server writes %q", got, rest)
			}
		})
	})
	t.Run("text", func(t *testing.T) {
		for _, s := range []string{
			u1 + ":5-3", "," + u1 + ":1,,", u1, u1 + ":", u1 + ":0", u1 + ": 1 - 5 : 7", u1 + ":1-", u1 + ":TAG:1", u1 + ":tag",
			u1 + ":1:tag:1:1-9", u1 + ":9223372036854775806", u1 + ":9223372036854775807", u1 + ":1,2", "x", strings.ToUpper(u1) + ":1",
			u1 + ":1-5:tag:4-6," + u2 + ":1," + u1 + ":3-9",
			u1 + ":" + strings.Repeat("a", 32) + ":1", u1 + ":" + strings.Repeat("a", 33) + ":1",
		} {
			var theirs sql.NullString
			errTheirs := db.QueryRow("SELECT GTID_SUBTRACT(?, '')", s).Scan(&theirs)
			ours, err := gtid.Parse(farm.MySQL, s)
			if (err == nil) != (errTheirs == nil) {
				t.Errorf("%q: we say %v, the server says %v", s, err, errTheirs)
			} else if want := strings.ReplaceAll(theirs.String, "\n", ""); err == nil && ours.String() != want {
				t.Errorf("%q: we read %q, the server %q", s, ours, want)
			}
		}
	})
}
