package session

import (
	"bytes"

	"farmhand/proxy/internal/backend"
	"farmhand/proxy/internal/classify"
	"farmhand/proxy/internal/wire"
)

// next is what SET TRANSACTION said of the next transaction, on the primary
// connection.
type next struct {
	texts    [][]byte
	readOnly bool
	unknown  bool // it was said in a way that cannot be repeated
}

// learnNext takes what a SET TRANSACTION said. first: nothing was said before.
func (s *Session) learnNext(r *request, first bool) {
	n := &s.next
	if first {
		*n = next{}
	}
	if r.command != wire.ComQuery || r.firstPacket > 0 || r.meaning.Flags&classify.MultiStatement != 0 {
		n.unknown = true
		return
	}
	n.texts = append(n.texts, bytes.Clone(r.sql))
	n.unknown = n.unknown || len(n.texts) > 8
	classify.Assignments(r.sql, s.state.mode, func(a classify.Assignment) bool {
		switch {
		case a.Kind != classify.Transaction:
			n.unknown = true // of a variable: whatever its value
		case a.Access == classify.ReadOnlyAccess:
			n.readOnly = true
		case a.Access == classify.ReadWriteAccess:
			n.readOnly = false
		}
		return true
	})
}

// moveNext takes the next transaction to a replica where it begins now, reads
// only, and nothing else is on the primary connection. It returns what was said
// of it, which is to be said again there; nil where the transaction stays.
func (s *Session) moveNext(m *classify.Meaning) [][]byte {
	n := &s.next
	readOnly := m.Class == classify.BeginReadOnly || m.Class == classify.Begin && n.readOnly && m.Flags&classify.ReadWrite == 0
	if !readOnly || m.Flags&classify.MultiStatement != 0 || !s.nextTransaction || n.unknown ||
		s.transaction == nil || s.transaction != s.primary {
		return nil
	}
	if s.state.bound() != "" || s.state.autocommitOff || s.lastInsertID != 0 || s.lastRows == s.primary || len(s.statements) > 0 {
		return nil
	}
	s.keepInserted(s.primary)
	s.release(&s.primary) // whose reset takes back what was said there
	m.Class = classify.BeginReadOnly
	return n.texts
}

// repeatNext says on a connection what was said of the transaction that payload
// begins there.
func repeatNext(c *backend.Conn, texts [][]byte) error {
	for _, sql := range texts {
		c.WriteCommand(append(wire.AppendQuery(nil, c.Caps), sql...))
	}
	if err := c.Flush(); err != nil {
		return err
	}
	var first error
	for range texts {
		if _, err := c.ReadReply(); err != nil && first == nil {
			first = err
		}
	}
	return first
}
