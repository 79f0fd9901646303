package frontend

import (
	"bytes"
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"farmhand/proxy/internal/config"
	"farmhand/proxy/internal/monitor"
	"farmhand/proxy/internal/wire"
)

// talking is a scripted client that keeps what it is told.
type talking struct {
	scripted
	told bytes.Buffer
}

func (c *talking) Write(b []byte) (int, error)      { return c.told.Write(b) }
func (c *talking) SetDeadline(time.Time) error      { return nil }
func (c *talking) SetReadDeadline(time.Time) error  { return nil }
func (c *talking) SetWriteDeadline(time.Time) error { return nil }
func (c *talking) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 3306} }

func (c *talking) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5} }

// Whatever a client says before it is logged in: nothing panics, nobody without
// the password gets in, what is read of it is bounded, and it is told a greeting
// and no more than a few small packets, the last of them the error, if there is
// one, that the proxy goes by.
func FuzzHandshake(f *testing.F) {
	packet := func(seq uint8, payload []byte) []byte {
		b, _ := wire.AppendPackets(nil, payload, seq)
		return b
	}
	caps := wire.ClientProtocol41 | wire.ClientSecureConnection | wire.ClientPluginAuth
	response := func(r wire.HandshakeResponse) []byte {
		r.Capabilities |= caps
		return packet(1, r.Append(nil))
	}
	scramble := bytes.Repeat([]byte{7}, 20)
	native := response(wire.HandshakeResponse{User: "app", AuthResponse: scramble, AuthPlugin: "mysql_native_password"})
	request := packet(1, (&wire.HandshakeResponse{Capabilities: caps | wire.ClientSSL}).AppendSSLRequest(nil))
	f.Add(native, uint16(512), uint8(0))
	f.Add(append(bytes.Clone(native), packet(3, scramble)...), uint16(1), uint8(1))
	f.Add(response(wire.HandshakeResponse{User: "nobody", AuthPlugin: "caching_sha2_password", AuthResponse: make([]byte, 32)}), uint16(7), uint8(4))
	f.Add(response(wire.HandshakeResponse{
		Capabilities: wire.ClientConnectWithDB | wire.ClientConnectAttrs | wire.ClientPluginAuthLenEnc | wire.ClientMySQL | wire.ClientZstd | wire.ClientCompress,
		User:         "app", Schema: "shop", AuthPlugin: "mysql_clear_password", AuthResponse: []byte("guess\x00"), Attributes: wire.AppendAttributes(nil, "a", "b"), ZstdLevel: 22,
	}), uint16(100), uint8(6))
	f.Add(append(bytes.Clone(request), "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03"...), uint16(36), uint8(2))
	f.Add(append(bytes.Clone(request), native...), uint16(600), uint8(2))
	f.Add(append(v2(proxy, tcp4, both4), native...), uint16(3), uint8(1))
	f.Add(append([]byte("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"), native...), uint16(300), uint8(0))
	f.Add([]byte("\xff\xff\xff\x01"), uint16(4), uint8(0))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), uint16(9), uint8(0))

	shown, err := ClientTLS(config.TLSClients{Mode: config.TLSPreferred}, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	trusting, err := ParseTrusted([]string{"127.0.0.0/8"})
	if err != nil {
		f.Fatal(err)
	}
	plain, secured := newHandshake(nil), newHandshake(shown)
	f.Fuzz(func(t *testing.T, said []byte, piece uint16, flags uint8) {
		client := &talking{scripted: scripted{chunks: [][]byte{said}}}
		if len(said) == 0 {
			client.chunks = nil
		} else {
			client.chunks = inPieces(said, int(piece%4096)+1)
		}
		var trusted Trusted
		if flags&1 != 0 {
			trusted = trusting
		}
		h := *plain
		if flags&2 != 0 {
			h = *secured
		}
		if flags&4 != 0 {
			h.Farm = viewOf(&monitor.View{Primary: mySQL()})
		}
		h.Secure = flags&8 != 0
		got, err := h.Greet(context.Background(), 1, newAccepted(client, trusted))
		if got != nil || err == nil {
			t.Fatalf("let in: %+v, %v", got, err)
		}
		if client.given > 16+maxBody2+512+8*(handshakePacket+wire.HeaderSize) {
			t.Errorf("%d bytes were read", client.given)
		}
		var last []byte
		packets := 0
		in := wire.NewConn(&scripted{chunks: inPieces(client.told.Bytes(), 4096)})
		for {
			payload, e := in.ReadPayload(1 << 12)
			if e != nil {
				break // also TLS, which is no packets
			}
			if packets++; packets == 1 {
				if _, e := wire.ParseGreeting(payload); e != nil {
					t.Fatalf("not a greeting: %v", e)
				}
			}
			last = bytes.Clone(payload)
		}
		if packets == 0 || client.told.Len() > 16<<10 {
			t.Fatalf("it is told %d packets, %d bytes", packets, client.told.Len())
		}
		var refused *wire.Error
		if errors.As(err, &refused) && flags&2 == 0 {
			if e, parseErr := wire.ParseError(last); parseErr != nil || *e != *refused {
				t.Fatalf("told % x where %v is meant, %v", last, refused, parseErr)
			}
		}
	})
}
