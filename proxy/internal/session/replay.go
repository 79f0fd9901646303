package session

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"net"
	"slices"
	"time"

	"farmhand/proxy/internal/backend"
	"farmhand/proxy/internal/classify"
	"farmhand/proxy/internal/wire"
)

// Replay is how transactions that lost their primary are run again.
type Replay struct {
	Enabled  bool
	Size     int           // bytes of a transaction's commands that are kept
	Time     time.Duration // from the loss to the end of the replay
	Attempts int           // for one transaction
}

// transactionLog is what the open transaction has done so far: its commands, a
// checksum of each answer as the client got it, and what the session was like
// before. A transaction whose primary is lost has had no effect, so on another
// one it may be run again, as long as the client cannot tell the difference.
type transactionLog struct {
	active bool
	begun  bool   // the transaction is open, and not only still to come (SET TRANSACTION)
	why    string // why the transaction cannot be run again; empty if it can

	state        state // before the first command
	status       wire.Status
	lastInsertID uint64

	commands []logged
	size     int // bytes
	attempts int // of replaying it
	sum      maphash.Hash
}

type logged struct {
	request request
	sum     uint64
}

// stop forgets the transaction.
func (l *transactionLog) stop() {
	if l != nil && l.active {
		clear(l.commands)
		*l = transactionLog{commands: l.commands[:0], sum: l.sum}
	}
}

// refuse notes why the transaction cannot be run again.
func (l *transactionLog) refuse(why string) {
	l.why = why
	clear(l.commands)
	l.commands = l.commands[:0]
}

// beforeCommand prepares the log for a command that is about to be sent on c.
func (s *Session) beforeCommand(c *backend.Conn, r *request) {
	l := s.txn
	if s.replaying {
		return
	}
	s.conn.Sum = nil
	if !s.policy.Replay.Enabled {
		l.stop()
		return
	}
	if s.transaction == nil {
		l.stop()
		begins := r.meaning.Class == classify.Begin || r.meaning.Flags&classify.SetsTransaction != 0 || s.state.autocommitOff
		if !begins || c != s.primary {
			return
		}
		if l == nil {
			l = &transactionLog{}
			s.txn = l
		}
		l.active, l.state, l.status, l.lastInsertID = true, s.state.clone(), s.status, s.lastInsertID
		if b := s.state.bound(); b != "" {
			l.refuse("the session " + b)
		}
	}
	if l != nil && l.active && l.why == "" {
		l.sum.Reset()
		s.conn.Sum = &l.sum
	}
}

// afterCommand logs a command that the client has its answer to.
func (s *Session) afterCommand(r *request) {
	l := s.txn
	if s.replaying || l == nil || !l.active {
		return
	}
	s.conn.Sum = nil
	if s.transaction == nil {
		l.stop()
		return
	}
	if l.why != "" {
		return
	}
	why := s.unrepeatable(r)
	l.begun = !s.nextTransaction
	if why != "" {
		l.refuse(why)
		return
	}
	if r.command == wire.ComStmtPrepare {
		return // its executions prepare it where they run
	}
	kept := *r
	kept.payload = slices.Clone(r.payload)
	kept.sql = nil
	if len(r.sql) > 0 { // the tail of the payload
		kept.sql = kept.payload[len(kept.payload)-len(r.sql):]
	}
	if r.stmt != nil {
		if why := s.bindForReplay(&kept); why != "" {
			l.refuse(why)
			return
		}
	}
	const overhead = 256
	if l.size += len(kept.payload) + overhead; l.size > s.policy.Replay.Size {
		l.refuse(fmt.Sprintf("its commands are longer than %d bytes (writes.replay.size)", s.policy.Replay.Size))
		return
	}
	l.commands = append(l.commands, logged{kept, l.sum.Sum64()})
}

// bindForReplay makes an execution independent of the ones before it, from
// which a server knows the parameters' types.
func (s *Session) bindForReplay(r *request) string {
	st := r.stmt
	if st.params > 0 {
		e, err := wire.ParseExecute(r.payload, int(st.params), s.client.Caps)
		switch {
		case err != nil:
			return "an execution's parameters could not be read"
		case !e.Bound && len(st.types) == 0:
			return "an execution's parameters have no types"
		case !e.Bound:
			r.payload = wire.AppendExecuteTypes(nil, r.payload, e, st.types)
		}
	}
	payload := r.payload
	r.bind = func(c *backend.Conn) ([]byte, error) {
		p, err := s.ensurePrepared(c, st)
		if err != nil {
			return nil, err
		}
		wire.SetStatementID(payload, p.id)
		p.typed = p.typed || st.params > 0
		return payload, nil
	}
	return ""
}

// unrepeatable says why a command that ran in the transaction keeps that from
// being run again.
func (s *Session) unrepeatable(r *request) string {
	const opaque = classify.MultiStatement | classify.CallsProcedure | classify.OpaqueSession | classify.XA | classify.LocksTables |
		classify.TakesLock | classify.PreparesText | classify.ExecutesText | classify.LoadsLocal
	t := &s.handler.tracker
	switch {
	case r.firstPacket > 0:
		return "one of its commands was too long to be kept"
	case r.fixed != nil:
		return "one of its commands depends on the connection"
	case r.command == wire.ComStmtBulkExecute:
		return "it has a bulk execution"
	case t.OK.Status&wire.StatusCursorExists != 0 && t.Err == nil:
		return "it has an open cursor"
	case r.meaning.Flags&opaque != 0:
		return "one of its statements may do anything (" + string(classify.Digest(nil, r.text(), s.state.mode)) + ")"
	case r.meaning.Class == classify.End, r.meaning.Flags&classify.ImplicitCommit != 0 && s.txn.begun:
		return "it was begun by the end of another one"
	case t.Err != nil && !leavesTransaction(t.Err.Code):
		return fmt.Sprintf("the error %d may have ended it", t.Err.Code)
	}
	if b := s.state.bound(); b != "" {
		return "the session " + b
	}
	return ""
}

// leavesTransaction tells errors that are certain to leave a transaction open:
// those about the statement alone. A deadlock, for instance, ends it, and what
// follows commits by itself.
func leavesTransaction(code uint16) bool {
	switch code {
	case 1048, 1052, 1054, 1060, 1061, 1062, 1064, 1109, 1136, 1146, 1149, 1169, 1216, 1217, 1242, 1264, 1265, 1292, 1364, 1365, 1366,
		1406, 1451, 1452, 1586, 1690, 3819, 4025:
		return true
	}
	return false
}

// commits tells commands that may commit, after which nobody knows whether the
// transaction is there, if the answer is missing.
func commits(r *request) bool {
	m := &r.meaning
	return m.Class == classify.End || m.Flags&(classify.ImplicitCommit|classify.MultiStatement|classify.CallsProcedure|classify.ExecutesText|classify.XA|
		classify.OpaqueSession|classify.SetsSession) != 0
}

// errNotReplayable: the transaction cannot be run again.
type errNotReplayable string

func (e errNotReplayable) Error() string { return string(e) }

// replay runs the transaction that lost its primary again, on the primary that
// there is now. When it returns nil the session is where it was before the
// command that found the loss; else the transaction has had no effect.
func (s *Session) replay(ctx context.Context) error {
	l := s.txn
	switch {
	case l == nil || !l.active:
		return errNotReplayable("it was not followed (writes.replay.enabled)")
	case l.why != "":
		return errNotReplayable(l.why)
	}
	client := s.conn
	client.Sum = nil
	s.replaying = true
	defer func() {
		s.conn, s.replaying = client, false
		s.handler = handler{s: s}
	}()
	deadline := time.Now().Add(s.policy.Replay.Time)
	for {
		if l.attempts++; l.attempts > s.policy.Replay.Attempts {
			return errNotReplayable(fmt.Sprintf("it was run again %d times already (writes.replay.attempts)", l.attempts-1))
		}
		s.Metrics.replays.Inc()
		err := s.replayOnce(ctx, deadline)
		var final errNotReplayable
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil || errors.As(err, &final):
			s.Metrics.replaysFailed.Inc()
			return err
		case time.Now().After(deadline):
			s.Metrics.replaysFailed.Inc()
			return errNotReplayable(fmt.Sprintf("it took longer than %v to run it again (writes.replay.time): %v", s.policy.Replay.Time, err))
		}
	}
}

func (s *Session) replayOnce(ctx context.Context, deadline time.Time) (err error) {
	l := s.txn
	// What the replica's connection has is counted by versions of the state that
	// are about to be given anew.
	s.release(&s.replica)
	s.release(&s.primary)
	s.state, s.status = l.state.clone(), l.status
	s.lastInsertID, s.generated, s.missed.inserted = l.lastInsertID, false, nil
	sink := wire.NewConn(discard{})
	s.conn = sink
	waiting, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	c, err := s.acquirePrimary(waiting)
	if err != nil {
		return err
	}
	if err := s.serverDeadline(ctx, c, deadline); err != nil {
		return err
	}
	defer func() {
		if err == nil {
			err = s.serverDeadline(ctx, c, time.Time{})
		} else if s.primary == c {
			s.discard(c, "replay failed") // which rolls back
		}
	}()
	for i := range l.commands {
		r := l.commands[i].request
		l.sum.Reset()
		sink.Sum = &l.sum
		outcome, err := s.attempt(ctx, c, &r)
		switch {
		case s.primary != c:
			return fmt.Errorf("the primary was lost again: %w", err)
		case outcome != answered || err != nil:
			return errNotReplayable(fmt.Sprintf("its statement %d could not be run again: %v", i+1, err))
		case l.sum.Sum64() != l.commands[i].sum:
			return errNotReplayable(fmt.Sprintf("its statement %d (%s) had another result than the first time", i+1, classify.Digest(nil, r.text(), s.state.mode)))
		case s.transaction != c:
			return errNotReplayable(fmt.Sprintf("its statement %d ended it", i+1))
		}
	}
	return nil
}

// serverDeadline bounds what follows on a server connection, unless the session
// is being ended.
func (s *Session) serverDeadline(ctx context.Context, c *backend.Conn, t time.Time) error {
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return c.SetDeadline(t)
}

// discard is a client that is not there: it takes everything.
type discard struct{ net.Conn }

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// clone returns a copy that shares nothing that changes.
func (s *state) clone() state {
	c := *s
	c.entries = slices.Clone(s.entries)
	c.unknownVariables = maps.Clone(s.unknownVariables)
	c.temporary = maps.Clone(s.temporary)
	c.locks = maps.Clone(s.locks)
	c.textStatements = maps.Clone(s.textStatements)
	return c
}
