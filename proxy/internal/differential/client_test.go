package differential

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"farmhand/internal/dbserver"
	"farmhand/internal/farmtest"
	"farmhand/proxy/internal/auth"
	"farmhand/proxy/internal/wire"
)

// answerLimit bounds the wait for any answer. It is far longer than any takes,
// the busiest machine included.
const answerLimit = 60 * time.Second

// largest is the longest payload that is read.
const largest = 64 << 20

// other is the second account, for COM_CHANGE_USER.
var other = dbserver.Account{User: "app_other", Password: "elsewhere"}

func (l login) account() dbserver.Account {
	if l.other {
		return other
	}
	return farmtest.App
}

// base is what every client asks for.
const base = wire.ClientMySQL | wire.ClientLongFlag | wire.ClientProtocol41 | wire.ClientTransactions |
	wire.ClientSecureConnection | wire.ClientPluginAuth | wire.ClientPluginAuthLenEnc |
	wire.ClientMultiResults | wire.ClientPSMultiResults | wire.ClientLocalFiles

// client is one connection, to the server or to the proxy.
type client struct {
	address string
	conn    *wire.Conn
	caps    wire.Capability
	greeted *wire.Greeting
	slots   map[int]*slot
	tracker wire.Tracker
}

// class is what a packet is.
type class uint8

const (
	head       class = iota // a column count, or the EOF after definitions
	definition              // of a column or a parameter
	row
	ok // or the EOF that ends a result
	failure
	file // asks for a file
	prepared
	greeting // the first packet of a connection
	welcome  // the OK that ends a login
)

var classNames = [...]string{"head", "definition", "row", "ok", "error", "file request", "prepared", "greeting", "welcome"}

// packet is one packet of an answer.
type packet struct {
	class   class
	seq     uint8
	payload []byte
}

// response is the whole answer to a step.
type response struct {
	packets []packet
	arena   []byte
	// broken is why the answer ended before its time; the connection is gone.
	broken error
	silent bool // there was nothing to ask
	// rebound: the statement was executed with other types before.
	rebound bool
}

// has tells whether the answer has a packet of a class.
func (r *response) has(c class) bool {
	return slices.ContainsFunc(r.packets, func(p packet) bool { return p.class == c })
}

func (r *response) clear() {
	*r = response{packets: r.packets[:0], arena: r.arena[:0]}
}

func (r *response) add(c class, seq uint8, payload []byte) []byte {
	// A full arena stays with the packets that point into it.
	if cap(r.arena)-len(r.arena) < len(payload) {
		r.arena = make([]byte, 0, max(64<<10, 2*len(payload)))
	}
	begin := len(r.arena)
	r.arena = append(r.arena, payload...)
	kept := r.arena[begin:len(r.arena):len(r.arena)]
	r.packets = append(r.packets, packet{c, seq, kept})
	return kept
}

// failed tells whether the answer ends with an error.
func (r *response) failed() bool {
	return len(r.packets) > 0 && r.packets[len(r.packets)-1].class == failure
}

// link is the auth package's view of a connection.
type link struct{ *wire.Conn }

func (l link) ReadPacket() ([]byte, error) { return l.ReadPayload(1 << 20) }

func (l link) WritePacket(p []byte) error {
	l.Write(p)
	return l.Flush()
}

// open logs in. What the server said goes to r, where a refusal is no error.
func (c *client) open(l login, r *response) error {
	c.close()
	c.slots = map[int]*slot{}
	conn, err := net.DialTimeout("tcp", c.address, answerLimit)
	if err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Now().Add(answerLimit)); err != nil {
		return err
	}
	c.conn = wire.NewConn(conn)
	payload, err := c.conn.ReadPayload(1 << 20)
	if err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	r.add(greeting, 0, payload)
	if c.greeted, err = wire.ParseGreeting(payload); err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	c.caps = c.greeted.Capabilities & (base | l.caps)
	if l.schema != "" {
		c.caps |= wire.ClientConnectWithDB
	}
	account := l.account()
	credential := auth.PasswordCredential(account.User, account.Password)
	plugin, answer := credential.FirstResponse(c.greeted.AuthPlugin, c.greeted.Nonce, false)
	hello := wire.HandshakeResponse{
		Capabilities: c.caps, MaxPacketSize: 1 << 30, Collation: l.collation,
		User: account.User, AuthResponse: answer, Schema: l.schema, AuthPlugin: plugin,
	}
	c.conn.Write(hello.Append(nil))
	if err := c.conn.Flush(); err != nil {
		return err
	}
	return c.admitted(credential, plugin, r)
}

// admitted takes part in the login's exchange until its end.
func (c *client) admitted(credential *auth.Credential, plugin string, r *response) error {
	last, err := auth.Login(link{c.conn}, credential, plugin, c.greeted.Nonce, false)
	var refused *wire.Error
	switch {
	case errors.As(err, &refused):
		r.add(failure, 0, wire.AppendError(nil, refused))
		c.close()
		return nil
	case err != nil:
		return err
	}
	r.add(welcome, 0, last)
	return nil
}

func (c *client) close() {
	if c.conn != nil {
		// The other side may have closed it.
		_ = c.conn.Close()
		c.conn = nil
	}
}

// start sends a step's command; finish reads the answer. In between the other
// side is asked.
func (c *client) start(s *step, r *response) {
	r.clear()
	if s.do == connect {
		return
	}
	if c.conn == nil {
		r.silent = true
		return
	}
	if err := c.conn.SetDeadline(time.Now().Add(answerLimit)); err != nil {
		r.broken = err
		return
	}
	switch s.do {
	case changeUser:
		return
	case pipeline:
		for _, text := range s.texts {
			c.conn.WriteCommand(append([]byte{byte(wire.ComQuery)}, text...))
		}
	default:
		payload := c.payload(s)
		if payload == nil {
			r.silent = true
			return
		}
		r.rebound = s.do == execute && c.slots[s.slot].rebound
		c.conn.WriteCommand(payload)
	}
	r.broken = c.conn.Flush()
}

func (c *client) finish(s *step, r *response) {
	if r.silent {
		return
	}
	if r.broken == nil {
		r.broken = c.receive(s, r)
	}
	if r.broken != nil {
		c.close()
	}
}

func (c *client) receive(s *step, r *response) error {
	switch s.do {
	case connect:
		return c.open(s.login, r)
	case changeUser:
		return c.changeUser(s.login, r)
	case pipeline:
		for range s.texts {
			if err := c.read(wire.ComQuery, s, r); err != nil {
				return err
			}
		}
		return nil
	case unknown:
		return c.read(wire.Command(s.text[0]), s, r)
	case reset:
		clear(c.slots)
	}
	command := map[action]wire.Command{
		query: wire.ComQuery, initDB: wire.ComInitDB, fieldList: wire.ComFieldList, ping: wire.ComPing,
		setOption: wire.ComSetOption, reset: wire.ComResetConnection, prepare: wire.ComStmtPrepare,
		execute: wire.ComStmtExecute, longData: wire.ComStmtSendLong, stmtReset: wire.ComStmtReset,
		stmtClose: wire.ComStmtClose, fetch: wire.ComStmtFetch,
	}
	return c.read(command[s.do], s, r)
}

// read reads the answer to one command.
func (c *client) read(command wire.Command, s *step, r *response) error {
	t := &c.tracker
	for t.Begin(command, c.caps); !t.Done(); {
		p, err := c.conn.ReadPayload(largest)
		if err != nil {
			return fmt.Errorf("after %d packets: %w", len(r.packets), err)
		}
		first := byte(0)
		if len(p) > 0 {
			first = p[0]
		}
		rows, seq := t.InRows(), c.conn.Seq-1
		if t.Next(len(p), first) == wire.Pass {
			is := definition
			if rows && command != wire.ComFieldList {
				is = row
			}
			r.add(is, seq, p)
			continue
		}
		kept := r.add(head, seq, p)
		event, err := t.Inspect(kept)
		if err != nil {
			return fmt.Errorf("packet %d (%q): %w", len(r.packets), clip(string(kept)), err)
		}
		last := &r.packets[len(r.packets)-1]
		switch event {
		case wire.ResultOK:
			last.class = ok
		case wire.ResultError:
			last.class = failure
		case wire.Prepared:
			last.class = prepared
			c.slots[s.slot] = &slot{id: t.Statement.ID, text: s.text, params: int(t.Statement.Params), long: map[int]bool{}, untexted: map[int]bool{}}
		case wire.SendFile:
			last.class = file
			for rest := s.file; len(rest) > 0; {
				n := min(len(rest), 1000)
				c.conn.Write(rest[:n])
				rest = rest[n:]
			}
			c.conn.Write(nil)
			if err := c.conn.Flush(); err != nil {
				return err
			}
			t.FileSent()
		}
	}
	if command == wire.ComStmtPrepare && t.Err != nil {
		delete(c.slots, s.slot)
	}
	return nil
}

// changeUser runs COM_CHANGE_USER.
func (c *client) changeUser(l login, r *response) error {
	clear(c.slots)
	account := l.account()
	credential := auth.PasswordCredential(account.User, account.Password)
	plugin, answer := credential.FirstResponse(c.greeted.AuthPlugin, c.greeted.Nonce, false)
	p := append([]byte{byte(wire.ComChangeUser)}, account.User...)
	p = append(append(p, 0, byte(len(answer))), answer...)
	p = append(append(p, l.schema...), 0)
	p = append(p, l.collation, 0)
	p = append(append(p, plugin...), 0)
	c.conn.WriteCommand(p)
	if err := c.conn.Flush(); err != nil {
		return err
	}
	return c.admitted(credential, plugin, r)
}
