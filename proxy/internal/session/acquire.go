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
	s.wait, s.pending = wait{}, syncing{}
	switch target {
	case route.Transaction:
		s.use(s.transaction) // which is never lent
		return s.transaction, s.sync(ctx, s.transaction)
	case route.Anywhere:
		if c := s.usable(); c != nil && s.use(c) {
			if err := s.sync(ctx, c); err == nil {
				return c, nil
			}
		}
		// What a replica refuses the primary may grant: its schemas may be behind.
		f = freshness{maxLag: s.policy.MaxLag}
		c, err := s.acquireRead(ctx, f, avoid)
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
	if primary != nil && !s.isPrimary(primary) {
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

// isPrimary tells whether a connection is to the server that is the primary now.
func (s *Session) isPrimary(c *backend.Conn) bool {
	p := s.Farm.View().Primary
	return p != nil && p.Name == c.Server.Name && p.Address == c.Server.Address
}

// open returns the held connection, or a new one to server, with the session's
// state on it.
func (s *Session) open(ctx context.Context, held **backend.Conn, server *monitor.Server) (*backend.Conn, error) {
	if c := *held; c != nil && s.use(c) && s.lives(c) {
		if held == &s.replica && s.together {
			s.pending = s.writeSync(c)
			return c, nil
		}
		err := s.sync(ctx, c)
		if err == nil || isServerError(err) {
			return c, s.refusedState(c, err)
		}
		// The connection died while the session held it; nothing depended on it.
	}
	c, err := s.Pool.Get(ctx, &backend.Want{
		Server: server.Server, Credential: s.client.Credential, Caps: s.client.Caps, Schema: s.state.schema,
		Settings: s.state.settings(), Clean: s.asks,
	})
	if err != nil {
		var refused *wire.Error
		if errors.As(err, &refused) {
			return nil, refused
		}
		return nil, err
	}
	s.hold(held, c)
	s.adopt(c)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if held == &s.replica && s.together {
		s.pending = s.writeSync(c)
		return c, nil
	}
	return c, s.refusedState(c, s.sync(ctx, c))
}

// refusedState closes a connection whose server has refused the session's state:
// nobody knows how much of it is there. It returns err.
func (s *Session) refusedState(c *backend.Conn, err error) error {
	if isServerError(err) && s.lendable(c) {
		s.discard(c, "session state refused")
	}
	return err
}

// lives looks whether a connection that the session has not used for a while was
// closed meanwhile; one that was is discarded.
func (s *Session) lives(c *backend.Conn) bool {
	if s.began.Sub(s.ended) < time.Second || s.transaction == c || c == s.primary && s.state.bound() != "" {
		return true
	}
	if c.Alive() == nil {
		return true
	}
	s.discard(c, "closed by the server")
	return false
}

// adopt takes note of how much of the session's state is on a connection that
// comes from the pool.
func (s *Session) adopt(c *backend.Conn) {
	c.Synced = 0
	if s.state.settings().Equal(c.Settings) {
		c.Synced = s.state.version
	}
}

// acquirePrimary returns a connection to the primary, waiting for one where
// there is none. Nothing of the client's statement has been sent before it
// returns, so it may try as often as time allows.
func (s *Session) acquirePrimary(ctx context.Context) (*backend.Conn, error) {
	if c := s.primary; c != nil && s.use(c) {
		moved := !s.isPrimary(c)
		if bound := s.state.bound(); bound != "" || s.transaction == c {
			if err := s.sync(ctx, c); err == nil || isServerError(err) {
				return c, err
			}
			return nil, s.lost(c, bound)
		}
		if moved || s.asks && c.Warned {
			s.keepInserted(c)
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
