package relay

import (
	"bytes"
	"errors"
	"testing"

	"farmhand/proxy/internal/wire"
)

// loadScript is a LOAD DATA LOCAL of a file in packets.
func loadScript(packets ...[]byte) *script {
	s := &script{command: wire.ComQuery, packets: []packet{{[]byte("\xfbname"), wire.SendFile, true}}}
	var file []byte
	seq := uint8(2)
	for _, p := range packets {
		file = append(wire.AppendHeader(file, len(p), seq), p...)
		seq++
	}
	s.files = [][]byte{file}
	return s
}

func TestFiles(t *testing.T) {
	full := bytes.Repeat([]byte{'x'}, wire.MaxPayload)
	for name, packets := range map[string][][]byte{
		"empty":       {nil},
		"small":       {[]byte("line\n"), nil},
		"large":       {bytes.Repeat([]byte{'x'}, 300000), []byte("y"), nil},
		"full packet": {full, nil, nil}, // a payload of a full packet and an empty one, and the end
		"continued":   {full, []byte("tail"), []byte("more"), nil},
		"two full":    {full, full, nil, []byte("more"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := loadScript(packets...)
			s.ok(0)
			file := s.files[0]
			next := []byte("\x01\x00\x00\x00\x0e") // the client's next command
			server := &scripted{pieces: [][]byte{s.stream()}, room: -1}
			client := &scripted{pieces: [][]byte{append(bytes.Clone(file), next...)}, room: -1}
			_, b, _, err := relay(s, server, client, &verdicts{})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(server.out.Bytes(), file) {
				t.Errorf("the server got %d bytes, not %d", server.out.Len(), len(file))
			}
			if left := append(bytes.Clone(b.Buffered()), client.unread()...); !bytes.Equal(left, next) {
				t.Errorf("%d bytes of the client's are left", len(left))
			}
		})
	}
}

// TestServerThatGoesAwayDuringAFile: the client is heard to the end, so that an
// error can follow.
func TestServerThatGoesAwayDuringAFile(t *testing.T) {
	s := loadScript(bytes.Repeat([]byte{'x'}, 100000), bytes.Repeat([]byte{'y'}, 100000), nil)
	next := []byte("\x01\x00\x00\x00\x0e")
	for _, room := range []int{0, 4, 100, 70000, 100004, 150000, len(s.files[0]) - 1} {
		server := &scripted{pieces: [][]byte{s.stream()}, room: room}
		client := &scripted{pieces: [][]byte{append(bytes.Clone(s.files[0]), next...)}, room: -1}
		_, b, _, err := relay(s, server, client, &verdicts{})
		var lost *ServerError
		if !errors.As(err, &lost) || lost.Torn {
			t.Fatalf("room for %d: the error is %v", room, err)
		}
		if left := append(bytes.Clone(b.Buffered()), client.unread()...); !bytes.Equal(left, next) {
			t.Errorf("room for %d: %d bytes of the client's are left", room, len(left))
		}
		if b.Seq != 5 {
			t.Errorf("room for %d: an error would have number %d, not 5", room, b.Seq)
		}
	}
}

func TestClientThatGoesAwayDuringAFile(t *testing.T) {
	s := loadScript(bytes.Repeat([]byte{'x'}, 100000), nil)
	for _, n := range []int{0, 3, 4, 100, 99999, len(s.files[0]) - 1} {
		server := &scripted{pieces: [][]byte{s.stream()}, room: -1}
		client := &scripted{pieces: [][]byte{bytes.Clone(s.files[0][:n])}, room: -1}
		_, _, _, err := relay(s, server, client, &verdicts{})
		var gone *ClientError
		if !errors.As(err, &gone) {
			t.Errorf("after %d bytes the error is %v", n, err)
		}
	}
}

// TestPacket: a packet is given in pieces, header and all, and nothing of the
// next one.
func TestPacket(t *testing.T) {
	for _, size := range []int{0, 1, 4092, 70000} {
		var b []byte
		b, _ = wire.AppendPackets(b, bytes.Repeat([]byte{'x'}, size), 9)
		for _, cutAt := range []int{1, 4, len(b) / 2, len(b)} {
			c := wire.NewConn(&scripted{pieces: [][]byte{bytes.Clone(b[:cutAt]), append(bytes.Clone(b[cutAt:]), "next"...)}})
			var got []byte
			n, err := Packet(c, func(piece []byte) { got = append(got, piece...) })
			if err != nil || n != size || c.Seq != 10 || !bytes.Equal(got, b) {
				t.Errorf("size %d cut at %d: %d bytes, %v", size, cutAt, len(got), err)
			}
		}
	}
}
