// Package classify turns the text of a SQL command into its meaning for a
// read/write split: which class it is, why, and which facts of it the session
// must know.
//
// It is a hand-written lexer and tables of rules, not a parser: what it cannot
// prove safe for a replica is a Write. It never fails, takes no lock, keeps no
// state, does not allocate, and imports the standard library only.
//
// Invariant: a text for which Classify returns Read (or BeginReadOnly, or
// SessionState) changes nothing but the session, whichever server of the farm
// it runs on.
package classify

import "strings"

// Class says where a text may run. A multi-statement text has the class of its
// most demanding statement.
type Class uint8

// The classes, from the least to the most demanding.
const (
	// Empty is a text without a statement (white space, comments, semicolons
	// only). The server answers it with its own error or OK.
	Empty Class = iota
	// Read is proven safe on a replica.
	Read
	// SessionState only sets session variables of the allow-list to values that
	// are the same on every server, or changes the default schema (USE). It
	// may run on any server; the outcome is carried to the others by value.
	SessionState
	// BeginReadOnly is START TRANSACTION READ ONLY.
	BeginReadOnly
	// Begin is BEGIN or START TRANSACTION in any other form.
	Begin
	// End is COMMIT or ROLLBACK (not to a savepoint) in any form.
	End
	// Primary is harmless but has its answer on the primary only (SHOW
	// PROCESSLIST, SHOW BINARY LOG STATUS …).
	Primary
	// Write may change something, or is not understood.
	Write
	// Console is SHOW FARMHAND …: the proxy's own console answers it.
	Console
)

var classNames = [...]string{
	Empty: "empty", Read: "read", SessionState: "session state", BeginReadOnly: "begin read only", Begin: "begin",
	End: "end of transaction", Primary: "primary", Write: "write", Console: "console",
}

func (c Class) String() string {
	if int(c) >= len(classNames) {
		return "unknown class"
	}
	return classNames[c]
}

// Flags are facts about a text, gathered over all its statements.
type Flags uint64

// The flags.
const (
	// MultiStatement: more than one statement (a trailing semicolon does not count).
	MultiStatement Flags = 1 << iota
	// Locking: a locking read (FOR UPDATE, FOR SHARE, LOCK IN SHARE MODE).
	Locking
	// Diagnostics: asks about the statement before it: SHOW WARNINGS/ERRORS,
	// SHOW COUNT(*) WARNINGS/ERRORS, GET DIAGNOSTICS, @@warning_count,
	// @@error_count, ROW_COUNT(), FOUND_ROWS(). It must run on the connection
	// that ran that statement.
	Diagnostics
	// LastInsertID: asks for the last insert id: LAST_INSERT_ID() without an
	// argument, @@last_insert_id, @@identity.
	LastInsertID
	// ReadsUserVariable: names a user variable (@a).
	ReadsUserVariable
	// AssignsUserVariable: gives a user variable a value in any other way than
	// a SET whose value Assignments reports as Known (:=, INTO @a, FETCH, SET
	// @a = expression, EXECUTE … with OUT parameters is not seen here).
	AssignsUserVariable
	// ConnectionID: calls CONNECTION_ID() or reads @@pseudo_thread_id; see
	// RewriteConnectionID.
	ConnectionID
	// TakesLock: GET_LOCK. ReleasesLock: RELEASE_LOCK, RELEASE_ALL_LOCKS.
	TakesLock
	ReleasesLock
	// CreatesTemporary: CREATE TEMPORARY TABLE. DropsTemporary: DROP [TEMPORARY]
	// TABLE. The names are what TableNames reports.
	CreatesTemporary
	DropsTemporary
	// ImplicitCommit: ends a running transaction.
	ImplicitCommit
	// SetsTransaction: SET TRANSACTION without a scope: the next transaction only.
	SetsTransaction
	// LocksTables: LOCK TABLES, FLUSH TABLES WITH READ LOCK. UnlocksTables: UNLOCK TABLES.
	LocksTables
	UnlocksTables
	// XA: any XA statement.
	XA
	// PreparesText: PREPARE name FROM. ExecutesText: EXECUTE name or EXECUTE
	// IMMEDIATE. DeallocatesText: DEALLOCATE/DROP PREPARE. See Prepared.
	PreparesText
	ExecutesText
	DeallocatesText
	// UsesSchema: USE.
	UsesSchema
	// SetsSession: any SET that touches session variables; see Assignments.
	SetsSession
	// OpaqueSession: a session-state change that cannot be followed (SET of a
	// variable outside the allow-list, SET STATEMENT is not one, SET ROLE, SET
	// with an expression, CALL, compound statements, EXECUTE IMMEDIATE …): the
	// session stays on the primary afterwards.
	OpaqueSession
	// Kills: KILL; see Kill.
	Kills
	// LoadsLocal: LOAD DATA/XML LOCAL INFILE.
	LoadsLocal
	// UnknownFunction: the only thing that keeps the text from being a Read is
	// a call of a function that is not in the table of built-in ones.
	UnknownFunction
	// CallsProcedure: CALL, or a compound statement (BEGIN NOT ATOMIC …).
	CallsProcedure
	// ReadsSystem: names a table of information_schema, performance_schema, mysql or sys.
	ReadsSystem
	// EndsConnection: COMMIT or ROLLBACK with RELEASE: the server closes the
	// connection when it has answered.
	EndsConnection
	// ReadWrite: START TRANSACTION … READ WRITE.
	ReadWrite
	// SetsStatement: SET STATEMENT a=b FOR …: the variables are as they were
	// when it is over.
	SetsStatement
	// UsesTable: names a table, be it a derived one or one of the server's own.
	// A MariaDB that has answered such a statement holds its warnings and no
	// older ones. Of what CALL, PREPARE, EXECUTE and stored functions run nothing
	// is known here; see Prepared. The FROM of EXTRACT(YEAR FROM a) passes for a
	// clause.
	UsesTable
	// AsksFoundRows: calls FOUND_ROWS(). AsksRowCount: calls ROW_COUNT().
	AsksFoundRows
	AsksRowCount
	// CalcFoundRows: SELECT SQL_CALC_FOUND_ROWS.
	CalcFoundRows
	// Sequence: moves a sequence, or reads where the connection has moved one to
	// (LASTVAL, PREVIOUS VALUE FOR).
	Sequence
)

var flagNames = [...]string{
	"MultiStatement", "Locking", "Diagnostics", "LastInsertID", "ReadsUserVariable", "AssignsUserVariable",
	"ConnectionID", "TakesLock", "ReleasesLock", "CreatesTemporary", "DropsTemporary", "ImplicitCommit", "SetsTransaction",
	"LocksTables", "UnlocksTables", "XA", "PreparesText", "ExecutesText", "DeallocatesText", "UsesSchema",
	"SetsSession", "OpaqueSession", "Kills", "LoadsLocal", "UnknownFunction", "CallsProcedure", "ReadsSystem",
	"EndsConnection", "ReadWrite", "SetsStatement", "UsesTable", "AsksFoundRows", "AsksRowCount", "CalcFoundRows", "Sequence",
}

// String returns the names of the flags, parted by spaces.
func (f Flags) String() string {
	var b strings.Builder
	for i, name := range flagNames {
		if f&(1<<i) == 0 {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(name)
	}
	return b.String()
}

// Target is where a hint sends a text.
type Target uint8

// What a leading hint asks for.
const (
	NoTarget Target = iota
	ToPrimary
	ToReplica
)

// Consistency is the level of freshness that a hint asks for.
type Consistency uint8

// The levels that a hint can ask for.
const (
	NoConsistency Consistency = iota
	EventualConsistency
	SessionConsistency
	FarmConsistency
	StrictConsistency
)

// Hint is a leading comment
// /* farmhand: primary | replica, max_lag=2s, consistency=eventual | session | farm | strict */.
type Hint struct {
	Present     bool
	Malformed   bool // ignored, and counted
	Target      Target
	Consistency Consistency
	MaxLag      int64 // nanoseconds; 0 is none
}

// Meaning is what a text means. Its slices point into the text and are valid
// as long as the text is.
type Meaning struct {
	Class  Class
	Reason Reason // why the class is not Read
	Verb   Verb   // first keyword of the first statement
	Flags  Flags
	Hint   Hint
	// Statements is the number of statements in the text.
	Statements int
}

// Charset is how the bytes above 0x7f of a text are to be read.
type Charset uint8

const (
	// UTF8 is utf8mb3, utf8mb4 and ASCII, ujis and euckr: no byte below 0x80 is part of a longer
	// character and none above is white space or punctuation.
	UTF8 Charset = iota
	// SingleByte is latin1 and its like: one byte may be white space (0xA0),
	// so a bare word with such bytes is not proof of anything.
	SingleByte
	// Shifted is big5, cp932, gbk, gb18030 and sjis: the second byte of a
	// character may look like a quote or a backslash.
	Shifted
)

// Mode is what of the session changes the meaning of a text.
type Mode struct {
	ANSIQuotes         bool // sql_mode has ANSI_QUOTES: "a" is an identifier
	NoBackslashEscapes bool // sql_mode has NO_BACKSLASH_ESCAPES
	MariaDB            bool // /*M! … */ is code and MariaDB's grammar holds; otherwise MySQL's
	IgnoreSpace        bool // sql_mode has IGNORE_SPACE: COUNT (*) is a call of COUNT
	// Charset is what kind of encoding character_set_client is.
	Charset Charset
	// Version is the server's version as MMmmpp (101119, 90700), for
	// /*!50110 … */ comments; 0 means: treat every such comment as code.
	Version int
}
