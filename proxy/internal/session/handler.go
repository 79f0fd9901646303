package session

import (
	"bytes"
	"context"
	"strings"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
	"farmhand/proxy/internal/backend"
	"farmhand/proxy/internal/classify"
	"farmhand/proxy/internal/relay"
	"farmhand/proxy/internal/wire"
)

// handler looks at the packets of an answer on their way to the client.
type handler struct {
	s         *Session
	ctx       context.Context // of the command
	conn      *backend.Conn
	request   *request
	tracker   wire.Tracker
	onReplica bool
	rows      bool // the answer has a result set
	wrote     bool // the answer told the position of a write
	// aside: the connection answers because of a statement before (its
	// diagnostics, its cursor), while a transaction is open on the other one.
	aside bool
	// statementOnly: the variables that the server reports are the statement's own.
	statementOnly bool
	gone          bool   // the server said that it is going away
	over          bool   // the read-only transaction on a replica has ended, whatever the server said
	changed       bool   // the server said that the session changed
	explained     bool   // and how
	packets       int    // seen so far; the first one that an answer has is among them
	size          int64  // bytes of the answer
	version       uint64 // the state's version when the answer began
	out           []byte
}

// Packet implements relay.Handler.
func (h *handler) Packet(event wire.Event, payload []byte) (relay.Verdict, []byte) {
	h.packets++
	switch event {
	case wire.Nothing:
		return h.eof(payload)
	case wire.ResultOK:
		h.ended()
		return h.ok(payload)
	case wire.ResultError:
		h.ended()
		return h.failed()
	case wire.Prepared:
		return h.prepared(payload)
	case wire.SendFile:
		if err := h.s.unhurried(h.ctx); err != nil {
			return relay.Stop, nil // the session is being ended
		}
	}
	return h.eof(payload)
}

// ended takes note that the server has done what it was asked. After a statement
// that may have changed accounts, logins read the account table anew, before the
// client knows that it did.
func (h *handler) ended() {
	h.s.horizon.ended = time.Now()
	const may = classify.ImplicitCommit | classify.OpaqueSession | classify.CallsProcedure | classify.ExecutesText
	if h.request.meaning.Flags&may != 0 {
		h.s.Auth.Expire()
	}
}

// ok takes the state changes out of an OK packet, and makes of it what the
// client would have got without the proxy's session tracking.
func (h *handler) ok(payload []byte) (relay.Verdict, []byte) {
	ok := &h.tracker.OK
	h.rows = h.rows || ok.Header == 0xfe
	if ok.LastInsertID != 0 {
		h.s.lastInsertID, h.s.generated = ok.LastInsertID, true
	}
	if ok.Header == 0xfe && len(payload) < 7 {
		return h.eof(payload)
	}
	if ok.Status&wire.StatusSessionStateChanged == 0 && !h.aside {
		return relay.Forward, nil
	}
	ok.Status = h.standing(ok.Status)
	if err := h.s.changes(ok.Changes, h.conn); err != nil {
		h.s.logger().Warn("session tracking information cannot be read", zap.String("server", h.conn.Server.Name), zap.Error(err))
		h.s.state.opaque = "the server's session tracking could not be read"
	}
	out := *ok
	if h.s.client.Caps.Has(wire.ClientSessionTrack) {
		out.Changes = h.s.clientChanges(out.Changes)
	}
	h.out = wire.AppendOK(h.out[:0], &out, h.s.client.Caps)
	return relay.Replace, h.out
}

// standing is a status in which the session's transaction is what it is, whoever
// answers.
func (h *handler) standing(status wire.Status) wire.Status {
	const transaction = wire.StatusInTransaction | wire.StatusInTransactionReadOnly
	if h.aside {
		status = status&^transaction | h.s.status&transaction
	}
	return status
}

// eof takes out of an EOF packet, which has no room to say what changed, that
// something did: what the proxy tracks is not what the client does. Other
// packets stay as they are.
func (h *handler) eof(payload []byte) (relay.Verdict, []byte) {
	if len(payload) != 5 || payload[0] != 0xfe || h.tracker.OK.Status&wire.StatusSessionStateChanged == 0 && !h.aside {
		return relay.Forward, nil
	}
	ok := &h.tracker.OK
	ok.Status = h.standing(ok.Status)
	h.out = wire.AppendEOF(h.out[:0], wire.EOF{Warnings: ok.Warnings, Status: ok.Status &^ wire.StatusSessionStateChanged})
	return relay.Replace, h.out
}

// failed decides whether the client is to see an error.
func (h *handler) failed() (relay.Verdict, []byte) {
	h.conn.Unheard = h.conn.Unheard || mayHaveRun(h.request, h.tracker.Err)
	if e := h.request.unknown; e != nil && h.tracker.Err.Code == e.Code {
		h.out = wire.AppendError(h.out[:0], e)
		return relay.Replace, h.out
	}
	if e := h.tracker.Err; h.s.transaction == h.conn && h.conn == h.s.replica && e.Code == codeReadOnly && strings.Contains(e.Message, "read-only") {
		// The client has begun a transaction that reads only, and knows nothing of
		// a server that does.
		if h.request.meaning.Class == classify.End && !bytes.Contains(bytes.ToUpper(h.request.sql), []byte("CHAIN")) {
			// MariaDB: there was a locking read in it. The transaction is over, and
			// there was nothing to commit.
			h.over = true
			h.out = wire.AppendOK(h.out[:0], &wire.OK{Status: h.s.status &^ inTransaction}, h.s.client.Caps)
			return relay.Replace, h.out
		}
		message := "Cannot execute statement in a READ ONLY transaction"
		if !h.conn.MariaDB {
			message += "."
		}
		h.out = wire.AppendError(h.out[:0], &wire.Error{Code: 1792, State: "25006", Message: message})
		return relay.Replace, h.out
	}
	if h.packets > 1 || !h.request.read || h.s.transaction == h.conn {
		return relay.Forward, nil
	}
	switch code := h.tracker.Err.Code; code {
	case 1053, 1927, 3169, 4031: // shutdown, connection killed, session killed, disconnected
		h.gone = true
		return relay.Stop, nil
	default:
		if h.onReplica && mayDiffer(code) {
			return relay.Stop, nil
		}
	}
	return relay.Forward, nil
}

// mayDiffer tells the errors that the primary may not have: a replica that is
// behind in schemas, accounts or definitions, or that is read-only. What the
// statement's own text or the passing of time brings about is the same
// everywhere.
func mayDiffer(code uint16) bool {
	switch code {
	case 1064, // syntax
		1317, 1969, 3024, // interrupted, time limits
		1105, 1205, 1213, // unknown, lock wait, deadlock
		1037, 1038, 1041, // out of memory
		1104, 3572: // would examine too many rows, NOWAIT
		return false
	}
	return true
}

// changes learns from the session state information of an OK packet.
func (s *Session) changes(info []byte, c *backend.Conn) error {
	flavor := farm.MySQL
	if c.MariaDB {
		flavor = farm.MariaDB
	}
	return wire.Changes(info, func(ch wire.Change) bool {
		switch ch.Kind {
		case wire.ChangeState:
			s.handler.changed = true
		case wire.ChangeSchema:
			s.handler.explained = true
			s.state.schema = string(ch.Value)
			c.Schema = s.state.schema
		case wire.ChangeGTIDs:
			s.advance(flavor, ch.Value)
		case wire.ChangeSystemVariable:
			switch {
			case string(ch.Name) == "last_gtid":
				s.advance(flavor, ch.Value)
			case s.handler.statementOnly:
				// The server reports it while the statement still has it.
			default:
				s.handler.explained = s.handler.explained || !notCarried[string(ch.Name)]
				s.state.variable(string(ch.Name), string(ch.Value))
			}
		}
		return true
	})
}

// advance moves the position that the session's reads must see.
func (s *Session) advance(flavor farm.Flavor, text []byte) {
	p, err := gtid.ParseBytes(flavor, text)
	if err != nil {
		s.logger().Warn("position cannot be read", zap.ByteString("gtid", text), zap.Error(err))
		s.state.opaque = "the server's position could not be read"
		return
	}
	s.horizon.wrote(p, s.Farm.View().Epoch)
	s.handler.wrote = true
}

// clientTracked are the variables that servers report to a client that tracks
// session state, by default.
var clientTracked = map[string]bool{
	"autocommit": true, "character_set_client": true, "character_set_connection": true,
	"character_set_results": true, "time_zone": true,
}

// clientChanges is what of the changes a client that tracks session state would
// have been told without the proxy.
func (s *Session) clientChanges(info []byte) []byte {
	var out []byte
	_ = wire.Changes(info, func(ch wire.Change) bool { // changes has read it without an error
		switch ch.Kind {
		case wire.ChangeSystemVariable:
			if !clientTracked[string(ch.Name)] {
				return true
			}
			out = wire.AppendChange(out, ch)
		case wire.ChangeSchema, wire.ChangeTrxState, wire.ChangeTrxCharacter: // of which the proxy changes nothing
			out = wire.AppendChange(out, ch)
		}
		return true
	})
	return out
}
