package wire

import (
	"bytes"
	"errors"
	"net"
	"testing"
	"testing/iotest"
)

func FuzzParseGreeting(f *testing.F) {
	g := Greeting{Version: "10.11.19-MariaDB", ConnectionID: 7, Nonce: bytes.Repeat([]byte("n"), NonceSize), Capabilities: ClientProtocol41 | ClientSecureConnection | ClientPluginAuth, AuthPlugin: "mysql_native_password"}
	f.Add(g.Append(nil))
	f.Add(AppendError(nil, &Error{Code: 1040, Message: "Too many connections"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := ParseGreeting(b)
		if err != nil || bytes.IndexByte([]byte(g.AuthPlugin), 0) >= 0 || g.Capabilities&(ClientPluginAuth|ClientSecureConnection) != ClientPluginAuth|ClientSecureConnection {
			return
		}
		again, err := ParseGreeting(g.Append(nil))
		if err != nil || again.Version != g.Version || again.Capabilities != g.Capabilities || again.AuthPlugin != g.AuthPlugin {
			// A nonce with NULs in it is cut where servers cut it.
			if !bytes.ContainsRune(g.Nonce, 0) {
				t.Errorf("%+v becomes %+v, %v", g, again, err)
			}
		}
	})
}

func FuzzParseHandshakeResponse(f *testing.F) {
	r := HandshakeResponse{
		Capabilities: ClientProtocol41 | ClientPluginAuth | ClientPluginAuthLenEnc | ClientSecureConnection | ClientConnectWithDB | ClientConnectAttrs | ClientMySQL,
		User:         "app", AuthResponse: []byte("secret"), Schema: "app", AuthPlugin: "caching_sha2_password", Attributes: AppendAttributes(nil, "a", "b"),
	}
	f.Add(r.Append(nil))
	f.Add(r.AppendSSLRequest(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, ssl, err := ParseHandshakeResponse(b)
		if err != nil || ssl {
			return
		}
		again, _, err := ParseHandshakeResponse(r.Append(nil))
		if err == nil && (again.User != r.User || again.Capabilities != r.Capabilities) {
			t.Errorf("%+v becomes %+v", r, again)
		}
	})
}

func FuzzParseChangeUser(f *testing.F) {
	f.Add([]byte("\x11app\x00\x00db\x00\x2d\x00mysql_native_password\x00"), uint64(ClientSecureConnection|ClientPluginAuth))
	f.Fuzz(func(_ *testing.T, b []byte, caps uint64) {
		_, _ = ParseChangeUser(b, Capability(caps)) // an error or a value, never a panic
	})
}

func FuzzOK(f *testing.F) {
	changes := AppendChange(nil, Change{Kind: ChangeSystemVariable, Name: []byte("autocommit"), Value: []byte("ON")})
	changes = AppendChange(changes, Change{Kind: ChangeGTIDs, Value: []byte("0-1-2")})
	f.Add(AppendOK(nil, &OK{AffectedRows: 3, Status: StatusSessionStateChanged, Changes: changes}, ClientSessionTrack))
	f.Fuzz(func(t *testing.T, b []byte) {
		ok, err := ParseOK(b, ClientSessionTrack)
		if err != nil {
			return
		}
		_ = Changes(ok.Changes, func(c Change) bool { return len(c.Value) <= len(b) })
		again, err := ParseOK(AppendOK(nil, &ok, ClientSessionTrack), ClientSessionTrack)
		if err != nil || again.AffectedRows != ok.AffectedRows || again.LastInsertID != ok.LastInsertID || !bytes.Equal(again.Changes, ok.Changes) || !bytes.Equal(again.Info, ok.Info) {
			t.Errorf("%+v becomes %+v, %v", ok, again, err)
		}
	})
}

func FuzzCommands(f *testing.F) {
	f.Add([]byte("\x03\x00\x01SELECT 1"), uint16(0))
	f.Add([]byte("\x17\x01\x00\x00\x00\x00\x01\x00\x00\x00\x00\x01\x03\x00\x05\x00\x00\x00"), uint16(1))
	f.Fuzz(func(t *testing.T, b []byte, params uint16) {
		if n, err := QueryText(b, ClientQueryAttributes); err == nil && n > len(b) {
			t.Errorf("the text begins at %d of %d", n, len(b))
		}
		e, err := ParseExecute(b, int(params), ClientQueryAttributes)
		if err == nil && (e.Flag > len(b) || e.Types > len(b)) {
			t.Errorf("%+v of %d bytes", e, len(b))
		}
	})
}

// The tracker never panics, and ends or asks for more, whatever a server sends.
func FuzzTracker(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x01\x01\x03\x00\x00\x02abc\x05\x00\x00\x03\xfe\x00\x00\x02\x00\x02\x00\x00\x04\x01a\x05\x00\x00\x05\xfe\x00\x00\x02\x00"), byte(ComQuery), uint64(0))
	f.Fuzz(func(_ *testing.T, stream []byte, command byte, caps uint64) {
		var tr Tracker
		tr.Begin(Command(command), Capability(caps))
		for !tr.Done() && len(stream) >= HeaderSize {
			n, _ := Header(stream)
			stream = stream[HeaderSize:]
			if n > len(stream) {
				return
			}
			first := byte(0)
			if n > 0 {
				first = stream[0]
			}
			if tr.Next(n, first) == Hold {
				event, err := tr.Inspect(stream[:n])
				if err != nil {
					return
				}
				if event == SendFile {
					tr.FileSent()
				}
			}
			stream = stream[n:]
		}
	})
}

// bytesConn is a connection that only reads.
type bytesConn struct {
	net.Conn
	r interface{ Read([]byte) (int, error) }
}

func (c bytesConn) Read(b []byte) (int, error) { return c.r.Read(b) }

func FuzzReadPayload(f *testing.F) {
	f.Add([]byte("\x03\x00\x00\x00abc\x00\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		whole := NewConn(bytesConn{r: bytes.NewReader(stream)})
		single := NewConn(bytesConn{r: iotest.OneByteReader(bytes.NewReader(stream))})
		for range 100 {
			a, errA := whole.ReadPayload(1 << 20)
			b, errB := single.ReadPayload(1 << 20)
			if !bytes.Equal(a, b) || (errA == nil) != (errB == nil) || errors.Is(errA, ErrTooLarge) != errors.Is(errB, ErrTooLarge) {
				t.Fatalf("in one piece %q, %v; byte by byte %q, %v", a, errA, b, errB)
			}
			if errA != nil {
				return
			}
		}
	})
}
