package session

import (
	"fmt"

	"farmhand/proxy/internal/backend"
	"farmhand/proxy/internal/classify"
	"farmhand/proxy/internal/wire"
)

// An error has no room for what changed in the session. A statement that fails may
// have changed it all the same: a trigger or a function of a view sets a variable
// before the row that is refused. The server tells with its next OK. Until then the
// connection is Unheard, and no other session's.

// mayHaveRun tells whether a statement that failed may have run a stored program. The
// SHOWs of which MariaDB leaves the count as it finds it run none, and what it finds is not
// known here.
func mayHaveRun(r *request, e *wire.Error) bool {
	const runs = classify.UsesTable | classify.UnknownFunction | classify.CallsProcedure | classify.ExecutesText | classify.MultiStatement
	const syntax = 1064
	return r.command != wire.ComStmtPrepare && r.meaning.Flags&runs != 0 && e.Code != syntax && !keepsCount(r, e)
}

// hear asks what statements that failed have changed. An error ends the session, like
// that of a direct connection that broke.
func (s *Session) hear(c *backend.Conn) error {
	h := &s.handler
	h.changed, h.explained, h.statementOnly = false, false, false
	before := s.state.version
	s.shared.running.set(c)
	// MariaDB tells with an OK that has something to tell itself. Neither changes the
	// diagnostics; ROW_COUNT() is 0 after both.
	if c.MariaDB {
		c.WriteCommand(append(wire.AppendQuery(nil, c.Caps), "SET SESSION session_track_schema=ON"...))
	} else {
		c.WriteCommand([]byte{byte(wire.ComPing)})
	}
	err := c.Flush()
	if err == nil {
		var ok wire.OK
		if ok, err = c.ReadReply(); err == nil {
			err = s.changes(ok.Changes, c)
		}
	}
	s.shared.running.set(nil)
	if err != nil {
		s.discard(c, "broken")
		return fmt.Errorf("what a statement that failed has changed on %s cannot be told: %w", c.Server.Name, err)
	}
	c.Unheard = false
	if h.changed && !h.explained && !c.MariaDB { // MariaDB's own question changes something
		s.state.opaque = "a statement that failed changed the session in a way that it does not show"
	}
	if s.state.version != c.Synced && c.Synced == before {
		s.synced(c)
	}
	switch {
	case c != s.lastCount || s.count == 0:
	case s.count == -1:
		s.uncounted = true
	default: // a statement that did not fail has come after
		s.lastCount, s.missed.count = nil, true
	}
	return nil
}

// recount makes ROW_COUNT() what it was before hear.
func (s *Session) recount(c *backend.Conn) error {
	if !s.uncounted || c != s.lastCount {
		return nil
	}
	s.uncounted = false
	// It is -1 after a result set, as after an error.
	c.WriteCommand(append(wire.AppendQuery(nil, c.Caps), "SELECT -1"...))
	err := c.Flush()
	if err == nil {
		_, err = c.ReadValue()
	}
	if err != nil {
		s.discard(c, "broken")
		return fmt.Errorf("%w: ROW_COUNT() cannot be told: %w", errEnd, err)
	}
	s.missed.rows = s.missed.rows || c == s.lastRows
	return nil
}
