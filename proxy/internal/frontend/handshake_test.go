package frontend

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"farmhand/proxy/internal/compress"
	"farmhand/proxy/internal/config"
	"farmhand/proxy/internal/monitor"
	"farmhand/proxy/internal/wire"
)

func TestLogin(t *testing.T) {
	f := startFront(t, nil, nil)
	for _, address := range []string{f.tcp, f.socket} {
		unix := address == f.socket
		p := dial(t, address)
		if p.greeting.Version != "5.5.5-10.11.14-MariaDB" || p.greeting.ConnectionID != 77 || p.greeting.Collation != 8 || p.greeting.Status != wire.StatusAutocommit {
			t.Errorf("greeting %+v", p.greeting)
		}
		if err := p.login("app", "secret", "shop"); err != nil {
			t.Fatal(err)
		}
		p.ping()
		got := wait(t, "outcome", f.outcomes)
		if got.err != nil {
			t.Fatal(got.err)
		}
		c := got.client
		if c.User != "app" || c.Schema != "shop" || c.Host != "localhost" || c.Collation != 45 || c.Secure != unix || !c.Loopback || c.Credential.User != "app" {
			t.Errorf("%s: client %+v", address, c)
		}
		if want := p.NetConn().LocalAddr().String(); !unix && c.Remote != want || unix && c.Remote != "unix socket" {
			t.Errorf("%s: remote %q", address, c.Remote)
		}
		if c.Caps&^p.caps != 0 || !c.Caps.Has(wire.ClientProtocol41) {
			t.Errorf("capabilities %x, the client has %x", c.Caps, p.caps)
		}
	}
	t.Run("schema without its flag", func(t *testing.T) {
		p := dial(t, f.tcp)
		if err := p.login("app", "secret", ""); err != nil {
			t.Fatal(err)
		}
		if got := wait(t, "outcome", f.outcomes); got.err != nil || got.client.Schema != "" {
			t.Errorf("%v, %v", got.client, got.err)
		}
	})
}

// A wrong password and an unknown user are refused in the same words.
func TestLoginDenied(t *testing.T) {
	f := startFront(t, nil, nil)
	for _, user := range []string{"app", "nobody", ""} {
		e := mustRefuse(t, dial(t, f.tcp).login(user, "wrong", ""), 1045)
		if want := "Access denied for user '" + user + "'@'localhost' (using password: YES)"; e.State != "28000" || e.Message != want {
			t.Errorf("%v, want %q", e, want)
		}
		if got := wait(t, "outcome", f.outcomes); got.client != nil || got.err == nil {
			t.Errorf("%v, %v", got.client, got.err)
		}
	}
}

// Who a trusted proxy says it speaks for is who the client is.
func TestLoginThroughProxy(t *testing.T) {
	trusting := func(list ...string) func(*front) {
		return func(f *front) {
			var err error
			if f.trusted, err = ParseTrusted(list); err != nil {
				t.Fatal(err)
			}
		}
	}
	far := v2(proxy, tcp4, both4)
	tests := []struct {
		name, over       string
		header           []byte
		host, remote     string // empty: the peer's own address
		secure, loopback bool
	}{
		{"TCP, no header", "tcp", nil, "localhost", "", false, true},
		{"TCP, PROXY", "tcp", far, "192.0.2.1", "192.0.2.1:56324", false, false},
		{"TCP, PROXY of one on its loopback", "tcp", v2(proxy, tcp4, addresses4("127.0.0.1:1", "127.0.0.1:2")), "localhost", "127.0.0.1:1", false, false},
		{"TCP, version 1", "tcp", []byte("PROXY TCP6 2001:db8::1 2001:db8::2 5 6\r\n"), "2001:db8::1", "[2001:db8::1]:5", false, false},
		{"TCP, UNKNOWN", "tcp", []byte("PROXY UNKNOWN\r\n"), "localhost", "", false, false},
		{"TCP, LOCAL", "tcp", v2(local, tcp4, both4), "localhost", "", false, true},
		{"unix, no header", "unix", nil, "localhost", "unix socket", true, true},
		// What reaches the proxy's host over a network is no safer for coming the
		// last step over a socket.
		{"unix, PROXY", "unix", far, "192.0.2.1", "192.0.2.1:56324", false, false},
		{"unix, UNKNOWN", "unix", []byte("PROXY UNKNOWN\r\n"), "localhost", "unix socket", false, false},
		{"unix, LOCAL", "unix", v2(local, tcp4, both4), "localhost", "unix socket", true, true},
	}
	f := startFront(t, nil, trusting("127.0.0.0/8", "unix"))
	strict := startFront(t, nil, func(f *front) {
		trusting("127.0.0.0/8", "unix")(f)
		f.Secure = true
	})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			address := func(f *front) string { return map[string]string{"tcp": f.tcp, "unix": f.socket}[test.over] }
			p := dial(t, address(f), test.header...)
			if err := p.login("app", "secret", ""); err != nil {
				t.Fatal(err)
			}
			c := wait(t, "outcome", f.outcomes).client
			remote := test.remote
			if remote == "" {
				remote = p.NetConn().LocalAddr().String()
			}
			if c.Host != test.host || c.Remote != remote || c.Secure != test.secure || c.Loopback != test.loopback {
				t.Errorf("host %q, remote %q, secure %t, loopback %t; want %q, %q, %t, %t",
					c.Host, c.Remote, c.Secure, c.Loopback, test.host, remote, test.secure, test.loopback)
			}
			err := dial(t, address(strict), test.header...).login("app", "secret", "")
			if test.secure && err != nil {
				t.Errorf("TLS required of a client on this host's socket: %v", err)
			} else if !test.secure {
				mustRefuse(t, err, 3159)
			}
		})
	}
	t.Run("header and response in single bytes", func(t *testing.T) {
		p := dial(t, f.tcp)
		for _, b := range far {
			if _, err := p.NetConn().Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.login("app", "secret", ""); err != nil {
			t.Fatal(err)
		}
		if got := wait(t, "outcome", f.outcomes); got.err != nil || got.client.Host != "192.0.2.1" {
			t.Errorf("%v", got)
		}
	})
	t.Run("bad header", func(t *testing.T) {
		p := dial(t, f.tcp, []byte("PROXY TCP4 1 2 3 4\r\n")...)
		if said := mustEnd(t, p.NetConn()); len(said) > 0 {
			t.Errorf("it was answered: %q", said)
		}
		if got := wait(t, "outcome", f.outcomes); !errors.Is(got.err, ErrProxyHeader) {
			t.Errorf("%v", got)
		}
	})
}

// From a peer that is not trusted a header is garbage, which costs its own
// connection and nobody else's.
func TestUntrustedHeader(t *testing.T) {
	f := startFront(t, nil, func(f *front) {
		var err error
		if f.trusted, err = ParseTrusted([]string{"10.0.0.0/8", "fd00::/8"}); err != nil {
			t.Fatal(err)
		}
	})
	for _, address := range []string{f.tcp, f.socket} {
		before := dial(t, address)
		for _, test := range good {
			if !test.relayed && !bytes.HasPrefix(test.header, []byte(signature2)) {
				continue
			}
			p := dial(t, address, test.header...)
			e, err := p.readError()
			if err == nil {
				mustRefuse(t, e, 1043)
			} else if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Logf("%s: the error was lost with the connection: %v", test.name, err)
			}
			mustEnd(t, p.NetConn())
			if got := wait(t, "outcome", f.outcomes); got.client != nil {
				t.Errorf("%s: let in", test.name)
			} else {
				mustRefuse(t, got.err, 1043)
			}
		}
		if err := before.login("app", "secret", ""); err != nil {
			t.Errorf("a client that was there: %v", err)
		}
		wait(t, "outcome", f.outcomes)
	}
}

// A response that cannot be right is answered with error 1043, numbered as the
// answer to it.
func TestBadHandshake(t *testing.T) {
	certificates := newAuthority(t)
	shown, err := ClientTLS(config.TLSClients{Mode: config.TLSPreferred}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	f := startFront(t, shown, nil)
	response := (&wire.HandshakeResponse{Capabilities: wire.ClientProtocol41 | wire.ClientSecureConnection | wire.ClientPluginAuth, User: "app", AuthPlugin: "mysql_native_password"}).Append(nil)
	tests := []struct {
		name    string
		payload []byte
	}{
		{"empty", nil},
		{"1 byte", []byte{0}},
		{"a client before 4.1", []byte("\x85\x24\x00\x00\x00old\x00")},
		{"cut in the fixed part", response[:31]},
		{"no user", response[:32]},
		{"a user without end", response[:34]},
		{"a response longer than the packet", append(bytes.Clone(response[:36]), 0xff)},
		{"too large", make([]byte, handshakePacket+1)},
		{"in several packets", make([]byte, wire.MaxPayload)},
	}
	for _, test := range tests {
		for _, secure := range []bool{false, true} {
			name := test.name
			if secure {
				name += ", over TLS"
			}
			t.Run(name, func(t *testing.T) {
				p := dial(t, f.tcp)
				if secure {
					if err := p.startTLS(certificates.trusting()); err != nil {
						t.Fatal(err)
					}
				}
				want := p.Seq + 1
				header := []byte{byte(len(test.payload)), byte(len(test.payload) >> 8), byte(len(test.payload) >> 16), p.Seq}
				p.WriteRaw(append(header, test.payload[:min(len(test.payload), 100)]...))
				if err := p.Flush(); err != nil {
					t.Fatal(err)
				}
				e, err := p.readError()
				if err != nil {
					t.Fatal(err)
				}
				if mustRefuse(t, e, 1043); e.State != "08S01" || e.Message != "Bad handshake" || p.Seq-1 != want {
					t.Errorf("%v in packet %d, want packet %d", e, p.Seq-1, want)
				}
				if got := wait(t, "outcome", f.outcomes); got.client != nil {
					t.Error("let in")
				}
			})
		}
	}
	t.Run("a second request for TLS", func(t *testing.T) {
		p := dial(t, f.tcp)
		if err := p.startTLS(certificates.trusting()); err != nil {
			t.Fatal(err)
		}
		p.Write((&wire.HandshakeResponse{Capabilities: p.caps}).AppendSSLRequest(nil))
		if err := p.Flush(); err != nil {
			t.Fatal(err)
		}
		e, err := p.readError()
		if err != nil {
			t.Fatal(err)
		}
		mustRefuse(t, e, 1043)
	})
	t.Run("garbage for a TLS hello", func(t *testing.T) {
		p := dial(t, f.tcp)
		p.Write((&wire.HandshakeResponse{Capabilities: p.caps | wire.ClientSSL}).AppendSSLRequest(nil))
		p.WriteRaw([]byte("GET / HTTP/1.1\r\n\r\n"))
		if err := p.Flush(); err != nil {
			t.Fatal(err)
		}
		mustEnd(t, p.NetConn())
	})
}

// What is not there yet, or never will be, is what a client waits for no longer
// than the time limit, whatever part of it.
func TestHandshakeTimeout(t *testing.T) {
	shown, err := ClientTLS(config.TLSClients{Mode: config.TLSPreferred}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	f := startFront(t, shown, func(f *front) {
		f.Timeout = 300 * time.Millisecond
		if f.trusted, err = ParseTrusted([]string{"127.0.0.1", "unix"}); err != nil {
			t.Fatal(err)
		}
	})
	response := (&wire.HandshakeResponse{Capabilities: wire.ClientProtocol41 | wire.ClientSecureConnection | wire.ClientPluginAuth, User: "app", AuthPlugin: "caching_sha2_password", AuthResponse: make([]byte, 32)}).Append(nil)
	packet, _ := wire.AppendPackets(nil, response, 1)
	request, _ := wire.AppendPackets(nil, (&wire.HandshakeResponse{Capabilities: wire.ClientProtocol41 | wire.ClientSSL}).AppendSSLRequest(nil), 1)
	hello := append(bytes.Clone(request), 22, 3, 1, 2, 0) // a TLS record's header
	tests := []struct {
		name string
		sent []byte
	}{
		{"nothing", nil},
		{"a byte of a PROXY header", []byte("P")},
		{"half a PROXY header", []byte("PROXY TCP4 192.0.2")},
		{"half a PROXY header, version 2", v2(proxy, tcp4, both4)[:20]},
		{"a PROXY header alone", v2(proxy, tcp4, both4)},
		{"half a packet header", packet[:2]},
		{"a packet header", packet[:4]},
		{"half a response", packet[:40]},
		{"a request for TLS", request},
		{"half a TLS hello", hello},
		{"a response without what it is asked for then", packet},
	}
	for _, test := range tests {
		for _, address := range []string{f.tcp, f.socket} {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				began := time.Now()
				p := dial(t, address, test.sent...)
				mustEnd(t, p.NetConn())
				if took := time.Since(began); took < f.Timeout-50*time.Millisecond {
					t.Errorf("it ended after %v already", took)
				}
			})
		}
	}
	t.Run("a byte now and then", func(t *testing.T) {
		t.Parallel()
		p := dial(t, f.tcp)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			mustEnd(t, p.NetConn())
		}()
		began, tick := time.Now(), time.NewTicker(20*time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ended:
				if took := time.Since(began); took < f.Timeout-50*time.Millisecond {
					t.Errorf("it ended after %v already", took)
				}
				return
			case <-tick.C:
				if i == len(packet) {
					t.Fatal("the whole response was waited for")
				}
				_, _ = p.NetConn().Write(packet[i : i+1]) // fails at the end
			}
		}
	})
	// The limit is the handshake's: who is logged in may stay.
	t.Run("logged in", func(t *testing.T) {
		t.Parallel()
		p := dial(t, f.tcp)
		if err := p.login("app", "secret", ""); err != nil {
			t.Skipf("the machine is too slow for a time limit of %v: %v", f.Timeout, err)
		}
		time.Sleep(f.Timeout + 50*time.Millisecond)
		p.ping()
	})
}

// The end of the context ends a handshake at once.
func TestHandshakeContext(t *testing.T) {
	shown, err := ClientTLS(config.TLSClients{Mode: config.TLSPreferred}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	h := newHandshake(shown)
	stopping := errors.New("stopping")
	request, _ := wire.AppendPackets(nil, (&wire.HandshakeResponse{Capabilities: wire.ClientProtocol41 | wire.ClientSSL}).AppendSSLRequest(nil), 1)
	for name, sent := range map[string][]byte{"before the response": nil, "before the TLS hello": request} {
		t.Run(name, func(t *testing.T) {
			mine, theirs := net.Pipe()
			defer mine.Close()
			ctx, cancel := context.WithCancelCause(t.Context())
			done := make(chan error, 1)
			go func() {
				_, err := h.Greet(ctx, 1, newAccepted(theirs, Trusted{}))
				theirs.Close()
				done <- err
			}()
			p := wire.NewConn(mine)
			if _, err := p.ReadPayload(1 << 10); err != nil {
				t.Fatal(err)
			}
			if _, err := mine.Write(sent); err != nil {
				t.Fatal(err)
			}
			cancel(stopping)
			if err := wait(t, "the end of the handshake", done); err == nil {
				t.Error("no error")
			}
		})
	}
}

// Before a server was reached, clients wait for one, or are greeted with a
// version that the configuration names.
func TestGreetingWithoutServer(t *testing.T) {
	nobody := &monitor.View{Primary: &monitor.Server{}, Replicas: []*monitor.Server{{LastError: "connection refused"}}}
	nobody.Primary.Name, nobody.Replicas[0].Name = "db1", "db2"
	t.Run("one comes", func(t *testing.T) {
		farm := viewOf(nobody)
		f := startFront(t, nil, func(f *front) { f.Farm = farm })
		conn := dialRaw(t, f.tcp)
		farm.set(nobody) // another view, which does not help
		farm.set(&monitor.View{Primary: nobody.Primary, Replicas: []*monitor.Server{nobody.Replicas[0], mySQL()}})
		payload, err := wire.NewConn(conn).ReadPayload(1 << 10)
		if err != nil {
			t.Fatal(err)
		}
		if g, err := wire.ParseGreeting(payload); err != nil || g.Version != "9.7.0" || g.AuthPlugin != "caching_sha2_password" {
			t.Errorf("%+v, %v", g, err)
		}
	})
	t.Run("none comes", func(t *testing.T) {
		for _, test := range []struct {
			view *monitor.View
			want string
		}{
			{nobody, "db1: unknown; db2: connection refused"},
			{&monitor.View{}, "names no server"},
		} {
			f := startFront(t, nil, func(f *front) { f.Farm, f.Timeout = viewOf(test.view), 500*time.Millisecond })
			payload, err := wire.NewConn(dialRaw(t, f.tcp)).ReadPayload(1 << 10)
			if err != nil {
				t.Fatal(err)
			}
			_, err = wire.ParseGreeting(payload)
			e := mustRefuse(t, err, 2003)
			if !strings.Contains(e.Message, test.want) {
				t.Errorf("%v, want %q", e, test.want)
			}
			// A client that does not know the server's capabilities takes a SQLSTATE
			// for a part of the text (libmysqlclient).
			if e.State != "" {
				t.Errorf("SQLSTATE %s before the handshake", e.State)
			}
		}
	})
	t.Run("a version is configured", func(t *testing.T) {
		f := startFront(t, nil, func(f *front) { f.Farm, f.Version = viewOf(nobody), "8.0.36" })
		p := dial(t, f.tcp)
		if p.greeting.Version != "8.0.36" || p.greeting.Collation != 45 || p.greeting.AuthPlugin != "mysql_native_password" {
			t.Errorf("%+v", p.greeting)
		}
		if err := p.login("app", "secret", "shop"); err != nil {
			t.Fatal(err)
		}
		p.ping()
	})
}

// The greeting is a server's, but for what is between client and proxy.
func TestGreeting(t *testing.T) {
	eleven := mariaDB()
	eleven.Greeting.Version, eleven.VersionNumber = "11.4.3-MariaDB", 110403
	all := mySQL()
	all.Greeting.Capabilities = 0xffffffff
	extended := mariaDB()
	extended.Greeting.Capabilities |= uint64(wire.MariaDBCacheMetadata | wire.MariaDBComMulti)
	shown := &tls.Config{}
	tests := []struct {
		name    string
		view    monitor.View
		tls     *tls.Config
		version string
		has     wire.Capability
		hasNot  wire.Capability
	}{
		{"MariaDB 10", monitor.View{Primary: mariaDB()}, nil, "5.5.5-10.11.14-MariaDB", serverCaps | wire.ClientCompress, wire.ClientSSL | wire.ClientZstd | wire.ClientMySQL},
		{"MariaDB 11", monitor.View{Primary: eleven}, shown, "11.4.3-MariaDB", wire.ClientSSL, wire.ClientZstd},
		{"MySQL", monitor.View{Primary: mySQL()}, nil, "9.7.0", serverCaps | wire.ClientCompress | wire.ClientZstd | wire.ClientMySQL, wire.ClientSSL},
		{"what is not offered", monitor.View{Primary: all}, nil, "9.7.0", wire.ClientZstd, wire.ClientSSL | wire.ClientMultiFactor | wire.ClientCapabilityExtension},
		{"what only one server's cache is good for", monitor.View{Primary: extended}, nil, "5.5.5-10.11.14-MariaDB", serverCaps, wire.MariaDBCacheMetadata | wire.MariaDBComMulti},
		{"the primary before a replica", monitor.View{Primary: mySQL(), Replicas: []*monitor.Server{mariaDB()}}, nil, "9.7.0", 0, 0},
		{"a replica without a primary", monitor.View{Replicas: []*monitor.Server{nil, {}, mariaDB()}}, nil, "5.5.5-10.11.14-MariaDB", 0, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := newHandshake(test.tls)
			h.Farm, h.Version = viewOf(&test.view), "not asked for"
			server, err := h.anyServer(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			g := h.greeting(5, server)
			if g.Version != test.version || !g.Capabilities.Has(test.has) || g.Capabilities&test.hasNot != 0 || len(g.Nonce) != wire.NonceSize {
				t.Errorf("%+v", g)
			}
			if again := h.greeting(6, server); bytes.Equal(again.Nonce, g.Nonce) {
				t.Error("the same nonce again")
			}
		})
	}
}

// After the OK, what was agreed on is spoken: nothing, zlib or zstd.
func TestAcceptCompression(t *testing.T) {
	f := startFront(t, nil, func(f *front) { f.Farm = viewOf(&monitor.View{Primary: mySQL()}) })
	for _, test := range []struct {
		name      string
		caps      wire.Capability
		algorithm compress.Algorithm
	}{
		{"zlib", wire.ClientCompress, compress.Zlib},
		{"zstd", wire.ClientZstd, compress.Zstd},
		{"zlib where both are wanted", wire.ClientCompress | wire.ClientZstd, compress.Zlib},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := dial(t, f.tcp)
			p.caps |= test.caps | wire.ClientMySQL
			if err := p.login("app", "secret", ""); err != nil {
				t.Fatal(err)
			}
			got := wait(t, "outcome", f.outcomes)
			if got.err != nil || got.client.ResetSequence == nil {
				t.Fatalf("%v", got)
			}
			var err error
			if e := p.Upgrade(func(under net.Conn) net.Conn {
				var compressed *compress.Conn
				compressed, err = compress.New(under, test.algorithm, 3)
				return compressed
			}); e != nil || err != nil {
				t.Fatal(e, err)
			}
			p.ping()
		})
	}
}
