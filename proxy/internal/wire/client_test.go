package wire_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"farmhand/internal/dbserver"
	"farmhand/proxy/internal/auth"
	"farmhand/proxy/internal/wire"
)

// exchangeLimit bounds everything that a test does on one connection.
const exchangeLimit = time.Minute

// client is a client of a real server that knows a response by the Tracker's
// word only.
type client struct {
	t       testing.TB
	conn    *wire.Conn
	caps    wire.Capability
	mariaDB bool
	// noMetadata: results come without column definitions.
	noMetadata bool
	tracker    wire.Tracker
}

// base is what every test connection asks for.
const base = wire.ClientMySQL | wire.ClientLongFlag | wire.ClientProtocol41 | wire.ClientTransactions |
	wire.ClientSecureConnection | wire.ClientPluginAuth | wire.ClientPluginAuthLenEnc | wire.ClientConnectWithDB |
	wire.ClientMultiResults | wire.ClientPSMultiResults | wire.ClientLocalFiles

// connLink is the auth package's view of a packet connection.
type connLink struct{ *wire.Conn }

func (l connLink) ReadPacket() ([]byte, error) { return l.ReadPayload(1 << 20) }

func (l connLink) WritePacket(p []byte) error {
	l.Write(p)
	return l.Flush()
}

// connect logs in to a real server with base and more, as far as it offers them.
func connect(t testing.TB, address string, account dbserver.Account, schema string, more wire.Capability) *client {
	t.Helper()
	raw, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	c, err := login(raw, account, schema, more)
	if err != nil {
		t.Fatal(err)
	}
	c.t = t
	return c
}

func login(raw net.Conn, account dbserver.Account, schema string, more wire.Capability) (*client, error) {
	if err := raw.SetDeadline(time.Now().Add(exchangeLimit)); err != nil {
		return nil, err
	}
	c := &client{conn: wire.NewConn(raw)}
	payload, err := c.conn.ReadPayload(1 << 20)
	if err != nil {
		return nil, err
	}
	greeting, err := wire.ParseGreeting(payload)
	if err != nil {
		return nil, err
	}
	c.mariaDB = !greeting.Capabilities.Has(wire.ClientMySQL)
	c.caps = greeting.Capabilities & (base | more)
	credential := auth.PasswordCredential(account.User, account.Password)
	plugin, response := credential.FirstResponse(greeting.AuthPlugin, greeting.Nonce, false)
	answer := wire.HandshakeResponse{
		Capabilities: c.caps, MaxPacketSize: 1 << 30, Collation: greeting.Collation,
		User: account.User, AuthResponse: response, Schema: schema, AuthPlugin: plugin,
	}
	c.conn.Write(answer.Append(nil))
	if err := c.conn.Flush(); err != nil {
		return nil, err
	}
	last, err := auth.Login(connLink{c.conn}, credential, plugin, greeting.Nonce, false)
	if err != nil {
		return nil, err
	}
	_, err = wire.ParseOK(last, c.caps)
	return c, err
}

// result is one result of a response.
type result struct {
	rows     int      // packets passed before its end, less the column definitions
	bytes    int      // of their payloads
	ok       wire.OK  // what ended it; Info and Changes are copies
	changes  []change // of the session's state
	firstRow []byte
}

type change struct {
	kind        wire.ChangeKind
	name, value string
}

// reply is a whole response, as the Tracker divides it.
type reply struct {
	results  []result
	err      *wire.Error
	prepared wire.PreparedStatement
	files    int // that the server asked for
	progress int // reports
	packets  int
}

// run sends a command and follows the response to the Tracker's end, giving the
// server the given file where it asks for one.
func (c *client) run(payload, file []byte) (reply, error) {
	c.conn.WriteCommand(payload)
	if err := c.conn.Flush(); err != nil {
		return reply{}, err
	}
	seq := c.conn.Seq
	t := &c.tracker
	t.Begin(wire.Command(payload[0]), c.caps)
	var r reply
	var now result
	for !t.Done() {
		if err := c.conn.Need(wire.HeaderSize); err != nil {
			return r, fmt.Errorf("after %d packets: %w", r.packets, err)
		}
		length, s := wire.Header(c.conn.Buffered())
		if s != seq {
			return r, fmt.Errorf("packet %d has number %d, not %d", r.packets, s, seq)
		}
		seq++
		r.packets++
		first := byte(0)
		if length > 0 {
			if err := c.conn.Need(wire.HeaderSize + 1); err != nil {
				return r, err
			}
			first = c.conn.Buffered()[wire.HeaderSize]
		}
		continuation := t.Continued()
		rows := t.InRows()
		if t.Next(length, first) == wire.Pass {
			body, err := c.body(length)
			if err != nil {
				return r, err
			}
			if rows {
				if !continuation {
					now.rows++
				}
				if now.rows == 1 && len(now.firstRow) < 64 {
					now.firstRow = append(now.firstRow, body...)
				}
				now.bytes += length
			}
			continue
		}
		if err := c.conn.Need(wire.HeaderSize + length); err != nil {
			return r, err
		}
		p := c.conn.Buffered()[wire.HeaderSize : wire.HeaderSize+length]
		event, err := t.Inspect(p)
		if err != nil {
			return r, fmt.Errorf("packet %d, % x: %w", r.packets, p[:min(len(p), 32)], err)
		}
		switch event {
		case wire.ResultOK:
			now.ok = t.OK
			now.ok.Info = append([]byte(nil), now.ok.Info...)
			err := wire.Changes(now.ok.Changes, func(ch wire.Change) bool {
				now.changes = append(now.changes, change{ch.Kind, string(ch.Name), string(ch.Value)})
				return true
			})
			if err != nil {
				return r, err
			}
			now.ok.Changes = nil
			r.results = append(r.results, now)
			now = result{}
		case wire.ResultError:
			r.err = t.Err
		case wire.Prepared:
			r.prepared = t.Statement
		case wire.Nothing:
			if first == 0xff {
				r.progress++
			}
		}
		c.conn.Discard(wire.HeaderSize + length)
		if event == wire.SendFile {
			r.files++
			c.conn.Seq = s + 1
			if len(file) > 0 {
				c.conn.Write(file)
			}
			c.conn.Write(nil)
			seq = c.conn.Seq
			if err := c.conn.Flush(); err != nil {
				return r, err
			}
			t.FileSent()
		}
	}
	if n := len(c.conn.Buffered()); n > 0 {
		return r, fmt.Errorf("%d bytes follow what the tracker took for the end: % x", n, c.conn.Buffered()[:min(n, 32)])
	}
	return r, nil
}

// body reads a packet's payload and returns its first bytes.
func (c *client) body(length int) ([]byte, error) {
	c.conn.Discard(wire.HeaderSize)
	var head []byte
	for rest := length; rest > 0; {
		if len(c.conn.Buffered()) == 0 {
			if err := c.conn.Fill(); err != nil {
				return nil, err
			}
		}
		b := c.conn.Buffered()
		b = b[:min(len(b), rest)]
		if len(head) < 64 {
			head = append(head, b[:min(len(b), 64)]...)
		}
		rest -= len(b)
		c.conn.Discard(len(b))
	}
	return head, nil
}

// must runs a command and proves by a ping that its response was over when the
// Tracker said so.
func (c *client) must(payload, file []byte) reply {
	c.t.Helper()
	r, err := c.run(payload, file)
	if err != nil {
		c.t.Fatalf("%v %.60q: %v", wire.Command(payload[0]), payload[1:], err)
	}
	if err := c.ping(); err != nil {
		c.t.Fatalf("after %v %.60q: %v", wire.Command(payload[0]), payload[1:], err)
	}
	return r
}

// ping sends COM_PING and looks at the one packet that answers it.
func (c *client) ping() error {
	c.conn.WriteCommand([]byte{byte(wire.ComPing)})
	if err := c.conn.Flush(); err != nil {
		return err
	}
	p, err := c.conn.ReadPayload(1 << 20)
	if err != nil {
		return fmt.Errorf("answer to COM_PING: %w", err)
	}
	if c.conn.Seq != 2 || !wire.IsOK(p) {
		return fmt.Errorf("answer to COM_PING is packet %d, % x", c.conn.Seq-1, p[:min(len(p), 32)])
	}
	if _, err := wire.ParseOK(p, c.caps); err != nil {
		return fmt.Errorf("answer to COM_PING, % x: %w", p, err)
	}
	if len(c.conn.Buffered()) > 0 {
		return errors.New("more than one packet answers COM_PING")
	}
	return nil
}

// query is the payload of a COM_QUERY without attributes.
func (c *client) query(sql string) []byte {
	p := []byte{byte(wire.ComQuery)}
	if c.caps.Has(wire.ClientQueryAttributes) {
		p = append(p, 0, 1)
	}
	return append(p, sql...)
}

func (c *client) sql(sql string) reply {
	c.t.Helper()
	return c.must(c.query(sql), nil)
}

func (c *client) exec(statements ...string) {
	c.t.Helper()
	for _, sql := range statements {
		if r := c.sql(sql); r.err != nil {
			c.t.Fatalf("%s: %v", sql, r.err)
		}
	}
}

func (c *client) prepare(sql string) wire.PreparedStatement {
	c.t.Helper()
	r := c.must(append([]byte{byte(wire.ComStmtPrepare)}, sql...), nil)
	if r.err != nil {
		c.t.Fatalf("prepare %s: %v", sql, r.err)
	}
	return r.prepared
}

// execute is the payload of a COM_STMT_EXECUTE with string parameters.
func (c *client) execute(id uint32, flags byte, params ...string) []byte {
	const hasCount = 8
	attributes := c.caps.Has(wire.ClientQueryAttributes)
	if attributes {
		flags |= hasCount
	}
	p := binary.LittleEndian.AppendUint32([]byte{byte(wire.ComStmtExecute)}, id)
	p = append(p, flags, 1, 0, 0, 0)
	if attributes {
		p = wire.AppendLenEnc(p, uint64(len(params)))
	}
	if len(params) == 0 {
		return p
	}
	p = append(p, make([]byte, (len(params)+7)/8)...)
	p = append(p, 1)
	for range params {
		p = append(p, 0xfd, 0)
		if attributes {
			p = wire.AppendLenEncString(p, "")
		}
	}
	for _, v := range params {
		p = wire.AppendLenEncString(p, v)
	}
	return p
}

func statementCommand(command wire.Command, id uint32, rest ...byte) []byte {
	return append(binary.LittleEndian.AppendUint32([]byte{byte(command)}, id), rest...)
}
