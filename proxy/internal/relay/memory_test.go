package relay

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
	"testing/synctest"

	"farmhand/proxy/internal/wire"
)

// source is a server that sends a beginning, the same piece over and over, and
// an end.
type source struct {
	net.Conn
	begin, piece, end []byte
	times             int // of piece
	at                int // in what is sent now
	sent              int64
}

func (s *source) Read(b []byte) (int, error) {
	for {
		now := s.begin
		if now == nil {
			now = s.piece
			if s.times == 0 {
				now = s.end
			}
		}
		if s.at < len(now) {
			n := copy(b, now[s.at:])
			s.at += n
			s.sent += int64(n)
			return n, nil
		}
		s.at = 0
		switch {
		case s.begin != nil:
			s.begin = nil
		case s.times > 0:
			s.times--
		default:
			return 0, io.EOF
		}
	}
}

// sink is a client that takes everything.
type sink struct {
	net.Conn
	got int64
}

func (s *sink) Write(b []byte) (int, error) {
	s.got += int64(len(b))
	return len(b), nil
}

// forwarding is a handler that forwards.
type forwarding struct{}

func (forwarding) Packet(wire.Event, []byte) (Verdict, []byte) { return Forward, nil }

// rows is a result of times×perPiece rows of a size.
func rows(size, perPiece, times int) *source {
	s := &script{command: wire.ComQuery, caps: wire.ClientDeprecateEOF}
	s.packets = []packet{{payload: []byte{1}}, {payload: wire.AppendTextColumn(nil, "c", 45, s.caps)}}
	begin := s.stream()
	var piece []byte
	for range perPiece {
		piece, _ = wire.AppendPackets(piece, bytes.Repeat([]byte{'x'}, size), 3)
	}
	end, _ := wire.AppendPackets(nil, wire.AppendOK(nil, &wire.OK{Header: 0xfe}, s.caps), 3)
	return &source{begin: begin, piece: piece, end: end, times: times}
}

func (s *source) total() int64 {
	return int64(len(s.begin) + s.times*len(s.piece) + len(s.end))
}

// TestMemoryDoesNotDependOnTheResult streams a gigabyte.
func TestMemoryDoesNotDependOnTheResult(t *testing.T) {
	for name, server := range map[string]*source{
		"small rows": rows(100, 630, 1<<30/65520),
		"large rows": rows(1<<20, 1, 1<<10),
		"huge rows":  rows(wire.MaxPayload, 1, 64),
	} {
		t.Run(name, func(t *testing.T) {
			if name == "huge rows" { // each is continued by an empty packet
				server.piece = append(server.piece[:len(server.piece):len(server.piece)], 0, 0, 0, 4)
				server.piece = server.piece[:wire.HeaderSize+wire.MaxPayload+wire.HeaderSize]
			}
			want := server.total()
			client := &sink{}
			var before, after runtime.MemStats
			var tr wire.Tracker
			tr.Begin(wire.ComQuery, wire.ClientDeprecateEOF)
			runtime.ReadMemStats(&before)
			n, err := Response(wire.NewConn(server), wire.NewConn(client), &tr, forwarding{})
			runtime.ReadMemStats(&after)
			if err != nil || n != want || client.got != want {
				t.Errorf("%d bytes of %d, %v", n, want, err)
			}
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
				t.Errorf("%d bytes were allocated", grown)
			}
		})
	}
}

// TestBackPressure: a client that does not read stops the server.
func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		server := rows(100, 630, 1000)
		want := server.total()
		done := make(chan error, 1)
		go func() {
			var tr wire.Tracker
			tr.Begin(wire.ComQuery, wire.ClientDeprecateEOF)
			_, err := Response(wire.NewConn(server), wire.NewConn(near), &tr, forwarding{})
			done <- err
		}()
		synctest.Wait() // the relay waits for the client, for good
		const buffers = 128 << 10
		if server.sent > buffers {
			t.Errorf("%d bytes were taken from the server for a client that reads nothing", server.sent)
		}
		got := int64(0)
		some := make([]byte, 10<<10)
		for range 20 {
			n, err := io.ReadFull(far, some)
			if err != nil {
				t.Fatal(err)
			}
			got += int64(n)
			synctest.Wait()
			if ahead := server.sent - got; ahead > buffers {
				t.Fatalf("%d bytes are held", ahead)
			}
		}
		rest, err := io.Copy(io.Discard, io.LimitReader(far, want-got))
		if err != nil || got+rest != want {
			t.Errorf("%d bytes of %d, %v", got+rest, want, err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}

		// And one that closes ends the relay.
		server = rows(100, 630, 1000)
		near, far = net.Pipe()
		go func() {
			var tr wire.Tracker
			tr.Begin(wire.ComQuery, wire.ClientDeprecateEOF)
			_, err := Response(wire.NewConn(server), wire.NewConn(near), &tr, forwarding{})
			done <- err
		}()
		synctest.Wait()
		if err := far.Close(); err != nil {
			t.Fatal(err)
		}
		var gone *ClientError
		if err := <-done; !errors.As(err, &gone) {
			t.Errorf("the error is %v", err)
		}
	})
}

// TestReplacedPacketsAreNotHeldBack: a client gets the end of a result, replaced
// or not, while the server still works on the next one.
func TestReplacedPacketsAreNotHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, server := net.Pipe()
		near, client := net.Pipe()
		s := &script{command: wire.ComQuery}
		s.ok(statusMore)
		first := s.stream()
		s.ok(0)
		done := make(chan error, 1)
		go func() {
			var tr wire.Tracker
			tr.Begin(wire.ComQuery, 0)
			_, err := Response(wire.NewConn(from), wire.NewConn(near), &tr, &verdicts{list: []Verdict{Replace, Replace}})
			done <- err
		}()
		got := make(chan []byte, 2)
		go func() {
			defer close(got)
			for range 2 {
				b := make([]byte, 100)
				n, err := client.Read(b)
				if err != nil {
					return
				}
				got <- b[:n]
			}
		}()
		if _, err := server.Write(first); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		select {
		case b := <-got:
			if !bytes.Contains(b, otherPayload) {
				t.Errorf("the client got %q", b)
			}
		default:
			t.Error("the client has not got the first result while the second is on its way")
		}
		if _, err := server.Write(s.stream()[len(first):]); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		<-got
	})
}
