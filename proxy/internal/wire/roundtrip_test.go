package wire

import (
	"bytes"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// text draws a string without a NUL.
func text(t *rapid.T, name string) string {
	return rapid.StringOfN(rapid.RuneFrom([]rune("abzÄ€ '\"`\x01\x7f")), 0, 40, -1).Draw(t, name)
}

func blob(t *rapid.T, name string, sizes ...int) []byte {
	n := rapid.SampledFrom(append(sizes, 0, 1, 20)).Draw(t, name+" size")
	if n == 0 {
		return nil
	}
	return rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, name)
}

// capabilities draws a set of capabilities with some that must and some that
// must not be in it.
func capabilities(t *rapid.T, with, without Capability) Capability {
	c := Capability(rapid.Uint64().Draw(t, "capabilities")) & (1<<38 - 1)
	if c.Has(ClientMySQL) && without&ClientMySQL == 0 || with&ClientMySQL != 0 {
		c &= 1<<32 - 1 // where the extended flags have their place
	}
	return c&^without | with
}

func TestGreetingRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := &Greeting{
			Version: text(t, "version"), ConnectionID: rapid.Uint32().Draw(t, "id"),
			Nonce:        rapid.SliceOfN(rapid.Byte(), NonceSize, NonceSize).Draw(t, "nonce"),
			Capabilities: capabilities(t, ClientProtocol41|ClientSecureConnection|ClientPluginAuth, 0),
			Collation:    rapid.Uint8().Draw(t, "collation"), Status: Status(rapid.Uint16().Draw(t, "status")),
			AuthPlugin: text(t, "plugin"),
		}
		b := want.Append([]byte("before"))
		got, err := ParseGreeting(bytes.TrimPrefix(b, []byte("before")))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v became %+v, %v", want, got, err)
		}
	})
}

func TestHandshakeResponseRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := &HandshakeResponse{
			Capabilities:  capabilities(t, ClientProtocol41|ClientSecureConnection, 0),
			MaxPacketSize: rapid.Uint32().Draw(t, "max"), Collation: rapid.Uint8().Draw(t, "collation"), User: text(t, "user"),
		}
		if want.AuthResponse = blob(t, "response", 255); want.Capabilities.Has(ClientPluginAuthLenEnc) {
			want.AuthResponse = blob(t, "response", 250, 251, 300, 70000)
		}
		if want.Capabilities.Has(ClientConnectWithDB) {
			want.Schema = text(t, "schema")
		}
		if want.Capabilities.Has(ClientPluginAuth) {
			want.AuthPlugin = text(t, "plugin")
		}
		if want.Capabilities.Has(ClientConnectAttrs) {
			want.Attributes = AppendAttributes(nil, text(t, "name"), text(t, "value"))
		}
		if want.Capabilities.Has(ClientZstd) {
			want.ZstdLevel = rapid.Uint8().Draw(t, "level")
		}
		got, ssl, err := ParseHandshakeResponse(want.Append(nil))
		if err == nil && len(got.AuthResponse) == 0 {
			got.AuthResponse = nil
		}
		if err != nil || ssl || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v became %+v, %v, %v", want, got, ssl, err)
		}
		want.Capabilities |= ClientSSL
		got, ssl, err = ParseHandshakeResponse(want.AppendSSLRequest(nil))
		fixed := &HandshakeResponse{Capabilities: want.Capabilities, MaxPacketSize: want.MaxPacketSize, Collation: want.Collation}
		if err != nil || !ssl || !reflect.DeepEqual(got, fixed) {
			t.Errorf("the SSL request %+v became %+v, %v, %v", fixed, got, ssl, err)
		}
	})
}

func TestOKRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		caps := capabilities(t, 0, 0)
		want := OK{
			Header:       rapid.SampledFrom([]byte{headerOK, headerEOF}).Draw(t, "header"),
			AffectedRows: lengths(t, "rows"), LastInsertID: lengths(t, "id"),
			Status:   Status(rapid.Uint16().Draw(t, "status")) &^ StatusSessionStateChanged,
			Warnings: rapid.Uint16().Draw(t, "warnings"), Info: blob(t, "info", 251, 70000),
		}
		var changes []Change
		for range rapid.IntRange(0, 3).Draw(t, "changes") {
			changes = append(changes, drawChange(t))
		}
		for _, c := range changes {
			want.Changes = AppendChange(want.Changes, c)
		}
		if len(changes) > 0 {
			want.Status |= StatusSessionStateChanged
		}
		p := AppendOK(nil, &want, caps)
		got, err := ParseOK(p, caps)
		if !caps.Has(ClientSessionTrack) {
			want.Changes, changes = nil, nil
			want.Status &^= StatusSessionStateChanged
		}
		if len(got.Info) == 0 {
			got.Info = nil
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v became %+v, %v", want, got, err)
		}
		var seen []Change
		if err := Changes(got.Changes, func(c Change) bool {
			seen = append(seen, c)
			return true
		}); err != nil || len(seen) != len(changes) {
			t.Fatalf("%+v became %+v, %v", changes, seen, err)
		}
		for i, c := range changes {
			if c.Kind != seen[i].Kind || !bytes.Equal(c.Name, seen[i].Name) || !bytes.Equal(c.Value, seen[i].Value) {
				t.Errorf("%+v became %+v", c, seen[i])
			}
		}
		// A reader may stop where it likes.
		n := 0
		_ = Changes(got.Changes, func(Change) bool { n++; return false })
		if n != min(1, len(changes)) {
			t.Errorf("%d changes after the reader had enough", n)
		}
	})
}

func lengths(t *rapid.T, name string) uint64 {
	return rapid.OneOf(rapid.Uint64(), rapid.SampledFrom([]uint64{0, 250, 251, 252, 1<<16 - 1, 1 << 16, 1<<24 - 1, 1 << 24, 1<<64 - 1})).Draw(t, name)
}

func drawChange(t *rapid.T) Change {
	c := Change{Kind: ChangeKind(rapid.IntRange(0, 7).Draw(t, "kind")), Value: blob(t, "value", 300)}
	if c.Kind == ChangeSystemVariable {
		c.Name = blob(t, "name")
	}
	return c
}

func TestSmallRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := lengths(t, "n")
		s := blob(t, "s", 250, 251, 65535, 65536)
		d := Decode(AppendLenEncString(AppendLenEnc(nil, n), s))
		if got := d.LenEnc(); got != n {
			t.Errorf("%d became %d", n, got)
		}
		if got := d.LenEncBytes(); !bytes.Equal(got, s) || d.Len() != 0 || d.Err() != nil {
			t.Errorf("a string of %d became one of %d, %v", len(s), len(got), d.Err())
		}

		eof := EOF{Warnings: rapid.Uint16().Draw(t, "warnings"), Status: Status(rapid.Uint16().Draw(t, "status"))}
		if got, err := ParseEOF(AppendEOF(nil, eof)); err != nil || got != eof {
			t.Errorf("%+v became %+v, %v", eof, got, err)
		}

		e := &Error{Code: rapid.Uint16().Draw(t, "code"), State: rapid.SampledFrom([]string{"", "42000", "HY000"}).Draw(t, "state"), Message: text(t, "message")}
		if got, err := ParseError(AppendError(nil, e)); err != nil || *got != *e {
			t.Errorf("%+v became %+v, %v", e, got, err)
		}

		length, seq := rapid.IntRange(0, MaxPayload).Draw(t, "length"), rapid.Uint8().Draw(t, "seq")
		if l, s := Header(AppendHeader(nil, length, seq)); l != length || s != seq {
			t.Errorf("a header of %d, %d became one of %d, %d", length, seq, l, s)
		}
		id := rapid.Uint32().Draw(t, "statement")
		command := make([]byte, 5+len(s))
		SetStatementID(command, id)
		if got, err := StatementID(command); err != nil || got != id {
			t.Errorf("statement %d became %d, %v", id, got, err)
		}
	})
	for n := range 5 {
		if _, err := StatementID(make([]byte, n)); err == nil {
			t.Errorf("a command of %d bytes has a statement id", n)
		}
	}
}

// TestExecuteRoundTrip: types that are added are found again.
func TestExecuteRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		caps := capabilities(t, 0, 0)
		params := rapid.IntRange(1, 40).Draw(t, "params")
		p := []byte{byte(ComStmtExecute), 7, 0, 0, 0, 0, 1, 0, 0, 0}
		attributes := 0
		if caps.Has(ClientQueryAttributes) {
			if rapid.Bool().Draw(t, "flag") {
				p[5] = 8
			}
			attributes = rapid.IntRange(0, 3).Draw(t, "more")
			p = AppendLenEnc(p, uint64(params+attributes))
		}
		p = append(p, make([]byte, (params+attributes+7)/8)...)
		bare := append(bytes.Clone(p), 0)
		var types []byte
		for range params + attributes {
			types = append(types, 0xfd, 0)
			if caps.Has(ClientQueryAttributes) {
				types = AppendLenEncString(types, text(t, "name"))
			}
		}
		values := blob(t, "values", 100)
		bound := append(append(append(bytes.Clone(p), 1), types...), values...)
		bare = append(bare, values...)
		e, err := ParseExecute(bare, params, caps)
		if err != nil || e.Bound || e.Statement != 7 {
			t.Fatalf("without types it is %+v, %v", e, err)
		}
		if got := AppendExecuteTypes(nil, bare, e, types); !bytes.Equal(got, bound) {
			t.Errorf("with types added it is % x, not % x", got, bound)
		}
		if e, err = ParseExecute(bound, params, caps); err != nil || !e.Bound || !bytes.Equal(bound[e.Flag+1:e.Types], types) {
			t.Errorf("with types it is %+v, %v", e, err)
		}
	})
}
