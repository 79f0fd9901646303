package cluster

import (
	"errors"
	"fmt"
	"slices"
)

// The farm's own accounts, as orders and files of passwords call them.
const (
	ReplicationPassword = "replication" // replicas read the binlog with it
	MonitorPassword     = "monitor"     // proxies and scalers look at servers with it
)

// PasswordsOrder is the name, among the orders to a node, of the one to take other
// passwords, and PasswordsReportName of the report that says how far it is with that.
const (
	PasswordsOrder      = "passwords"
	PasswordsReportName = "passwords"
)

// PasswordStep is how far a change of passwords is.
type PasswordStep string

// The steps, in their order. A node that was away and finds a later one does what it
// missed. At no time is there a password in use that a server does not accept: the old
// ones are accepted until nobody uses them, the new ones before anybody does.
const (
	AcceptBoth PasswordStep = "accept" // the servers accept the new passwords beside the old ones
	UseNew     PasswordStep = "use"    // everybody uses the new ones
	AcceptNew  PasswordStep = "drop"   // the servers accept the new ones alone
	Changed    PasswordStep = "done"   // for nodes that were away
)

var passwordSteps = []PasswordStep{AcceptBoth, UseNew, AcceptNew, Changed}

// Reached reports whether a step is s or a later one.
func (s PasswordStep) Reached(at PasswordStep) bool {
	return slices.Index(passwordSteps, s) >= slices.Index(passwordSteps, at)
}

// Passwords is the order to one node to take other passwords. It is never logged.
type Passwords struct {
	ID   string       `json:"id"` // of the change; each has another
	Step PasswordStep `json:"step"`
	// New are the passwords that are to be used, by account; Old those of before, as long
	// as a server may accept them, for database servers alone.
	New map[string]string `json:"new"`
	Old map[string]string `json:"old,omitempty"`
}

// String keeps them from being printed.
func (*Passwords) String() string { return "an order to take other passwords" }

// GoString is String for %#v.
func (p *Passwords) GoString() string { return p.String() }

// Encode returns the order's value.
func (p *Passwords) Encode() ([]byte, error) { return encoded(p, p.String()) }

// DecodePasswords reads the order's value. An error has nothing of it.
func DecodePasswords(data []byte) (*Passwords, error) {
	p, err := decoded[Passwords](data, "an order to take other passwords")
	if err != nil || p.ID == "" || !slices.Contains(passwordSteps, p.Step) || p.New[MonitorPassword] == "" {
		return nil, errors.New("an order to take other passwords cannot be read")
	}
	return p, nil
}

// PasswordsReport says how far a node is.
type PasswordsReport struct {
	ID string `json:"id"`
	// Step is the last one that the node has done.
	Step PasswordStep `json:"step,omitempty"`
	// Why is why it has not done the one that it is asked for; empty if it has.
	Why string `json:"why,omitempty"`
}

// Encode returns the report's value.
func (r *PasswordsReport) Encode() ([]byte, error) { return encoded(r, "a report of passwords") }

// DecodePasswordsReport reads the report's value.
func DecodePasswordsReport(data []byte) (*PasswordsReport, error) {
	r, err := decoded[PasswordsReport](data, "a report of passwords")
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return r, nil
}
