package relay

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"farmhand/proxy/internal/wire"
)

// relay runs Response over scripted connections.
func relay(s *script, server, client *scripted, v *verdicts) (*wire.Conn, *wire.Conn, int64, error) {
	var t wire.Tracker
	t.Begin(s.command, s.caps)
	a, b := wire.NewConn(server), wire.NewConn(client)
	n, err := Response(a, b, &t, v)
	return a, b, n, err
}

// TestTheClientGetsTheServersBytes: whatever the pieces, the client gets what
// the server sent, but for what the handler replaces or stops.
func TestTheClientGetsTheServersBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawScript(t)
		v := &verdicts{}
		var want, rest []byte
		var files []byte
		seq := uint8(1)
		stopped := false
		asked := 0
		for _, p := range s.packets {
			if stopped {
				rest, seq = wire.AppendPackets(rest, p.payload, seq)
				continue
			}
			verdict := Forward
			if p.shown {
				verdict = rapid.SampledFrom([]Verdict{Forward, Forward, Replace, Stop}).Draw(t, "verdict")
				if p.event == wire.SendFile {
					verdict = Forward // to replace it asks for another file, to stop it leaves the server waiting
					files = append(files, s.files[asked]...)
					asked++
				}
				v.list = append(v.list, verdict)
			}
			switch verdict {
			case Forward:
				want, seq = wire.AppendPackets(want, p.payload, seq)
			case Replace:
				want, seq = wire.AppendPackets(want, otherPayload, seq)
			case Stop:
				stopped = true
				seq++
			}
		}
		trailer := []byte("what follows")
		server := &scripted{pieces: cut(t, append(s.stream(), trailer...)), room: -1}
		client := &scripted{pieces: cut(t, append(bytes.Join(s.files, nil), trailer...)), room: -1}
		a, b, n, err := relay(s, server, client, v)
		if stopped != errors.Is(err, ErrStopped) || !stopped && err != nil {
			t.Fatalf("stopped is %v, the error %v", stopped, err)
		}
		if flush := b.Flush(); flush != nil {
			t.Fatal(flush)
		}
		if !bytes.Equal(client.out.Bytes(), want) {
			t.Fatalf("the client got %d bytes, not %d, or others", client.out.Len(), len(want))
		}
		if n != int64(len(want)) {
			t.Errorf("%d bytes are said to be forwarded, not %d", n, len(want))
		}
		if !bytes.Equal(server.out.Bytes(), files) {
			t.Errorf("the server got %d bytes of files, not %d, or others", server.out.Len(), len(files))
		}
		left := append(bytes.Clone(a.Buffered()), server.unread()...)
		if !bytes.Equal(left, append(rest, trailer...)) {
			t.Errorf("%d bytes of the server's are left, not %d", len(left), len(rest)+len(trailer))
		}
		if !stopped {
			left = append(bytes.Clone(b.Buffered()), client.unread()...)
			if !bytes.Equal(left, trailer) {
				t.Errorf("%d bytes of the client's are left, not %d", len(left), len(trailer))
			}
		}
		if _, next, _ := walk(want); len(files) == 0 && b.Seq != next && len(want) > 0 {
			t.Errorf("an error would have number %d, not %d", b.Seq, next)
		}
		shown := 0
		for _, p := range s.packets {
			if !p.shown || shown == len(v.seen) {
				continue
			}
			if got := v.seen[shown]; got.event != p.event || !bytes.Equal(got.payload, p.payload) {
				t.Errorf("the handler was shown %v % x, not %v % x", got.event, got.payload, p.event, p.payload)
			}
			shown++
		}
		if shown != len(v.seen) || shown != len(v.list) {
			t.Errorf("the handler was shown %d packets, %d of them of the response; %d have a verdict", len(v.seen), shown, len(v.list))
		}
	})
}

// TestServerThatGoesAway: the client gets a whole beginning of the response, and
// Torn says whether an error packet can follow it.
func TestServerThatGoesAway(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawScript(t)
		whole := s.stream()
		at := rapid.IntRange(0, len(whole)-1).Draw(t, "at")
		server := &scripted{pieces: cut(t, bytes.Clone(whole[:at])), room: -1}
		client := &scripted{pieces: cut(t, bytes.Join(s.files, nil)), room: -1}
		_, b, n, err := relay(s, server, client, &verdicts{})
		var lost *ServerError
		if !errors.As(err, &lost) {
			t.Fatalf("the error is %v", err)
		}
		got := client.out.Bytes()
		if !bytes.HasPrefix(whole, got) || n != int64(len(got)) {
			t.Fatalf("the client got %d bytes that are no beginning of the response; %d are said to be forwarded", len(got), n)
		}
		end, next, torn := walk(got)
		if lost.Torn != torn {
			t.Errorf("torn is %v after %d bytes of %d, of which %d are whole payloads", lost.Torn, len(got), at, end)
		}
		if !torn && len(s.files) == 0 && end > 0 && b.Seq != next {
			t.Errorf("an error would have number %d, not %d", b.Seq, next)
		}
		// What the handler need not see goes on as it comes.
		if _, _, torn := walk(whole[:at]); !torn && len(got) < at {
			t.Errorf("the client got %d bytes of %d that are whole packets", len(got), at)
		}
	})
}

// TestMalformedPackets: what came before a packet that cannot be is the
// client's, and an error can follow it.
func TestMalformedPackets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawScript(t)
		n := rapid.IntRange(0, len(s.packets)-1).Draw(t, "packet")
		for !s.packets[n].shown {
			n--
		}
		for _, p := range s.packets[:n] {
			if p.event == wire.SendFile {
				t.Skip("numbers go on after a file")
			}
		}
		before := (&script{packets: s.packets[:n]}).stream()
		s.packets = append(s.packets[:n:n], packet{payload: rapid.SampledFrom([][]byte{
			{0xff}, {0xff, 1}, append([]byte{0xff, 1, 0, '#'}, "123"...), bytes.Repeat([]byte{0xff}, 70000),
		}).Draw(t, "malformed")})
		server := &scripted{pieces: cut(t, s.stream()), room: -1}
		client := &scripted{room: -1}
		_, b, _, err := relay(s, server, client, &verdicts{})
		var lost *ServerError
		if !errors.As(err, &lost) || lost.Torn || !errors.Is(err, wire.ErrMalformed) {
			t.Fatalf("the error is %+v", err)
		}
		if !bytes.Equal(client.out.Bytes(), before) {
			t.Errorf("the client got %d bytes, not %d", client.out.Len(), len(before))
		}
		if _, next, _ := walk(before); n > 0 && b.Seq != next {
			t.Errorf("an error would have number %d, not %d", b.Seq, next)
		}
	})
}

// TestClientThatGoesAway: whatever it had, the error is the client's.
func TestClientThatGoesAway(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawScript(t)
		whole := s.stream()
		server := &scripted{pieces: cut(t, bytes.Clone(whole)), room: -1}
		client := &scripted{pieces: cut(t, bytes.Join(s.files, nil)), room: rapid.IntRange(0, len(whole)-1).Draw(t, "room")}
		_, _, _, err := relay(s, server, client, &verdicts{})
		var gone *ClientError
		if !errors.As(err, &gone) {
			t.Fatalf("the error is %v", err)
		}
		if !bytes.HasPrefix(whole, client.out.Bytes()) {
			t.Error("the client got something else")
		}
	})
}

// TestContinuedRows has a row of more than one packet, whose second one looks
// like an error, and a server that goes away between the two.
func TestContinuedRows(t *testing.T) {
	s := &script{command: wire.ComQuery, caps: wire.ClientDeprecateEOF}
	s.packets = []packet{
		{[]byte{1}, wire.Nothing, true},
		{payload: wire.AppendTextColumn(nil, "c", 45, s.caps)},
		{payload: append(bytes.Repeat([]byte{0xfe}, wire.MaxPayload), 0xff, 0, 0)},
		{payload: bytes.Repeat([]byte{0xff}, wire.MaxPayload)},
	}
	s.end(0)
	whole := s.stream()
	pieces := func(b []byte) [][]byte {
		var list [][]byte
		for ; len(b) > 50000; b = b[50000:] {
			list = append(list, b[:50000])
		}
		return append(list, b)
	}
	v := &verdicts{}
	client := &scripted{room: -1}
	if _, _, _, err := relay(s, &scripted{pieces: pieces(whole), room: -1}, client, v); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(client.out.Bytes(), whole) || len(v.seen) != 2 {
		t.Errorf("the client got %d bytes, not %d; the handler saw %d packets", client.out.Len(), len(whole), len(v.seen))
	}
	between := bytes.Index(whole, []byte{0xff, 0xff, 0xff, 3, 0xfe}) + wire.HeaderSize + wire.MaxPayload
	client = &scripted{room: -1}
	_, _, _, err := relay(s, &scripted{pieces: pieces(whole[:between]), room: -1}, client, &verdicts{})
	var lost *ServerError
	if !errors.As(err, &lost) || !lost.Torn || client.out.Len() != between {
		t.Errorf("the error is %+v after %d bytes of %d", lost, client.out.Len(), between)
	}
}
