package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
)

// The account of the application on a local farm, and its schema.
const (
	user     = "app"
	password = "app"
	schema   = "app"
)

// What the client says it can do: as PHP's mysqlnd, results end with an EOF
// packet.
// https://mariadb.com/kb/en/connection/#capabilities
const (
	capabilities = 0x1 /* LONG_PASSWORD */ | 0x4 /* LONG_FLAG */ | 0x8 /* CONNECT_WITH_DB */ | 0x80 /* LOCAL_FILES */ |
		0x200 /* PROTOCOL_41 */ | 0x2000 /* TRANSACTIONS */ | 0x8000 /* SECURE_CONNECTION */ | 0x80000 /* PLUGIN_AUTH */
	capabilitySSL = 0x800

	utf8mb4       = 45
	nativePlugin  = "mysql_native_password"
	maximalPacket = 1<<24 - 1
)

// packet is a payload with its header.
func packet(sequence byte, payload []byte) []byte {
	n := len(payload)
	return append([]byte{byte(n), byte(n >> 8), byte(n >> 16), sequence}, payload...)
}

// command is the packets of a COM_QUERY.
func command(sql string) []byte {
	payload := append([]byte{3}, sql...)
	var out []byte
	for sequence := byte(0); ; sequence++ {
		n := min(len(payload), maximalPacket)
		out = append(out, packet(sequence, payload[:n])...)
		if payload = payload[n:]; n < maximalPacket {
			return out
		}
	}
}

// quit is a COM_QUIT.
var quit = packet(0, []byte{1})

// cutPacket takes the first packet off b; ok is false while it is not whole.
func cutPacket(b []byte) (sequence byte, payload, rest []byte, ok bool) {
	if len(b) < 4 {
		return 0, nil, b, false
	}
	n := int(b[0]) | int(b[1])<<8 | int(b[2])<<16
	if len(b) < 4+n {
		return 0, nil, b, false
	}
	return b[3], b[4 : 4+n], b[4+n:], true
}

// parseGreeting returns the greeting's 20 bytes for the password's hash.
func parseGreeting(p []byte) (scramble []byte, err error) {
	if len(p) > 0 && p[0] == 0xff {
		return nil, refusal(p)
	}
	// Version text, connection id, 8 bytes, filler, capabilities, character set,
	// status, capabilities, length, 10 reserved bytes, 12 bytes.
	end := bytes.IndexByte(p, 0)
	if len(p) == 0 || p[0] != 10 || end < 0 || len(p) < end+44 {
		return nil, errors.New("the greeting is not understood")
	}
	return append(append([]byte{}, p[end+5:end+13]...), p[end+32:end+44]...), nil
}

// scrambled is the answer of mysql_native_password.
func scrambled(scramble []byte) []byte {
	first := sha1.Sum([]byte(password))
	second := sha1.Sum(first[:])
	h := sha1.New()
	h.Write(scramble)
	h.Write(second[:])
	answer := h.Sum(nil)
	for i := range answer {
		answer[i] ^= first[i]
	}
	return answer
}

// startTLS is the packet that asks for TLS, in answer to a greeting.
func startTLS() []byte {
	return packet(1, loginHead(capabilities|capabilitySSL))
}

func loginHead(flags uint32) []byte {
	p := binary.LittleEndian.AppendUint32(nil, flags)
	p = binary.LittleEndian.AppendUint32(p, 1<<30)
	return append(append(p, utf8mb4), make([]byte, 23)...)
}

// login is the packet that logs in.
func login(sequence byte, scramble []byte, encrypted bool) []byte {
	flags := uint32(capabilities)
	if encrypted {
		flags |= capabilitySSL
	}
	p := append(loginHead(flags), user+"\x00\x14"...)
	p = append(p, scrambled(scramble)...)
	return packet(sequence, append(p, schema+"\x00"+nativePlugin+"\x00"...))
}

// loginStep looks at a packet that came after the login: done, or send this
// next.
func loginStep(sequence byte, p []byte) (send []byte, done bool, err error) {
	switch {
	case len(p) == 0:
		return nil, false, errors.New("an empty packet in the handshake")
	case p[0] == 0:
		return nil, true, nil
	case p[0] == 0xff:
		return nil, false, refusal(p)
	case p[0] == 0xfe:
		name, data, ok := bytes.Cut(p[1:], []byte{0})
		if !ok || string(name) != nativePlugin || len(data) < 20 {
			return nil, false, fmt.Errorf("the server wants the authentication plugin %q; this client has %s only", name, nativePlugin)
		}
		return packet(sequence+1, scrambled(data[:20])), false, nil
	}
	return nil, false, fmt.Errorf("a packet 0x%02x in the handshake", p[0])
}

// refusal is the error that an ERR packet holds.
func refusal(p []byte) error {
	if len(p) < 3 {
		return errors.New("an error packet without an error")
	}
	text := p[3:]
	if len(text) > 6 && text[0] == '#' {
		text = text[6:]
	}
	return fmt.Errorf("error %d: %s", binary.LittleEndian.Uint16(p[1:3]), text)
}
