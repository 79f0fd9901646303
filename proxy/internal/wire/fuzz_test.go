package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// seeds gives what real clients (or servers) said to add.
func seeds(f *testing.F, client bool, add func(payload []byte)) {
	f.Helper()
	who := "S"
	if client {
		who = "C"
	}
	paths, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil || len(paths) == 0 {
		f.Fatalf("no transcripts, %v", err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			words := strings.Fields(line)
			if len(words) != 3 || words[0] != who {
				continue
			}
			payload, err := hex.DecodeString(words[2])
			if err != nil {
				f.Fatal(err)
			}
			add(payload)
		}
	}
}

func FuzzParseGreeting(f *testing.F) {
	seeds(f, false, func(p []byte) {
		if p[0] == 10 {
			f.Add(p)
		}
	})
	f.Add(AppendError(nil, &Error{Code: 1040, Message: "Too many connections"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := ParseGreeting(b)
		if err != nil {
			return
		}
		if len(g.Nonce) != NonceSize {
			t.Fatalf("a nonce of %d bytes", len(g.Nonce))
		}
		if !g.Capabilities.Has(ClientPluginAuth) {
			g.AuthPlugin = "" // it has one in Append's form
			g.Capabilities |= ClientPluginAuth
		}
		again, err := ParseGreeting(g.Append(nil))
		if err != nil || !reflect.DeepEqual(again, g) {
			t.Errorf("%+v becomes %+v, %v", g, again, err)
		}
	})
}

func FuzzParseHandshakeResponse(f *testing.F) {
	seeds(f, true, func(p []byte) {
		if len(p) > handshakeFixed && p[0] != byte(ComQuery) {
			f.Add(p)
			f.Add(p[:handshakeFixed])
		}
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, ssl, err := ParseHandshakeResponse(b)
		if err != nil {
			return
		}
		if ssl {
			if !bytes.Equal(r.AppendSSLRequest(nil)[:9], b[:9]) {
				t.Errorf("the SSL request % x becomes % x", b, r.AppendSSLRequest(nil))
			}
			return
		}
		if n := len(r.User) + len(r.AuthResponse) + len(r.Schema) + len(r.AuthPlugin) + len(r.Attributes); n > len(b) {
			t.Fatalf("%d bytes of fields from %d", n, len(b))
		}
		if r.Capabilities&(ClientSecureConnection|ClientPluginAuthLenEnc) == 0 {
			return // Append has no form for it
		}
		again, _, err := ParseHandshakeResponse(r.Append(nil))
		if err == nil && len(r.AuthResponse) == 0 {
			again.AuthResponse = r.AuthResponse
		}
		if err == nil && len(r.Attributes) == 0 {
			again.Attributes = r.Attributes
		}
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%+v becomes %+v, %v", r, again, err)
		}
	})
}

func FuzzParseChangeUser(f *testing.F) {
	const caps = ClientSecureConnection | ClientPluginAuth | ClientConnectAttrs
	seeds(f, true, func(p []byte) {
		if p[0] == byte(ComChangeUser) {
			f.Add(p, uint64(caps))
		}
	})
	f.Add([]byte("\x11app\x00\x00db\x00"), uint64(0))
	f.Fuzz(func(t *testing.T, b []byte, caps uint64) {
		c, err := ParseChangeUser(b, Capability(caps))
		if err != nil {
			return
		}
		if n := len(c.User) + len(c.AuthResponse) + len(c.Schema) + len(c.AuthPlugin) + len(c.Attributes); n > len(b) {
			t.Errorf("%d bytes of fields from %d", n, len(b))
		}
	})
}

func FuzzOK(f *testing.F) {
	seeds(f, false, func(p []byte) {
		if len(p) > 0 && (p[0] == headerOK || p[0] == headerEOF) {
			f.Add(p, uint64(ClientSessionTrack))
			f.Add(p, uint64(0))
		}
	})
	f.Fuzz(func(t *testing.T, b []byte, caps uint64) {
		_, _ = ParseEOF(b)
		if e, err := ParseError(b); err == nil {
			if again, err := ParseError(AppendError(nil, e)); e.State != "" && (err != nil || *again != *e) {
				t.Errorf("%+v becomes %+v, %v", e, again, err)
			}
		}
		ok, err := ParseOK(b, Capability(caps))
		if err != nil {
			return
		}
		want := ok
		if len(ok.Changes) == 0 {
			want.Changes = nil
			want.Status &^= StatusSessionStateChanged
		}
		if len(ok.Info) == 0 {
			want.Info = nil
		}
		again, err := ParseOK(AppendOK(nil, &ok, Capability(caps)), Capability(caps))
		if len(again.Info) == 0 {
			again.Info = nil
		}
		if err != nil || !reflect.DeepEqual(again, want) {
			t.Errorf("%+v becomes %+v, %v", want, again, err)
		}
	})
}

func FuzzChanges(f *testing.F) {
	seeds(f, false, func(p []byte) {
		if ok, err := ParseOK(p, ClientSessionTrack); err == nil && len(ok.Changes) > 0 {
			f.Add(ok.Changes)
		}
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		list := func(b []byte) (seen []Change, err error) {
			err = Changes(b, func(c Change) bool {
				seen = append(seen, c)
				return true
			})
			return seen, err
		}
		seen, err := list(b)
		total := 0
		var again []byte
		for _, c := range seen {
			total += 1 + len(c.Name) + len(c.Value)
			again = AppendChange(again, c)
		}
		if total > len(b) {
			t.Errorf("%d bytes of changes from %d", total, len(b))
		}
		if err != nil {
			return
		}
		got, err := list(again)
		if err != nil || len(got) != len(seen) {
			t.Fatalf("%v becomes %v, %v", seen, got, err)
		}
		for i := range got {
			if got[i].Kind != seen[i].Kind || !bytes.Equal(got[i].Name, seen[i].Name) || !bytes.Equal(got[i].Value, seen[i].Value) {
				t.Errorf("%v becomes %v", seen[i], got[i])
			}
		}
	})
}

func FuzzQueryText(f *testing.F) {
	f.Add([]byte("\x03SELECT 1"), uint64(0))
	f.Add([]byte("\x03\x00\x01SELECT 1"), uint64(ClientQueryAttributes))
	f.Add([]byte("\x03\x02\x01\x01\x01\x06\x00\x01a\xfd\x00\x01b\x03abcSELECT 1"), uint64(ClientQueryAttributes))
	f.Add([]byte("\x03\x01\x01\x00\x01\x0c\x00\x01a\x07\xe8\x07\x01\x02\x03\x04\x05SELECT 1"), uint64(ClientQueryAttributes))
	f.Fuzz(func(t *testing.T, b []byte, caps uint64) {
		if len(b) == 0 {
			return // a command has its byte
		}
		n, err := QueryText(b, Capability(caps))
		if err == nil && (n < 1 || n > len(b)) {
			t.Errorf("the text begins at %d of %d", n, len(b))
		}
	})
}

func FuzzParseExecute(f *testing.F) {
	f.Add([]byte("\x17\x01\x00\x00\x00\x00\x01\x00\x00\x00\x00\x01\x03\x00\x05\x00\x00\x00"), uint16(1), uint64(0))
	f.Add([]byte("\x17\x01\x00\x00\x00\x08\x01\x00\x00\x00\x01\x00\x01\xfd\x00\x01n\x01v"), uint16(1), uint64(ClientQueryAttributes))
	f.Add([]byte("\x17\x01\x00\x00\x00\x00\x01\x00\x00\x00"), uint16(0), uint64(0))
	f.Fuzz(func(t *testing.T, b []byte, params uint16, caps uint64) {
		_, _ = StatementID(b)
		e, err := ParseExecute(b, int(params), Capability(caps))
		if err != nil {
			return
		}
		if e.Flag >= len(b) && e.Flag > 0 || e.Types > len(b) || e.Bound && e.Types <= e.Flag {
			t.Fatalf("%+v of %d bytes", e, len(b))
		}
		if !e.Bound {
			return
		}
		// Taking the types out and adding them again changes nothing.
		bare := append(append(bytes.Clone(b[:e.Flag]), 0), b[e.Types:]...)
		again, err := ParseExecute(bare, int(params), Capability(caps))
		if err != nil || again.Bound || again.Flag != e.Flag {
			t.Fatalf("without types %+v becomes %+v, %v", e, again, err)
		}
		if got := AppendExecuteTypes(nil, bare, again, b[e.Flag+1:e.Types]); !bytes.Equal(got, b) {
			t.Errorf("% x becomes % x", b, got)
		}
	})
}

// FuzzTracker: the tracker never panics, looks at each packet once, and to look
// at what it holds changes nothing, whatever a server sends. The stream's
// packets may claim to be full without being so.
func FuzzTracker(f *testing.F) {
	var rows []byte
	seq := uint8(1)
	for _, p := range []string{"\x01", "\x03def", "\xfe\x00\x00\x02\x00", "\x01a", "\xfe\x00\x00\x0a\x00", "\x00\x00\x00\x02\x00\x00\x00"} {
		rows, seq = AppendPackets(rows, []byte(p), seq)
	}
	for _, command := range []Command{ComQuery, ComStmtExecute, ComStmtFetch, ComFieldList, ComStatistics} {
		f.Add(rows, byte(command), uint64(0))
		f.Add(rows, byte(command), uint64(ClientDeprecateEOF|ClientSessionTrack))
		f.Add(rows, byte(command), uint64(ClientOptionalMetadata|MariaDBProgress))
	}
	f.Add([]byte("\x0c\x00\x00\x01\x00\x01\x00\x00\x00\x01\x00\x01\x00\x00\x00\x00"), byte(ComStmtPrepare), uint64(0))
	f.Add([]byte("\x05\x00\x00\x01\xfbname\x07\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00"), byte(ComQuery), uint64(0))
	f.Fuzz(func(t *testing.T, stream []byte, command byte, caps uint64) {
		var tr Tracker
		tr.Begin(Command(command), Capability(caps))
		for !tr.Done() && len(stream) >= HeaderSize {
			length, _ := Header(stream)
			stream = stream[HeaderSize:]
			n := length
			if length == MaxPayload {
				n = min(10, len(stream)) // a stand-in: the tracker does not see what it passes
			}
			if n > len(stream) {
				return
			}
			first := byte(0)
			if length > 0 && n > 0 {
				first = stream[0]
			}
			step := tr.Next(length, first)
			if step == Hold {
				if again := tr; again.Next(length, first) != Hold || !reflect.DeepEqual(again, tr) {
					t.Fatalf("to look again changes %+v to %+v", tr, again)
				}
				results := tr.Results
				event, err := tr.Inspect(stream[:n])
				if err != nil {
					return
				}
				switch {
				case event == ResultOK && tr.Results != results+1, event != ResultOK && tr.Results != results:
					t.Fatalf("event %v makes %d results of %d", event, tr.Results, results)
				case event == ResultError && (!tr.Done() || tr.Err == nil):
					t.Fatalf("an error that ends nothing: %+v", tr)
				case event == SendFile && tr.Done():
					t.Fatal("a file is the end")
				case event == SendFile:
					tr.FileSent()
				}
			} else if tr.Continued() != (length == MaxPayload) && !tr.Done() {
				t.Fatalf("continued is %v after a packet of %d", tr.Continued(), length)
			}
			stream = stream[n:]
		}
		if tr.left > 1<<17 {
			t.Fatalf("%d definitions are waited for", tr.left)
		}
	})
}

// FuzzReadPayload: however a stream arrives, the payloads are those of a reader
// that has it whole, nothing behind them is lost, and no more is held than was
// sent.
func FuzzReadPayload(f *testing.F) {
	f.Add([]byte("\x03\x00\x00\x00abc\x00\x00\x00\x01"), []byte{1}, uint32(100))
	f.Add([]byte("\xff\xff\xff\x00abc"), []byte{2, 200}, uint32(1<<30))
	f.Add(packets(make([]byte, 5000)), []byte{255}, uint32(5000))
	f.Fuzz(func(t *testing.T, stream, sizes []byte, limit uint32) {
		in := &sized{b: stream, sizes: sizes}
		c := NewConn(bytesConn{r: in})
		rest := stream
		for {
			want, err := reference(&rest, int(limit))
			got, gotErr := c.ReadPayload(int(limit))
			if (err == nil) != (gotErr == nil) || err != nil && !errors.Is(gotErr, err) {
				t.Fatalf("the error is %v, not %v", gotErr, err)
			}
			if held := len(c.buf) + cap(c.whole); held > 2*largeBuffer+2*len(stream) {
				t.Fatalf("%d bytes are held of %d", held, len(stream))
			}
			if err != nil {
				return
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("%q, not %q", got, want)
			}
			if left := append(bytes.Clone(c.Buffered()), in.b...); !bytes.Equal(left, rest) {
				t.Fatalf("%d bytes are left, not %d", len(left), len(rest))
			}
			if len(rest)%2 == 1 {
				c.Idle()
			}
		}
	})
}

// reference reads a payload from the front of b.
func reference(b *[]byte, limit int) (payload []byte, err error) {
	for first := true; ; first = false {
		if len(*b) < HeaderSize {
			if first && len(*b) == 0 {
				return nil, io.EOF
			}
			return nil, io.ErrUnexpectedEOF
		}
		n, _ := Header(*b)
		if n > limit-len(payload) {
			return nil, ErrTooLarge
		}
		if len(*b) < HeaderSize+n {
			return nil, io.ErrUnexpectedEOF
		}
		payload = append(payload, (*b)[HeaderSize:HeaderSize+n]...)
		*b = (*b)[HeaderSize+n:]
		if n < MaxPayload {
			return payload, nil
		}
	}
}

// sized gives its bytes in pieces of the given sizes, in turn.
type sized struct {
	b, sizes []byte
	at       int
}

func (s *sized) Read(b []byte) (int, error) {
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	n := len(s.b)
	if len(s.sizes) > 0 {
		n = int(s.sizes[s.at%len(s.sizes)])*16 + 1
		s.at++
	}
	n = copy(b[:min(n, len(b))], s.b)
	s.b = s.b[n:]
	return n, nil
}
