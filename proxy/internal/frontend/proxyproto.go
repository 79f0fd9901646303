package frontend

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Trusted is the set of peers that may say on whose behalf they connect. The
// zero value trusts nobody.
type Trusted struct {
	networks []netip.Prefix
	unix     bool
}

// ParseTrusted reads networks (CIDR), single addresses and the word "unix".
func ParseTrusted(list []string) (Trusted, error) {
	var t Trusted
	for _, entry := range list {
		if entry == "unix" {
			t.unix = true
			continue
		}
		network, err := netip.ParsePrefix(entry)
		if err != nil {
			address, addressErr := netip.ParseAddr(entry)
			if addressErr != nil || address.Zone() != "" {
				return Trusted{}, fmt.Errorf(`trusted proxy %q: expected a network such as 10.0.0.0/8, an address or "unix"`, entry)
			}
			network = netip.PrefixFrom(address, address.BitLen())
		}
		// An IPv4 peer of a socket for both families is an IPv4 peer.
		if network.Addr().Is4In6() {
			if network.Bits() < 96 {
				return Trusted{}, fmt.Errorf("trusted proxy %q: expected a mapped IPv4 network's prefix to have at least 96 bits", entry)
			}
			network = netip.PrefixFrom(network.Addr().Unmap(), network.Bits()-96)
		}
		t.networks = append(t.networks, network.Masked())
	}
	return t, nil
}

func (t Trusted) covers(transport Transport, peer netip.Addr) bool {
	if transport == Unix {
		return t.unix
	}
	peer = peer.Unmap().WithZone("") // no network contains an address with a zone
	for _, network := range t.networks {
		if network.Contains(peer) {
			return true
		}
	}
	return false
}

// ErrProxyHeader says that a trusted peer sent a PROXY protocol header that
// cannot be right. The connection is of no use.
var ErrProxyHeader = errors.New("bad PROXY protocol header")

// header is what a PROXY protocol header says.
type header struct {
	source  netip.AddrPort // not valid if the header names none
	relayed bool           // the peer speaks for another, named or not
}

// proxied takes a PROXY protocol header off a connection's beginning.
//
// The header is optional, as it is for MariaDB's proxy_protocol_networks (and
// not for Percona's): a server speaks first, so nothing waits for it. The
// greeting goes out at once, and the first bytes that come back tell a header
// from a MySQL packet: its fourth byte is never the sequence number 1 that a
// client's first packet has. The handshake's time limit covers the header too.
type proxied struct {
	net.Conn
	header  header
	done    bool   // the header, if any, was taken off
	pending []byte // read and not given yet
	err     error
}

func (p *proxied) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for !p.done {
		if p.err != nil {
			return 0, p.err
		}
		size, err := 0, error(nil)
		if len(p.pending) > 0 {
			p.header, size, err = parseHeader(p.pending)
		} else {
			err = errShort
		}
		switch err {
		case nil:
			p.pending, p.done = p.pending[size:], true
		case errShort:
			var chunk [512]byte
			n, err := p.Conn.Read(chunk[:])
			p.pending = append(p.pending, chunk[:n]...)
			if n == 0 && err != nil {
				return 0, err // may be a deadline: the next Read goes on
			}
		default:
			p.err = err
		}
	}
	if len(p.pending) > 0 {
		n := copy(b, p.pending)
		p.pending = p.pending[n:]
		return n, nil
	}
	p.pending = nil
	return p.Conn.Read(b)
}

// errShort says that more bytes are needed to tell.
var errShort = errors.New("header not complete")

const (
	signature1 = "PROXY "
	signature2 = "\r\n\r\n\x00\r\nQUIT\n"
	maxLine1   = 107  // version 1, with its CR LF
	maxBody2   = 4096 // version 2; the largest known (AWS, with all its TLVs) is below 600
)

// parseHeader reads a PROXY protocol header at the beginning of b and returns
// its size; 0 if there is none. It returns errShort if b may be the beginning
// of one. See https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt
func parseHeader(b []byte) (header, int, error) {
	switch {
	case bytes.HasPrefix(b, []byte(signature2)):
		return parseHeader2(b)
	case bytes.HasPrefix(b, []byte(signature1)):
		return parseHeader1(b)
	case strings.HasPrefix(signature1, string(b)), strings.HasPrefix(signature2, string(b)):
		return header{}, 0, errShort
	}
	return header{}, 0, nil
}

// parseHeader1 reads "PROXY TCP4 192.0.2.1 192.0.2.2 56324 3306\r\n".
func parseHeader1(b []byte) (header, int, error) {
	end := bytes.Index(b[:min(len(b), maxLine1)], []byte("\r\n"))
	if end < 0 {
		if len(b) >= maxLine1 {
			return header{}, 0, fmt.Errorf("%w: no line of %d bytes", ErrProxyHeader, maxLine1)
		}
		return header{}, 0, errShort
	}
	line, size := string(b[len(signature1):end]), end+2
	if line == "UNKNOWN" || strings.HasPrefix(line, "UNKNOWN ") {
		return header{relayed: true}, size, nil
	}
	fields := strings.Split(line, " ")
	if len(fields) != 5 || fields[0] != "TCP4" && fields[0] != "TCP6" {
		return header{}, 0, fmt.Errorf("%w: %q", ErrProxyHeader, line)
	}
	source, err := netip.ParseAddr(fields[1])
	destination, err2 := netip.ParseAddr(fields[2])
	port, err3 := parsePort(fields[3])
	_, err4 := parsePort(fields[4])
	if err := errors.Join(err, err2, err3, err4); err != nil {
		return header{}, 0, fmt.Errorf("%w: %q: %w", ErrProxyHeader, line, err)
	}
	four := fields[0] == "TCP4"
	if source.Is4() != four || destination.Is4() != four || source.Zone() != "" || destination.Zone() != "" {
		return header{}, 0, fmt.Errorf("%w: %q: addresses of another family", ErrProxyHeader, line)
	}
	return header{source: netip.AddrPortFrom(source.Unmap(), port), relayed: true}, size, nil
}

func parsePort(s string) (uint16, error) {
	port, err := strconv.ParseUint(s, 10, 16)
	if err == nil && len(s) > 1 && s[0] == '0' {
		err = fmt.Errorf("port %q has a leading zero", s)
	}
	return uint16(port), err
}

// parseHeader2 reads the binary version.
func parseHeader2(b []byte) (header, int, error) {
	const fixed = len(signature2) + 4
	if len(b) < fixed {
		return header{}, 0, errShort
	}
	command, family := b[12], b[13]
	length := int(binary.BigEndian.Uint16(b[14:]))
	if command>>4 != 2 || command&0xf > 1 {
		return header{}, 0, fmt.Errorf("%w: version and command %#02x", ErrProxyHeader, command)
	}
	if length > maxBody2 {
		return header{}, 0, fmt.Errorf("%w: %d bytes long", ErrProxyHeader, length)
	}
	size := fixed + length
	if len(b) < size {
		return header{}, 0, errShort
	}
	if command&0xf == 0 { // LOCAL: the proxy's own, a health check; all else is ignored
		return header{}, size, nil
	}
	h := header{relayed: true}
	var addresses int // bytes of addresses before the TLVs
	switch family {
	case 0x11, 0x12: // TCP and UDP over IPv4
		addresses = 12
	case 0x21, 0x22: // the same over IPv6
		addresses = 36
	case 0x31, 0x32: // unix sockets: an address that says nothing here
		addresses = 216
	case 0x00: // unspecified: what follows is to be ignored
		return h, size, nil
	default:
		return header{}, 0, fmt.Errorf("%w: address family and protocol %#02x", ErrProxyHeader, family)
	}
	body := b[fixed:size]
	if len(body) < addresses {
		return header{}, 0, fmt.Errorf("%w: %d bytes are too short for family %#02x", ErrProxyHeader, length, family)
	}
	if err := checkTLVs(b[:size], fixed+addresses); err != nil {
		return header{}, 0, err
	}
	switch family {
	case 0x11:
		h.source = netip.AddrPortFrom(netip.AddrFrom4([4]byte(body)), binary.BigEndian.Uint16(body[8:]))
	case 0x21:
		h.source = netip.AddrPortFrom(netip.AddrFrom16([16]byte(body)).Unmap(), binary.BigEndian.Uint16(body[32:]))
	}
	return h, size, nil
}

// typeCRC32C is PP2_TYPE_CRC32C, the one TLV that is looked at.
const typeCRC32C = 3

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checkTLVs walks the type-length-value triples of a version 2 header, from an
// offset to its end, and verifies its checksum if it has one.
func checkTLVs(whole []byte, at int) error {
	for at < len(whole) {
		if len(whole)-at < 3 {
			return fmt.Errorf("%w: a TLV is cut", ErrProxyHeader)
		}
		kind, length := whole[at], int(binary.BigEndian.Uint16(whole[at+1:]))
		at += 3
		if len(whole)-at < length {
			return fmt.Errorf("%w: TLV %#02x is cut", ErrProxyHeader, kind)
		}
		if kind == typeCRC32C {
			if length != 4 {
				return fmt.Errorf("%w: a CRC32c of %d bytes", ErrProxyHeader, length)
			}
			// Over the whole header, with the checksum's own field as zeros.
			sum := crc32.Checksum(whole[:at], castagnoli)
			sum = crc32.Update(sum, castagnoli, make([]byte, 4))
			sum = crc32.Update(sum, castagnoli, whole[at+4:])
			if sum != binary.BigEndian.Uint32(whole[at:]) {
				return fmt.Errorf("%w: wrong CRC32c", ErrProxyHeader)
			}
		}
		at += length
	}
	return nil
}
