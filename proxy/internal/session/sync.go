package session

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"go.uber.org/zap"

	"farmhand/proxy/internal/backend"
	"farmhand/proxy/internal/wire"
)

// sync brings a connection to the session's state: the schema and what is
// carried by value. Where nothing is missing it costs nothing. An error is a
// *wire.Error that the server answered with, or the connection's end, after
// which it is discarded.
func (s *Session) sync(ctx context.Context, c *backend.Conn) error {
	if s.missed.inserted != nil && c == s.primary {
		if err := s.recallInserted(ctx); err != nil {
			return err
		}
	}
	n := s.writeSync(c)
	if n.none() {
		return nil
	}
	err := c.Flush()
	if err != nil {
		err = fmt.Errorf("send session state to %s: %w", c.Server.Name, err)
	} else {
		err = s.readSync(c, n)
	}
	if err != nil && !isServerError(err) {
		s.discard(c, "broken")
	}
	return err
}

// syncing is what of the session's state has been sent to a connection.
type syncing struct {
	schema, settings bool
	insertID         uint64
}

func (n syncing) none() bool { return !n.schema && !n.settings }

// writeSync puts the statements that bring a connection to the session's state
// ahead of what is sent next.
func (s *Session) writeSync(c *backend.Conn) (n syncing) {
	n.schema = c.Schema != s.state.schema && s.state.schema != ""
	missing := s.state.missing(s.scratch[:0], c.Synced)
	n.insertID = c.InsertID
	if c == s.primary && c.InsertID != s.lastInsertID && !s.insertUnsure() {
		n.insertID = s.lastInsertID
		if len(missing) == 0 {
			missing = append(missing, "SET "...)
		} else {
			missing = append(missing, ", "...)
		}
		missing = strconv.AppendUint(append(missing, "SESSION last_insert_id="...), n.insertID, 10)
	}
	s.scratch = missing
	n.settings = len(missing) > 0
	if !n.settings {
		s.synced(c)
	}
	if n.schema {
		c.WriteCommand(append([]byte{byte(wire.ComInitDB)}, s.state.schema...))
	}
	if n.settings {
		c.WriteCommand(append(wire.AppendQuery(nil, c.Caps), missing...))
	}
	return n
}

// synced takes note that a connection has the session's state.
func (s *Session) synced(c *backend.Conn) {
	c.Synced, c.Settings = s.state.version, s.state.settings()
}

// readSync reads the answers to what writeSync wrote, whatever the first one is.
// An error is as that of sync, but the connection is the caller's to discard.
func (s *Session) readSync(c *backend.Conn, n syncing) error {
	var refused *wire.Error
	if n.schema {
		e, err := s.syncReply(c, "the schema")
		if err != nil {
			return err
		}
		if refused = e; e == nil {
			c.Schema = s.state.schema
		}
	}
	if n.settings {
		e, err := s.syncReply(c, "session variables")
		if err != nil {
			return err
		}
		if e == nil {
			c.InsertID = n.insertID
			s.synced(c)
		} else if refused == nil {
			refused = e
		}
	}
	if refused != nil {
		return refused
	}
	return nil
}

// keepInserted learns LAST_INSERT_ID() from a connection that the session gives
// up, where that alone knows it.
func (s *Session) keepInserted(c *backend.Conn) {
	if !s.insertUnsure() {
		return
	}
	id, err := c.LastInsertID()
	if err != nil {
		// It broke, or its server is not there any more; what the session knows
		// itself is the best there is.
		s.logger().Debug("LAST_INSERT_ID() could not be asked for", zap.Error(err))
		c.MarkBroken()
		id = s.lastInsertID
	}
	s.lastInsertID, s.generated, s.state.inserted = id, false, false
}

// recallInserted learns LAST_INSERT_ID() from who has taken the connection that
// knew it.
func (s *Session) recallInserted(ctx context.Context) error {
	id, err := s.missed.inserted.Wait(ctx)
	s.missed.inserted = nil
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		// The connection broke; what the session knows itself is the best there is.
		s.logger().Debug("LAST_INSERT_ID() was not told", zap.Error(err))
		id = s.lastInsertID
	}
	s.lastInsertID, s.generated, s.state.inserted = id, false, false
	return nil
}

// syncReply reads the answer to a statement of sync: the server's refusal, or
// the connection's end.
func (s *Session) syncReply(c *backend.Conn, what string) (*wire.Error, error) {
	ok, err := c.ReadReply()
	var refused *wire.Error
	switch {
	case errors.As(err, &refused):
		return refused, nil
	case err != nil:
		return nil, fmt.Errorf("establish %s on %s: %w", what, c.Server.Name, err)
	}
	c.Status = ok.Status
	c.Warned = c.Warned || ok.Warnings > 0
	return nil, nil
}
