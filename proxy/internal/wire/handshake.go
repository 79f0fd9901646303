package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// NonceSize is the size of the challenge in a greeting.
const NonceSize = 20

// Greeting is the server's first packet, protocol version 10.
type Greeting struct {
	Version      string
	ConnectionID uint32
	Nonce        []byte // NonceSize bytes
	Capabilities Capability
	Collation    uint8
	Status       Status
	AuthPlugin   string
}

// ParseGreeting decodes a greeting. An ERR packet in its place (too many
// connections, host blocked) is returned as *Error.
func ParseGreeting(payload []byte) (*Greeting, error) {
	if IsError(payload) {
		e, err := ParseError(payload)
		if err != nil {
			return nil, err
		}
		return nil, e
	}
	d := Decode(payload)
	if v := d.Uint8(); v != 10 {
		return nil, fmt.Errorf("greeting has protocol version %d, not 10: %w", v, ErrMalformed)
	}
	g := &Greeting{Version: string(d.NulBytes()), ConnectionID: d.Uint32()}
	g.Nonce = append(g.Nonce, d.Bytes(8)...)
	d.Skip(1)
	g.Capabilities = Capability(d.Uint16())
	if d.Len() > 0 {
		g.Collation = d.Uint8()
		g.Status = Status(d.Uint16())
		g.Capabilities |= Capability(d.Uint16()) << 16
		authLen := int(d.Uint8())
		d.Skip(6)
		extended := Capability(d.Uint32())
		if !g.Capabilities.Has(ClientMySQL) {
			g.Capabilities |= extended << 32
		}
		if g.Capabilities.Has(ClientSecureConnection) {
			// 12 bytes and a NUL, which the length counts.
			rest := d.Bytes(max(NonceSize-8+1, authLen-8))
			g.Nonce = append(g.Nonce, rest[:min(len(rest), NonceSize-8)]...)
		}
		if g.Capabilities.Has(ClientPluginAuth) {
			g.AuthPlugin = string(d.NulOrRest())
		}
	}
	if err := d.Err(); err != nil {
		return nil, fmt.Errorf("greeting: %w", err)
	}
	if !g.Capabilities.Has(ClientProtocol41) || len(g.Nonce) != NonceSize {
		return nil, fmt.Errorf("greeting of a server before MySQL 4.1: %w", ErrMalformed)
	}
	return g, nil
}

// Append appends the greeting's payload.
func (g *Greeting) Append(dst []byte) []byte {
	dst = append(append(append(dst, 10), g.Version...), 0)
	dst = binary.LittleEndian.AppendUint32(dst, g.ConnectionID)
	dst = append(append(dst, g.Nonce[:8]...), 0)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(g.Capabilities))
	dst = append(dst, g.Collation)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(g.Status))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(g.Capabilities>>16))
	dst = append(dst, NonceSize+1, 0, 0, 0, 0, 0, 0)
	extended := uint32(0)
	if !g.Capabilities.Has(ClientMySQL) {
		extended = uint32(g.Capabilities >> 32)
	}
	dst = binary.LittleEndian.AppendUint32(dst, extended)
	dst = append(append(dst, g.Nonce[8:]...), 0)
	return append(append(dst, g.AuthPlugin...), 0)
}

// HandshakeResponse is the client's answer to a greeting (or, with nothing but
// its first fields, an SSLRequest).
type HandshakeResponse struct {
	Capabilities  Capability
	MaxPacketSize uint32
	Collation     uint8
	User          string
	AuthResponse  []byte
	Schema        string
	AuthPlugin    string
	Attributes    []byte // undecoded connection attributes
	ZstdLevel     uint8
}

// The sizes of a handshake response's fixed part, which is all that an
// SSLRequest has, and of its filler.
const (
	handshakeFixed  = 32
	handshakeFiller = 19
)

// ParseHandshakeResponse decodes a handshake response. sslRequest is true where
// the payload ends after its fixed part and asks for TLS.
func ParseHandshakeResponse(payload []byte) (r *HandshakeResponse, sslRequest bool, err error) {
	d := Decode(payload)
	r = &HandshakeResponse{Capabilities: Capability(d.Uint32())}
	if d.Err() != nil || !r.Capabilities.Has(ClientProtocol41) {
		return nil, false, fmt.Errorf("handshake response of a client before MySQL 4.1: %w", ErrMalformed)
	}
	r.MaxPacketSize = d.Uint32()
	r.Collation = d.Uint8()
	d.Skip(handshakeFiller)
	extended := d.Uint32()
	if !r.Capabilities.Has(ClientMySQL) {
		r.Capabilities |= Capability(extended) << 32
	}
	if d.Err() != nil {
		return nil, false, fmt.Errorf("handshake response: %w", ErrMalformed)
	}
	if d.Len() == 0 && r.Capabilities.Has(ClientSSL) {
		return r, true, nil
	}
	r.User = string(d.NulBytes())
	switch {
	case r.Capabilities.Has(ClientPluginAuthLenEnc):
		r.AuthResponse = bytes.Clone(d.LenEncBytes())
	case r.Capabilities.Has(ClientSecureConnection):
		r.AuthResponse = bytes.Clone(d.Bytes(int(d.Uint8())))
	default:
		r.AuthResponse = bytes.Clone(d.NulOrRest())
	}
	// Old clients set flags for fields that they then leave out.
	if r.Capabilities.Has(ClientConnectWithDB) && d.Len() > 0 {
		r.Schema = string(d.NulOrRest())
	}
	if r.Capabilities.Has(ClientPluginAuth) && d.Len() > 0 {
		r.AuthPlugin = string(d.NulOrRest())
	}
	if r.Capabilities.Has(ClientConnectAttrs) && d.Len() > 0 {
		r.Attributes = bytes.Clone(d.LenEncBytes())
	}
	if r.Capabilities.Has(ClientZstd) && d.Len() > 0 {
		r.ZstdLevel = d.Uint8()
	}
	if err := d.Err(); err != nil {
		return nil, false, fmt.Errorf("handshake response: %w", err)
	}
	return r, false, nil
}

// AppendSSLRequest appends the payload of an SSLRequest: the response's fixed
// part alone.
func (r *HandshakeResponse) AppendSSLRequest(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(r.Capabilities))
	dst = binary.LittleEndian.AppendUint32(dst, r.MaxPacketSize)
	dst = append(dst, r.Collation)
	dst = append(dst, make([]byte, handshakeFiller)...)
	extended := uint32(0)
	if !r.Capabilities.Has(ClientMySQL) {
		extended = uint32(r.Capabilities >> 32)
	}
	return binary.LittleEndian.AppendUint32(dst, extended)
}

// Append appends the payload of the response. Its capabilities must agree with
// its fields.
func (r *HandshakeResponse) Append(dst []byte) []byte {
	dst = r.AppendSSLRequest(dst)
	dst = append(append(dst, r.User...), 0)
	if r.Capabilities.Has(ClientPluginAuthLenEnc) {
		dst = AppendLenEncString(dst, r.AuthResponse)
	} else {
		dst = append(append(dst, byte(len(r.AuthResponse))), r.AuthResponse...)
	}
	if r.Capabilities.Has(ClientConnectWithDB) {
		dst = append(append(dst, r.Schema...), 0)
	}
	if r.Capabilities.Has(ClientPluginAuth) {
		dst = append(append(dst, r.AuthPlugin...), 0)
	}
	if r.Capabilities.Has(ClientConnectAttrs) {
		dst = AppendLenEncString(dst, r.Attributes)
	}
	if r.Capabilities.Has(ClientZstd) {
		dst = append(dst, r.ZstdLevel)
	}
	return dst
}

// ChangeUser is the payload of COM_CHANGE_USER.
type ChangeUser struct {
	User         string
	AuthResponse []byte
	Schema       string
	Collation    uint16 // 0 where the client leaves it out
	AuthPlugin   string
	Attributes   []byte
}

// ParseChangeUser decodes a COM_CHANGE_USER, command byte included, of a
// client with the given capabilities.
func ParseChangeUser(payload []byte, caps Capability) (*ChangeUser, error) {
	d := Decode(payload)
	d.Skip(1)
	c := &ChangeUser{User: string(d.NulBytes())}
	if caps.Has(ClientSecureConnection) {
		c.AuthResponse = bytes.Clone(d.Bytes(int(d.Uint8())))
	} else {
		c.AuthResponse = bytes.Clone(d.NulBytes())
	}
	c.Schema = string(d.NulOrRest())
	if d.Len() >= 2 {
		c.Collation = d.Uint16()
	}
	if caps.Has(ClientPluginAuth) && d.Len() > 0 {
		c.AuthPlugin = string(d.NulOrRest())
	}
	if caps.Has(ClientConnectAttrs) && d.Len() > 0 {
		c.Attributes = bytes.Clone(d.LenEncBytes())
	}
	if err := d.Err(); err != nil {
		return nil, fmt.Errorf("COM_CHANGE_USER: %w", err)
	}
	return c, nil
}

// AppendAttributes appends connection attributes, names and values in turn.
func AppendAttributes(dst []byte, pairs ...string) []byte {
	for _, s := range pairs {
		dst = AppendLenEncString(dst, s)
	}
	return dst
}
