// Package route decides where a statement runs. Decide says which kind of
// connection it needs, from the statement's meaning and what the session is in
// the middle of; Replica chooses a server for a read, from what the monitor
// saw. Both are pure functions: no I/O, clock or randomness of their own.
//
// Invariant: a statement that is not proven to be a read goes to the primary,
// or to the connection that the session's transaction is open on.
package route

import "farmhand/proxy/internal/classify"

// Target is the kind of connection that a statement needs.
type Target uint8

// The targets.
const (
	// Primary: the cluster's primary, waiting for one if there is none.
	Primary Target = iota
	// Replica: any server that is fit for the session's reads.
	Replica
	// Transaction: the connection that the open transaction is on.
	Transaction
	// Last: the connection that ran the session's last statement, whose
	// diagnostics the statement asks for.
	Last
	// Anywhere: whichever connection the session has; its effect is carried to
	// the others by value.
	Anywhere
	// Console: the proxy itself answers.
	Console
)

var targetNames = [...]string{"primary", "replica", "transaction's server", "last statement's server", "any server", "proxy console"}

func (t Target) String() string { return targetNames[t] }

// Facts are what of a session's state decides the route of its next statement.
type Facts struct {
	// InTransaction: a transaction is open.
	InTransaction bool
	// NextTransaction: SET TRANSACTION was said on the connection that
	// Transaction means, for the next transaction only.
	NextTransaction bool
	// AutocommitOff: the next statement would open a transaction.
	AutocommitOff bool
	// Serializable: the session's isolation level makes every read a locking one.
	Serializable bool
	// ReadOnlyDefault: the session's transactions are read-only by default.
	ReadOnlyDefault bool
	// HasLast: the connection of the last statement is still there, and what the
	// text asks can be asked there: it changes nothing, and reads no table but on the
	// primary.
	HasLast bool
	// Pinned is why every statement stays on the primary connection; empty if
	// nothing holds it.
	Pinned string
	// NamesTemporary: the text names one of the session's temporary tables.
	NamesTemporary bool
	// Bound: the primary connection has what the session may ask for and no
	// other connection can have: temporary tables, user variables, the last
	// insert id.
	Bound bool
	// NamesUnknown: the text reads a user variable whose value is known to the
	// primary connection only.
	NamesUnknown bool
	// HintsAllowed: a leading /* farmhand: … */ comment counts.
	HintsAllowed bool
}

// Decision is a target with the reason for it.
type Decision struct {
	Target Target
	Reason string
}

// Decide returns where a statement with meaning m runs.
func Decide(m *classify.Meaning, f *Facts) Decision {
	switch {
	case m.Class == classify.Console:
		return Decision{Console, "asks the proxy"}
	case m.Flags&classify.Diagnostics != 0 && m.Flags&classify.MultiStatement == 0 && f.HasLast:
		return Decision{Last, "asks about the statement before it"}
	case f.InTransaction:
		return Decision{Transaction, "a transaction is open"}
	case f.NextTransaction:
		return Decision{Transaction, "SET TRANSACTION holds for the next transaction"}
	case f.Pinned != "":
		return Decision{Primary, f.Pinned}
	case f.AutocommitOff:
		return Decision{Primary, "autocommit is off"}
	case m.Class == classify.BeginReadOnly && f.Bound:
		return Decision{Primary, "a read-only transaction, which may ask for what only the primary's connection has"}
	case m.Class == classify.BeginReadOnly,
		m.Class == classify.Begin && f.ReadOnlyDefault && m.Flags&(classify.MultiStatement|classify.ReadWrite) == 0 && !f.Bound:
		return Decision{Replica, "a read-only transaction"}
	case m.Flags&classify.SetsTransaction != 0:
		// The next transaction may write.
		return Decision{Primary, "SET TRANSACTION holds for the next transaction"}
	case m.Class == classify.SessionState:
		return Decision{Anywhere, "changes the session only"}
	case m.Class == classify.Empty:
		return Decision{Anywhere, "no statement"}
	case m.Class != classify.Read:
		return Decision{Primary, m.Reason.String()}
	case f.Serializable:
		return Decision{Primary, "isolation level SERIALIZABLE makes reads lock"}
	case f.NamesTemporary:
		return Decision{Primary, "names a temporary table"}
	case f.NamesUnknown:
		return Decision{Primary, "reads a user variable that a statement assigned"}
	case m.Flags&classify.LastInsertID != 0:
		return Decision{Primary, "asks for the last insert id"}
	case m.Flags&classify.Diagnostics != 0:
		return Decision{Primary, "asks about the statement before it"}
	case f.HintsAllowed && m.Hint.Target == classify.ToPrimary && !m.Hint.Malformed:
		return Decision{Primary, "the hint asks for the primary"}
	}
	return Decision{Replica, "a read"}
}
