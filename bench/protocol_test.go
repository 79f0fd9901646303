package main

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

// The parts of answers as a server sends them.
var (
	okPacket   = []byte{0, 0, 0, 2, 0, 0, 0}
	endPacket  = []byte{0xfe, 0, 0, 2, 0}
	errPacket  = append([]byte{0xff, 0x28, 0x04}, "#42000wrong"...)
	wantPacket = []byte("\xfbrows")
)

// packets numbers payloads from 1.
func packets(payloads ...[]byte) []byte {
	var out []byte
	for i, p := range payloads {
		out = append(out, packet(byte(i+1), p)...)
	}
	return out
}

// greetingPacket is a server's greeting.
func greetingPacket(scramble string) []byte {
	p := append([]byte{10}, "10.11.0-test\x00\x01\x00\x00\x00"...)
	p = append(append(p, scramble[:8]...), 0)
	p = append(p, 0xff, 0xf7, 45, 2, 0, 0xff, 0x81, 21)
	p = append(append(p, make([]byte, 10)...), scramble[8:]...)
	return packet(0, append(p, "\x00mysql_native_password\x00"...))
}

func TestAnswerEnds(t *testing.T) {
	maximal := bytes.Repeat([]byte{'x'}, maximalPacket)
	for name, c := range map[string]struct {
		bytes []byte
		want  outcome
		fails string
	}{
		"OK":              {packets(okPacket), ended, ""},
		"error":           {packets(errPacket), ended, "error 1064: wrong"},
		"wish for a file": {packets(wantPacket), wantsFile, ""},
		"no rows":         {packets([]byte{1}, []byte("column"), endPacket, endPacket), ended, ""},
		"rows":            {packets([]byte{1}, []byte("column"), endPacket, []byte{1, 'a'}, []byte{0xfb}, endPacket), ended, ""},
		"a row like an end, but longer": {
			packets([]byte{1}, []byte("column"), endPacket, append([]byte{0xfe}, make([]byte, 8)...), endPacket), ended, "",
		},
		"an error after rows":           {packets([]byte{1}, []byte("column"), endPacket, []byte{1, 'a'}, errPacket), ended, "error 1064: wrong"},
		"bytes after the end":           {append(packets(okPacket), 1), ended, "after the end"},
		"a row of more than one packet": {packets([]byte{1}, []byte("column"), endPacket, maximal, endPacket[:1], endPacket), ended, ""},
		"a row of exactly one packet":   {packets([]byte{1}, []byte("column"), endPacket, maximal, nil, endPacket), ended, ""},
		"half":                          {packets([]byte{1}, []byte("column"), endPacket, []byte{1, 'a'}), more, ""},
	} {
		t.Run(name, func(t *testing.T) {
			pieces := []int{len(c.bytes), 1 << 20}
			if len(c.bytes) < 1000 {
				pieces = []int{1, 2, 3, 5, 7, len(c.bytes)}
			}
			for _, size := range pieces {
				var a answer
				got, err := more, error(nil)
				for b := c.bytes; len(b) > 0 && got == more && err == nil; b = b[min(size, len(b)):] {
					got, err = a.feed(b[:min(size, len(b))])
				}
				if c.fails == "" && err != nil || c.fails != "" && size == len(c.bytes) && (err == nil || !strings.Contains(err.Error(), c.fails)) {
					t.Errorf("in pieces of %d: error %v, want %q", size, err, c.fails)
				}
				if got != c.want {
					t.Errorf("in pieces of %d: %v, want %v", size, got, c.want)
				}
			}
		})
	}
}

func TestAnswerIsUsedAgain(t *testing.T) {
	var a answer
	for range 3 {
		for _, b := range [][]byte{packets(okPacket), packets([]byte{1}, []byte("column"), endPacket, []byte{1, 'a'}, endPacket)} {
			if got, err := a.feed(b); got != ended || err != nil {
				t.Fatalf("feed: %v, %v", got, err)
			}
		}
	}
}

func TestHandshake(t *testing.T) {
	const secret = "abcdefghijklmnopqrst"
	_, payload, rest, ok := cutPacket(greetingPacket(secret))
	if !ok || len(rest) != 0 {
		t.Fatal("the greeting is not one packet")
	}
	scramble, err := parseGreeting(payload)
	if err != nil || string(scramble) != secret {
		t.Fatalf("scramble %q, %v", scramble, err)
	}
	if _, err := parseGreeting(errPacket); err == nil || err.Error() != "error 1064: wrong" {
		t.Errorf("a refusal is read as %v", err)
	}
	for n := range len(payload) - 25 {
		if _, err := parseGreeting(payload[:n]); err == nil {
			t.Errorf("a greeting of %d bytes is taken", n)
		}
	}
	if send, done, err := loginStep(2, okPacket); send != nil || !done || err != nil {
		t.Errorf("OK: %v, %v, %v", send, done, err)
	}
	change := append([]byte("\xfemysql_native_password\x00"), secret+"\x00"...)
	if send, done, err := loginStep(2, change); !bytes.Equal(send, packet(3, scrambled([]byte(secret)))) || done || err != nil {
		t.Errorf("a change of the plugin: %v, %v, %v", send, done, err)
	}
	if _, _, err := loginStep(2, []byte("\xfeother\x00")); err == nil || !strings.Contains(err.Error(), "other") {
		t.Errorf("another plugin: %v", err)
	}
}

func TestCommandOfManyPackets(t *testing.T) {
	for _, size := range []int{0, 1, maximalPacket - 2, maximalPacket - 1, maximalPacket, 2*maximalPacket - 1} {
		b, total := command(strings.Repeat("x", size)), 0
		for last := maximalPacket; len(b) > 0; {
			if last < maximalPacket {
				t.Fatalf("%d bytes: a packet after the last", size)
			}
			last = int(binary.LittleEndian.Uint32(b) & maximalPacket)
			total, b = total+last, b[4+last:]
			if len(b) == 0 && last == maximalPacket {
				t.Fatalf("%d bytes: the last packet is maximal", size)
			}
		}
		if total != size+1 {
			t.Errorf("%d bytes of payload, want %d", total, size+1)
		}
	}
}
