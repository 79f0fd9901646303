//go:build linux

package frontend

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"

	"farmhand/proxy/internal/auth"
	"farmhand/proxy/internal/config"
	"farmhand/proxy/internal/monitor"
	"farmhand/proxy/internal/wire"
)

// startReady starts a frontend that knows the passwords of its users already.
func startReady(t *testing.T, shown *tls.Config, change func(*front)) *front {
	t.Helper()
	f := startFront(t, shown, func(f *front) {
		f.Auth = newAuthenticator(auth.Options{MaxAge: time.Hour})
		if change != nil {
			change(f)
		}
	})
	for user, password := range map[string]string{"app": "secret", "other": "word"} {
		p := dial(t, f.socket)
		if err := p.login(user, password, ""); err != nil {
			t.Fatal(err)
		}
		if got := wait(t, "outcome", f.outcomes); got.err != nil || got.now {
			t.Fatalf("the first login of %s: %+v", user, got)
		}
		_ = p.Close()
	}
	return f
}

// whole is the packet of a login.
func (p *peer) whole(t *testing.T, user, password string) []byte {
	t.Helper()
	plugin, response := auth.PasswordCredential(user, password).FirstResponse(p.greeting.AuthPlugin, p.greeting.Nonce, false)
	packet, _ := wire.AppendPackets(nil, (&wire.HandshakeResponse{
		Capabilities: p.caps, MaxPacketSize: 1 << 24, Collation: 45, User: user, AuthResponse: response, AuthPlugin: plugin,
	}).Append(nil), 1)
	return packet
}

func (p *peer) mustBeIn(t *testing.T) {
	t.Helper()
	if payload, err := p.ReadPayload(1 << 10); err != nil || !wire.IsOK(payload) {
		t.Fatalf("% x, %v", payload, err)
	}
	p.ping()
}

// Whoever is known, says all in one packet and needs nothing else is let in without
// a goroutine; all others as well, by one.
func TestLoginsThatNobodyWaitsFor(t *testing.T) {
	shown, err := ClientTLS(config.TLSClients{Mode: config.TLSPreferred}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	f := startReady(t, shown, nil)
	for _, address := range []string{f.tcp, f.socket} {
		for _, x := range []struct {
			name string
			now  bool
			in   func(t *testing.T, p *peer)
		}{
			{"in one packet", true, func(t *testing.T, p *peer) { p.send(t, p.whole(t, "app", "secret")) }},
			{"another user", true, func(t *testing.T, p *peer) { p.send(t, p.whole(t, "other", "word")) }},
			{"byte by byte", false, func(t *testing.T, p *peer) {
				for _, b := range inPieces(p.whole(t, "app", "secret"), 1) {
					p.send(t, b)
					time.Sleep(100 * time.Microsecond)
				}
			}},
			{"in two pieces", false, func(t *testing.T, p *peer) {
				all := p.whole(t, "app", "secret")
				p.send(t, all[:7])
				time.Sleep(20 * time.Millisecond)
				p.send(t, all[7:])
			}},
			{"with a command behind", false, func(t *testing.T, p *peer) {
				p.send(t, append(p.whole(t, "app", "secret"), 1, 0, 0, 0, byte(wire.ComPing)))
			}},
			{"with a part of a command behind", false, func(t *testing.T, p *peer) {
				p.send(t, append(p.whole(t, "app", "secret"), 1, 0, 0))
				time.Sleep(20 * time.Millisecond)
				p.send(t, []byte{0, byte(wire.ComPing)})
			}},
			{"by a switch", false, func(t *testing.T, p *peer) {
				if err := p.respond("app", "", "something_else", nil); err != nil {
					t.Fatal(err)
				}
				payload, err := p.ReadPayload(1 << 10)
				if err != nil || payload[0] != 0xfe {
					t.Fatalf("% x, %v", payload, err)
				}
				_, nonce, _ := bytes.Cut(payload[1:], []byte{0})
				_, response := auth.PasswordCredential("app", "secret").FirstResponse("mysql_native_password", nonce[:20], false)
				p.Write(response)
				if err := p.Flush(); err != nil {
					t.Fatal(err)
				}
			}},
			{"over TLS", false, func(t *testing.T, p *peer) {
				if err := p.startTLS(&tls.Config{InsecureSkipVerify: true}); err != nil {
					t.Fatal(err)
				}
				plugin, response := auth.PasswordCredential("app", "secret").FirstResponse(p.greeting.AuthPlugin, p.greeting.Nonce, true)
				if err := p.respond("app", "", plugin, response); err != nil {
					t.Fatal(err)
				}
			}},
		} {
			t.Run(fmt.Sprintf("%s, %s", x.name, network(address)), func(t *testing.T) {
				p := dial(t, address)
				x.in(t, p)
				p.mustBeIn(t)
				if got := wait(t, "outcome", f.outcomes); got.err != nil || got.now != x.now || got.client.Loopback != true || got.client.Secure != (p.secure || address == f.socket) {
					t.Errorf("%+v", got)
				}
				if x.name == "with a command behind" || x.name == "with a part of a command behind" {
					p.ping()
				}
			})
		}
	}
	t.Run("a wrong password", func(t *testing.T) {
		p := dial(t, f.tcp)
		p.send(t, p.whole(t, "app", "guess"))
		e, err := p.readError()
		if err != nil || e.Code != 1045 {
			t.Errorf("%v, %v", e, err)
		}
		if got := wait(t, "outcome", f.outcomes); got.now || got.err == nil {
			t.Errorf("%+v", got)
		}
	})
	t.Run("TLS is required", func(t *testing.T) {
		f := startReady(t, shown, func(f *front) { f.Secure = true })
		p := dial(t, f.tcp)
		p.send(t, p.whole(t, "app", "secret"))
		if e, err := p.readError(); err != nil || e.Code != 3159 {
			t.Errorf("%v, %v", e, err)
		}
		local := dial(t, f.socket)
		local.send(t, local.whole(t, "app", "secret"))
		local.mustBeIn(t)
	})
}

func network(address string) string {
	if address[0] == '/' {
		return "unix"
	}
	return "tcp"
}

func (p *peer) send(t *testing.T, b []byte) {
	t.Helper()
	if _, err := p.NetConn().Write(b); err != nil {
		t.Fatal(err)
	}
}

// A client that goes, in whatever way and at whatever stage, takes its place and
// its descriptor with it (startFront looks at the end whether any is still counted),
// and holds up nobody.
func TestClientsThatGoDuringTheirLogin(t *testing.T) {
	f := startReady(t, nil, nil)
	ends := map[string]func(conn net.Conn){
		"closes": func(conn net.Conn) { _ = conn.Close() },
		"resets": func(conn net.Conn) {
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		},
		"closes its half": func(conn net.Conn) { _ = conn.(*net.TCPConn).CloseWrite() },
	}
	stages := map[string]func(p *peer){
		"greeted":                   func(*peer) {},
		"in the login's header":     func(p *peer) { p.send(t, p.whole(t, "app", "secret")[:3]) },
		"in the login":              func(p *peer) { p.send(t, p.whole(t, "app", "secret")[:20]) },
		"after the login":           func(p *peer) { p.send(t, p.whole(t, "app", "secret")) },
		"in":                        func(p *peer) { p.send(t, p.whole(t, "app", "secret")); p.mustBeIn(t) },
		"after a command":           func(p *peer) { p.send(t, append(p.whole(t, "app", "secret"), 1, 0, 0, 0, byte(wire.ComPing))) },
		"after something senseless": func(p *peer) { p.send(t, []byte("GET / HTTP/1.1\r\n\r\n")) },
	}
	for how, end := range ends {
		for stage, reach := range stages {
			for range 5 {
				p := dial(t, f.tcp)
				reach(p)
				end(p.NetConn())
			}
			p := dial(t, f.tcp)
			p.send(t, p.whole(t, "app", "secret"))
			if p.mustBeIn(t); t.Failed() {
				t.Fatalf("after clients of which each %s, %s", how, stage)
			}
			_ = p.Close()
		}
		dialRaw(t, f.tcp).Close() // before it is greeted
	}
	deadline := time.Now().Add(patience)
	for n, _ := f.Counts(); n > 0; n, _ = f.Counts() {
		if time.Now().After(deadline) {
			t.Fatalf("%d clients are still counted", n)
		}
		time.Sleep(time.Millisecond)
	}
}

// Clients that say nothing, before their login or after it, take no goroutine and
// hold up nobody; their time limit ends those that do not log in, and nobody else.
func TestSilentClients(t *testing.T) {
	const silent = 400
	f := startReady(t, nil, func(f *front) { f.Timeout = 2 * time.Second })
	before := runtime.NumGoroutine()
	var in []*peer
	for range silent {
		dial(t, f.tcp)
		p := dial(t, f.socket)
		p.send(t, p.whole(t, "app", "secret"))
		if payload, err := p.ReadPayload(1 << 10); err != nil || !wire.IsOK(payload) {
			t.Fatalf("% x, %v", payload, err)
		}
		in = append(in, p)
	}
	if n := runtime.NumGoroutine(); n > before+silent/10 {
		t.Errorf("%d goroutines, %d before %d clients that say nothing", n, before, 2*silent)
	}
	p := dial(t, f.tcp)
	p.send(t, p.whole(t, "app", "secret"))
	p.mustBeIn(t)
	deadline := time.Now().Add(patience)
	for _, waiting := f.Counts(); waiting > 0; _, waiting = f.Counts() {
		if time.Now().After(deadline) {
			t.Fatalf("%d clients are still logging in", waiting)
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, p := range in {
		p.ping()
	}
}

// Before any server is known, a client waits by itself.
func TestALoginBeforeAServerIsKnown(t *testing.T) {
	farm := viewOf(&monitor.View{})
	f := startFront(t, nil, func(f *front) {
		f.Auth, f.Farm = newAuthenticator(auth.Options{MaxAge: time.Hour}), farm
	})
	conn := dialRaw(t, f.tcp)
	farm.set(&monitor.View{Primary: mariaDB()})
	if _, err := wire.NewConn(conn).ReadPayload(1 << 10); err != nil {
		t.Fatal(err)
	}
}
