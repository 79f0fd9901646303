package semantics

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/proxy/internal/wire"
)

// laneReads is how many reads have gone by shared connections.
func (w *world) laneReads(t *testing.T) string {
	t.Helper()
	for _, row := range console(t, w.proxy, "STATUS") {
		if row["Name"] == "lane_reads_total" {
			return row["Value"]
		}
	}
	t.Fatal("the proxy does not count them")
	return ""
}

// integer is a COM_STMT_EXECUTE with one integer of 64 bits as its parameter.
func (c *client) integer(id uint32, v int64) []byte {
	p := statement(wire.ComStmtExecute, id, 0, 1, 0, 0, 0, 0, 1, 8, 0)
	return binary.LittleEndian.AppendUint64(p, uint64(v))
}

// TestSemantics19PreparedStatementsOnSharedConnections: sessions execute the same text
// on the same connections, each with its own types and its own statement of it.
func TestSemantics19PreparedStatementsOnSharedConnections(t *testing.T) {
	w := newWorld(t, farm.MariaDB, "reads: {consistency: session}\n")
	w.both(t, "CREATE SCHEMA other", "GRANT ALL ON other.* TO app@'%'", "CREATE TABLE app.ps (id INT PRIMARY KEY, v VARCHAR(10))", "CREATE TABLE other.ps (id INT PRIMARY KEY, v VARCHAR(10))",
		"INSERT INTO app.ps VALUES (1,'1'),(2,'2x'),(3,NULL)", "INSERT INTO other.ps VALUES (1,'other')")
	w.settle(t)
	for _, caps := range []wire.Capability{0, wire.ClientDeprecateEOF} {
		const sessions = 4
		var pairs [sessions]*pair
		var byID, byValue [sessions]*stmt
		for i := range pairs {
			pairs[i] = w.pair(t, login{account: farmtest.App, schema: farmtest.Schema, caps: caps})
			byID[i] = pairs[i].prepare("SELECT id, v FROM ps WHERE id=?")
			byValue[i] = pairs[i].prepare("SELECT id FROM ps WHERE v=? ORDER BY id")
			if i%2 == 1 {
				byID[i], byValue[i] = byValue[i], byID[i] // their ids are not all the same
			}
		}
		before := w.laneReads(t)
		for round := range 30 {
			for i := range pairs {
				a, b := byID[i], byValue[i]
				if i%2 == 1 {
					a, b = b, a
				}
				id := fmt.Sprint(1 + (round+i)%4)
				switch {
				case i < 2:
					a.each("any", func(c *client, s uint32) []byte { return c.execution(s, 0, round == 0, id) })
				case round%3 == 0:
					a.each("any", func(c *client, s uint32) []byte { return c.integer(s, int64(1+(round+i)%4)) })
				default:
					a.each("any", func(c *client, s uint32) []byte {
						p := c.integer(s, int64(1+(round+i)%4))
						return append(append(p[:11:11], 0), p[14:]...) // as the last were
					})
				}
				// '2x' is no number: with an integer the server warns, and the warning can
				// be asked for.
				b.each("any", func(c *client, s uint32) []byte {
					if i%2 == 0 {
						return c.execution(s, 0, true, "2x")
					}
					return c.integer(s, 2)
				})
				if round%10 == 9 {
					pairs[i].run("any SHOW WARNINGS\nany SELECT FOUND_ROWS()")
				}
			}
		}
		if w.laneReads(t) == before {
			t.Error("none has gone by a shared connection")
		}
		// In another schema the statement means what it meant when it was prepared.
		p, s := pairs[0], byID[0]
		p.run("any USE other")
		for range 5 {
			// (A direct server says with each answer that the schema has changed, there and back.)
			if r := s.execute("any!", "1"); strings.Contains(strings.Join(r.packets, ""), "other") {
				t.Errorf("another schema's row: %v", r)
			}
		}
		// What is closed can still be asked about.
		p.run("any USE app")
		for range 5 {
			s.execute("any", "1")
		}
		s.close()
		p.run("any SELECT FOUND_ROWS()")
		// One with a cursor keeps its connection.
		s = pairs[2].prepare("SELECT id, v FROM ps WHERE id>=?")
		for range 5 {
			s.execute("any", "1")
		}
		s.each("any", func(c *client, id uint32) []byte { return c.execution(id, 1, true, "1") })
		s.each("any", func(_ *client, id uint32) []byte { return statement(wire.ComStmtFetch, id, 2, 0, 0, 0) })
		for range 3 {
			s.execute("any", "2")
		}
	}
}
