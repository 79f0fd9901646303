package differential

import (
	"encoding/binary"
	"fmt"
	"strings"

	"farmhand/proxy/internal/wire"
)

// action is what a step does.
type action uint8

// The actions.
const (
	query      action = iota // text; file answers LOAD DATA LOCAL
	connect                  // ends the client's connection and opens another, by login
	initDB                   // text is the schema
	fieldList                // text is the table
	ping                     //
	setOption                // number
	changeUser               // by login
	reset                    //
	prepare                  // text, to slot
	execute                  // slot, with params; number is the flags (1: with a cursor)
	longData                 // slot, number is the parameter, text the data
	stmtReset                // slot
	stmtClose                // slot
	fetch                    // slot, number of rows
	pipeline                 // texts, sent at once; the answers are read after
	unknown                  // text is a COM_STMT_… payload with an id that was never given out
)

// login is how a client introduces itself.
type login struct {
	other     bool // the second account
	schema    string
	collation uint8
	caps      wire.Capability
}

// step is one command of a session.
type step struct {
	who    int // which of the session's clients
	do     action
	text   string
	texts  []string
	slot   int
	number int
	login  login
	params []param
	file   []byte
	// rows says what of a result's rows is compared.
	rows rows
	// group ties neighbours that make sense only together; 0 for none.
	group int
	kind  string // of the generator's, for the statistics
}

// rows is how the rows of a step's answer are compared.
type rows uint8

const (
	inOrder rows = iota
	anyOrder
	ignored // their number and content are one server's own
)

// param is a parameter of an execution.
type param struct {
	kind   uint16 // type, with 0x8000 where it is unsigned
	null   bool
	binary []byte
	show   string
}

// String shows the step as SQL, or as the command with its arguments.
func (s step) String() string {
	who := ""
	if s.who > 0 {
		who = "[B] "
	}
	switch s.do {
	case query:
		text := s.text
		if s.file != nil {
			text += fmt.Sprintf("  -- with file %q", clip(string(s.file)))
		}
		return who + text + ";"
	case connect:
		return fmt.Sprintf("%sconnect as %s, schema %q, collation %d, capabilities %#x", who, s.login.account().User, s.login.schema, s.login.collation, uint64(s.login.caps))
	case initDB:
		return who + "COM_INIT_DB " + s.text
	case fieldList:
		return fmt.Sprintf("%sCOM_FIELD_LIST %q", who, s.text)
	case ping:
		return who + "COM_PING"
	case setOption:
		return fmt.Sprintf("%sCOM_SET_OPTION %d", who, s.number)
	case changeUser:
		return fmt.Sprintf("%sCOM_CHANGE_USER %s, schema %q, collation %d", who, s.login.account().User, s.login.schema, s.login.collation)
	case reset:
		return who + "COM_RESET_CONNECTION"
	case prepare:
		return fmt.Sprintf("%sCOM_STMT_PREPARE #%d: %s", who, s.slot, s.text)
	case execute:
		var values []string
		for _, p := range s.params {
			values = append(values, fmt.Sprintf("%s(type %#x)", p.show, p.kind))
		}
		return fmt.Sprintf("%sCOM_STMT_EXECUTE #%d, flags %d (%s)", who, s.slot, s.number, strings.Join(values, ", "))
	case longData:
		return fmt.Sprintf("%sCOM_STMT_SEND_LONG_DATA #%d, parameter %d: %q", who, s.slot, s.number, clip(s.text))
	case stmtReset:
		return fmt.Sprintf("%sCOM_STMT_RESET #%d", who, s.slot)
	case stmtClose:
		return fmt.Sprintf("%sCOM_STMT_CLOSE #%d", who, s.slot)
	case fetch:
		return fmt.Sprintf("%sCOM_STMT_FETCH #%d, %d rows", who, s.slot, s.number)
	case pipeline:
		return who + "pipelined: " + strings.Join(s.texts, " | ")
	default:
		return fmt.Sprintf("%s%v of a statement that there is not", who, wire.Command(s.text[0]))
	}
}

// textOf is the SQL that a step runs.
func (c *client) textOf(s *step) string {
	switch s.do {
	case execute, fetch:
		if st := c.slots[s.slot]; st != nil {
			return st.text
		}
	case pipeline:
		return strings.Join(s.texts, ";")
	}
	return s.text
}

func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + fmt.Sprintf("… (%d bytes)", len(s))
	}
	return s
}

// slot is a prepared statement of a client on one side.
type slot struct {
	id     uint32
	text   string
	params int
	types  []uint16     // that were sent last
	long   map[int]bool // parameters sent by COM_STMT_SEND_LONG_DATA
	// untexted are parameters that were ever of a type that is not sent as text.
	untexted map[int]bool
	// rebound: it was executed with parameters of other types before.
	rebound bool
}

// payload is the command of a step, for a client whose statement ids are its
// own; nil where there is nothing to do.
func (c *client) payload(s *step) []byte {
	st := c.slots[s.slot]
	id := uint32(0)
	if st != nil {
		id = st.id
	}
	switch s.do {
	case execute, longData, stmtReset, stmtClose, fetch:
		if st == nil {
			return nil
		}
	}
	withID := func(command wire.Command) []byte {
		return binary.LittleEndian.AppendUint32([]byte{byte(command)}, id)
	}
	switch s.do {
	case query:
		return append([]byte{byte(wire.ComQuery)}, s.text...)
	case initDB:
		return append([]byte{byte(wire.ComInitDB)}, s.text...)
	case fieldList:
		return append(append([]byte{byte(wire.ComFieldList)}, s.text...), 0)
	case ping:
		return []byte{byte(wire.ComPing)}
	case setOption:
		return []byte{byte(wire.ComSetOption), byte(s.number), 0}
	case reset:
		return []byte{byte(wire.ComResetConnection)}
	case prepare:
		return append([]byte{byte(wire.ComStmtPrepare)}, s.text...)
	case execute:
		return c.executePayload(withID(wire.ComStmtExecute), st, s)
	case longData:
		if s.number >= st.params || st.untexted[s.number] {
			// A server says nothing to it, or what it likes at the next execution:
			// MariaDB reads memory that nobody wrote.
			return nil
		}
		st.long[s.number] = true
		return append(binary.LittleEndian.AppendUint16(withID(wire.ComStmtSendLong), uint16(s.number)), s.text...)
	case stmtReset:
		clear(st.long)
		return withID(wire.ComStmtReset)
	case stmtClose:
		delete(c.slots, s.slot)
		return withID(wire.ComStmtClose)
	case fetch:
		return binary.LittleEndian.AppendUint32(withID(wire.ComStmtFetch), uint32(s.number))
	default:
		return []byte(s.text)
	}
}

// isText tells the types of parameters that are sent as strings.
func isText(kind uint16) bool { return kind >= 252 && kind <= 254 || kind == 15 }

func (c *client) executePayload(p []byte, st *slot, s *step) []byte {
	flags := byte(s.number)
	if strings.Contains(st.text, "RETURNING") {
		flags = 0 // a cursor for it crashes MariaDB 10.11
	}
	p = binary.LittleEndian.AppendUint32(append(p, flags), 1)
	if st.params == 0 {
		return p
	}
	values := make([]param, st.params) // a statement of the same slot may have another number of them
	for i := range values {
		values[i] = param{kind: 6, null: true}
	}
	copy(values, s.params)
	nulls := make([]byte, (len(values)+7)/8)
	same := len(st.types) == len(values)
	types := make([]uint16, len(values))
	for i, v := range values {
		if v.null && !st.long[i] {
			nulls[i/8] |= 1 << (i % 8)
		}
		types[i] = v.kind
		if st.long[i] {
			types[i] = 252
		}
		same = same && types[i] == st.types[i]
		if !isText(types[i]) {
			st.untexted[i] = true
		}
	}
	p = append(p, nulls...)
	if same {
		p = append(p, 0)
	} else {
		p = append(p, 1)
		for _, t := range types {
			p = binary.LittleEndian.AppendUint16(p, t)
		}
		st.rebound = st.rebound || st.types != nil
		st.types = types
	}
	for i, v := range values {
		if !v.null && !st.long[i] {
			p = append(p, v.binary...)
		}
	}
	clear(st.long)
	return p
}
