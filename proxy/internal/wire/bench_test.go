package wire

import (
	"bytes"
	"maps"
	"net"
	"slices"
	"testing"
)

// endless is a connection whose input is the same packets over and over, and
// which takes whatever is written.
type endless struct {
	net.Conn
	packets []byte
	at      int
}

func (e *endless) Read(b []byte) (int, error) {
	n := copy(b, e.packets[e.at:])
	e.at = (e.at + n) % len(e.packets)
	return n, nil
}

func (e *endless) Write(b []byte) (int, error) { return len(b), nil }

// bothFlavors are the capabilities of connections to servers of today.
const bothFlavors = ClientProtocol41 | ClientSessionTrack | ClientDeprecateEOF

// work is what a session does once or more for every command. Each must cost no
// allocation.
func work(tb testing.TB) map[string]func() {
	check := func(err error) {
		if err != nil {
			tb.Fatal(err)
		}
	}
	reader := func(size int) func() {
		packets, _ := AppendPackets(nil, bytes.Repeat([]byte{'x'}, size), 0)
		c := NewConn(&endless{packets: packets})
		return func() {
			p, err := c.ReadPayload(1 << 20)
			check(err)
			if len(p) != size {
				tb.Fatalf("%d bytes, want %d", len(p), size)
			}
		}
	}
	result := func(rows int) func() {
		end := AppendOK(nil, &OK{Header: headerEOF, Status: StatusAutocommit}, bothFlavors)
		columns := []byte{1}
		var t Tracker
		return func() {
			t.Begin(ComQuery, bothFlavors)
			t.Next(1, 1)
			_, err := t.Inspect(columns)
			check(err)
			t.Next(30, 3)
			for range rows {
				if t.Next(100, 99) != Pass {
					tb.Fatal("a row is held")
				}
			}
			t.Next(len(end), headerEOF)
			if _, err = t.Inspect(end); err != nil || !t.Done() {
				tb.Fatalf("at its end the response is not over: %v", err)
			}
		}
	}
	ok := func(o *OK) func() {
		payload := AppendOK(nil, o, bothFlavors)
		return func() {
			got, err := ParseOK(payload, bothFlavors)
			check(err)
			if len(got.Changes) > 0 {
				check(Changes(got.Changes, func(Change) bool { return true }))
			}
		}
	}
	changes := AppendChange(nil, Change{Kind: ChangeSystemVariable, Name: []byte("last_gtid"), Value: []byte("0-1-1234567")})

	text := []byte("\x03SELECT option_value FROM wp_options WHERE option_name = 'siteurl' LIMIT 1")
	sender := NewConn(&endless{})
	// One parameter, an integer, and its type.
	execute := []byte{byte(ComStmtExecute), 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 0, 42, 0, 0, 0}
	out := make([]byte, 0, 1<<10)
	return map[string]func(){
		"read/100B": reader(100),
		"read/16KB": reader(16 << 10),
		"send": func() {
			sender.WriteCommand(text)
			check(sender.Flush())
		},
		"command": func() {
			if Command(text[0]).String() != "COM_QUERY" {
				tb.Fatal("the command has another name")
			}
		},
		"query": func() {
			_, err := QueryText(text, bothFlavors)
			check(err)
		},
		"execute": func() {
			_, err := ParseExecute(execute, 1, bothFlavors)
			check(err)
		},
		"tracker/1row":     result(1),
		"tracker/1000rows": result(1000),
		"ok/plain":         ok(&OK{AffectedRows: 1, LastInsertID: 4711, Status: StatusAutocommit}),
		"ok/gtid":          ok(&OK{AffectedRows: 1, Status: StatusAutocommit | StatusSessionStateChanged, Changes: changes}),
		"append/header":    func() { out = AppendHeader(out[:0], 100, 1) },
		"append/packet":    func() { out, _ = AppendPackets(out[:0], text, 0) },
		"append/ok":        func() { out = AppendOK(out[:0], &OK{AffectedRows: 1, Status: StatusAutocommit}, bothFlavors) },
	}
}

func BenchmarkWire(b *testing.B) {
	all := work(b)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		do := all[name]
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				do()
			}
		})
	}
}

func TestNoAllocation(t *testing.T) {
	for name, do := range work(t) {
		do() // buffers come with the first use
		if n := testing.AllocsPerRun(100, do); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
