package session

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"farmhand/proxy/internal/backend"
	"farmhand/proxy/internal/classify"
	"farmhand/proxy/internal/relay"
	"farmhand/proxy/internal/route"
	"farmhand/proxy/internal/wire"
)

// request is one command on its way to a server.
type request struct {
	command wire.Command
	payload []byte // the whole command; nil where it is streamed
	sql     []byte // its text, of COM_QUERY and COM_STMT_PREPARE
	print   uint64 // its text's fingerprint, of COM_QUERY
	meaning classify.Meaning
	target  route.Target
	// read: it changes nothing, so it may run again elsewhere while the client
	// has got nothing of the answer.
	read  bool
	fresh freshness  // what a read must see
	stmt  *statement // of a prepared statement's command
	// unknown is the error for a command about a statement that there is not.
	unknown *wire.Error
	// fixed is the only connection that can run the command, where there is one.
	fixed *backend.Conn
	// bind makes the payload that a connection is sent, where it is not
	// payload itself.
	bind func(c *backend.Conn) ([]byte, error)
	// firstPacket is the size of the command's first packet where it is
	// streamed: header and payload are still in the client connection's buffer.
	firstPacket int
	// again: the client has the answer already.
	again bool
}

// run sends a command to a server and relays the answer. It returns nil when
// the client got an answer, be it an error; an error ends the session.
func (s *Session) run(ctx context.Context, r *request) error {
	if e := s.strands(r); e != nil {
		return s.refuse(ctx, r, e, r.target)
	}
	if e := s.unanswerable(r); e != nil {
		return s.refuse(ctx, r, e, r.target)
	}
	s.asks = r.meaning.Flags&classify.Diagnostics != 0 && r.meaning.Class == classify.Read && r.target != route.Last
	if s.goesByLane(r) {
		if served, err := s.byLane(r); served {
			return err
		}
	}
	if s.policy.ReadWait > 0 && s.mayWait(r) {
		r.fresh.until = s.began.Add(s.policy.ReadWait)
	}
	var avoid []string
	target := r.target
	for {
		c, err := r.fixed, error(nil)
		if c != nil {
			s.use(c) // whoever fixed it has made sure that it is not lent
			err = s.sync(ctx, c)
		} else {
			s.together = r.read && r.command == wire.ComQuery && r.bind == nil && r.firstPacket == 0 && !s.uncounted &&
				r.meaning.Flags&(classify.Diagnostics|classify.Sequence) == 0
			c, err = s.acquire(ctx, target, r.fresh, avoid)
			s.together = false
			if err == nil {
				// The session may have left the connection that knows what is asked. Nothing
				// has been written to this one, see together.
				if e := s.unanswerable(r); e != nil {
					return s.refuse(ctx, r, e, target)
				}
			}
		}
		if err == nil && r.meaning.Flags&classify.AsksRowCount != 0 {
			err = s.recount(c)
		}
		if err != nil {
			return s.refuse(ctx, r, err, target)
		}
		if err := s.usableForWrite(c, r); err != nil {
			continue // it died while idle: nothing depended on it, or acquire says so
		}
		onPrimary := c == s.primary
		outcome, err := s.attempt(ctx, c, r)
		switch outcome {
		case replayed: // the transaction is where it was, on another connection
		case answered:
			took := s.horizon.ended.Sub(s.began)
			if took < 0 { // the proxy answered
				took = time.Since(s.began)
			}
			s.Metrics.observe(onPrimary, took)
			if err == nil && !onPrimary && s.goesByLane(r) && s.handler.tracker.Err == nil {
				s.Quick.Saw(r.print, took, s.handler.size)
			}
			return err
		case again:
			s.Metrics.retries.Inc()
			avoid = append(avoid, c.Server.Name)
			if len(avoid) > s.policy.ReadRetries {
				return s.sendError(noServer("this read failed on every server tried (%v): %v", avoid, err))
			}
			if target == route.Anywhere {
				target = route.Replica
			}
		case stale: // Progress knows now, so that another one is chosen
		case elsewhere:
			s.Metrics.retries.Inc()
			target = route.Primary
			var refused *wire.Error
			if errors.As(err, &refused) && refusesWrites(refused.Code) {
				r.read = false // it writes, whatever it looks like
				s.Refused.add(r.text(), s.state.mode)
			}
		}
	}
}

// strands refuses what would leave session state on the replica that a
// read-only transaction runs on, where no later statement would find it: rather
// an error than another answer than a direct connection's.
func (s *Session) strands(r *request) *wire.Error {
	const leaves = classify.AssignsUserVariable | classify.TakesLock | classify.CreatesTemporary | classify.OpaqueSession |
		classify.CallsProcedure | classify.PreparesText
	if r.target != route.Transaction || s.transaction != s.replica || r.meaning.Flags&leaves == 0 && r.meaning.Reason != classify.SetsInsertID {
		return nil
	}
	return &wire.Error{Code: 1792, State: "25006", Message: "Farmhand: the read-only transaction runs on the replica " + s.replica.Server.Name +
		", and this statement would leave session state there that the rest of the session needs. Run it outside the transaction, or begin with START TRANSACTION"}
}

// refuse answers a command for which there is no connection.
func (s *Session) refuse(ctx context.Context, r *request, err error, target route.Target) error {
	var e *wire.Error
	if !errors.As(err, &e) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, errEnd) {
			return err
		}
		if target == route.Transaction || r.fixed != nil {
			// sync has discarded the connection.
			e = &wire.Error{Code: codeLost, State: "HY000", Message: "Farmhand: the connection that the session depended on was lost: " + err.Error()}
			_ = s.sendError(e)
			return errEnd
		}
		e = noServer("%v", err)
	}
	if err := s.skip(r.firstPacket); err != nil {
		return err
	}
	return s.sendError(e)
}

// usableForWrite looks whether a held connection was closed by the server while
// nobody used it, before something is sent that cannot be sent again.
func (s *Session) usableForWrite(c *backend.Conn, r *request) error {
	if r.read || r.fixed != nil || s.transaction == c {
		return nil
	}
	if err := c.Alive(); err != nil {
		if s.state.bound() != "" {
			return nil // the write fails and says why
		}
		s.discard(c, "closed by the server")
		return err
	}
	return nil
}

// outcome is how an attempt to run a command ended.
type outcome uint8

const (
	answered  outcome = iota // the client has its answer, or the session ends with the error
	again                    // the server failed and nothing reached the client: run it on another
	elsewhere                // the replica refused: ask the primary
	stale                    // the replica was waited for in vain
	replayed                 // the transaction was run again: run the command there
)

// attempt sends the command on c and relays the answer.
func (s *Session) attempt(ctx context.Context, c *backend.Conn, r *request) (outcome, error) {
	w, pending := s.wait, s.pending
	s.wait, s.pending = wait{}, syncing{}
	if !c.HeldBy(s.leaseOf(c).Lease) {
		return answered, s.notHeld(c)
	}
	payload := r.payload
	if r.bind != nil {
		var err error
		if payload, err = r.bind(c); err != nil {
			return s.bindFailed(ctx, c, r, err)
		}
	}
	c.Used = true
	h := &s.handler
	*h = handler{
		s: s, ctx: ctx, conn: c, request: r, onReplica: c == s.replica && s.transaction != c, version: s.state.version, statementOnly: r.meaning.Flags&classify.SetsStatement != 0,
		aside: r.fixed != nil && s.transaction != nil && s.transaction != c,
	}
	h.tracker.Begin(r.command, c.Caps)
	s.beforeCommand(c, r)
	began := time.Time{}
	if w.server != nil {
		s.scratch = w.append(s.scratch[:0], c.Caps, c.MariaDB)
		c.WriteCommand(s.scratch)
		if w.server.AheadOfXA {
			s.scratch = appendCheck(s.scratch[:0], c.Caps)
			c.WriteCommand(s.scratch)
		}
		began = time.Now()
	}
	sent, err := s.send(c, r, payload)
	if err == nil && !pending.none() {
		if err = s.readSync(c, pending); isServerError(err) {
			// What the command came to, without it, is of no interest.
			s.discard(c, "session state refused")
			return elsewhere, err
		}
	}
	if err == nil && w.server != nil {
		if err := s.awaitPosition(c, &w, began); err != nil {
			return s.behind(ctx, c, r, err)
		}
	}
	if err != nil {
		if e := lastWord(c); e != nil && !errors.Is(err, errEnd) {
			return s.refused(c, e)
		}
		return s.broken(ctx, c, r, err, sent, false)
	}
	if h.tracker.Done() { // a command without an answer
		return answered, nil
	}
	forwarded, err := relay.Response(c.Conn, s.conn, &h.tracker, h)
	h.size = forwarded
	if err == nil {
		s.after(c, r)
		s.afterCommand(r)
		if r.meaning.Flags&classify.EndsConnection != 0 && r.command != wire.ComStmtPrepare && h.tracker.Err == nil {
			s.discard(c, "released by the client")
			return answered, errEnd
		}
		return answered, nil
	}
	var server *relay.ServerError
	switch {
	case errors.Is(err, relay.ErrStopped):
		c.Warned = true // of an error that the client knows nothing of
		if h.gone {
			s.Farm.Report(c.Server.Name, h.tracker.Err)
			s.discard(c, "server shut down")
			return again, h.tracker.Err
		}
		return elsewhere, h.tracker.Err
	case errors.As(err, &server):
		if server.Torn {
			s.reportLoss(ctx, c, err)
			s.discard(c, "broken")
			return answered, fmt.Errorf("in the middle of a packet: %w", err)
		}
		return s.broken(ctx, c, r, err, true, forwarded > 0)
	}
	// The client is gone, and the server connection is in the middle of an answer.
	s.discard(c, "client gone")
	return answered, err
}

// send writes the command. sent is false where it is certain that no byte
// reached the server.
func (s *Session) send(c *backend.Conn, r *request, payload []byte) (sent bool, err error) {
	if r.firstPacket > 0 {
		return true, s.stream(c, r, payload)
	}
	c.WriteCommand(payload)
	err = c.Flush()
	if err != nil && (errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed)) {
		// The peer had closed before: the kernel took nothing of a small command.
		return len(payload) > 64<<10, err
	}
	return true, err
}

// lastWord reads what a server said before it closed a connection in the middle
// of a command: that the packet is too large, for instance. Nil if nothing.
func lastWord(c *backend.Conn) *wire.Error {
	_ = c.SetDeadline(time.Now().Add(time.Second))
	p, err := c.ReadPayload(authLimit)
	if err != nil || !wire.IsError(p) {
		return nil
	}
	e, err := wire.ParseError(p)
	if err != nil {
		return nil
	}
	return e
}

// refused passes on what a server said when it closed the connection.
func (s *Session) refused(c *backend.Conn, e *wire.Error) (outcome, error) {
	ends := s.transaction == c || c == s.primary && s.state.bound() != ""
	s.discard(c, "closed by the server")
	if err := s.sendError(e); err != nil {
		return answered, err
	}
	if ends {
		return answered, errEnd
	}
	return answered, nil
}

// reportLoss tells the monitor of a broken connection, unless it was the proxy
// that broke it.
func (s *Session) reportLoss(ctx context.Context, c *backend.Conn, err error) {
	if ctx.Err() == nil {
		s.Farm.Report(c.Server.Name, err)
	}
}

// broken decides what follows when the connection to the server broke during a
// command. begun: the client got a part of the answer.
func (s *Session) broken(ctx context.Context, c *backend.Conn, r *request, err error, sent, begun bool) (outcome, error) {
	s.reportLoss(ctx, c, err)
	bound := s.state.bound()
	inTransaction := s.transaction == c
	wasPrimary := c == s.primary
	name := c.Server.Name
	if begun || sent && !r.read {
		s.horizon.seen = c.Server.Address // whatever came of it
	}
	s.discard(c, "broken")
	if ctx.Err() != nil {
		return answered, context.Cause(ctx)
	}
	why := error(nil)
	if inTransaction && wasPrimary && !s.replaying && s.policy.Replay.Enabled {
		switch {
		case begun:
			why = errNotReplayable("the client had got a part of an answer")
		case sent && commits(r):
			why = errNotReplayable("it may have been committed")
		case r.fixed != nil || r.firstPacket > 0:
			why = errNotReplayable("the command cannot be sent again")
		default:
			if why = s.replay(ctx); why == nil {
				return replayed, err
			}
		}
		s.txn.stop()
		if ctx.Err() != nil {
			return answered, context.Cause(ctx)
		}
	}
	ends := inTransaction || r.fixed != nil || wasPrimary && bound != ""
	if !begun && !ends && (r.read || !sent) {
		return again, err
	}
	e := &wire.Error{Code: codeLost, State: "HY000"}
	switch {
	case begun:
		e.Message = fmt.Sprintf("Farmhand: the connection to %s was lost in the middle of the answer: %v", name, err)
	case r.read:
		e.Message = fmt.Sprintf("Farmhand: the connection to %s was lost during a read: %v", name, err)
	default:
		e.Message = fmt.Sprintf("Farmhand: the connection to %s was lost after the statement was sent: its outcome is unknown. It was not sent again: %v", name, err)
	}
	if inTransaction {
		e.Message += ". A transaction was open"
	}
	if why != nil {
		e.Message += ", and it was not run again: " + why.Error()
	}
	s.conn.Write(wire.AppendError(nil, e))
	if err := s.conn.Flush(); err != nil {
		return answered, err
	}
	if ends {
		// A direct connection would be gone now, and with it the rest of what the
		// session had: what follows must not run as if it were still there.
		return answered, errEnd
	}
	return answered, nil
}

// bindFailed handles a statement that could not be prepared on a connection.
func (s *Session) bindFailed(ctx context.Context, c *backend.Conn, r *request, err error) (outcome, error) {
	var refused *wire.Error
	if errors.As(err, &refused) {
		c.Warned = true // of an error that is not the client's statement's
		if c == s.replica && s.transaction != c {
			return elsewhere, err
		}
		if err := s.skip(r.firstPacket); err != nil {
			return answered, err
		}
		return answered, s.sendError(refused)
	}
	return s.broken(ctx, c, r, err, false, false)
}

// after learns from a complete answer.
func (s *Session) after(c *backend.Conn, r *request) {
	h := &s.handler
	t := &h.tracker
	if s.suspended == c {
		s.suspended = nil // what has become of it the answer says
	}
	if s.suspended != nil {
		s.endSuspended(t.Err)
		if s.transaction != nil {
			s.noteLast(c, r)
			return
		}
	}
	before := s.status
	// To prepare leaves the transaction as it is, and the answer carries no status
	// where the statement has neither parameters nor columns.
	prepares := r.command == wire.ComStmtPrepare
	if h.aside {
		s.noteLast(c, r)
		return
	}
	if !prepares && (t.Err == nil || t.Results > 0) {
		c.Status = t.OK.Status
		s.status = t.OK.Status
	}
	m := &r.meaning
	switch m.Verb {
	case classify.VerbLoad, classify.VerbCall:
		s.state.inserted = true
	case classify.VerbSelect, classify.VerbUpdate: // LAST_INSERT_ID(expression)
		s.state.inserted = s.state.inserted || m.Reason == classify.SetsInsertID
	case classify.VerbInsert, classify.VerbReplace: // RETURNING, or rows before the one that failed
		s.state.inserted = s.state.inserted || h.rows || t.Err != nil && c == s.primary
	}
	s.saw(c, r)
	if h.changed && !h.explained && !explains(r) {
		s.changedUnseen(c, r)
	}
	if t.Err == nil {
		s.learn(r)
		if m.Flags&classify.SetsSession != 0 && m.Flags&classify.MultiStatement == 0 && c.MariaDB {
			s.retell(c, r.text())
		}
	} else {
		s.learnFailed(r)
	}
	if s.state.version != c.Synced && c.Synced == h.version {
		// What changed, changed on this connection: the others lack it now.
		s.synced(c)
	}
	switch {
	case h.over:
		s.status &^= inTransaction
		s.release(&s.replica)
		return
	case prepares:
	case s.status&wire.StatusInTransaction != 0 || s.status&wire.StatusInTransactionReadOnly != 0:
		// Of several statements the first may have begun it, and a later one failed.
		if t.Err == nil || t.Results > 0 || s.transaction != nil {
			s.transaction, s.nextTransaction = c, false
		}
	case t.Err != nil && s.transaction == c:
		// An error carries no status; the transaction counts as open until the
		// server says that it is not.
	case t.Err != nil && c == s.primary && (s.state.autocommitOff || m.Flags&classify.CallsProcedure != 0):
		s.transaction, s.nextTransaction = c, false // which the statement may have begun
	case m.Flags&classify.SetsTransaction != 0 && t.Err == nil:
		s.learnNext(r, !s.nextTransaction)
		s.transaction, s.nextTransaction = c, true
	case s.nextTransaction && !beginsTransaction(m):
		// The transaction that SET TRANSACTION is about is still to come, or
		if m.Flags&mayBegin != 0 {
			s.next = next{unknown: true} // may be over
		}
	case m.Flags&classify.SetsSession != 0 && s.transaction == c && before&wire.StatusInTransactionReadOnly != 0 && c.MariaDB:
		// SET autocommit=1 has ended the transaction, but for MariaDB what that was
		// like (READ ONLY) holds for the next statement that uses a table.
		s.next = next{unknown: true}
		s.nextTransaction = true
	default:
		s.transaction, s.nextTransaction = nil, false
	}
	s.noteLast(c, r)
}

// beginsTransaction tells whether a statement is certain to have begun, and with
// autocommit ended, the transaction that SET TRANSACTION was about: one that uses a
// table of an application's. As long as it is not, the session stays where it is.
func beginsTransaction(m *classify.Meaning) bool {
	switch m.Class {
	case classify.Begin, classify.BeginReadOnly, classify.End:
		return true
	}
	switch m.Verb {
	case classify.VerbShow, classify.VerbExplain, classify.VerbDescribe, classify.VerbWith, classify.VerbSet:
		return false
	}
	return m.Flags&classify.ImplicitCommit != 0 && m.Flags&mayBegin == 0 ||
		m.Flags&(classify.UsesTable|classify.UnknownFunction) != 0 && m.Flags&(classify.ReadsSystem|classify.CallsProcedure|classify.ExecutesText) == 0
}

// mayBegin are the flags of statements that may or may not have begun, and ended, a
// transaction: what they run is not known, or not all of it.
const mayBegin = classify.MultiStatement | classify.CallsProcedure | classify.ExecutesText

// sendError answers the current command with an error of the proxy's.
func (s *Session) sendError(e *wire.Error) error {
	s.conn.Write(wire.AppendError(nil, e))
	return s.conn.Flush()
}

// standing are the status flags that say what the session is in, as an answer of
// the proxy's own carries them; the others are about the statement before.
const standing = wire.StatusInTransaction | wire.StatusAutocommit | wire.StatusNoBackslashEscapes |
	wire.StatusInTransactionReadOnly | wire.StatusANSIQuotes

// sendOK answers the current command with an OK of the proxy's.
func (s *Session) sendOK() error {
	ok := wire.OK{Status: s.status & standing}
	s.conn.Write(wire.AppendOK(nil, &ok, s.client.Caps))
	return s.conn.Flush()
}

// stream forwards a command that is too long to be kept: its first packet's
// head, which prefix replaces, and then the rest as it comes.
func (s *Session) stream(c *backend.Conn, r *request, prefix []byte) error {
	s.conn.Discard(wire.HeaderSize + len(prefix))
	s.conn.Seq = 1
	c.WriteRaw(wire.AppendHeader(nil, r.firstPacket, 0))
	c.WriteRaw(prefix)
	failed := c.Flush()
	forward := func(b []byte) {
		if failed == nil {
			failed = c.Forward(b)
		}
	}
	for rest := r.firstPacket - len(prefix); rest > 0; {
		if len(s.conn.Buffered()) == 0 {
			if err := s.conn.Fill(); err != nil {
				return errors.Join(errEnd, err)
			}
		}
		b := s.conn.Buffered()
		b = b[:min(len(b), rest)]
		forward(b)
		rest -= len(b)
		s.conn.Discard(len(b))
	}
	total := r.firstPacket
	for n := r.firstPacket; n == wire.MaxPayload; {
		var err error
		if n, err = relay.Packet(s.conn, forward); err != nil {
			return errors.Join(errEnd, err)
		}
		if total += n; total > s.policy.PacketSize {
			return errors.Join(errEnd, fmt.Errorf("command of more than %d bytes", s.policy.PacketSize))
		}
	}
	return failed
}

// skipStream reads a command that nobody takes, to its end.
func (s *Session) skipStream() error {
	for n := wire.MaxPayload; n == wire.MaxPayload; {
		var err error
		if n, err = relay.Packet(s.conn, func([]byte) {}); err != nil {
			return err
		}
	}
	return nil
}
