package semantics

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"farmhand/internal/dbserver"
	"farmhand/internal/drivertest"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/proxy/internal/wire"
)

func TestSemantics21Sizes(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.both(t, "CREATE TABLE app.sizes (id INT PRIMARY KEY, v LONGBLOB)")
		w.settle(t)
		p := w.app(t)
		// A row is a length-encoded string of 4 or 9 bytes more.
		// So the long rows are one byte short of a full packet, a full one with an
		// empty one, and two full ones with an empty one, which begin like an EOF.
		for _, n := range []int{0, 250, 251, 65535, 65536, wire.MaxPayload - 5, wire.MaxPayload - 4, 2*wire.MaxPayload - 9} {
			p.step("replica", fmt.Sprintf("SELECT REPEAT('x', %d)", n))
		}
		for _, command := range []int{wire.MaxPayload - 1, wire.MaxPayload} {
			head := fmt.Sprintf("REPLACE INTO sizes VALUES (%d, '", command)
			text := head + strings.Repeat("y", command-1-len(head)-len("')")) + "')"
			p.command("primary", p.direct.query(text), head)
		}
		p.run("primary SELECT id, LENGTH(v), MD5(v) FROM sizes ORDER BY id /*! FOR UPDATE */")
		// First bytes of rows that look like other packets.
		for _, v := range []string{"NULL", "''", "0xfb", "0xfe", "0xff", "0x00", "REPEAT(0xfe, 251)", "REPEAT(0xff, 300)", "NULL, NULL", "REPEAT('z', 65536)", "REPEAT(0xfe, 8)"} {
			p.step("replica", "SELECT "+v)
			p.prepared("replica", "SELECT "+v)
		}
		p.proxied.pings(t)
	})
}

func TestSemantics21ResultsAndCommands(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.both(t,
			"CREATE PROCEDURE app.results() BEGIN SELECT 1; SELECT v FROM app.t ORDER BY id; SELECT NULL WHERE FALSE; END",
			"CREATE PROCEDURE app.half() BEGIN SELECT 1; SELECT * FROM app.nowhere; END",
			"CREATE PROCEDURE app.outs(IN a INT, OUT b INT) BEGIN SET b=a+1; SELECT a; END")
		for _, caps := range []wire.Capability{wireMulti, wireMulti | wire.ClientDeprecateEOF} {
			p := w.pair(t, login{account: boss, schema: farmtest.Schema, caps: caps})
			p.run(`
				primary CALL results()
				primary CALL half()
				primary CALL outs(1, @o)
				primary SELECT @o
			`)
			p.prepared("primary", "CALL results()")
			outs := p.prepare("CALL outs(?, ?)")
			outs.each("any", func(c *client, id uint32) []byte { return c.execution(id, 0, true, "4", "5") })
			for _, several := range []string{"SELECT 1; SELECT 2, 3; DO 1; SELECT 4", "SELECT 1; SELECT nothing", "SELECT 1; ; SELECT 2", ";", "DO 1; DO 2"} {
				p.command("any", p.direct.query(several), "")
			}
			// Commands other than queries.
			for _, c := range [][]byte{
				{byte(wire.ComPing)},
				append([]byte{byte(wire.ComInitDB)}, "mysql"...), append([]byte{byte(wire.ComInitDB)}, "app"...), append([]byte{byte(wire.ComInitDB)}, "nowhere"...),
				append([]byte{byte(wire.ComFieldList)}, "t\x00%"...), append([]byte{byte(wire.ComFieldList)}, "t\x00v%"...), append([]byte{byte(wire.ComFieldList)}, "nowhere\x00"...),
				{byte(wire.ComSetOption), 1, 0},
				{byte(wire.ComSetOption), 0, 0},
				{byte(wire.ComSetOption), 9, 0},
				{byte(wire.ComDebug)},
				{0x70},
				{byte(wire.ComSleep)},
				{byte(wire.ComConnect)},
				{byte(wire.ComTime)},
				{byte(wire.ComDelayedInsert)},
			} {
				if w.flavor == farm.MySQL && (c[0] == byte(wire.ComDebug) || c[0] == byte(wire.ComFieldList)) {
					continue // gone in 9
				}
				who := "any"
				if c[0] == byte(wire.ComSetOption) { // MySQL counts the warnings of the command before
					who = "any!"
				}
				p.before = append(p.before, fmt.Sprintf("% x", c))
				p.compare(who, fmt.Sprintf("% x", c), p.direct.do(c), p.proxied.do(c))
				p.proxied.pings(t)
			}
			for _, c := range []*client{p.direct, p.proxied} {
				if r := c.do([]byte{byte(wire.ComStatistics)}); r.lost != nil || len(r.packets) != 1 || !strings.Contains(r.packets[0], "Uptime") {
					t.Errorf("COM_STATISTICS: %v", r)
				}
			}
			// About one server: refused, and the connection is intact.
			for _, c := range []wire.Command{wire.ComBinlogDump, wire.ComRegisterSlave, wire.ComBinlogDumpGTID} {
				if r := p.proxied.do([]byte{byte(c), 0, 0}); r.err == nil || r.err.Code != 1235 {
					t.Errorf("%v: %v", c, r)
				}
			}
			p.proxied.pings(t)
			// Pipelined commands keep their order.
			var want, got []*reply
			for c, replies := range map[*client]*[]*reply{p.direct: &want, p.proxied: &got} {
				texts := []string{"SELECT 'a'", "SELECT n FROM t WHERE id=1 FOR UPDATE", "SELECT * FROM nowhere", "SET @a=7", "SELECT @a", "SELECT 'z'"}
				var commands [][]byte
				for _, sql := range texts {
					commands = append(commands, c.query(sql))
				}
				if err := c.send(commands...); err != nil {
					t.Fatal(err)
				}
				for range texts {
					*replies = append(*replies, c.answer(wire.ComQuery))
				}
			}
			for i := range want {
				p.compare("any", fmt.Sprintf("pipelined command %d", i), want[i], got[i])
			}
		}
	})
}

func TestSemantics21LoadDataLocal(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.both(t, "CREATE TABLE app.loaded (id INT PRIMARY KEY, v VARCHAR(30))")
		p := w.app(t)
		line := func(from, to int) []byte {
			var b bytes.Buffer
			for i := from; i < to; i++ {
				fmt.Fprintf(&b, "%d\tvalue %d\n", i, i)
			}
			return b.Bytes()
		}
		for name, packets := range map[string][][]byte{
			"small":      {line(0, 3)},
			"pieces":     {line(10, 20), []byte("20\tha"), []byte("lf\n"), line(21, 22)},
			"empty":      nil,
			"big":        {line(100, 50000), line(50000, 90000)},
			"duplicates": {line(0, 3)},
			"bad":        {[]byte("x\ty\tz\n\\N\n")},
		} {
			for _, c := range []*client{p.direct, p.proxied} {
				c.file = func(string) [][]byte { return packets }
			}
			p.run("primary TRUNCATE TABLE loaded")
			p.step("primary", "LOAD DATA LOCAL INFILE '"+name+"' INTO TABLE loaded")
			p.step("primary", "LOAD DATA LOCAL INFILE '"+name+"' INTO TABLE loaded") // twice
			p.step("primary", "LOAD DATA LOCAL INFILE '"+name+"' INTO TABLE nowhere")
			p.run("any SELECT COUNT(*), SUM(id), MIN(v), MAX(v) FROM loaded")
		}
		// A client that offers no local files is refused by the server's own error.
		var none [2]*reply
		for i, address := range []string{w.direct.Addr(), w.proxy.TCP} {
			c := connect(t, address, login{account: farmtest.App, schema: farmtest.Schema, without: wire.ClientLocalFiles})
			none[i] = c.sql("LOAD DATA LOCAL INFILE 'x' INTO TABLE loaded")
			c.pings(t)
		}
		p.compare("any*", "LOAD DATA LOCAL without the capability", none[0], none[1])
		// A client that goes away half-way leaves nothing, and hurts nobody.
		p.run("primary TRUNCATE TABLE loaded")
		c := connect(t, w.proxy.TCP, app)
		if err := c.send(c.query("LOAD DATA LOCAL INFILE 'gone' INTO TABLE loaded")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.conn.ReadPayload(1 << 16); err != nil {
			t.Fatal(err)
		}
		c.conn.Write(line(0, 1000))
		if err := c.conn.Flush(); err != nil {
			t.Fatal(err)
		}
		_ = c.raw.Close()
		p.run("primary SELECT COUNT(*) FROM loaded FOR UPDATE")
		w.farm.CheckNoOwnEvents(t)
	})
}

func TestSemantics22Capabilities(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		flags := []wire.Capability{wire.ClientFoundRows, wire.ClientDeprecateEOF, wire.ClientSessionTrack, wire.ClientMultiStatements, wire.ClientConnectAttrs, wire.ClientNoSchema, wire.ClientIgnoreSpace, wire.ClientInteractive, wire.ClientODBC}
		if w.flavor == farm.MySQL {
			flags = append(flags, wire.ClientQueryAttributes, wire.ClientOptionalMetadata)
		} else {
			flags = append(flags, wire.MariaDBExtendedMetadata, wire.MariaDBStmtBulk, wire.MariaDBProgress)
		}
		all := wire.Capability(0)
		for _, f := range flags {
			all |= f
		}
		w.both(t, "CREATE TABLE app.caps (id INT PRIMARY KEY, v JSON, g POINT)", "INSERT INTO app.caps VALUES (1,'{\"a\":1}',POINT(1,2)),(2,NULL,NULL)")
		w.settle(t)
		for _, caps := range append(flags, 0, all, all&^wire.ClientDeprecateEOF) {
			p := w.pair(t, login{account: farmtest.App, schema: farmtest.Schema, caps: caps, attrs: wire.AppendAttributes(nil, "program_name", "semantics", "_pid", "1")})
			p.run(`
				replica SELECT * FROM caps ORDER BY id
				primary UPDATE caps SET v='{"a":1}' WHERE id=1
				primary UPDATE caps SET id=id WHERE id<3
				any SELECT COUNT (*) FROM caps
				any SELECT app.caps.id FROM app.caps LIMIT 1
				any SET NAMES utf8mb4
				any SET time_zone='+01:00'
				any SET autocommit=0
				any SET autocommit=1
				any USE mysql
				any USE app
				any SELECT 1; SELECT 2
				primary INSERT INTO caps (id) VALUES (1)
				primary BEGIN
				primary UPDATE caps SET v=NULL WHERE id=2
				primary ROLLBACK
				primary SELECT @@wait_timeout FROM DUAL FOR UPDATE
			`)
			p.prepared("replica", "SELECT id, v FROM caps ORDER BY id")
			p.prepared("primary", "UPDATE caps SET id=id")
		}
	})
}

func TestSemantics22Bulk(t *testing.T) {
	w := sharedWorld(t, farm.MariaDB)
	w.both(t, "CREATE TABLE app.bulk (id INT, v VARCHAR(20))")
	p := w.pair(t, login{account: farmtest.App, schema: farmtest.Schema, caps: wire.MariaDBStmtBulk})
	if !p.proxied.caps.Has(wire.MariaDBStmtBulk) {
		t.Fatal("the proxy does not offer bulk execution")
	}
	insert := p.prepare("INSERT INTO bulk VALUES (?, ?)")
	insert.each("primary", func(_ *client, id uint32) []byte {
		b := statement(wire.ComStmtBulkExecute, id, 0x80, 0) // the types follow
		b = append(b, 0xfd, 0, 0xfd, 0)
		for i := range 100 {
			b = wire.AppendLenEncString(append(b, 0), fmt.Sprint(i))
			b = wire.AppendLenEncString(append(b, 0), fmt.Sprintf("row %d", i))
		}
		return b
	})
	p.run("any SELECT COUNT(*), SUM(id), MAX(v) FROM bulk")
	w.farm.CheckNoOwnEvents(t)
}

// accountAge is the default of logins.account_age: how long an account that was
// changed past the proxy may still be let in.
const accountAge = 10 * time.Millisecond

func TestSemantics23Authentication(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		plugins := map[string]string{"native": "mysql_native_password"}
		if w.flavor == farm.MariaDB {
			for _, plugin := range []string{"ed25519", "parsec"} {
				if w.installed(t, plugin) {
					plugins[plugin] = plugin
				} else {
					t.Logf("this server has no %s", plugin)
				}
			}
		}
		if w.flavor == farm.MySQL {
			plugins = map[string]string{"sha2": "caching_sha2_password", "sha256": "sha256_password"}
		}
		for name, plugin := range plugins {
			user := "auth_" + name
			identified := "IDENTIFIED WITH " + plugin + " BY 'secret'"
			if w.flavor == farm.MariaDB {
				identified = "IDENTIFIED VIA " + plugin + " USING PASSWORD('secret')"
			}
			w.both(t, "CREATE USER "+user+"@'%' "+identified, "GRANT SELECT ON app.* TO "+user+"@'%'")
			w.settle(t)
			account := dbserver.Account{User: user, Password: "secret"}
			// Over TLS, by the socket and by TCP, with the schema and without.
			for _, l := range []login{{tls: true}, {tls: true, schema: farmtest.Schema}, {}, {schema: farmtest.Schema}} {
				l.account = account
				for _, address := range []string{w.proxy.Socket, w.proxy.TCP} {
					if l.tls && address == w.proxy.Socket {
						continue
					}
					// The proxy must learn the password itself, which this client sends
					// over nothing else than TLS and the socket.
					if plugin == "ed25519" || plugin == "parsec" {
						if !l.tls && address == w.proxy.TCP {
							continue
						}
					}
					c := connect(t, address, l)
					if got := c.sql("SELECT CURRENT_USER()"); got.first != user+"@%" {
						t.Errorf("%s at %s, TLS %v: %v", plugin, address, l.tls, got)
					}
					l.account.Password = "wrong"
					w.refusedAlike(t, address, l)
					l.account.Password = account.Password
				}
			}
			l := login{account: account, schema: farmtest.Schema}
			p := &pair{t: t, w: w, direct: connect(t, w.direct.Addr(), l)}
			l.tls = true
			p.proxied = connect(t, w.proxy.TCP, l)
			p.run(`
				replica SELECT v FROM t WHERE id=1
				primary* DELETE FROM t
			`)
			// A changed password, and a dropped account, from the next connection on.
			change := "ALTER USER " + user + "@'%' " + strings.Replace(identified, "'secret'", "'changed'", 1)
			w.both(t, change)
			time.Sleep(accountAge)
			w.refusedAlike(t, w.proxy.Socket, login{account: account})
			w.refusedAlike(t, w.proxy.TCP, login{account: account, tls: true})
			account.Password = "changed"
			connect(t, w.proxy.TCP, login{account: account, tls: true})
			w.both(t, "DROP USER "+user+"@'%'")
			time.Sleep(accountAge)
			w.refusedAlike(t, w.proxy.TCP, login{account: account})
			w.refusedAlike(t, w.proxy.Socket, login{account: account})
		}
		// Refusals are alike: unknown user, wrong password, no password, no right to
		// the schema, no such schema.
		for _, l := range []login{
			{account: dbserver.Account{User: "nobody_at_all", Password: "x"}},
			{account: dbserver.Account{User: farmtest.App.User, Password: "wrong"}},
			{account: dbserver.Account{User: farmtest.App.User}},
			{account: farmtest.App, schema: "no_such_schema"},
			{account: noHints, schema: "mysql"},
		} {
			w.refusedAlike(t, w.proxy.TCP, l)
		}
	})
}

// installed has an authentication plugin loaded on every server; it is false
// where this kind of server comes without it.
func (w *world) installed(t testing.TB, plugin string) bool {
	t.Helper()
	dir := w.direct.Query(t, "SELECT @@plugin_dir AS dir")[0].String("dir")
	if _, err := os.Stat(filepath.Join(dir, "auth_"+plugin+".so")); errors.Is(err, fs.ErrNotExist) {
		return false
	} else if err != nil {
		t.Fatal(err)
	}
	for _, s := range append(w.farm.Servers(), w.direct) {
		s.Exec(t, "INSTALL PLUGIN IF NOT EXISTS "+plugin+" SONAME 'auth_"+plugin+"'")
	}
	return true
}

// refusedAlike logs in at the proxy at address and at the server, which must
// both refuse it, by the same error.
func (w *world) refusedAlike(t testing.TB, address string, l login) {
	t.Helper()
	server := w.direct.Addr()
	if address == w.proxy.Socket {
		server = w.direct.Socket()
	}
	var errs [2]*wire.Error
	direct := l
	direct.tls = l.tls && w.flavor == farm.MySQL // MariaDB's servers here have no certificate
	for i, at := range []string{server, address} {
		c, err := dial(at, []login{direct, l}[i])
		if err == nil {
			_ = c.raw.Close()
		}
		if !errors.As(err, &errs[i]) {
			t.Errorf("%v at %s, schema %q: %v, want a refusal", l.account, at, l.schema, err)
			return
		}
	}
	host := func(s string) string { // the proxy's address is not the client's
		before, rest, ok := strings.Cut(s, "'@'")
		if !ok {
			return s
		}
		_, after, _ := strings.Cut(rest, "'")
		return before + "'@'host'" + after
	}
	want, got := errs[0], errs[1]
	if want.Code != got.Code || want.State != got.State || host(want.Message) != host(got.Message) {
		t.Errorf("%v at %s, schema %q: directly %v, through the proxy %v", l.account, address, l.schema, want, got)
	}
}

// hangsUp says something at the network and ends its side. The other must too,
// by itself; what it answers before does not matter.
func hangsUp(t testing.TB, c net.Conn, say []byte) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, _ = c.Write(say) // it may have hung up already
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the proxy keeps a connection that said %.20x", say)
	}
	_ = c.Close()
}

func TestSemantics24Garbage(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		innocent := w.app(t)
		innocent.run("primary BEGIN")
		noise := make([]byte, 3000)
		if _, err := rand.Read(noise); err != nil {
			t.Fatal(err)
		}
		raw := func() net.Conn {
			c, err := net.Dial("tcp", w.proxy.TCP)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		// Instead of a handshake.
		for _, b := range [][]byte{nil, noise, {0xff, 0xff, 0xff, 1}, []byte("GET / HTTP/1.0\r\n\r\n"), {0, 0, 0, 1}, {5, 0, 0, 9, 1, 2, 3, 4, 5}} {
			hangsUp(t, raw(), b)
		}
		// In it: TLS that is none, and an answer to the challenge that is none.
		request := wire.HandshakeResponse{
			Capabilities: basic | wire.ClientSSL, MaxPacketSize: 1 << 30, Collation: 45,
			User: farmtest.App.User, AuthPlugin: "no_such_plugin", AuthResponse: noise[:20],
		}
		ssl, _ := wire.AppendPackets(nil, request.AppendSSLRequest(nil), 1)
		request.Capabilities = basic
		response, _ := wire.AppendPackets(nil, request.Append(nil), 1)
		for _, b := range [][]byte{
			ssl, append(slices.Clone(ssl), noise...), append(slices.Clone(ssl), response...),
			response[:len(response)-7], append(slices.Clone(response), noise...),
			append(slices.Clone(response), 0, 0, 0, 3), append(slices.Clone(response), 0xff, 0xff, 0xff, 3),
		} {
			hangsUp(t, raw(), b)
		}
		// After it.
		for _, b := range [][]byte{
			noise,
			{0, 0, 0, 0},
			{1, 0, 0, 7, byte(wire.ComPing)},
			{1, 0, 0, 0, byte(wire.ComStmtExecute)},
			{2, 0, 0, 0, byte(wire.ComStmtFetch), 1},
			{3, 0, 0, 0, byte(wire.ComChangeUser), 'a', 'b'},
			{1, 0, 0, 0, byte(wire.ComFieldList)},
			{1, 0, 0, 0, byte(wire.ComQuery)},
			{2, 0, 0, 0, byte(wire.ComSetOption), 0},
		} {
			hangsUp(t, connect(t, w.proxy.TCP, app).raw, b)
		}
		innocent.run(`
			primary SELECT 1
			primary COMMIT
			replica SELECT 1
		`)
	})
}

// Whoever is one too many hears what a server says, and takes the place of one
// that has gone.
func TestSemantics24Limits(t *testing.T) {
	for _, flavor := range flavors {
		t.Run(flavor.String(), func(t *testing.T) {
			w := sharedWorld(t, flavor)
			for limits, code := range map[string]uint16{"connections: 3": 1040, "connections_per_user: 3": 1203} {
				proxy := drivertest.StartProxy(t, w.farm, extra+"limits: {"+limits+"}\n")
				// One is that of who waited for the proxy.
				var in [2]*client
				for i := range in {
					farmtest.Eventually(t, limits+": there is a place", func() (err error) {
						in[i], err = dial(proxy.TCP, app)
						return err
					})
					t.Cleanup(func() { _ = in[i].raw.Close() })
				}
				_, err := dial(proxy.TCP, app)
				var refused *wire.Error
				if !errors.As(err, &refused) || refused.Code != code {
					t.Errorf("%s: the fourth is told %v, want error %d", limits, err, code)
				}
				for _, c := range in {
					c.pings(t)
				}
				other := login{account: boss}
				if c, err := dial(proxy.TCP, other); (err == nil) != (code == 1203) {
					t.Errorf("%s: another user: %v", limits, err)
				} else if err == nil {
					_ = c.raw.Close()
				}
				_ = in[0].raw.Close()
				farmtest.Eventually(t, limits+": its place is free", func() error {
					c, err := dial(proxy.TCP, app)
					if err == nil {
						_ = c.raw.Close()
					}
					return err
				})
			}
		})
	}
}
