package classify

// Reason says in a few words why a text does not count as a plain read. A
// person reads it in SHOW FARMHAND ROUTE FOR '…'.
type Reason uint8

// The reasons.
const (
	NoReason Reason = iota
	NotUnderstood
	Unreadable
	AmbiguousBytes
	MayWrite
	ChangesSchema
	Administers
	LockingRead
	SelectsInto
	AssignsVariable
	CallsUnknownFunction
	CallsStoredProcedure
	IsCompound
	UsesSequence
	SetsInsertID
	UsesNamedLock
	Waits
	OneServersAnswer
	OneConnectionsAnswer
	LocksTable
	ControlsTransaction
	InTransaction
	IsXA
	SetsListedState
	SetsUnlistedState
	SetsExpression
	SetsGlobal
	SetsAutocommit
	PreparesStatement
	UsesHandler
	KillsConnection
	MixesStatements
	AsksConsole
	RefusedByReplica // said by the session, which has seen it
	reasonCount
)

var reasons = [reasonCount]string{
	NoReason:             "",
	NotUnderstood:        "not understood",
	Unreadable:           "unterminated quote or comment, or a byte that cannot be read",
	AmbiguousBytes:       "bytes that may be white space in the client's character set",
	MayWrite:             "may write",
	ChangesSchema:        "changes a schema",
	Administers:          "administers a server",
	LockingRead:          "locking read",
	SelectsInto:          "selects into a variable or file",
	AssignsVariable:      "assigns a user variable",
	CallsUnknownFunction: "calls an unknown function",
	CallsStoredProcedure: "calls a stored procedure",
	IsCompound:           "compound statement",
	UsesSequence:         "uses a sequence",
	SetsInsertID:         "sets the last insert id",
	UsesNamedLock:        "takes or releases a named lock",
	Waits:                "waits in the server",
	OneServersAnswer:     "the answer belongs to one server",
	OneConnectionsAnswer: "the answer belongs to one connection",
	LocksTable:           "locks or unlocks tables",
	ControlsTransaction:  "transaction control",
	InTransaction:        "works within a transaction",
	IsXA:                 "distributed transaction",
	SetsListedState:      "sets session state",
	SetsUnlistedState:    "sets session state that cannot be followed",
	SetsExpression:       "sets a variable to an expression",
	SetsGlobal:           "sets a server's own state",
	SetsAutocommit:       "sets autocommit",
	PreparesStatement:    "prepares, executes or deallocates a statement by name",
	UsesHandler:          "uses a table handler",
	KillsConnection:      "kills a connection or query",
	MixesStatements:      "several statements, one of which changes the session",
	AsksConsole:          "a question to the proxy's console",
	RefusedByReplica:     "a replica has refused it as a write",
}

func (r Reason) String() string {
	if r >= reasonCount {
		return "unknown reason"
	}
	return reasons[r]
}
