package binlog

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
)

// event is one of a type, with a checksum.
func event(kind byte, body ...byte) []byte {
	b := make([]byte, HeadSize, HeadSize+len(body)+sumSize)
	binary.LittleEndian.PutUint32(b, 1000)
	b[4] = kind
	binary.LittleEndian.PutUint32(b[5:], 7)
	b = append(append(b, body...), make([]byte, sumSize)...)
	binary.LittleEndian.PutUint32(b[9:], uint32(len(b)))
	sum(b)
	return b
}

func description(t testing.TB, sums byte) Description {
	t.Helper()
	d, err := Describe(event(FormatDescription, append(make([]byte, 80), sums)...))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// plain is the body of an event with a GTID, as of MySQL 9.7: number 5 of a UUID of ones.
func plain(original bool, length ...byte) []byte {
	b := append([]byte{1}, bytes.Repeat([]byte{0x11}, 16)...)
	b = binary.LittleEndian.AppendUint64(b, 5)
	b = append(b, 2)
	b = append(b, make([]byte, 16)...)
	if original {
		b = append(b, 0x40, 0x42, 0x0f, 0, 0, 0, 0x80) // 1 s, and that there is another
		return append(append(b, 0x80, 0x84, 0x1e, 0, 0, 0, 0), length...)
	}
	return append(append(b, 0x40, 0x42, 0x0f, 0, 0, 0, 0), length...)
}

func TestMySQLTransactions(t *testing.T) {
	const name = "11111111-1111-1111-1111-111111111111:5"
	d := description(t, 1)
	for what, c := range map[string]struct {
		body []byte
		at   time.Time
		long uint64
	}{
		"of this server":    {plain(false, 200), time.Unix(1, 0), 200},
		"of another":        {plain(true, 0xfc, 1, 2), time.Unix(2, 0), 513},
		"a large one":       {plain(true, 0xfe, 1, 0, 0, 0, 1, 0, 0, 0, 9, 9), time.Unix(2, 0), 1<<32 + 1},
		"without a length":  {plain(false), time.Unix(1, 0), 0},
		"without its times": {plain(false)[:25], time.Unix(1000, 0), 0},
	} {
		x, err := mySQL.Transaction(event(mysqlGTIDEvent, c.body...), d)
		if err != nil || x.String() != name || !x.Time.Equal(c.at) || x.Length != c.long || x.Server != 7 {
			t.Errorf("%s: %+v, %v", what, x, err)
		}
	}
	for what, body := range map[string][]byte{
		"nothing": nil, "half": plain(false)[:24], "half a time": plain(true)[:50], "half a length": plain(true, 0xfd, 1), "no number": make([]byte, 42),
	} {
		if x, err := mySQL.Transaction(event(mysqlGTIDEvent, body...), d); err == nil {
			t.Errorf("%s is %+v", what, x)
		}
	}
}

func FuzzMySQLTransaction(f *testing.F) {
	f.Add(byte(mysqlGTIDEvent), plain(true, 0xfc, 1, 2))
	f.Add(byte(mysqlTaggedGTIDEvent), []byte{2, 76, 0, 0, 2, 2, 90, 2, 0, 0})
	d := description(f, 1)
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		if !mySQL.Begins(kind) {
			return
		}
		if x, err := mySQL.Transaction(event(kind, body...), d); err == nil && x.Position.IsZero() {
			t.Errorf("%+v", x)
		}
	})
}

// TestAMySQLFileBeginsAsItShould reads its head with another reader.
func TestAMySQLFileBeginsAsItShould(t *testing.T) {
	for _, text := range []string{"", "11111111-1111-1111-1111-111111111111:1-5:7", "11111111-1111-1111-1111-111111111111:1-5:tag:2"} {
		after, err := gtid.Parse(farm.MySQL, text)
		if err != nil {
			t.Fatal(err)
		}
		for _, sums := range []byte{0, 1} {
			head, err := mySQL.Head(description(t, sums), after)
			if err != nil {
				t.Fatal(err)
			}
			rest := head[len(Magic):]
			first := rest[:binary.LittleEndian.Uint32(rest[9:])]
			second := rest[len(first):]
			body := second[HeadSize:]
			if sums == 1 {
				body = body[:len(body)-sumSize]
			}
			var previous replication.PreviousGTIDsEvent
			if err := previous.Decode(body); err != nil {
				t.Fatal(err)
			}
			if got, err := gtid.Parse(farm.MySQL, previous.GTIDSets); err != nil || !got.Equal(after) {
				t.Errorf("after %v it says %q, %v", after, previous.GTIDSets, err)
			}
			if ends := binary.LittleEndian.Uint32(second[13:]); int(ends) != len(head) || int(binary.LittleEndian.Uint32(second[9:])) != len(second) || second[4] != mysqlPreviousGTIDs {
				t.Errorf("the second event ends at %d of %d", ends, len(head))
			}
		}
	}
}
