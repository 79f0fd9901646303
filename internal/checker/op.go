package checker

import "time"

// Level is what a read sees at least. Each promises all that the one before it
// does.
type Level uint8

// The levels.
const (
	Eventual Level = iota // whatever its server has
	Session               // all that its session has written and read
	Farm                  // all that anybody was told was committed before the session's first read, and the first after a pause
	Strict                // the same, before every read
	levels
)

// Levels are all levels, the weakest first.
var Levels = []Level{Eventual, Session, Farm, Strict}

func (l Level) String() string {
	return [levels]string{"eventual", "session", "farm", "strict"}[l]
}

// Outcome is what a client knows of how its operation ended.
type Outcome uint8

// The outcomes.
const (
	OK      Outcome = iota
	Failed          // it has not happened and never will
	Unknown         // it may have happened, or may happen yet
)

func (o Outcome) String() string { return [...]string{"ok", "failed", "unknown"}[o] }

// Action is what an operation does.
type Action uint8

// The actions.
const (
	// Write sets register Object to version Value, which must be one more than
	// the one before; only one session at a time writes a register.
	Write Action = iota
	// Append adds element Value to the end of list Object. No two have the same
	// element.
	Append
	// Insert adds a ledger entry with id Value, alone in its transaction.
	Insert
	// Transfer moves Values[2] from account Values[0] to account Values[1] and
	// adds a ledger entry with id Value, in one transaction.
	Transfer
	// ReadRegisters reads the versions of all registers in one statement into
	// Values.
	ReadRegisters
	// ReadList reads the elements of list Object into Values.
	ReadList
	// ReadAccounts reads the balances of all accounts in one snapshot into
	// Values.
	ReadAccounts
	actions
)

func (a Action) String() string {
	return [actions]string{"write", "append", "insert", "transfer", "read registers", "read list", "read accounts"}[a]
}

// Reads tells whether the action changes nothing.
func (a Action) Reads() bool { return a >= ReadRegisters }

// MarshalText implements encoding.TextMarshaler.
func (a Action) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// MarshalText implements encoding.TextMarshaler.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// MarshalText implements encoding.TextMarshaler.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Op is one operation of a client.
type Op struct {
	// Session is the client connection, Proxy what it went through. Operations of
	// one session do not overlap.
	Session int `json:"session"`
	Proxy   int `json:"proxy"`
	// Server is the id of the server that answered; 0 if the client cannot tell.
	Server uint32 `json:"server,omitempty"`
	// Invoke is just before the operation began, Complete just after it ended,
	// on one clock for all clients. For a read in a transaction Invoke is that of
	// the transaction.
	Invoke   time.Duration `json:"invoke"`
	Complete time.Duration `json:"complete"`
	Action   Action        `json:"action"`
	Object   int           `json:"object,omitempty"`
	Value    int64         `json:"value,omitempty"`
	Values   []int64       `json:"values,omitempty"`
	Outcome  Outcome       `json:"outcome"`
	// Error is the text of the error that the client got, for people.
	Error string `json:"error,omitempty"`
}

// State is the content of one server once all was healed and caught up.
type State struct {
	Server    string
	Registers []int64         // versions
	Lists     map[int][]int64 // elements, by list
	Ledger    map[int64]int   // rows, by id
	Balances  []int64
}
