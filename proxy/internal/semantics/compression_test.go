package semantics

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/proxy/internal/wire"
)

// A client with compression gets the answers that one without it gets from the
// server.
func TestSemantics22Compression(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.both(t, "CREATE TABLE app.compressed (id INT PRIMARY KEY, v LONGTEXT)")
		w.settle(t)
		algorithms := map[string]wire.Capability{"zlib": wire.ClientCompress}
		if w.flavor == farm.MySQL {
			algorithms["zstd"] = wire.ClientZstd
		}
		noise := make([]byte, 1<<20)
		source := rand.NewChaCha8([32]byte{22})
		if _, err := io.ReadFull(source, noise); err != nil {
			t.Fatal(err)
		}
		for name, algorithm := range algorithms {
			for _, tls := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, TLS %v", name, tls), func(t *testing.T) {
					l := app
					l.caps = wireMulti | wire.ClientDeprecateEOF
					p := &pair{t: t, w: w, direct: connect(t, w.direct.Addr(), l)}
					l.caps |= algorithm
					l.tls = tls
					p.proxied = connect(t, w.proxy.TCP, l)
					if p.proxied.compressed == nil {
						t.Fatalf("the proxy does not offer %s", name)
					}
					p.direct.unnumbered = true
					p.compressedSession(noise, !tls)
				})
			}
		}
	})
}

// compressedSession says what a compressed client may: huge has it send and get
// more than a frame and a packet hold.
func (p *pair) compressedSession(noise []byte, huge bool) {
	p.run(`
		any TRUNCATE TABLE compressed
		replica SELECT 1
		replica SELECT v FROM t ORDER BY id
		both* SELECT * FROM nowhere
		any SELECT 1; SELECT 2, 3; DO 1
		# frames that hold many packets, packets of many frames
		replica SELECT a.id, b.v, REPEAT('x', 200) FROM t a, t b, t c ORDER BY a.id, b.id, c.id
		replica SELECT REPEAT('abc', 16384)
	`)
	// Statements below and above the 50 bytes from which on MySQL's clients
	// compress, of more than one frame, and of what no algorithm makes smaller.
	texts := []string{"a", strings.Repeat("y", 60), strings.Repeat("z", 100000), hex.EncodeToString(noise[:20000])}
	if huge {
		texts = append(texts, strings.Repeat("w", wire.MaxPayload+1000))
		p.step("replica", "SELECT REPEAT('x', 17000000)")
	}
	for id, text := range texts {
		head := fmt.Sprintf("INSERT INTO compressed VALUES (%d, '", id)
		p.command("primary", p.direct.query(head+text+"')"), head)
	}
	insert := p.prepare("INSERT INTO compressed VALUES (?, ?)")
	insert.execute("primary", "10", string(noise))
	insert.execute("primary", "11", "small")
	p.run("primary SELECT id, LENGTH(v), MD5(v), LEFT(v, 40000) FROM compressed ORDER BY id FOR UPDATE")
	// A file goes the other way in the middle of a command.
	var lines bytes.Buffer
	for id := 100; id < 20000; id++ {
		fmt.Fprintf(&lines, "%d\tvalue %x\n", id, noise[id:id+8])
	}
	for _, c := range []*client{p.direct, p.proxied} {
		c.file = func(string) [][]byte { return [][]byte{lines.Bytes()[:100000], lines.Bytes()[100000:]} }
	}
	p.run(`
		primary LOAD DATA LOCAL INFILE 'file' INTO TABLE compressed
		any SELECT COUNT(*), SUM(id), SUM(CRC32(v)) FROM compressed
	`)
	// Another login on the connection leaves it compressed.
	for _, c := range []*client{p.direct, p.proxied} {
		if err := c.changeUser(login{account: boss, schema: farmtest.Schema}); err != nil {
			p.t.Fatal(err)
		}
	}
	p.run("replica SELECT CURRENT_USER(), REPEAT('abc', 16384)")
	p.proxied.pings(p.t)
}

// What is no compressed frame ends that client's connection.
func TestSemantics24GarbageInsteadOfFrames(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		innocent := w.app(t)
		innocent.run("primary BEGIN")
		for _, b := range [][]byte{
			{0xff, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 1, 2, 3},
			{1, 0, 0, 9, 0, 0, 0, byte(wire.ComPing)},                             // out of order
			{3, 0, 0, 0, 0xff, 0, 0, 1, 2, 3},                                     // no stream
			{0, 0, 0, 0, 0, 0, 0},                                                 // empty
			{5, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, byte(wire.ComStmtExecute)},          // a command cut short
			append([]byte{1, 0, 0, 0, 1, 0, 0}, bytes.Repeat([]byte{7}, 1000)...), // goes on
		} {
			l := app
			l.caps = wire.ClientCompress
			c := connect(t, w.proxy.TCP, l)
			hangsUp(t, c.raw, b)
		}
		innocent.run(`
			primary SELECT 1
			primary COMMIT
			replica SELECT 1
		`)
	})
}
