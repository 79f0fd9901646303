package wire_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"farmhand/proxy/internal/wire"
)

var update = flag.Bool("update", false, "write the digests of testdata/transcripts anew: read the difference")

// said is one packet of a transcript.
type said struct {
	client  bool
	seq     uint8
	payload []byte
}

func readTranscript(t *testing.T, path string) []said {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list []said
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var who, digits string
		var p said
		// A packet may be empty.
		if n, err := fmt.Sscanf(line, "%s %d %s", &who, &p.seq, &digits); n < 2 {
			t.Fatalf("%s: %q: %v", path, line, err)
		}
		p.client = who == "C"
		if p.payload, err = hex.DecodeString(digits); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		list = append(list, p)
	}
	return list
}

// TestTranscripts decodes all that real clients and servers said to each other,
// encodes it again to the same bytes, and compares what it meant with the
// digest that is kept beside each transcript.
func TestTranscripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil || len(paths) < 8 {
		t.Fatalf("%d transcripts, %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			d := &dialogue{t: t, packets: readTranscript(t, path)}
			d.follow()
			kept := strings.TrimSuffix(path, ".txt") + ".digest"
			if *update {
				if err := os.WriteFile(kept, d.digest.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(kept)
			if err != nil {
				t.Fatal(err)
			}
			if got := d.digest.String(); got != string(want) {
				t.Errorf("it means:\n%snot:\n%s", got, want)
			}
		})
	}
}

// dialogue is a transcript on its way through the decoders.
type dialogue struct {
	t       *testing.T
	packets []said
	caps    wire.Capability
	digest  bytes.Buffer
}

func (d *dialogue) say(format string, args ...any) { fmt.Fprintf(&d.digest, format+"\n", args...) }

// next takes the next packet, which must be the client's or the server's.
func (d *dialogue) next(client bool) []byte {
	d.t.Helper()
	if len(d.packets) == 0 || d.packets[0].client != client {
		d.t.Fatalf("no packet of the client (%v) where one must be; so far:\n%s", client, &d.digest)
	}
	p := d.packets[0].payload
	d.packets = d.packets[1:]
	return p
}

// same fails where encoding did not give the bytes that were decoded.
func (d *dialogue) same(what string, got, want []byte) {
	d.t.Helper()
	if !bytes.Equal(got, want) {
		d.t.Errorf("%s is encoded\n% x, and was\n% x", what, got, want)
	}
}

func (d *dialogue) follow() {
	p := d.next(false)
	g, err := wire.ParseGreeting(p)
	if err != nil {
		d.t.Fatal(err)
	}
	d.same("greeting", g.Append(nil), p)
	d.say("greeting %s, capabilities %#x, collation %d, status %#x, %s", g.Version, uint64(g.Capabilities), g.Collation, g.Status, g.AuthPlugin)
	p = d.next(true)
	r, ssl, err := wire.ParseHandshakeResponse(p)
	if err != nil || ssl {
		d.t.Fatalf("response: %v, SSL request %v", err, ssl)
	}
	d.same("response", r.Append(nil), p)
	d.say("response of %s, capabilities %#x, max packet %d, collation %d, %d bytes of authentication, schema %q, %s, %s",
		r.User, uint64(r.Capabilities), r.MaxPacketSize, r.Collation, len(r.AuthResponse), r.Schema, r.AuthPlugin, attributes(r.Attributes))
	d.caps = r.Capabilities & g.Capabilities
	d.authentication()
	for len(d.packets) > 0 {
		d.command()
	}
}

// attributes lists the names of connection attributes.
func attributes(b []byte) string {
	var names []string
	for d := wire.Decode(b); d.Len() > 0; {
		names = append(names, string(d.LenEncBytes()))
		d.LenEncBytes()
		if d.Err() != nil {
			return "malformed"
		}
	}
	return fmt.Sprint(names)
}

// authentication passes over the exchange, up to its OK.
func (d *dialogue) authentication() {
	for {
		if d.packets[0].client {
			d.next(true)
			continue
		}
		p := d.next(false)
		if wire.IsError(p) {
			d.failed(p)
			return
		}
		if wire.IsOK(p) {
			d.ok(p)
			return
		}
	}
}

func (d *dialogue) ok(p []byte) {
	ok, err := wire.ParseOK(p, d.caps)
	if err != nil {
		d.t.Fatalf("OK % x: %v", p, err)
	}
	if ok.Status&wire.StatusSessionStateChanged == 0 || len(ok.Changes) > 0 {
		d.same("OK", wire.AppendOK(nil, &ok, d.caps), p)
	}
	d.say("  OK %#x, %d rows, id %d, status %#x, %d warnings, %q", ok.Header, ok.AffectedRows, ok.LastInsertID, ok.Status, ok.Warnings, ok.Info)
	var again []byte
	if err := wire.Changes(ok.Changes, func(c wire.Change) bool {
		again = wire.AppendChange(again, c)
		if c.Kind == wire.ChangeGTIDs || string(c.Name) == "last_gtid" {
			c.Value = []byte("(a position)")
		}
		d.say("    change %d %s=%s", c.Kind, c.Name, c.Value)
		return true
	}); err != nil {
		d.t.Errorf("changes % x: %v", ok.Changes, err)
	}
	d.same("changes", again, ok.Changes)
}

func (d *dialogue) failed(p []byte) {
	e, err := wire.ParseError(p)
	if err != nil {
		d.t.Fatalf("ERR % x: %v", p, err)
	}
	d.same("ERR", wire.AppendError(nil, e), p)
	d.say("  ERR %d %s", e.Code, e.State)
}

// command takes a command and its response.
func (d *dialogue) command() {
	p := d.next(true)
	command := wire.Command(p[0])
	text := ""
	switch command {
	case wire.ComQuery:
		offset, err := wire.QueryText(p, d.caps)
		if err != nil {
			d.t.Fatal(err)
		}
		text = string(p[offset:])
	case wire.ComStmtPrepare, wire.ComInitDB:
		text = string(p[1:])
	case wire.ComChangeUser:
		d.changeUser(p)
		return
	}
	d.say("%v %q", command, text)
	var t wire.Tracker
	packets := 0
	for t.Begin(command, d.caps); !t.Done(); packets++ {
		p := d.next(false)
		if t.Next(len(p), p[0]) == wire.Pass {
			continue
		}
		event, err := t.Inspect(p)
		if err != nil {
			d.t.Fatal(err)
		}
		switch {
		case event == wire.ResultError:
			d.failed(p)
		case event == wire.ResultOK && (p[0] == 0 || d.caps.Has(wire.ClientDeprecateEOF)):
			d.ok(p)
		case event == wire.ResultOK:
			d.same("EOF", wire.AppendEOF(nil, wire.EOF{Warnings: t.OK.Warnings, Status: t.OK.Status}), p)
			d.say("  EOF status %#x, %d warnings", t.OK.Status, t.OK.Warnings)
		case event == wire.Prepared:
			d.say("  statement of %d columns, %d parameters", t.Statement.Columns, t.Statement.Params)
		}
	}
	d.say("  %d packets", packets)
	if len(d.packets) > 0 && !d.packets[0].client {
		d.t.Errorf("%v %q: the server says more than the tracker waits for", command, text)
	}
}

func (d *dialogue) changeUser(p []byte) {
	c, err := wire.ParseChangeUser(p, d.caps)
	if err != nil {
		d.t.Fatal(err)
	}
	d.say("COM_CHANGE_USER to %s, %d bytes of authentication, schema %q, collation %d, %s, %s",
		c.User, len(c.AuthResponse), c.Schema, c.Collation, c.AuthPlugin, attributes(c.Attributes))
	d.authentication()
}
