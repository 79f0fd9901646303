package frontend

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// The version 2 commands and families of the specification's section 2.2.
const (
	local   = 0x20
	proxy   = 0x21
	unspec  = 0x00
	tcp4    = 0x11
	udp4    = 0x12
	tcp6    = 0x21
	udp6    = 0x22
	stream  = 0x31
	dgram   = 0x32
	noop    = 4    // PP2_TYPE_NOOP
	tlsInfo = 0x20 // PP2_TYPE_SSL
)

// v2 is a version 2 header.
func v2(command, family byte, body ...[]byte) []byte {
	all := slices.Concat(body...)
	b := append([]byte(signature2), command, family)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(all))), all...)
}

// addresses4 and addresses6 are the address blocks of version 2.
func addresses4(source, destination string) []byte { return addresses(source, destination, false) }
func addresses6(source, destination string) []byte { return addresses(source, destination, true) }

func addresses(source, destination string, six bool) (b []byte) {
	from, to := netip.MustParseAddrPort(source), netip.MustParseAddrPort(destination)
	for _, a := range []netip.Addr{from.Addr(), to.Addr()} {
		if six {
			sixteen := a.As16()
			b = append(b, sixteen[:]...)
		} else {
			four := a.As4()
			b = append(b, four[:]...)
		}
	}
	b = binary.BigEndian.AppendUint16(b, from.Port())
	return binary.BigEndian.AppendUint16(b, to.Port())
}

func tlv(kind byte, value string) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(value))), value...)
}

// withCRC adds a checksum to a version 2 header, as its last TLV.
func withCRC(b []byte) []byte {
	b = append(bytes.Clone(b), typeCRC32C, 0, 4, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(b[14:], uint16(len(b)-16))
	binary.BigEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// mysqlPacket is what a client's first packet begins with.
const mysqlPacket = "\x20\x00\x00\x01the rest of a packet"

var (
	both4 = addresses4("192.0.2.1:56324", "192.0.2.2:3306")
	both6 = addresses6("[2001:db8::1]:56324", "[2001:db8::2]:3306")
)

// good are headers that are taken, and what they say.
var good = []struct {
	name    string
	header  []byte
	source  string // empty if none
	relayed bool
}{
	{"no header", nil, "", false},

	{"1, TCP4", []byte("PROXY TCP4 192.0.2.1 192.0.2.2 56324 3306\r\n"), "192.0.2.1:56324", true},
	{"1, the longest TCP4", []byte("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"), "255.255.255.255:65535", true},
	{"1, port 0", []byte("PROXY TCP4 192.0.2.1 192.0.2.2 0 0\r\n"), "192.0.2.1:0", true},
	{"1, TCP6", []byte("PROXY TCP6 2001:db8::1 ::1 56324 3306\r\n"), "[2001:db8::1]:56324", true},
	{"1, the longest TCP6", []byte("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"), "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", true},
	{"1, a mapped address", []byte("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 56324 3306\r\n"), "192.0.2.1:56324", true},
	{"1, UNKNOWN", []byte("PROXY UNKNOWN\r\n"), "", true},
	{"1, UNKNOWN with addresses", []byte("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"), "", true},
	{"1, UNKNOWN of 107 bytes", []byte("PROXY UNKNOWN " + strings.Repeat("x", 91) + "\r\n"), "", true},
	{"1, UNKNOWN with anything", []byte("PROXY UNKNOWN \x00\xff\r\r\n"), "", true},

	{"2, LOCAL", v2(local, unspec), "", false},
	{"2, LOCAL with addresses, which are not used", v2(local, tcp4, both4), "", false},
	{"2, LOCAL with a family that there is not", v2(local, 0xff, []byte{1}), "", false},
	{"2, UNSPEC", v2(proxy, unspec), "", true},
	{"2, UNSPEC with anything behind it", v2(proxy, unspec, []byte{1}), "", true},
	{"2, TCP over IPv4", v2(proxy, tcp4, both4), "192.0.2.1:56324", true},
	{"2, TCP over IPv6", v2(proxy, tcp6, both6), "[2001:db8::1]:56324", true},
	{"2, a mapped address", v2(proxy, tcp6, addresses6("[::ffff:192.0.2.1]:5", "[::ffff:192.0.2.2]:6")), "192.0.2.1:5", true},
	{"2, UDP over IPv4", v2(proxy, udp4, both4), "", true},
	{"2, UDP over IPv6", v2(proxy, udp6, both6), "", true},
	{"2, unix stream", v2(proxy, stream, make([]byte, 216)), "", true},
	{"2, unix datagram", v2(proxy, dgram, make([]byte, 216)), "", true},
	{"2, a TLV", v2(proxy, tcp4, both4, tlv(noop, "")), "192.0.2.1:56324", true},
	{"2, TLVs", v2(proxy, tcp4, both4, tlv(tlsInfo, "\x07\x00\x00\x00\x00"), tlv(0xea, "\x01vpce-08d2bf15fac5001c9"), tlv(noop, "xyz")), "192.0.2.1:56324", true},
	{"2, TLVs behind unix addresses", v2(proxy, stream, make([]byte, 216), tlv(noop, "x")), "", true},
	{"2, a checksum", withCRC(v2(proxy, tcp4, both4)), "192.0.2.1:56324", true},
	{"2, a checksum behind other TLVs", withCRC(v2(proxy, tcp6, both6, tlv(noop, "abc"))), "[2001:db8::1]:56324", true},
	{"2, the longest", v2(proxy, tcp4, both4, tlv(noop, strings.Repeat("x", maxBody2-12-3))), "192.0.2.1:56324", true},

	// What only looks like one is a client's: it decides by itself.
	{"another case", []byte("proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n"), "", false},
	{"a tab for the space", []byte("PROXY\tTCP4 192.0.2.1 192.0.2.2 1 2\r\n"), "", false},
	{"a signature with a wrong end", []byte("\r\n\r\n\x00\r\nQUIT\r"), "", false},
}

// bad are headers that end the connection.
var bad = []struct {
	name   string
	header []byte
}{
	{"1, nothing", []byte("PROXY \r\n")},
	{"1, the wrong case", []byte("PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n")},
	{"1, the wrong case of UNKNOWN", []byte("PROXY unknown\r\n")},
	{"1, UNKNOWN and more without a space", []byte("PROXY UNKNOWNS\r\n")},
	{"1, a family that there is not", []byte("PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n")},
	{"1, another family's addresses, 4", []byte("PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n")},
	{"1, another family's addresses, 6", []byte("PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n")},
	{"1, another family's source", []byte("PROXY TCP4 ::1 192.0.2.2 1 2\r\n")},
	{"1, another family's destination", []byte("PROXY TCP4 192.0.2.1 ::1 1 2\r\n")},
	{"1, a zone", []byte("PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n")},
	{"1, a name", []byte("PROXY TCP4 localhost 192.0.2.2 1 2\r\n")},
	{"1, an octet too large", []byte("PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n")},
	{"1, an octet with a leading zero", []byte("PROXY TCP4 192.0.02.1 192.0.2.2 1 2\r\n")},
	{"1, a short address", []byte("PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n")},
	{"1, a port with a leading zero", []byte("PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n")},
	{"1, a second port with a leading zero", []byte("PROXY TCP4 192.0.2.1 192.0.2.2 1 00\r\n")},
	{"1, a port too large", []byte("PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n")},
	{"1, a second port too large", []byte("PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n")},
	{"1, a port far too large", []byte("PROXY TCP4 192.0.2.1 192.0.2.2 18446744073709551617 2\r\n")},
	{"1, a signed port", []byte("PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n")},
	{"1, a negative port", []byte("PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n")},
	{"1, no port", []byte("PROXY TCP4 192.0.2.1 192.0.2.2\r\n")},
	{"1, one port", []byte("PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n")},
	{"1, an empty port", []byte("PROXY TCP4 192.0.2.1 192.0.2.2 1 \r\n")},
	{"1, three ports", []byte("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n")},
	{"1, two spaces", []byte("PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n")},
	{"1, a space at the end", []byte("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n")},
	{"1, a tab", []byte("PROXY TCP4\t192.0.2.1 192.0.2.2 1 2\r\n")},
	{"1, a NUL", []byte("PROXY TCP4 192.0.2.1\x00 192.0.2.2 1 2\r\n")},
	{"1, LF without CR", []byte("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n" + strings.Repeat("x", 107))},
	{"1, CR without LF", []byte("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r" + strings.Repeat("x", 107))},
	{"1, no end of line in 107 bytes", []byte("PROXY UNKNOWN " + strings.Repeat("x", 93))},
	{"1, a line of 108 bytes", []byte("PROXY UNKNOWN " + strings.Repeat("x", 92) + "\r\n")},

	{"2, version 1", v2(0x11, tcp4, both4)},
	{"2, version 3", v2(0x31, tcp4, both4)},
	{"2, version 0", v2(0x01, tcp4, both4)},
	{"2, a command that there is not", v2(0x22, tcp4, both4)},
	{"2, the last command", v2(0x2f, tcp4, both4)},
	{"2, a family that there is not", v2(proxy, 0x41, both4)},
	{"2, a protocol that there is not", v2(proxy, 0x13, both4)},
	{"2, a family without a protocol", v2(proxy, 0x10, both4)},
	{"2, a protocol without a family", v2(proxy, 0x01, both4)},
	{"2, no addresses, 4", v2(proxy, tcp4)},
	{"2, addresses too short, 4", v2(proxy, tcp4, both4[:11])},
	{"2, addresses too short, 6", v2(proxy, tcp6, both6[:35])},
	{"2, addresses too short, unix", v2(proxy, stream, make([]byte, 215))},
	{"2, a TLV of 1 byte", v2(proxy, tcp4, both4, []byte{noop})},
	{"2, a TLV of 2 bytes", v2(proxy, tcp4, both4, []byte{noop, 0})},
	{"2, a TLV without its value", v2(proxy, tcp4, both4, []byte{noop, 0, 1})},
	{"2, a TLV that goes on behind the header", v2(proxy, tcp4, both4, []byte{noop, 0xff, 0xff, 1, 2, 3})},
	{"2, a second TLV that is cut", v2(proxy, tcp6, both6, tlv(noop, "x"), []byte{noop, 0, 2, 1})},
	{"2, a wrong checksum", func() []byte {
		b := withCRC(v2(proxy, tcp4, both4))
		b[16] ^= 1
		return b
	}()},
	{"2, a checksum of 3 bytes", v2(proxy, tcp4, both4, tlv(typeCRC32C, "abc"))},
	{"2, longer than any", append(v2(proxy, tcp4)[:14], 0x10, 0x01)},
	{"2, as long as can be", append(v2(proxy, tcp4)[:14], 0xff, 0xff)},
	{"2, LOCAL, as long as can be", append(v2(local, unspec)[:14], 0xff, 0xff)},
}

// readAll reads a connection in pieces of size bytes, to its end.
func readAll(conn io.Reader, size int) (all []byte, err error) {
	b := make([]byte, size)
	for {
		n, err := conn.Read(b)
		all = append(all, b[:n]...)
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
}

// In whatever pieces a header comes, and whatever comes right behind it: what
// it says is known at the first read, and not a byte of the client's is lost.
func TestProxyHeader(t *testing.T) {
	for _, test := range good {
		t.Run(test.name, func(t *testing.T) {
			want := mysqlPacket
			if !test.relayed && !bytes.HasPrefix(test.header, []byte(signature2)) {
				want = string(test.header) + mysqlPacket
			}
			whole := append(bytes.Clone(test.header), mysqlPacket...)
			for _, size := range []int{1, 2, 15, 17, 512, len(whole)} {
				for _, take := range []int{1, 4, 4096} {
					p := &proxied{Conn: &scripted{chunks: inPieces(whole, size)}}
					got, err := readAll(p, take)
					if err != nil || string(got) != want {
						t.Fatalf("in pieces of %d bytes, read by %d: %q, %v; want %q", size, take, got, err, want)
					}
					if p.header.relayed != test.relayed {
						t.Errorf("relayed: %t", p.header.relayed)
					}
					if test.source == "" && p.header.source.IsValid() || test.source != "" && p.header.source != netip.MustParseAddrPort(test.source) {
						t.Errorf("source %v, want %q", p.header.source, test.source)
					}
				}
			}
			// Nothing but the header: the client speaks later.
			if test.source != "" {
				conn := &scripted{chunks: [][]byte{test.header, []byte(mysqlPacket)}}
				p := &proxied{Conn: conn}
				first := make([]byte, 4)
				if n, err := io.ReadFull(p, first); err != nil || string(first) != mysqlPacket[:4] {
					t.Errorf("behind the header: %q, %v", first[:n], err)
				}
			}
		})
	}
}

// A bad header ends the connection at every read, without a byte of it being
// given on, and without waiting for more than is needed to tell.
func TestProxyHeaderRefused(t *testing.T) {
	for _, test := range bad {
		t.Run(test.name, func(t *testing.T) {
			for _, size := range []int{1, 16, 5000} {
				conn := &scripted{chunks: inPieces(append(bytes.Clone(test.header), mysqlPacket...), size)}
				p := &proxied{Conn: conn}
				for range 3 {
					var b [64]byte
					n, err := p.Read(b[:])
					if n != 0 || !errors.Is(err, ErrProxyHeader) {
						t.Fatalf("in pieces of %d bytes: %q, %v", size, b[:n], err)
					}
				}
				if size == 1 && conn.given > len(test.header) {
					t.Errorf("%d bytes were read to refuse %d", conn.given, len(test.header))
				}
			}
			if _, _, err := parseHeader(test.header); err == nil || len(err.Error()) > 1000 {
				t.Errorf("not readable: %v", err)
			}
		})
	}
}

// A header that ends early leaves the end of the connection as the error.
func TestProxyHeaderCut(t *testing.T) {
	for _, test := range good {
		if test.source == "" {
			continue
		}
		for cut := 1; cut < len(test.header); cut++ {
			p := &proxied{Conn: &scripted{chunks: [][]byte{test.header[:cut]}}}
			got, err := readAll(p, 16)
			if err != nil || len(got) > 0 || p.done {
				t.Fatalf("%s, cut to %d bytes: %q, %v", test.name, cut, got, err)
			}
		}
	}
}

// failing fails its second read for once, as a deadline makes it do.
type failing struct {
	*scripted
	err error
}

func (f *failing) Read(b []byte) (int, error) {
	if f.reads == 1 && f.err != nil {
		err := f.err
		f.err = nil
		return 0, err
	}
	return f.scripted.Read(b)
}

// A deadline in the middle of a header is no end: the next read goes on.
func TestProxyHeaderAfterDeadline(t *testing.T) {
	test := good[1]
	deadline := errors.New("a deadline")
	p := &proxied{Conn: &failing{&scripted{chunks: [][]byte{test.header[:20], append(bytes.Clone(test.header[20:]), mysqlPacket...)}}, deadline}}
	if n, err := p.Read(make([]byte, 10)); n != 0 || err != deadline {
		t.Fatalf("%d, %v", n, err)
	}
	got, err := readAll(p, 10)
	if err != nil || string(got) != mysqlPacket || p.header.source.String() != test.source {
		t.Fatalf("%q, %v, %v", got, err, p.header)
	}
}

// An empty read asks nothing of the connection.
func TestProxyHeaderEmptyRead(t *testing.T) {
	conn := &scripted{chunks: [][]byte{good[1].header}}
	p := &proxied{Conn: conn}
	if n, err := p.Read(nil); n != 0 || err != nil || conn.reads != 0 {
		t.Errorf("%d, %v, %d reads", n, err, conn.reads)
	}
}

// The specification's own example of a version 2 header's signature, and one
// that AWS documents for its network load balancers.
func TestProxyHeaderAsDocumented(t *testing.T) {
	text := "0d0a0d0a000d0a515549540a" + // signature
		"21" + "11" + "0054" + // PROXY, TCP over IPv4, 84 bytes
		"a0b1c2d3" + "0a000001" + "c3d4" + "0cea" +
		"030004" + "00000000" + // CRC32c, filled in below
		"ea0017" + "01" + hex.EncodeToString([]byte("vpce-08d2bf15fac5001c9")) +
		"040024" + strings.Repeat("00", 36)
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	binary.BigEndian.PutUint16(b[14:], uint16(len(b)-16))
	binary.BigEndian.PutUint32(b[31:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	h, size, err := parseHeader(b)
	if err != nil || size != len(b) || h.source != netip.MustParseAddrPort("160.177.194.211:50132") {
		t.Errorf("%v, %d of %d bytes, %v", h, size, len(b), err)
	}
}

func TestTrusted(t *testing.T) {
	all := []string{"10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "fd00::7"}
	tests := []struct {
		list      []string
		transport Transport
		peer      string // empty for none
		want      bool
	}{
		{nil, TCP, "127.0.0.1", false},
		{nil, Unix, "", false},
		{all, TCP, "10.255.0.1", true},
		{all, TCP, "11.0.0.1", false},
		{all, TCP, "192.0.2.7", true},
		{all, TCP, "192.0.2.8", false},
		{all, TCP, "2001:db8:ffff::1", true},
		{all, TCP, "2001:db9::1", false},
		{all, TCP, "fd00::7", true},
		{all, TCP, "fd00::8", false},
		{all, TCP, "::1", false},
		{all, TCP, "", false},
		{all, Unix, "", false},
		{[]string{"unix"}, Unix, "", true},
		{[]string{"unix"}, TCP, "127.0.0.1", false},
		{[]string{"10.0.0.1", "unix"}, Unix, "", true},
		{[]string{"0.0.0.0/0"}, TCP, "127.0.0.1", true},
		{[]string{"0.0.0.0/0"}, TCP, "::1", false},
		{[]string{"::/0"}, TCP, "::1", true},
		{[]string{"10.1.2.3/8"}, TCP, "10.9.9.9", true}, // bits behind the mask do not matter
		// A socket for both families gives IPv4 peers as mapped addresses, and so
		// may a person.
		{[]string{"10.0.0.0/8"}, TCP, "::ffff:10.0.0.1", true},
		{[]string{"::ffff:10.0.0.1"}, TCP, "10.0.0.1", true},
		{[]string{"::ffff:10.0.0.1"}, TCP, "10.0.0.2", false},
		{[]string{"::ffff:10.0.0.0/104"}, TCP, "10.1.2.3", true},
		{[]string{"::ffff:10.0.0.0/104"}, TCP, "11.1.2.3", false},
		// A link-local peer comes with its link.
		{[]string{"fe80::/10"}, TCP, "fe80::1%eth0", true},
		{[]string{"fe80::1"}, TCP, "fe80::1%eth0", true},
		{[]string{"fe80::1"}, TCP, "fe80::2%eth0", false},
	}
	for _, test := range tests {
		trusted, err := ParseTrusted(test.list)
		if err != nil {
			t.Errorf("%q: %v", test.list, err)
			continue
		}
		var peer netip.Addr
		if test.peer != "" {
			peer = netip.MustParseAddr(test.peer)
		}
		if got := trusted.covers(test.transport, peer); got != test.want {
			t.Errorf("%q covers %v %q: %t, want %t", test.list, test.transport, test.peer, got, test.want)
		}
	}
}

func TestTrustedRefused(t *testing.T) {
	for _, entry := range []string{
		"", " ", "10.0.0.0/33", "10.0.0/8", "::1/129", "localhost", "Unix", "10.0.0.1:3306", "fe80::1%eth0", "fe80::%eth0/10", "10.0.0.0/-1",
		"10.0.0.0 /8", "*", "0/0", "::ffff:10.0.0.0/80",
	} {
		if _, err := ParseTrusted([]string{"10.0.0.0/8", entry}); err == nil || !strings.Contains(err.Error(), entry) || !strings.Contains(err.Error(), "expected") {
			t.Errorf("%q: %v", entry, err)
		}
	}
}

// said is what a header says once more, in the other version's form where it
// can be said in that.
func said(h header, version int) []byte {
	switch {
	case version == 1 && !h.source.IsValid():
		return []byte("PROXY UNKNOWN\r\n")
	case version == 1 && h.source.Addr().Is4():
		return []byte("PROXY TCP4 " + h.source.Addr().String() + " 127.0.0.1 " + port(h) + " 3306\r\n")
	case version == 1:
		return []byte("PROXY TCP6 " + h.source.Addr().String() + " ::1 " + port(h) + " 3306\r\n")
	case !h.source.IsValid():
		return v2(proxy, unspec)
	case h.source.Addr().Is4():
		return v2(proxy, tcp4, addresses4(h.source.String(), "127.0.0.1:3306"))
	}
	return v2(proxy, tcp6, addresses6(h.source.String(), "[::1]:3306"))
}

func port(h header) string {
	_, port, _ := strings.Cut(h.source.String()[strings.LastIndexByte(h.source.String(), ':'):], ":")
	return port
}

// Whatever a trusted peer sends: nothing panics; what is read before the
// decision is bounded; the client's bytes are those behind the header, in
// whatever pieces they come; a bad header gives none of them; and what a header
// says is the same when it is said again in either version.
func FuzzProxyProtocol(f *testing.F) {
	for _, test := range good {
		f.Add(append(bytes.Clone(test.header), mysqlPacket...), uint16(1))
	}
	for _, test := range bad {
		f.Add(append(bytes.Clone(test.header), mysqlPacket...), uint16(7))
	}
	f.Fuzz(func(t *testing.T, b []byte, piece uint16) {
		h, size, err := parseHeader(b)
		if size < 0 || size > len(b) || size > 16+maxBody2 || err != nil && (size != 0 || h != header{}) {
			t.Fatalf("%d of %d bytes: %v, %v", size, len(b), h, err)
		}
		if err != nil && err != errShort && !errors.Is(err, ErrProxyHeader) {
			t.Fatalf("not the error of a bad header: %v", err)
		}
		// More bytes behind a header change nothing about it.
		if err == nil && size > 0 {
			if again, n, err := parseHeader(b[:size]); again != h || n != size || err != nil {
				t.Fatalf("%v in %d bytes; alone %v in %d, %v", h, size, again, n, err)
			}
			for cut := range size {
				if _, _, err := parseHeader(b[:cut]); err != errShort {
					t.Fatalf("%d of the %d bytes are enough: %v", cut, size, err)
				}
			}
		}
		if len(b) == 0 {
			return
		}
		conn := &scripted{chunks: inPieces(b, int(piece%1024)+1)}
		p := &proxied{Conn: conn}
		got, readErr := readAll(p, 33)
		switch {
		case err == nil:
			if readErr != nil || !bytes.Equal(got, b[size:]) || p.header != h {
				t.Fatalf("a connection gives %q, %v, %v; want %q, %v", got, p.header, readErr, b[size:], h)
			}
		case err == errShort:
			if readErr != nil || len(got) > 0 {
				t.Fatalf("a cut header gives %q, %v", got, readErr)
			}
		default:
			if !errors.Is(readErr, ErrProxyHeader) || len(got) > 0 {
				t.Fatalf("a bad header gives %q, %v", got, readErr)
			}
			if conn.given > 16+maxBody2+512 {
				t.Fatalf("%d bytes were read before it was refused", conn.given)
			}
		}
		if !h.relayed {
			if h.source.IsValid() {
				t.Fatalf("%v speaks for nobody", h.source)
			}
			return
		}
		for version := 1; version <= 2; version++ {
			text := said(h, version)
			again, n, err := parseHeader(text)
			if again != h || n != len(text) || err != nil {
				t.Fatalf("%v, said as %q, is %v, %v", h, text, again, err)
			}
		}
	})
}
