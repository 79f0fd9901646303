package restore

import (
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	format "farmhand/internal/backup"
	"farmhand/internal/binlog"
	"farmhand/internal/farm"
	"farmhand/internal/gtid"
)

func marksAt(t *testing.T, text string) marks {
	t.Helper()
	p, err := gtid.Parse(farm.MariaDB, text)
	if err != nil {
		t.Fatal(err)
	}
	m, err := marksOf(p)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const (
	eventHead = binlog.HeadSize
	gtidEvent = 162
)

// mariaCut is a cutter, and the history that it goes by.
func mariaCut(base marks) (*cutter, *domains) {
	d := &domains{base: base, at: maps.Clone(base)}
	format, err := binlog.Of(farm.MariaDB)
	if err != nil {
		panic(err)
	}
	return &cutter{format: format, has: d}, d
}

// what is a transaction of a file: its GTID, and its time in seconds.
type what struct {
	domain, server uint32
	number         uint64
	at             int64
}

func appendEvent(to []byte, kind byte, server uint32, at int64, body []byte) []byte {
	to = binary.LittleEndian.AppendUint32(to, uint32(at))
	to = append(to, kind)
	to = binary.LittleEndian.AppendUint32(to, server)
	to = binary.LittleEndian.AppendUint32(to, uint32(eventHead+len(body)))
	to = append(to, 0, 0, 0, 0, 0, 0)
	return append(to, body...)
}

// file is a binlog file with some transactions, each of a GTID and a row.
func file(all ...what) []byte {
	b := appendEvent([]byte(binlog.Magic), binlog.FormatDescription, 1, 0, make([]byte, 80))
	for _, w := range all {
		body := binary.LittleEndian.AppendUint64(nil, w.number)
		body = binary.LittleEndian.AppendUint32(body, w.domain)
		b = appendEvent(b, gtidEvent, w.server, w.at, append(body, 0, 0, 0, 0, 0, 0, 0))
		b = appendEvent(b, 23, w.server, w.at, []byte("a row"))
	}
	return b
}

// segmentOf describes it.
func segmentOf(all ...what) *format.Segment {
	m := marks{}
	for _, w := range all {
		m[w.domain] = mark{w.server, w.number}
	}
	return &format.Segment{Key: "app/binlog/x", Position: m.String(), Transactions: len(all)}
}

// cutOf is what a cutter takes of a file with some transactions.
func cutOf(t *testing.T, c *cutter, b []byte, s *format.Segment) ([]byte, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "segment")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	spans, err := c.wanted(f, s)
	if err != nil {
		return nil, err
	}
	var out strings.Builder
	if err := copySpans(&out, f, spans); err != nil {
		t.Fatal(err)
	}
	return []byte(out.String()), nil
}

func TestOnlyWhatLeadsToTheTargetIsTaken(t *testing.T) {
	all := []what{{0, 1, 5, 100}, {0, 1, 6, 101}, {1, 1, 1, 101}, {0, 2, 7, 103}, {0, 2, 8, 103}, {1, 1, 2, 102}, {0, 2, 9, 105}}
	for name, c := range map[string]struct {
		base, to string
		until    int64
		want     []what
		at       string
	}{
		"all":                               {base: "0-1-4", want: all, at: "0-2-9,1-1-2"},
		"what is not there yet":             {base: "0-1-6", want: all[2:], at: "0-2-9,1-1-2"},
		"nothing":                           {base: "0-2-9,1-1-2", want: nil, at: "0-2-9,1-1-2"},
		"up to a position":                  {base: "0-1-4", to: "0-1-6", want: all[:2], at: "0-1-6"},
		"up to one in the middle of others": {base: "0-1-4,1-1-1", to: "0-2-8,1-1-1", want: []what{all[0], all[1], all[3], all[4]}, at: "0-2-8,1-1-1"},
		"up to one of two domains":          {base: "0-1-4", to: "0-2-7,1-1-2", want: []what{all[0], all[1], all[2], all[3], all[5]}, at: "0-2-7,1-1-2"},
		"up to a time":                      {base: "0-1-4", until: 102, want: all[:3], at: "0-1-6,1-1-1"},
		"up to the second of some":          {base: "0-1-4", until: 103, want: all[:6], at: "0-2-8,1-1-2"},
		"up to a time before all":           {base: "0-1-4", until: 99, want: nil, at: "0-1-4"},
	} {
		t.Run(name, func(t *testing.T) {
			cut, d := mariaCut(marksAt(t, c.base))
			if c.to != "" {
				cut.aimed, d.to = true, marksAt(t, c.to)
			}
			if c.until != 0 {
				cut.until = time.Unix(c.until, 0)
			}
			got, err := cutOf(t, cut, file(all...), segmentOf(all...))
			var want []byte
			if c.want != nil {
				want = file(c.want...)
			}
			if err != nil || !slices.Equal(got, want) || d.position() != c.at || cut.taken != len(c.want) {
				t.Errorf("%d bytes of %d, at %v after %d transactions, %v", len(got), len(want), d.at, cut.taken, err)
			}
			if err := cut.ended(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWhatDoesNotFitIsRefused(t *testing.T) {
	good := []what{{0, 1, 5, 100}, {0, 1, 6, 101}}
	whole := file(good...)
	for name, c := range map[string]struct {
		file    []byte
		segment *format.Segment
		change  func(*cutter, *domains)
	}{
		"no binlog":                         {file: []byte("something else")},
		"no format":                         {file: appendEvent([]byte(binlog.Magic), 23, 1, 0, nil)},
		"half an event":                     {file: whole[:len(whole)-1]},
		"half a head":                       {file: whole[:len(whole)-23]},
		"an event shorter than its head":    {file: append(slices.Clone(whole), make([]byte, eventHead)...)},
		"an event outside of a transaction": {file: appendEvent(file(), 23, 1, 0, nil)},
		"a transaction less":                {file: file(good[0]), segment: segmentOf(good...)},
		"one that comes again":              {file: file(good[0], good[0]), segment: &format.Segment{Position: "0-1-5", Transactions: 2}},
		"more than is said":                 {file: file(good...), segment: &format.Segment{Position: "0-1-5", Transactions: 2}},
		"another history":                   {change: func(c *cutter, d *domains) { c.aimed, d.to = true, marks{0: {server: 2, number: 6}} }},
		"another history before":            {change: func(_ *cutter, d *domains) { d.at[0] = mark{server: 2, number: 5} }},
		"the id of who replays":             {change: func(_ *cutter, d *domains) { d.server = 1 }},
		"a backup that holds what is later": {change: func(c *cutter, d *domains) {
			d.base, d.at, c.until = marks{0: {1, 6}}, marks{0: {1, 6}}, time.Unix(100, 0)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			cut, d := mariaCut(marks{0: {1, 4}})
			if c.change != nil {
				c.change(cut, d)
			}
			if c.file == nil {
				c.file = whole
			}
			if c.segment == nil {
				c.segment = segmentOf(good...)
			}
			if got, err := cutOf(t, cut, c.file, c.segment); err == nil {
				t.Errorf("%d bytes were taken", len(got))
			}
		})
	}
	// A number that nobody has.
	cut, d := mariaCut(marks{})
	cut.aimed, d.to = true, marks{0: {1, 6}}
	if _, err := cutOf(t, cut, file(what{0, 1, 5, 1}, what{0, 1, 7, 1}), segmentOf(what{0, 1, 5, 1}, what{0, 1, 7, 1})); err != nil {
		t.Fatal(err)
	}
	if err := cut.ended(); err == nil {
		t.Error("a position that nobody wrote was reached")
	}
}

func FuzzCutter(f *testing.F) {
	f.Add(file(what{0, 1, 5, 100}, what{1, 2, 6, 101}))
	f.Fuzz(func(t *testing.T, b []byte) {
		cut, _ := mariaCut(marks{})
		got, err := cutOf(t, cut, b, segmentOf(what{0, 1, 5, 100}, what{1, 2, 6, 101}))
		if err == nil && len(got) > len(b) {
			t.Errorf("of %d bytes there are %d", len(b), len(got))
		}
	})
}

func TestParseTarget(t *testing.T) {
	for text, want := range map[string]string{
		"": "latest", "latest": "latest", "0-1-5": "0-1-5", "1-1-7,0-1-5": "0-1-5,1-1-7",
		"3E11FA47-71CA-11E1-9E33-C80AA9429562:1-5:7, 3E11FA47-71CA-11E1-9E33-C80AA9429561:1": "3e11fa47-71ca-11e1-9e33-c80aa9429561:1,3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7",
		"2026-11-28T18:04:05+01:00": "2026-11-28T17:04:05Z", "2026-11-28T17:04:05.25Z": "2026-11-28T17:04:05.25Z",
	} {
		if got, err := ParseTarget(text); err != nil || got.String() != want {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"yesterday", "2026-11-28T17:04:05", "0-1", "2026-11-28", "3e11fa47-71ca-11e1-9e33-c80aa9429562:"} {
		if got, err := ParseTarget(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}
