package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"farmhand/proxy/internal/backend"
	"farmhand/proxy/internal/classify"
	"farmhand/proxy/internal/wire"
)

// killLimit bounds a KILL's own conversation with a server.
const killLimit = 5 * time.Second

// errKilled ends a session that was killed. Its client is told nothing more, as
// by a server: programs take the end of a connection (error 2006 of their
// driver) as the sign to connect again.
var errKilled = errors.New("the session was killed")

// What a session that kills itself or its own statement is answered.
var (
	errInterrupted   = &wire.Error{Code: 1317, State: "70100", Message: "Query execution was interrupted"}
	errSelfInflicted = &wire.Error{Code: 1927, State: "70100", Message: "Connection was killed"} // MariaDB's
)

// kill runs KILL and COM_PROCESS_KILL. Ids of the proxy's sessions are
// translated; any other is one of the primary's own, or none.
func (s *Session) kill(ctx context.Context, k classify.KillStatement, payload, sql []byte) error {
	if k.Self || !k.ByQueryID && k.User == nil && k.ID == uint64(s.id) {
		return s.killSelf(k.Query)
	}
	if k.ByQueryID || k.ID < firstID || k.ID > 1<<32-1 {
		m := classify.Meaning{Class: classify.Write, Flags: classify.Kills}
		d := s.decide(&m, nil)
		return s.run(ctx, &request{command: wire.Command(payload[0]), payload: payload, sql: sql, meaning: m, target: d.Target})
	}
	id := uint32(k.ID)
	victim := s.Registry.find(id)
	if victim == nil {
		return s.sendError(&wire.Error{Code: 1094, State: "HY000", Message: fmt.Sprintf("Unknown thread id: %d", id)})
	}
	if user := victim.shared.snapshot().User; user != s.client.User {
		if e := s.mayKill(ctx, id); e != nil {
			return s.sendError(e)
		}
	}
	if e := s.killQuery(ctx, victim); e != nil {
		return s.sendError(e)
	}
	if !k.Query {
		victim.abort(errKilled)
	}
	return s.sendOK()
}

// killSelf answers a session that kills itself or its own statement, the KILL.
func (s *Session) killSelf(query bool) error {
	e := errInterrupted
	if !query && s.state.mode.MariaDB {
		e = errSelfInflicted
	}
	if err := s.sendError(e); err != nil || query {
		return err
	}
	return errEnd
}

// killQuery kills what a session runs now. The session cannot go on to its next
// command meanwhile, so nothing else is hit.
func (s *Session) killQuery(ctx context.Context, victim *Session) *wire.Error {
	victim.shared.running.Lock()
	defer victim.shared.running.Unlock()
	running := victim.shared.running.conn
	if running == nil {
		return nil
	}
	err := s.control(ctx, running, fmt.Sprintf("KILL QUERY %d", running.ThreadID))
	var refused *wire.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		if refused.Code == 1094 {
			return nil // it is over
		}
		return refused
	}
	return noServer("KILL could not be passed on to %s: %v", running.Server.Name, err)
}

// control runs a statement of the proxy's own for this session's user on the
// server of another connection.
func (s *Session) control(ctx context.Context, where *backend.Conn, sql string) error {
	ctx, cancel := context.WithTimeout(ctx, killLimit)
	defer cancel()
	c, err := s.Pool.Get(ctx, &backend.Want{Server: where.Server, Credential: s.client.Credential, Caps: s.client.Caps, Schema: s.state.schema, Urgent: true})
	if err != nil {
		return err
	}
	defer s.Pool.Put(c, false)
	_ = c.SetDeadline(time.Now().Add(killLimit))
	c.WriteCommand(append(wire.AppendQuery(nil, c.Caps), sql...))
	if err := c.Flush(); err != nil {
		c.MarkBroken()
		return err
	}
	_, err = c.ReadReply()
	return err
}

// mayKill asks the primary whether this session's user may kill other users'
// sessions.
func (s *Session) mayKill(ctx context.Context, id uint32) *wire.Error {
	denied := &wire.Error{Code: 1095, State: "HY000", Message: fmt.Sprintf("You are not owner of thread %d", id)}
	c, err := s.acquirePrimary(ctx)
	if err != nil {
		var refused *wire.Error
		if errors.As(err, &refused) {
			return refused
		}
		return denied
	}
	// An account without the privilege gets no row.
	const ask = "SELECT 1 FROM information_schema.user_privileges WHERE privilege_type IN ('SUPER','CONNECTION ADMIN','CONNECTION_ADMIN') " +
		"AND grantee=CONCAT(QUOTE(SUBSTRING_INDEX(CURRENT_USER(),'@',1)),'@',QUOTE(SUBSTRING_INDEX(CURRENT_USER(),'@',-1))) LIMIT 1"
	c.WriteCommand(append(wire.AppendQuery(nil, c.Caps), ask...))
	if err := c.Flush(); err != nil {
		s.discard(c, "broken")
		return denied
	}
	var t wire.Tracker
	t.Begin(wire.ComQuery, c.Caps)
	rows, packets := 0, 0
	for !t.Done() {
		p, err := c.ReadPayload(authLimit)
		if err != nil || len(p) == 0 {
			s.discard(c, "broken")
			return denied
		}
		packets++
		if t.Next(len(p), p[0]) == wire.Hold {
			if _, err := t.Inspect(p); err != nil {
				s.discard(c, "broken")
				return denied
			}
		} else if packets > 2 {
			rows++
		}
	}
	if t.Err != nil || rows == 0 {
		return denied
	}
	return nil
}
