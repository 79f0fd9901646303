package differential

import (
	"testing"
	"time"

	"farmhand/proxy/internal/config"
	"farmhand/proxy/internal/wire"
)

// TestDifferencesAreSeen changes one thing of an answer at a time.
func TestDifferencesAreSeen(t *testing.T) {
	o := func(status wire.Status, warnings uint16, affected, id uint64) packet {
		return packet{class: ok, payload: wire.AppendOK(nil, &wire.OK{AffectedRows: affected, LastInsertID: id, Status: status, Warnings: warnings}, 0)}
	}
	e := func(text string) packet {
		return packet{class: failure, payload: wire.AppendError(nil, &wire.Error{Code: 1146, State: "42S02", Message: text})}
	}
	r := func(text string) packet { return packet{class: row, payload: []byte(text)} }
	for _, c := range []struct {
		name          string
		rows          rows
		direct, proxy []packet
		differs       bool
	}{
		{"the same", inOrder, []packet{o(2, 0, 1, 5)}, []packet{o(2, 0, 1, 5)}, false},
		{"affected rows", inOrder, []packet{o(2, 0, 1, 5)}, []packet{o(2, 0, 2, 5)}, true},
		{"insert id", inOrder, []packet{o(2, 0, 1, 5)}, []packet{o(2, 0, 1, 6)}, true},
		{"warnings", inOrder, []packet{o(2, 0, 1, 5)}, []packet{o(2, 1, 1, 5)}, true},
		{"autocommit", inOrder, []packet{o(2, 0, 1, 5)}, []packet{o(0, 0, 1, 5)}, true},
		{"transaction", inOrder, []packet{o(3, 0, 1, 5)}, []packet{o(2, 0, 1, 5)}, true},
		{"the optimizer's flags", inOrder, []packet{o(0x22, 0, 1, 5)}, []packet{o(2, 0, 1, 5)}, false},
		{"error text", inOrder, []packet{e("a")}, []packet{e("b")}, true},
		{"statement id in an error", inOrder, []packet{e("handler (5) given")}, []packet{e("handler (77) given")}, false},
		{"error for OK", inOrder, []packet{o(2, 0, 1, 5)}, []packet{e("a")}, true},
		{"a row", inOrder, []packet{r("x"), o(2, 0, 0, 0)}, []packet{r("y"), o(2, 0, 0, 0)}, true},
		{"a row less", inOrder, []packet{r("x"), o(2, 0, 0, 0)}, []packet{o(2, 0, 0, 0)}, true},
		{"order of rows", inOrder, []packet{r("x"), r("y")}, []packet{r("y"), r("x")}, true},
		{"any order of rows", anyOrder, []packet{r("x"), r("y")}, []packet{r("y"), r("x")}, false},
		{"rows in any order", anyOrder, []packet{r("x"), r("y")}, []packet{r("y"), r("y")}, true},
		{"rows ignored", ignored, []packet{r("x"), o(2, 0, 0, 0)}, []packet{o(2, 0, 0, 0)}, false},
		{"sequence", inOrder, []packet{{class: row, seq: 3}}, []packet{{class: row, seq: 4}}, true},
		{"an answer less", inOrder, []packet{o(2, 0, 1, 5)}, nil, true},
	} {
		got := difference(&step{rows: c.rows}, &response{packets: c.direct}, &response{packets: c.proxy}, 0)
		if (got != "") != c.differs {
			t.Errorf("%s: %q, want a difference: %v", c.name, got, c.differs)
		}
	}
	tracked := wire.Capability(wire.ClientSessionTrack)
	told := func(name, value string) packet {
		return packet{class: ok, payload: wire.AppendOK(nil, &wire.OK{Status: 0x4002, Changes: wire.AppendChange(nil, wire.Change{Name: []byte(name), Value: []byte(value)})}, tracked)}
	}
	for name, differs := range map[string]bool{"autocommit": true, "last_gtid": false} {
		d, p := &response{packets: []packet{told(name, "1")}}, &response{packets: []packet{told(name, "2")}}
		if got := difference(&step{}, d, p, tracked); (got != "") != differs {
			t.Errorf("a change of %s: %q, want a difference: %v", name, got, differs)
		}
	}
	if difference(&step{}, &response{packets: []packet{o(2, 0, 0, 0)}}, &response{broken: wire.ErrMalformed}, 0) == "" {
		t.Error("a broken connection is not seen")
	}
}

// TestAStaleProxyIsFound runs sessions through a proxy that is told to read from
// whatever replica there is: it must be found out, and in few steps.
func TestAStaleProxyIsFound(t *testing.T) {
	w := begin(t, []time.Duration{2 * time.Second}, func(c *config.Config) { c.Reads.Consistency = config.Eventual })
	r := newRunner(w.alone.Addr(), w.proxy, nil)
	defer r.close()
	for index := range uint64(20) {
		s := generate(1, index, "app_d0")
		d := r.run(s.steps)
		if d == nil {
			continue
		}
		small, last := w.reduce(r, s, d, 5*time.Minute) // on a busy machine
		t.Logf("session %d:\n%s", index, last.describe(small, s.scene))
		// Ten steps are usual.
		if n := len(small) - s.scene; n > 20 {
			t.Errorf("%d steps are left after the scene", n)
		}
		return
	}
	t.Error("20 sessions were answered as directly by a proxy that reads stale data")
}
