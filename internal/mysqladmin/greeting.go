package mysqladmin

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"farmhand/internal/farm"
)

// Greeting is what a server says before it knows who the client is.
type Greeting struct {
	// Version is the server's version string, without the "5.5.5-" that older
	// MariaDB servers put before it for old MySQL replicas.
	Version string
	// Capabilities are the CLIENT_* flags in the lower 32 bits; in the upper 32
	// bits MariaDB's extended ones, zero on MySQL.
	Capabilities uint64
	// Collation is the low byte of the default collation's id.
	Collation uint8
	// AuthPlugin is the server's default authentication plugin; empty if it
	// names none.
	AuthPlugin string
}

// maxGreeting bounds the greeting, in bytes; real ones have about 100.
const maxGreeting = 4096

var errGreeting = errors.New("malformed server greeting")

// readGreeting reads the first packet of a server. It returns the packet with
// its header too, for whoever is to read it again. A refusal instead of a
// greeting ("Too many connections") is returned as *mysql.MyError.
//
// https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_handshake_v10.html
// https://mariadb.com/kb/en/connection/#initial-handshake-packet
func readGreeting(nc net.Conn) (Greeting, []byte, error) {
	packet := make([]byte, 4, 128)
	if _, err := io.ReadFull(nc, packet); err != nil {
		return Greeting{}, nil, err
	}
	n := int(packet[0]) | int(packet[1])<<8 | int(packet[2])<<16
	if n == 0 || n > maxGreeting {
		return Greeting{}, nil, fmt.Errorf("%w: %d bytes long", errGreeting, n)
	}
	packet = append(packet, make([]byte, n)...)
	if _, err := io.ReadFull(nc, packet[4:]); err != nil {
		return Greeting{}, nil, err
	}
	g, err := parseGreeting(packet[4:])
	return g, packet, err
}

func parseGreeting(p []byte) (Greeting, error) {
	if len(p) >= 3 && p[0] == mysql.ERR_HEADER {
		// Whether a state follows is up to the server's age.
		e := &mysql.MyError{Code: binary.LittleEndian.Uint16(p[1:]), State: "HY000"}
		if p = p[3:]; len(p) >= 6 && p[0] == '#' {
			e.State, p = string(p[1:6]), p[6:]
		}
		e.Message = string(p)
		return Greeting{}, e
	}
	if len(p) == 0 || p[0] != mysql.ClassicProtocolVersion {
		return Greeting{}, fmt.Errorf("%w: not a MySQL server, or not its port", errGreeting)
	}
	version, p, ok := bytes.Cut(p[1:], []byte{0})
	// Connection id 4, scramble 8, filler 1, capabilities 2, collation 1,
	// status 2, capabilities 2, length of the scramble 1, filler 6, MariaDB's
	// extended capabilities 4; after these the rest of the scramble.
	if !ok || len(p) < 31 {
		return Greeting{}, fmt.Errorf("%w: too short", errGreeting)
	}
	g := Greeting{
		Version:      strings.TrimPrefix(string(version), "5.5.5-"),
		Capabilities: uint64(binary.LittleEndian.Uint16(p[13:])) | uint64(binary.LittleEndian.Uint16(p[18:]))<<16,
		Collation:    p[15],
	}
	if !g.has(mysql.CLIENT_PROTOCOL_41) || !g.has(mysql.CLIENT_SECURE_CONNECTION) {
		return Greeting{}, fmt.Errorf("%w: a server older than 4.1", errGreeting)
	}
	// A server that does not claim to be MySQL's has used the filler for its
	// own flags since 10.2.
	if !g.has(mysql.CLIENT_LONG_PASSWORD) {
		g.Capabilities |= uint64(binary.LittleEndian.Uint32(p[27:])) << 32
	}
	rest := max(13, int(p[20])-8)
	if p = p[31:]; len(p) < rest {
		return Greeting{}, fmt.Errorf("%w: too short", errGreeting)
	}
	if g.has(mysql.CLIENT_PLUGIN_AUTH) {
		plugin, _, _ := bytes.Cut(p[rest:], []byte{0})
		g.AuthPlugin = string(plugin)
	}
	return g, nil
}

func (g Greeting) has(flag uint32) bool { return uint32(g.Capabilities)&flag != 0 }

// Flavor tells whose server sent the greeting. MariaDB is known by the flag
// that only MySQL sets, so that a version string that was configured to say
// something else does not mislead.
func (g Greeting) Flavor() farm.Flavor {
	switch {
	case g.Version == "":
		return farm.UnknownFlavor
	case !g.has(mysql.CLIENT_LONG_PASSWORD) || strings.Contains(g.Version, "MariaDB"):
		return farm.MariaDB
	}
	return farm.MySQL
}

// VersionNumber returns the version as a number that can be compared: 101114
// for 10.11.14, 90700 for 9.7.0; 0 if the version string has no such form.
func (g Greeting) VersionNumber() int {
	number, parts := 0, strings.SplitN(g.Version, ".", 3)
	if len(parts) < 3 {
		return 0
	}
	for _, part := range parts {
		n, digits := 0, 0
		for digits < len(part) && digits < 2 && '0' <= part[digits] && part[digits] <= '9' {
			n = n*10 + int(part[digits]-'0')
			digits++
		}
		if digits == 0 {
			return 0
		}
		number = number*100 + n
	}
	return number
}
