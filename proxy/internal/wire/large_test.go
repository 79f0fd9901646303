package wire_test

import (
	"fmt"
	"testing"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/proxy/internal/wire"
)

// TestLargeRows has rows at, around and beyond the size at which a payload is
// continued in the next packet, and their bytes look like the end of a result.
func TestLargeRows(t *testing.T) {
	farmtest.Long(t)
	for _, flavor := range []farm.Flavor{farm.MariaDB, farm.MySQL} {
		t.Run(flavor.String(), func(t *testing.T) {
			s := startServer(t, flavor)
			for _, caps := range []wire.Capability{0, wire.ClientDeprecateEOF | wire.ClientSessionTrack} {
				t.Run(describe(caps), func(t *testing.T) {
					c := connect(t, s.Addr(), boss, farmtest.Schema, caps)
					checkLargeRows(c)
				})
			}
		})
	}
}

func checkLargeRows(c *client) {
	// Rows of a string between two columns of a byte each; before the string
	// stands its length, of 4 bytes, and of 9 from 16 MiB on.
	for _, x := range []struct{ payload, prefix int }{
		{wire.MaxPayload - 1, 4},
		{wire.MaxPayload, 4},
		{wire.MaxPayload + 1, 4},
		{wire.MaxPayload + 20, 9},
		{2*wire.MaxPayload - 1, 9},
		{2 * wire.MaxPayload, 9},
		{2*wire.MaxPayload + 1, 9},
	} {
		// What a payload's second packet begins with looks like the end of a
		// result, or an error.
		fills := []string{"FE"}
		if x.payload == wire.MaxPayload+20 {
			fills = append(fills, "FF")
		}
		for _, fill := range fills {
			sql := fmt.Sprintf("SELECT '', REPEAT(UNHEX('%s'), %d), NULL UNION ALL SELECT 1, 2, 3", fill, x.payload-x.prefix-2)
			r := c.sql(sql)
			check(c, sql, r, 0, 2)
			if len(r.results) == 1 && r.results[0].bytes != x.payload+6 {
				c.t.Errorf("%s: %d bytes, not %d", sql, r.results[0].bytes, x.payload+6)
			}
		}
	}
	// The first byte of the row is that of a length of eight bytes.
	r := c.sql(fmt.Sprintf("SELECT REPEAT('x', %d) UNION ALL SELECT 'y'", 1<<24))
	check(c, "a row that begins with 0xfe", r, 0, 2)
	if r.results[0].firstRow[0] != 0xfe {
		c.t.Errorf("the row begins with %#x", r.results[0].firstRow[0])
	}
	st := c.prepare("SELECT REPEAT(?, 16777216)")
	check(c, "a large binary row", c.must(c.execute(st.ID, 0, "x"), nil), 0, 1)
	// A statement that is longer than a packet.
	for _, n := range []int{wire.MaxPayload - 1, wire.MaxPayload, wire.MaxPayload + 1} {
		p := c.query("DO '")
		for len(p) < n-1 {
			p = append(p, 'x')
		}
		check(c, "a large statement", c.must(append(p, '\''), nil), 0, affected(0))
	}
}
