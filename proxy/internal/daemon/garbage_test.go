package daemon

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"farmhand/internal/farmtest"
	"farmhand/proxy/internal/auth"
	"farmhand/proxy/internal/config"
	"farmhand/proxy/internal/session"
	"farmhand/proxy/internal/wire"
)

// raw is a plain network connection to the proxy, with a limit on everything.
func (r *running) raw(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", r.tcp)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// login logs in by hand, so that a test can say anything afterwards.
func (r *running) login(t *testing.T, caps wire.Capability) *wire.Conn {
	t.Helper()
	c := wire.NewConn(r.raw(t))
	payload, err := c.ReadPayload(1 << 16)
	if err != nil {
		t.Fatal(err)
	}
	greeting, err := wire.ParseGreeting(payload)
	if err != nil {
		t.Fatal(err)
	}
	credential := auth.PasswordCredential(farmtest.App.User, farmtest.App.Password)
	response := wire.HandshakeResponse{
		Capabilities: greeting.Capabilities & (caps | wire.ClientMySQL | wire.ClientProtocol41 | wire.ClientPluginAuth | wire.ClientSecureConnection |
			wire.ClientConnectWithDB | wire.ClientTransactions | wire.ClientPluginAuthLenEnc),
		MaxPacketSize: 1 << 24, Collation: 45, User: farmtest.App.User, Schema: farmtest.Schema,
	}
	response.AuthPlugin, response.AuthResponse = credential.FirstResponse(greeting.AuthPlugin, greeting.Nonce, false)
	c.Write(response.Append(nil))
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.Login(session.AuthLink{Conn: c}, credential, response.AuthPlugin, greeting.Nonce, false); err != nil {
		t.Fatal(err)
	}
	return c
}

// ask sends a command and returns the first payload of the answer.
func ask(t *testing.T, c *wire.Conn, command ...byte) []byte {
	t.Helper()
	c.WriteCommand(command)
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	p, err := c.ReadPayload(1 << 24)
	if err != nil {
		t.Fatalf("command %#x: %v", command[0], err)
	}
	return bytes.Clone(p)
}

func TestGarbageCostsOnlyItsOwnConnection(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	r := start(t, f, func(c *config.Config) { c.Limits.HandshakeTimeout = config.Duration(3 * time.Second) })
	exec(t, r.conn(t), "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1,1),(2,2)")
	r.caughtUp(t)
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	stopLoad, _ := load(t, r, true)
	shapes := map[string]func(*rand.Rand) []byte{
		"random bytes":          func(x *rand.Rand) []byte { return noise(x, 1+x.IntN(4000)) },
		"nothing":               func(*rand.Rand) []byte { return nil },
		"half a header":         func(*rand.Rand) []byte { return []byte{1, 0} },
		"giant length":          func(*rand.Rand) []byte { return []byte{0xff, 0xff, 0xff, 1, 0, 0} },
		"HTTP":                  func(*rand.Rand) []byte { return []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n") },
		"TLS without a request": func(x *rand.Rand) []byte { return append([]byte{0x16, 3, 1, 2, 0}, noise(x, 512)...) },
		"PROXY untrusted":       func(*rand.Rand) []byte { return []byte("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n") },
		"response, then noise": func(x *rand.Rand) []byte {
			h := wire.HandshakeResponse{Capabilities: wire.ClientProtocol41 | wire.ClientSecureConnection | wire.ClientMySQL, User: "app", AuthResponse: noise(x, 20)}
			b, _ := wire.AppendPackets(nil, h.Append(nil), 1)
			return append(b, noise(x, 3000)...)
		},
	}
	var wg sync.WaitGroup
	for name, shape := range shapes {
		for i := range 40 {
			wg.Go(func() {
				x := rand.New(rand.NewPCG(uint64(i), uint64(len(name))))
				c, err := net.Dial("tcp", r.tcp)
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				_, _ = c.Write(shape(x)) // the proxy may have closed it already
				// The proxy ends the connection by itself, soon.
				if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s: the connection stays open", name)
				}
			})
		}
	}
	// After the login.
	for i := range 40 {
		c := r.login(t, wire.ClientMultiStatements)
		x := rand.New(rand.NewPCG(uint64(i), 99))
		wg.Go(func() {
			raw := c.NetConn()
			_, _ = raw.Write(noise(x, 1+x.IntN(3000)))
			_ = raw.(*net.TCPConn).CloseWrite()
			if _, err := io.Copy(io.Discard, raw); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("garbage after the login: the connection stays open")
			}
		})
	}
	wg.Wait()
	if reads := stopLoad(); reads < 10 {
		t.Errorf("only %d reads were made meanwhile", reads)
	}
	var after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 64<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
}

func noise(x *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(x.Uint32())
	}
	return b
}

func TestUnknownCommandsLeaveTheConnectionIntact(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	r := start(t, f, nil)
	c := r.login(t, 0)
	for command := range 256 {
		switch wire.Command(command) {
		case wire.ComQuit, wire.ComStmtClose, wire.ComStmtSendLong, wire.ComChangeUser, wire.ComFieldList, wire.ComProcessInfo, wire.ComStatistics:
			continue // no answer, an answer of several packets, or the end
		}
		p := ask(t, c, byte(command), 1, 2, 3, 4, 5, 6, 7)
		if len(p) == 0 {
			t.Errorf("command %#x: an empty answer", command)
		}
		if p := ask(t, c, byte(wire.ComPing)); !wire.IsOK(p) {
			t.Fatalf("after command %#x COM_PING is answered with %q", command, p)
		}
	}
}

func TestWhatAClientHasSeenOutlivesChangeUserAndReset(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	r := start(t, f, nil)
	exec(t, r.conn(t), "CREATE TABLE t (id INT)")
	r.caughtUp(t)
	f.Replica(0).StopReplication(t)
	c := r.login(t, 0)
	if p := ask(t, c, append([]byte{byte(wire.ComQuery)}, "INSERT INTO t VALUES (1)"...)...); !wire.IsOK(p) {
		t.Fatalf("INSERT: %q", p)
	}
	if p := ask(t, c, byte(wire.ComResetConnection)); !wire.IsOK(p) {
		t.Fatalf("COM_RESET_CONNECTION: %q", p)
	}
	c.WriteCommand(append([]byte{byte(wire.ComQuery)}, "SELECT COUNT(*) FROM t"...))
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	var packets [][]byte
	for range 5 { // count, definition, EOF, row, EOF
		p, err := c.ReadPayload(1 << 16)
		if err != nil {
			t.Fatal(err)
		}
		packets = append(packets, bytes.Clone(p))
	}
	if string(packets[3]) != "\x011" {
		t.Errorf("after COM_RESET_CONNECTION the session counts %q rows", packets[3])
	}
}

func TestPacketTooLargeForTheServerIsTheServersError(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1, ExtraArgs: []string{"--max-allowed-packet=2M"}})
	r := start(t, f, nil)
	c := r.login(t, 0)
	statement := append([]byte{byte(wire.ComQuery)}, "SELECT LENGTH('"...)
	statement = append(statement, bytes.Repeat([]byte("x"), 3<<20)...)
	statement = append(statement, "')"...)
	p := ask(t, c, statement...)
	e, err := wire.ParseError(p)
	if err != nil || e.Code != 1153 {
		t.Errorf("answer %.80q, %v", p, err)
	}
	if p := ask(t, c, byte(wire.ComPing)); !wire.IsOK(p) {
		t.Errorf("after it COM_PING is answered with %q", p)
	}
}

func TestSlowLorisKeepsNobodyOut(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	r := start(t, f, func(c *config.Config) { c.Limits.HandshakeTimeout = config.Duration(time.Second) })
	for range 300 {
		r.raw(t)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := r.open(t).PingContext(ctx); err != nil {
		t.Error(err)
	}
	r.eventually(t, "the silent clients are gone", func() bool {
		n, _ := r.edge.gate.Counts()
		return n <= 1
	})
}
