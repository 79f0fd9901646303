package share

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestVolfiles(t *testing.T) {
	brick, err := Brick{Directory: "/disk/files", Socket: "/run/brick.sock"}.Volfile()
	if err != nil {
		t.Fatal(err)
	}
	client, err := Client{Socket: "/run/door.sock", Wait: 90 * time.Second}.Volfile()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"option directory /disk/files\n", "option transport.socket.listen-path /run/brick.sock\n", "option auth.addr.files.allow *\n", "subvolumes files\n"} {
		if !strings.Contains(brick, want) {
			t.Errorf("the brick's lacks %q:\n%s", want, brick)
		}
	}
	for _, want := range []string{"option transport.socket.connect-path /run/door.sock\n", "option remote-subvolume files\n", "option timeout 90\n", "option ping-timeout 10\n"} {
		if !strings.Contains(client, want) {
			t.Errorf("the client's lacks %q:\n%s", want, client)
		}
	}
	for _, both := range []string{brick, client} {
		if strings.Contains(both, "%!") || strings.Count(both, "\nvolume ") != strings.Count(both, "\nend-volume\n") {
			t.Errorf("not a volfile:\n%s", both)
		}
	}
	for _, bad := range []string{"", "/a b", "/a#b", "/a\nend-volume"} {
		if text, err := (Brick{Directory: bad, Socket: "/run/s"}).Volfile(); err == nil {
			t.Errorf("of the directory %q: %s", bad, text)
		}
		if text, err := (Client{Socket: bad}).Volfile(); err == nil {
			t.Errorf("of the socket %q: %s", bad, text)
		}
	}
}

func TestHolders(t *testing.T) {
	list, err := parseHolders([]byte("files2 10.0.0.2:24010\n\nfiles1  10.0.0.1:24010\n"))
	if err != nil || fmt.Sprint(list) != "[{files2 10.0.0.2:24010} {files1 10.0.0.1:24010}]" {
		t.Errorf("%v, %v", list, err)
	}
	if list, err := parseHolders(nil); err != nil || len(list) != 0 {
		t.Errorf("of nothing: %v, %v", list, err)
	}
	for text, want := range map[string]string{
		"files1":                 "line 1: expected a node's name and its host:port",
		"files1 10.0.0.1:1 x":    "line 1: expected",
		"files1 10.0.0.1":        "is not a host:port",
		"files1 /run/socket":     "is not a host:port",
		"a b\nfi/les 10.0.0.1:1": "line 1",
		strings.Repeat("a 1.1.1.1:1\n", maxHolders+1): "of 100 nodes at most",
		strings.Repeat(" ", maxHoldersFile+1):         "larger than",
	} {
		if list, err := parseHolders([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, %v; want %q", text, list, err, want)
		}
	}
}

// said is a reply of RPC.
func said(words ...uint32) (b []byte) {
	for _, w := range words {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return b
}

func TestReply(t *testing.T) {
	for name, c := range map[string]struct {
		reply []byte
		want  string
	}{
		"done":                   {said(1, 1, 0, 0, 0, 0), ""},
		"done, with a verifier":  {said(1, 1, 0, 0, 3, 0x61626300, 0), ""},
		"of another call":        {said(2, 1, 0, 0, 0, 0), "not asked"},
		"a call":                 {said(1, 0, 2, 0, 0, 0), "not asked"},
		"denied":                 {said(1, 1, 1, 1, 1, 1), "denies"},
		"no such program":        {said(1, 1, 0, 0, 0, 1), "refuses"},
		"too short":              {said(1, 1, 0), "too little"},
		"nothing":                {nil, "too little"},
		"a verifier of 1 GiB":    {said(1, 1, 0, 0, 1<<30, 0), "cannot be understood"},
		"a verifier that is cut": {said(1, 1, 0, 0, 12, 0), "cannot be understood"},
	} {
		switch err := judgeReply(c.reply, 1); {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}

func FuzzReply(f *testing.F) {
	f.Add(append(said(lastFragment|24), said(1, 1, 0, 0, 0, 0)...))
	f.Add(append(said(4), append(said(1, lastFragment|20), said(1, 0, 0, 0, 0)...)...))
	f.Add(said(lastFragment | 0x7fffffff))
	f.Fuzz(func(t *testing.T, data []byte) {
		record, err := readRecord(bytes.NewReader(data))
		if err != nil {
			return
		}
		if len(record) > maxReply {
			t.Errorf("a message of %d bytes", len(record))
		}
		_ = judgeReply(record, 1) // must not panic
	})
}
