package relay

import (
	"bytes"
	"io"
	"net"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"farmhand/proxy/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scripted is a connection whose input is given in pieces and whose output is
// kept.
type scripted struct {
	net.Conn
	pieces [][]byte
	end    error // of the input; io.EOF where nil
	out    bytes.Buffer
	room   int // how many bytes can be written until writes fail; no limit where negative
}

func (s *scripted) Read(b []byte) (int, error) {
	for len(s.pieces) > 0 && len(s.pieces[0]) == 0 {
		s.pieces = s.pieces[1:]
	}
	if len(s.pieces) == 0 {
		if s.end != nil {
			return 0, s.end
		}
		return 0, io.EOF
	}
	n := copy(b, s.pieces[0])
	s.pieces[0] = s.pieces[0][n:]
	return n, nil
}

func (s *scripted) Write(b []byte) (int, error) {
	if s.room >= 0 && len(b) > s.room {
		s.out.Write(b[:s.room])
		s.room = 0
		return 0, net.ErrClosed
	}
	if s.room >= 0 {
		s.room -= len(b)
	}
	return s.out.Write(b)
}

// unread is what of the input nobody has read.
func (s *scripted) unread() []byte { return bytes.Join(s.pieces, nil) }

// cut divides a stream into pieces as a network might.
func cut(t *rapid.T, stream []byte) [][]byte {
	var pieces [][]byte
	most := rapid.SampledFrom([]int{1, 7, 100, 5000, 1 << 17}).Draw(t, "most")
	if most == 1 && len(stream) > 5000 {
		most = 5000
	}
	for len(stream) > 0 {
		n := min(len(stream), rapid.IntRange(1, most).Draw(t, "piece"))
		pieces = append(pieces, stream[:n])
		stream = stream[n:]
	}
	return pieces
}

// packet is one packet of a scripted response.
type packet struct {
	payload []byte
	event   wire.Event
	shown   bool // it is given to the handler
}

// response is a response that a server might give to a command.
type script struct {
	command wire.Command
	caps    wire.Capability
	packets []packet
	files   [][]byte // what the client sends, packets and all, where it is asked to
}

const statusMore = wire.StatusMoreResults

// drawScript makes a response to a query: results of all kinds, one after the
// other.
func drawScript(t *rapid.T) *script {
	s := &script{command: wire.ComQuery}
	if rapid.Bool().Draw(t, "no EOF") {
		s.caps = wire.ClientDeprecateEOF
	}
	results := rapid.IntRange(1, 4).Draw(t, "results")
	for i := range results {
		status := wire.StatusAutocommit
		if i < results-1 {
			status |= statusMore
		}
		switch rapid.SampledFrom([]string{"ok", "rows", "rows", "rows", "file", "error", "late error"}).Draw(t, "kind") {
		case "ok":
			s.ok(status)
		case "rows":
			s.rows(t)
			s.end(status)
		case "file":
			s.packets = append(s.packets, packet{[]byte("\xfbname"), wire.SendFile, true})
			s.files = append(s.files, drawFile(t))
			s.ok(status)
		case "error":
			s.fail()
			return s
		case "late error":
			s.rows(t)
			s.fail()
			return s
		}
	}
	return s
}

func (s *script) ok(status wire.Status) {
	s.packets = append(s.packets, packet{wire.AppendOK(nil, &wire.OK{AffectedRows: 300, Status: status}, s.caps), wire.ResultOK, true})
}

func (s *script) end(status wire.Status) {
	if s.caps.Has(wire.ClientDeprecateEOF) {
		s.packets = append(s.packets, packet{wire.AppendOK(nil, &wire.OK{Header: 0xfe, Status: status}, s.caps), wire.ResultOK, true})
		return
	}
	s.packets = append(s.packets, packet{wire.AppendEOF(nil, wire.EOF{Status: status}), wire.ResultOK, true})
}

func (s *script) fail() {
	s.packets = append(s.packets, packet{wire.AppendError(nil, &wire.Error{Code: 1064, State: "42000", Message: "no"}), wire.ResultError, true})
}

func (s *script) rows(t *rapid.T) {
	columns := rapid.IntRange(1, 3).Draw(t, "columns")
	s.packets = append(s.packets, packet{wire.AppendLenEnc(nil, uint64(columns)), wire.Nothing, true})
	for range columns {
		s.packets = append(s.packets, packet{payload: wire.AppendTextColumn(nil, "column", 45, s.caps)})
	}
	if !s.caps.Has(wire.ClientDeprecateEOF) {
		s.packets = append(s.packets, packet{wire.AppendEOF(nil, wire.EOF{}), wire.Nothing, true})
	}
	for range rapid.IntRange(0, 5).Draw(t, "rows") {
		size := rapid.SampledFrom([]int{1, 2, 100, 4092, 4093, 65531, 65532, 65533, 200000}).Draw(t, "size")
		first := rapid.SampledFrom([]byte{0, 1, 0xfb, 0xfc, 0xfd}).Draw(t, "first")
		s.packets = append(s.packets, packet{payload: append([]byte{first}, bytes.Repeat([]byte{0xfe}, size-1)...)})
	}
}

func drawFile(t *rapid.T) []byte {
	var stream []byte
	seq := uint8(2)
	for range rapid.IntRange(0, 4).Draw(t, "file packets") {
		size := rapid.SampledFrom([]int{1, 100, 16384, 70000}).Draw(t, "file packet")
		stream, seq = wire.AppendPackets(stream, bytes.Repeat([]byte{'f'}, size), seq)
	}
	return wire.AppendHeader(stream, 0, seq)
}

// stream is the response as bytes. A file takes its packets' numbers, of which
// the next one here goes on from where the file began, which is all the same to
// a relay.
func (s *script) stream() []byte {
	var b []byte
	seq := uint8(1)
	for _, p := range s.packets {
		b, seq = wire.AppendPackets(b, p.payload, seq)
	}
	return b
}

// verdicts is a handler that answers as a script says and keeps what it saw.
type verdicts struct {
	list []Verdict
	seen []packet
}

var otherPayload = []byte("another payload, of another length")

func (v *verdicts) Packet(event wire.Event, payload []byte) (Verdict, []byte) {
	n := len(v.seen)
	v.seen = append(v.seen, packet{bytes.Clone(payload), event, true})
	if n < len(v.list) {
		return v.list[n], otherPayload
	}
	return Forward, nil
}

// walk reads a stream as packets: where the last whole payload ends, the number
// that follows it, and whether there is more behind it.
func walk(b []byte) (end int, next uint8, torn bool) {
	next = 1
	continued := false
	for at := 0; at < len(b); {
		if len(b)-at < wire.HeaderSize {
			return end, next, true
		}
		n, seq := wire.Header(b[at:])
		at += wire.HeaderSize + n
		if at > len(b) {
			return end, next, true
		}
		continued = n == wire.MaxPayload
		if next = seq + 1; !continued {
			end = at
		}
	}
	return end, next, continued
}
