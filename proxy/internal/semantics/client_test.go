package semantics

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"farmhand/internal/dbserver"
	"farmhand/internal/farmtest"
	"farmhand/proxy/internal/auth"
	"farmhand/proxy/internal/compress"
	"farmhand/proxy/internal/session"
	"farmhand/proxy/internal/wire"
)

// limit bounds all that a test does on one connection.
const limit = 2 * time.Minute

// client is a connection that keeps every packet of an answer.
type client struct {
	conn     *wire.Conn
	raw      net.Conn
	caps     wire.Capability
	greeting *wire.Greeting
	file     func(name string) [][]byte // what LOAD DATA LOCAL gets: packets; nil refuses
	// unnumbered leaves the packets' numbers out of replies: compression has its own.
	unnumbered bool
	compressed *compress.Conn // nil without compression
}

// basic is what every client asks for.
const basic = wire.ClientMySQL | wire.ClientLongFlag | wire.ClientProtocol41 | wire.ClientTransactions |
	wire.ClientSecureConnection | wire.ClientPluginAuth | wire.ClientPluginAuthLenEnc | wire.ClientMultiResults |
	wire.ClientPSMultiResults | wire.ClientLocalFiles

// login is how a client logs in.
type login struct {
	account   dbserver.Account
	schema    string
	caps      wire.Capability // beyond basic
	without   wire.Capability // of basic
	collation uint8           // 45 (utf8mb4_general_ci) where 0
	attrs     []byte
	tls       bool
}

// wireMulti lets a client send several statements in one text.
const wireMulti = wire.ClientMultiStatements

// app is how clients log in if a test says nothing else.
var app = login{account: farmtest.App, schema: farmtest.Schema}

func connect(t testing.TB, address string, l login) *client {
	t.Helper()
	c, err := dial(address, l)
	if err != nil {
		t.Fatalf("log in at %s: %v", address, err)
	}
	t.Cleanup(func() { _ = c.raw.Close() })
	return c
}

func dial(address string, l login) (*client, error) {
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	raw, err := net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	c := &client{conn: wire.NewConn(raw), raw: raw, unnumbered: l.caps.Has(wire.ClientCompress) || l.caps.Has(wire.ClientZstd)}
	if err := c.login(l); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("%w (capabilities %x)", err, uint64(c.caps))
	}
	return c, nil
}

func (c *client) login(l login) error {
	if err := c.raw.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	p, err := c.conn.ReadPayload(1 << 20)
	if err != nil {
		return err
	}
	if c.greeting, err = wire.ParseGreeting(p); err != nil {
		return err
	}
	if l.schema != "" {
		l.caps |= wire.ClientConnectWithDB
	}
	if l.collation == 0 {
		l.collation = 45
	}
	c.caps = c.greeting.Capabilities & (basic | l.caps) &^ l.without
	credential := auth.PasswordCredential(l.account.User, l.account.Password)
	secure := l.tls || c.raw.RemoteAddr().Network() == "unix"
	plugin, response := credential.FirstResponse(c.greeting.AuthPlugin, c.greeting.Nonce, secure)
	answer := wire.HandshakeResponse{
		Capabilities: c.caps, MaxPacketSize: 1 << 30, Collation: l.collation, User: l.account.User,
		AuthResponse: response, Schema: l.schema, AuthPlugin: plugin, Attributes: l.attrs, ZstdLevel: compress.DefaultZstdLevel,
	}
	if l.tls {
		answer.Capabilities |= wire.ClientSSL
		c.conn.Write(answer.AppendSSLRequest(nil))
		if err := c.conn.Flush(); err != nil {
			return err
		}
		if err := c.conn.Upgrade(func(conn net.Conn) net.Conn {
			return tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // certificates that the servers and the proxy made
		}); err != nil {
			return err
		}
	}
	c.conn.Write(answer.Append(nil))
	if err := c.conn.Flush(); err != nil {
		return err
	}
	if _, err = auth.Login(session.AuthLink{Conn: c.conn}, credential, plugin, c.greeting.Nonce, secure); err != nil {
		return err
	}
	return c.compress()
}

// compress has all that follows compressed, if that was agreed on.
func (c *client) compress() error {
	algorithm := compress.Zlib
	switch {
	case c.caps.Has(wire.ClientCompress):
	case c.caps.Has(wire.ClientZstd):
		algorithm = compress.Zstd
	default:
		return nil
	}
	var err error
	return errors.Join(c.conn.Upgrade(func(conn net.Conn) net.Conn {
		if c.compressed, err = compress.New(conn, algorithm, 0); err != nil {
			return conn
		}
		return c.compressed
	}), err)
}

// reply is an answer, for comparison and for people.
type reply struct {
	packets  []string // what each packet says
	rows     int
	first    string // first cell of the first row of a text result
	err      *wire.Error
	ok       wire.OK // the last one; without Info and Changes
	warnings int
	prepared wire.PreparedStatement
	lost     error // the connection broke
}

func (r *reply) String() string {
	s := strings.Join(r.packets[:min(len(r.packets), 12)], "\n\t")
	if r.lost != nil {
		s += "\n\tconnection lost"
	}
	return s
}

// same compares two answers.
func (r *reply) same(other *reply) bool {
	if len(r.packets) != len(other.packets) || (r.lost == nil) != (other.lost == nil) {
		return false
	}
	for i := range r.packets {
		if r.packets[i] != other.packets[i] {
			return false
		}
	}
	return true
}

// send sends commands in one piece.
func (c *client) send(payloads ...[]byte) error {
	if c.compressed != nil {
		c.compressed.ResetSequence()
	}
	for _, p := range payloads {
		c.conn.WriteCommand(p)
	}
	return c.conn.Flush()
}

// do runs a command.
func (c *client) do(payload []byte) *reply {
	if err := c.send(payload); err != nil {
		return &reply{lost: err}
	}
	return c.answer(wire.Command(payload[0]))
}

// answer reads the answer to a command.
func (c *client) answer(command wire.Command) *reply {
	r := &reply{}
	var t wire.Tracker
	t.Begin(command, c.caps)
	for !t.Done() {
		rows, results := t.InRows(), t.Results
		p, err := c.conn.ReadPayload(1 << 28)
		if err != nil {
			r.lost = err
			return r
		}
		seq := c.conn.Seq - 1
		if c.unnumbered {
			seq = 0
		}
		first := byte(0)
		if len(p) > 0 {
			first = p[0]
		}
		if next(&t, len(p), first) == wire.Pass {
			if rows {
				if r.rows == 0 && command == wire.ComQuery {
					d := wire.Decode(p)
					if len(p) > 0 && p[0] == 0xfb {
						r.first = "NULL"
					} else {
						r.first = string(d.LenEncBytes())
					}
				}
				r.rows++
			}
			r.packets = append(r.packets, fmt.Sprintf("%d: %s", seq, excerpt(p)))
			continue
		}
		event, err := t.Inspect(p)
		if err != nil {
			r.lost = err
			return r
		}
		switch event {
		case wire.ResultOK:
			r.ok = t.OK
			r.warnings = int(t.OK.Warnings)
			ok := t.OK
			ok.Status &^= notCompared
			r.packets = append(r.packets, fmt.Sprintf("%d: result %d ends %#02x: affected %d, insert id %d, status %#04x, warnings %d, %q %q",
				seq, results, ok.Header, ok.AffectedRows, ok.LastInsertID, uint16(ok.Status), ok.Warnings, ok.Info, sorted(ok.Changes)))
			r.ok.Info, r.ok.Changes = nil, nil
		case wire.ResultError:
			r.err = t.Err
			r.packets = append(r.packets, fmt.Sprintf("%d: %v", seq, t.Err))
		case wire.Prepared:
			r.prepared = t.Statement
			r.packets = append(r.packets, fmt.Sprintf("%d: prepared, %d columns, %d parameters", seq, t.Statement.Columns, t.Statement.Params))
		case wire.SendFile:
			name := string(p[1:])
			r.packets = append(r.packets, fmt.Sprintf("%d: asks for %s", seq, name))
			if c.file != nil {
				for _, b := range c.file(name) {
					c.conn.Write(b)
				}
			}
			c.conn.Write(nil)
			if err := c.conn.Flush(); err != nil {
				r.lost = err
				return r
			}
			t.FileSent()
		default:
			if e, err := wire.ParseEOF(p); err == nil && len(p) == 5 && p[0] == 0xfe {
				e.Status &^= notCompared
				p = wire.AppendEOF(nil, e)
			}
			r.packets = append(r.packets, fmt.Sprintf("%d: %s", seq, excerpt(p)))
		}
	}
	return r
}

// next tells t of a payload of n bytes that may have come in several packets.
func next(t *wire.Tracker, n int, first byte) wire.Step {
	step := t.Next(min(n, wire.MaxPayload), first)
	for n >= wire.MaxPayload {
		n -= wire.MaxPayload
		step = t.Next(min(n, wire.MaxPayload), first)
	}
	return step
}

// sorted is what changed in the session, in an order of its own: MariaDB has none.
func sorted(changes []byte) []string {
	var all []string
	err := wire.Changes(changes, func(c wire.Change) bool {
		all = append(all, fmt.Sprintf("%d %s=%s", c.Kind, c.Name, c.Value))
		return true
	})
	if err != nil {
		all = append(all, err.Error())
	}
	slices.Sort(all)
	return all
}

// notCompared are the status flags that depend on the time that a statement
// took, and on whether this connection had it prepared before a schema change.
const notCompared = wire.StatusQueryWasSlow | wire.StatusMetadataChanged

// excerpt is a packet for people: all of a short one, a checksum of a long one.
func excerpt(p []byte) string {
	if len(p) <= 400 {
		return fmt.Sprintf("%q", p)
	}
	return fmt.Sprintf("%q… %d bytes, %#x", p[:60], len(p), crc32.ChecksumIEEE(p))
}

// query is the payload of a COM_QUERY.
func (c *client) query(sql string) []byte {
	p := []byte{byte(wire.ComQuery)}
	if c.caps.Has(wire.ClientQueryAttributes) {
		p = append(p, 0, 1)
	}
	return append(p, sql...)
}

func (c *client) sql(sql string) *reply { return c.do(c.query(sql)) }

// prepare is the payload of a COM_STMT_PREPARE.
func prepare(sql string) []byte { return append([]byte{byte(wire.ComStmtPrepare)}, sql...) }

// statement is the payload of a command about a prepared statement.
func statement(command wire.Command, id uint32, rest ...byte) []byte {
	return append(binary.LittleEndian.AppendUint32([]byte{byte(command)}, id), rest...)
}

// execution is the payload of a COM_STMT_EXECUTE with string parameters; typed
// says that it has their types.
func (c *client) execution(id uint32, cursor byte, typed bool, params ...string) []byte {
	attributes := c.caps.Has(wire.ClientQueryAttributes)
	if attributes {
		cursor |= 8 // the number of parameters is there
	}
	p := statement(wire.ComStmtExecute, id, cursor, 1, 0, 0, 0)
	if attributes {
		p = wire.AppendLenEnc(p, uint64(len(params)))
	}
	if len(params) == 0 {
		return p
	}
	p = append(p, make([]byte, (len(params)+7)/8)...)
	if !typed {
		p = append(p, 0)
	} else {
		p = append(p, 1)
		for range params {
			p = append(p, 0xfd, 0)
			if attributes {
				p = wire.AppendLenEncString(p, "")
			}
		}
	}
	for _, v := range params {
		p = wire.AppendLenEncString(p, v)
	}
	return p
}

// ping is nil when the connection answers a COM_PING, and only that.
func (c *client) ping() error {
	r := c.do([]byte{byte(wire.ComPing)})
	switch {
	case r.lost != nil:
		return r.lost
	case r.err != nil:
		return r.err
	case len(c.conn.Buffered()) > 0:
		return errors.New("more than one packet answers COM_PING")
	}
	return nil
}

// pings fails the test where the connection is not intact.
func (c *client) pings(t testing.TB) {
	t.Helper()
	if err := c.ping(); err != nil {
		t.Errorf("the connection is not intact: %v", err)
	}
}

// changeUser runs COM_CHANGE_USER.
func (c *client) changeUser(l login) error {
	credential := auth.PasswordCredential(l.account.User, l.account.Password)
	plugin, response := credential.FirstResponse(c.greeting.AuthPlugin, c.greeting.Nonce, false)
	p := append([]byte{byte(wire.ComChangeUser)}, l.account.User+"\x00"...)
	p = append(append(p, byte(len(response))), response...)
	p = append(p, l.schema+"\x00"...)
	p = append(p, 45, 0)
	p = append(p, plugin+"\x00"...)
	if err := c.send(p); err != nil {
		return err
	}
	_, err := auth.Login(session.AuthLink{Conn: c.conn}, credential, plugin, c.greeting.Nonce, false)
	return err
}
