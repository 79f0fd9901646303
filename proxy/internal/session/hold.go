package session

import (
	"go.uber.org/zap"

	"farmhand/proxy/internal/backend"
	"farmhand/proxy/internal/wire"
)

// A session holds a connection to the primary and one to a replica, as far as it
// has needed them. Between commands it lends those on which nothing of it
// depends to the pool (backend.Pool.Lend): another session may take one that
// needs it, and everything that this session has established on it is
// established again, by value, on the next.

// lease is the hold of one of the two.
type lease struct {
	backend.Lease
	lent   bool
	warned bool // when it was lent, the connection had warnings
}

func (s *Session) leaseOf(c *backend.Conn) *lease {
	if c == s.primary {
		return &s.leases[0]
	}
	return &s.leases[1]
}

// missed is what the session cannot ask a server for any more, because the
// connection that knew it has been taken.
type missed struct {
	inserted *backend.Inserted // LAST_INSERT_ID(), which its taker tells
	warnings bool              // the diagnostics of the last statement, which there were
	count    bool              // ROW_COUNT()
	rows     bool              // FOUND_ROWS()
	primary  bool              // what a write by itself left on the primary connection (LASTVAL of a column's default)
}

// hold makes a connection that the pool handed out the session's.
func (s *Session) hold(at **backend.Conn, c *backend.Conn) {
	*at = c
	*s.leaseOf(c) = lease{Lease: c.Lease()}
	s.shared.running.set(c)
}

// use makes sure that a connection of the session's is not lent. It is false
// where another session has taken it: the session has forgotten it then.
func (s *Session) use(c *backend.Conn) bool {
	l := s.leaseOf(c)
	if l.lent {
		if !c.Retake(l.Lease) {
			s.taken(c)
			return false
		}
		l.lent = false
	}
	s.shared.running.set(c)
	return true
}

// notHeld ends the session: the connection that it was about to use is another
// session's by now, and no answer is better than another's. It would be a fault of
// the proxy's own.
func (s *Session) notHeld(c *backend.Conn) error {
	s.logger().Error("a session has a connection that it does not hold", zap.String("server", c.Server.Name), zap.Stack("stack"))
	s.forget(c)
	_ = s.sendError(&wire.Error{Code: codeLost, State: "HY000", Message: "Farmhand: the connection to " + c.Server.Name + " is not this session's any more; this is a fault of the proxy's, please report it"})
	return errEnd
}

// taken takes note of a connection that another session has now.
func (s *Session) taken(c *backend.Conn) {
	l := s.leaseOf(c)
	if c == s.primary && s.insertUnsure() {
		s.missed.inserted, s.inserted = s.inserted, nil
	}
	s.miss(c, l.warned)
	s.missed.primary = s.missed.primary || c == s.primary
	s.forget(c)
}

// miss takes note of what only a connection knew that the session has no more.
func (s *Session) miss(c *backend.Conn, warned bool) {
	s.missed.warnings = s.missed.warnings || c == s.last && warned
	s.missed.count = s.missed.count || c == s.lastCount
	s.missed.rows = s.missed.rows || c == s.lastRows
}

// warned tells whether a connection of the session's has warnings to ask for.
func (s *Session) warned(c *backend.Conn) bool {
	if l := s.leaseOf(c); l.lent {
		return l.warned
	}
	return c.Warned
}

// insertUnsure tells whether LAST_INSERT_ID() is known to the primary
// connection only.
func (s *Session) insertUnsure() bool { return s.generated || s.state.inserted }

// lend lends what it can between two commands. An error ends the session.
func (s *Session) lend() error {
	s.endSuspended(nil)
	if !s.shared.running.set(nil) {
		return nil
	}
	for _, c := range [...]*backend.Conn{s.primary, s.replica} {
		if c == nil {
			continue
		}
		l := s.leaseOf(c)
		if l.lent || !s.lendable(c) {
			continue
		}
		if c.Unheard {
			if err := s.hear(c); err != nil {
				return err
			}
			if !s.lendable(c) {
				continue
			}
		}
		p := backend.Parting{Since: s.ended, Keep: c == s.last && c.Warned || c == s.lastRows && s.calculated}
		if c == s.primary && s.insertUnsure() {
			if s.inserted == nil {
				s.inserted = backend.NewInserted()
			}
			p.Inserted = s.inserted
		}
		l.lent, l.warned = true, c.Warned
		c.Idle()
		s.Pool.Lend(c, l.Lease, p)
	}
	return nil
}

// lendable tells whether nothing of the session depends on a connection that
// cannot be established on another.
func (s *Session) lendable(c *backend.Conn) bool {
	if s.transaction != nil && s.transaction == c || s.suspended == c || c == s.primary && s.state.bound() != "" || c.Broken() ||
		c.Status&inTransaction != 0 { // whatever the session knows of it
		return false
	}
	if len(s.statements) > 0 { // most sessions have none, and iterating over nothing costs
		for _, st := range s.statements {
			if st.long == c || st.cursor == c {
				return false
			}
		}
	}
	return true
}

// release gives a held connection back to the pool.
func (s *Session) release(at **backend.Conn) {
	c := *at
	if c == nil || !s.use(c) {
		return
	}
	// Nothing that could be asked for, nor anything that this session has set by
	// itself: the next one need not wait for it to be cleaned.
	asIs := s.lendable(c) && !c.Warned && !c.Unheard && c.InsertID == 0 && c.Settings.Equal(s.atLogin) && len(s.statements) == 0 &&
		(c != s.primary || s.lastInsertID == 0 && !s.insertUnsure())
	s.miss(c, c.Warned)
	s.forget(c)
	going := s.shared.running.set(nil) // else the connection has a deadline
	s.Pool.Put(c, asIs && going)
}

// forget takes every reference to a connection out of the session.
func (s *Session) forget(c *backend.Conn) {
	if s.primary == c {
		s.primary = nil
	}
	if s.replica == c {
		s.replica = nil
	}
	if s.last == c {
		s.last = nil
	}
	if s.lastCount == c {
		s.lastCount = nil
	}
	if s.lastRows == c {
		s.lastRows = nil
	}
	if s.transaction == c {
		s.transaction, s.nextTransaction = nil, false
	}
	for _, st := range s.statements {
		st.forget(c)
	}
}

// discard closes a connection that must not be used again.
func (s *Session) discard(c *backend.Conn, reason string) {
	s.shared.running.set(nil)
	if c == s.primary {
		s.generated = false // lastInsertID is the best that is known
	}
	s.forget(c)
	c.MarkBroken()
	s.Pool.Close(c, reason)
}

func (s *Session) releaseAll() {
	s.release(&s.primary)
	s.release(&s.replica)
}
