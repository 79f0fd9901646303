package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"farmhand/proxy/internal/backend"
	"farmhand/proxy/internal/monitor"
	"farmhand/proxy/internal/route"
	"farmhand/proxy/internal/wire"
)

// Codes of the proxy's own errors. They are codes that clients know from a
// server or a driver, so that software which retries keeps doing so.
const (
	codeNoServer   = 2003 // CR_CONN_HOST_ERROR: no server could be reached
	codeLost       = 2013 // CR_SERVER_LOST: the connection broke; the outcome is unknown
	codeNotThrough = 1235 // ER_NOT_SUPPORTED_YET
	codeUnknownCom = 1047 // ER_UNKNOWN_COM_ERROR
	codePacket     = 1153 // ER_NET_PACKET_TOO_LARGE
	codeReadOnly   = 1290 // ER_OPTION_PREVENTS_STATEMENT
)

func noServer(format string, args ...any) *wire.Error {
	return &wire.Error{Code: codeNoServer, State: "HY000", Message: "Farmhand: " + fmt.Sprintf(format, args...)}
}

// Waiting bounds how many statements wait for a primary, in all and for each
// user.
type Waiting struct {
	Limit, PerUser int

	mu    sync.Mutex
	all   int
	users map[string]int
}

func (w *Waiting) enter(user string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.Limit > 0 && w.all >= w.Limit:
		return fmt.Errorf("%d statements wait already, which is the limit (writes.waiting)", w.all)
	case w.PerUser > 0 && w.users[user] >= w.PerUser:
		return fmt.Errorf("%d statements of user %s wait already, which is the limit (writes.waiting_per_user)", w.users[user], user)
	}
	if w.users == nil {
		w.users = map[string]int{}
	}
	w.all++
	w.users[user]++
	return nil
}

func (w *Waiting) leave(user string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all--
	if w.users[user]--; w.users[user] == 0 {
		delete(w.users, user)
	}
}

// acquire returns the connection for a target, with the session's state on it.
// An error is a *wire.Error for the client, or the end of the session.
func (s *Session) acquire(ctx context.Context, target route.Target, f freshness, avoid []string) (*backend.Conn, error) {
	s.wait = wait{}
	switch target {
	case route.Transaction:
		return s.transaction, s.sync(s.transaction)
	case route.Anywhere:
		if c := s.usable(); c != nil {
			if err := s.sync(c); err == nil {
				return c, nil
			}
		}
		// What a replica refuses the primary may grant: its schemas may be behind.
		c, err := s.acquireRead(ctx, freshness{maxLag: s.policy.MaxLag}, avoid)
		if err != nil && isServerError(err) {
			return s.acquirePrimary(ctx)
		}
		return c, err
	case route.Replica:
		return s.acquireRead(ctx, f, avoid)
	}
	return s.acquirePrimary(ctx)
}

func isServerError(err error) bool {
	var e *wire.Error
	return errors.As(err, &e)
}

// usable is a connection that the session holds and may go on with: the one that
// ran the last statement rather than the other, because what changes the session
// only leaves that statement's diagnostics to be asked for.
func (s *Session) usable() *backend.Conn {
	v := s.Farm.View()
	primary, replica := s.primary, s.replica
	if primary != nil && (v.Primary == nil || v.Primary.Name != primary.Server.Name || v.Primary.Address != primary.Server.Address) {
		primary = nil
	}
	if replica != nil {
		if sv := v.Server(replica.Server.Name); sv == nil || sv.Address != replica.Server.Address || !sv.Eligible {
			replica = nil
		}
	}
	if replica == nil || primary != nil && primary == s.last {
		return primary
	}
	return replica
}

// open returns the held connection, or a new one to server, with the session's
// state on it.
func (s *Session) open(ctx context.Context, held **backend.Conn, server *monitor.Server) (*backend.Conn, error) {
	if c := *held; c != nil {
		err := s.sync(c)
		if err == nil || isServerError(err) {
			return c, err
		}
		// The connection died while the session held it; nothing depended on it.
	}
	c, err := s.Pool.Get(ctx, server.Server, s.client.Credential, s.client.Caps, s.state.schema)
	if err != nil {
		var refused *wire.Error
		if errors.As(err, &refused) {
			return nil, refused
		}
		return nil, err
	}
	*held = c
	s.shared.addConn(c)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return c, s.sync(c)
}

// acquirePrimary returns a connection to the primary, waiting for one where
// there is none. Nothing of the client's statement has been sent before it
// returns, so it may try as often as time allows.
func (s *Session) acquirePrimary(ctx context.Context) (*backend.Conn, error) {
	if c := s.primary; c != nil {
		p := s.Farm.View().Primary
		moved := p == nil || p.Name != c.Server.Name || p.Address != c.Server.Address
		if bound := s.state.bound(); bound != "" || s.transaction == c {
			if err := s.sync(c); err == nil || isServerError(err) {
				return c, err
			}
			return nil, s.lost(c, bound)
		}
		if moved {
			s.release(&s.primary)
		}
	}
	deadline := time.Now().Add(s.policy.WriteWait)
	waiting := false
	defer func() {
		if waiting {
			s.Waiting.leave(s.client.User)
		}
	}()
	for last := error(nil); ; {
		v := s.Farm.View()
		why := primaryProblem(v)
		if why == "" {
			c, err := s.open(ctx, &s.primary, v.Primary)
			if err == nil || isServerError(err) && !temporary(err) {
				return c, err
			}
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			last = err
			why = fmt.Sprintf("%s: %v", v.Primary.Name, err)
		}
		if !waiting {
			if err := s.Waiting.enter(s.client.User); err != nil {
				return nil, noServer("there is no primary to write to (%s), and %v", why, err)
			}
			waiting = true
			s.Metrics.waits.Inc()
		}
		left := time.Until(deadline)
		if left <= 0 {
			if last != nil && isServerError(last) {
				return nil, last
			}
			return nil, noServer("waited %v for a primary, in vain. %s. Nothing of the statement was sent", s.policy.WriteWait, why)
		}
		// A server that refuses connections for now changes nothing that the
		// monitor would see, so look again before long.
		timer := time.NewTimer(min(left, 100*time.Millisecond))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, context.Cause(ctx)
		case <-s.Farm.Changed(v.Generation):
		case <-timer.C:
		}
		timer.Stop()
	}
}

// temporary tells refusals that pass: too many connections, shutting down.
func temporary(err error) bool {
	var e *wire.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case 1040, 1053, 1203, 1226, 1927, 4031:
		return true
	}
	return false
}

// primaryProblem says why nothing can be written now; empty if it can.
func primaryProblem(v *monitor.View) string {
	p := v.Primary
	switch {
	case p == nil:
		return "the topology names no primary"
	case p.Writable:
		return ""
	case p.Reason != "":
		return p.Name + ": " + p.Reason
	case p.Status == monitor.Unknown:
		return p.Name + " has not been reached yet"
	}
	return p.Name + " is " + p.Status.String()
}

// lost ends a session whose connection broke with state that no other
// connection can have: the client learns it as it would learn it directly.
func (s *Session) lost(c *backend.Conn, bound string) error {
	if bound == "" {
		bound = "a transaction was open on it"
	}
	s.sendError(&wire.Error{
		Code: codeLost, State: "HY000",
		Message: fmt.Sprintf("Farmhand: the connection to %s was lost, and the session cannot go on elsewhere: it %s", c.Server.Name, bound),
	})
	return errEnd
}

// sync brings a connection to the session's state: the schema and what is
// carried by value. Where nothing is missing it costs nothing. An error is a
// *wire.Error that the server answered with, or the connection's end, after
// which it is discarded.
func (s *Session) sync(c *backend.Conn) error {
	schema := c.Schema != s.state.schema && s.state.schema != ""
	missing := s.state.missing(s.scratch[:0], c.Synced)
	s.scratch = missing
	if !schema && len(missing) == 0 {
		c.Synced = s.state.version
		return nil
	}
	if schema {
		c.WriteCommand(append([]byte{byte(wire.ComInitDB)}, s.state.schema...))
	}
	if len(missing) > 0 {
		c.WriteCommand(append(wire.AppendQuery(nil, c.Caps), missing...))
	}
	if err := c.Flush(); err != nil {
		s.discard(c, "broken")
		return fmt.Errorf("send session state to %s: %w", c.Server.Name, err)
	}
	// Both answers are read whatever the first one is.
	var refused *wire.Error
	if schema {
		e, err := s.syncReply(c, "the schema")
		if err != nil {
			return err
		}
		if refused = e; e == nil {
			c.Schema = s.state.schema
		}
	}
	if len(missing) > 0 {
		e, err := s.syncReply(c, "session variables")
		if err != nil {
			return err
		}
		if e == nil {
			c.Synced = s.state.version
		} else if refused == nil {
			refused = e
		}
	}
	if refused != nil {
		return refused
	}
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
		s.discard(c, "broken")
		return nil, fmt.Errorf("establish %s on %s: %w", what, c.Server.Name, err)
	}
	c.Status = ok.Status
	return nil, nil
}
