package daemon

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"farmhand/internal/farmtest"
	"farmhand/proxy/internal/auth"
	"farmhand/proxy/internal/config"
	"farmhand/proxy/internal/wire"
)

// greeted is a client that has read its greeting, and the packet of its login.
func (r *running) greeted(t *testing.T, network, address string) (c *wire.Conn, login []byte) {
	t.Helper()
	raw, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	if err := raw.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	c = wire.NewConn(raw)
	payload, err := c.ReadPayload(1 << 16)
	if err != nil {
		t.Fatal(err)
	}
	greeting, err := wire.ParseGreeting(payload)
	if err != nil {
		t.Fatal(err)
	}
	response := wire.HandshakeResponse{
		Capabilities: greeting.Capabilities & (wire.ClientMySQL | wire.ClientProtocol41 | wire.ClientPluginAuth | wire.ClientSecureConnection |
			wire.ClientConnectWithDB | wire.ClientTransactions | wire.ClientPluginAuthLenEnc),
		MaxPacketSize: 1 << 24, Collation: 45, User: farmtest.App.User, Schema: farmtest.Schema,
	}
	response.AuthPlugin, response.AuthResponse = auth.PasswordCredential(farmtest.App.User, farmtest.App.Password).FirstResponse(greeting.AuthPlugin, greeting.Nonce, false)
	login, _ = wire.AppendPackets(nil, response.Append(nil), 1)
	return c, login
}

func query(sql string) []byte {
	packet, _ := wire.AppendPackets(nil, append([]byte{byte(wire.ComQuery)}, sql...), 0)
	return packet
}

// answer reads the row of a result of one, after the OK of the login if that is to
// come first.
func answer(c *wire.Conn, first bool) (string, error) {
	if first {
		p, err := c.ReadPayload(1 << 16)
		if err != nil {
			return "", err
		}
		if !wire.IsOK(p) {
			return "", fmt.Errorf("the login's answer is %q", p)
		}
	}
	row := ""
	for i := range 5 { // count, definition, EOF, row, EOF
		p, err := c.ReadPayload(1 << 16)
		if err != nil {
			return "", err
		}
		if wire.IsError(p) {
			return "", fmt.Errorf("%q", p)
		}
		if i == 3 {
			row = string(p[1:])
		}
	}
	return row, nil
}

// Clients log in and ask in whatever pieces, and each is answered what it asked;
// silent ones in great number keep nobody waiting.
func TestLoginsInPieces(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	r := start(t, f, func(c *config.Config) { c.Logins.AccountAge = config.Duration(time.Minute) })
	exec(t, r.conn(t), "DO 1") // somebody has proved the password
	for _, at := range [][2]string{{"tcp", r.tcp}, {"unix", r.socket}} {
		for name, pieces := range map[string]func(login, query []byte) [][]byte{
			"one packet after the other": func(login, query []byte) [][]byte { return [][]byte{login, nil, query} },
			"both at once":               func(login, query []byte) [][]byte { return [][]byte{append(login, query...)} },
			"both, byte by byte": func(login, query []byte) (list [][]byte) {
				for _, b := range append(login, query...) {
					list = append(list, []byte{b})
				}
				return list
			},
			"the query's head with the login": func(login, query []byte) [][]byte {
				return [][]byte{append(login, query[:2]...), query[2:]}
			},
			"the query in two": func(login, query []byte) [][]byte { return [][]byte{login, nil, query[:6], query[6:]} },
		} {
			t.Run(name+", "+at[0], func(t *testing.T) {
				for i := range 3 {
					c, login := r.greeted(t, at[0], at[1])
					want := fmt.Sprintf("%d %s", i, strings.Repeat("x", 100*i))
					first := true
					for _, piece := range pieces(login, query("SELECT '"+want+"'")) {
						if piece == nil { // the OK is waited for
							if p, err := c.ReadPayload(1 << 16); err != nil || !wire.IsOK(p) {
								t.Fatalf("% x, %v", p, err)
							}
							first = false
							continue
						}
						if _, err := c.NetConn().Write(piece); err != nil {
							t.Fatal(err)
						}
						time.Sleep(50 * time.Microsecond)
					}
					if got, err := answer(c, first); err != nil || got != want {
						t.Errorf("%q, %v; want %q", got, err, want)
					}
					if p := ask(t, c, byte(wire.ComPing)); !wire.IsOK(p) {
						t.Errorf("ping: % x", p)
					}
				}
			})
		}
	}
}

// A flood of connections, of which many go at any stage or say nothing, is served:
// each that asks gets its own answer, and nothing is left of the others.
func TestAFloodOfConnections(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	r := start(t, f, nil) // with its default age of accounts: some logins are looked up
	exec(t, r.conn(t), "DO 1")
	before := runtime.NumGoroutine()
	for range 500 {
		r.greeted(t, "tcp", r.tcp) // and no more
	}
	if n := runtime.NumGoroutine(); n > before+100 {
		t.Errorf("%d goroutines, %d before 500 clients that say nothing", n, before)
	}
	var all sync.WaitGroup
	for client := range 24 {
		x := rand.New(rand.NewPCG(uint64(client), 1))
		all.Go(func() {
			for n := range 40 {
				c, login := r.greeted(t, "tcp", r.tcp)
				want := fmt.Sprintf("client %d, connection %d", client, n)
				said := append(bytes.Clone(login), query("SELECT '"+want+"'")...)
				if at := x.IntN(4); at > 0 {
					if _, err := c.NetConn().Write(said[:x.IntN(len(said))]); err != nil {
						t.Error(err)
					}
					if at > 1 {
						_ = c.NetConn().(*net.TCPConn).SetLinger(0)
					}
					_ = c.Close()
					continue
				}
				if x.IntN(2) == 0 {
					if _, err := c.NetConn().Write(said); err != nil {
						t.Error(err)
					}
				} else {
					if _, err := c.NetConn().Write(login); err != nil {
						t.Error(err)
					}
					if p, err := c.ReadPayload(1 << 16); err != nil || !wire.IsOK(p) {
						t.Errorf("%q, %v", p, err)
						return
					}
					if _, err := c.NetConn().Write(said[len(login):]); err != nil {
						t.Error(err)
					}
					said = nil
				}
				if got, err := answer(c, said != nil); err != nil || got != want {
					t.Errorf("%q, %v; want %q", got, err, want)
				}
				_ = c.Close()
			}
		})
	}
	all.Wait()
	r.eventually(t, "all are gone but those that say nothing", func() bool {
		connections, handshakes := r.edge.gate.Counts()
		return connections-handshakes <= 1
	})
}
