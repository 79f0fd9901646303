package session

import (
	"bytes"
	"errors"
	"io"
	"time"

	"farmhand/proxy/internal/classify"
	"farmhand/proxy/internal/lane"
	"farmhand/proxy/internal/route"
	"farmhand/proxy/internal/wire"
)

// Outlook is what is to be done for a client that has said something.
type Outlook uint8

// The outlooks.
const (
	Serves Outlook = iota // Serve is to be called, which may have to wait
	Left                  // nothing: the session has ended
	Asks                  // Ask, then Answer, Send and Sent
)

// glance is a read that goes by a lane without a goroutine of the session's. Its
// command stays in the connection's buffer until there is an answer.
type glance struct {
	group   *lane.Group
	command lane.Command
	stmt    *statement
	print   uint64
	meaning classify.Meaning // of a COM_QUERY
	text    []byte           // of a COM_QUERY
}

// quit is a COM_QUIT.
var quit = []byte{1, 0, 0, 0, byte(wire.ComQuit)}

// Glance looks at what the client that Notify has told of says, without waiting for
// anything.
func (s *Session) Glance() Outlook {
	if s.ctx.Err() != nil {
		return Serves
	}
	got, _, err := s.conn.FillNow()
	switch {
	case errors.Is(err, io.EOF), got && bytes.Equal(s.conn.Buffered(), quit):
		if s.primary != nil || s.replica != nil {
			return Serves // to give a connection back may have to wait for a KILL
		}
		s.end()
		return Left
	case got && s.asksByLane():
		return Asks
	}
	return Serves // an error too, which it reads again
}

// asksByLane tells whether what has come is a read, and no more, for which there are
// lanes. Nothing has happened if not.
func (s *Session) asksByLane() bool {
	in := s.conn.Buffered()
	if s.Lanes == nil || len(in) <= wire.HeaderSize || len(in) > wire.HeaderSize+lane.MaxCommand {
		return false
	}
	payload := in[wire.HeaderSize:]
	if length, seq := wire.Header(in); length != len(payload) || seq != 0 || length > s.Policy().ClassifySize {
		return false
	}
	s.begin()
	var g glance
	var m *classify.Meaning
	var st *statement
	sql := []byte(nil)
	switch wire.Command(payload[0]) {
	case wire.ComQuery:
		offset, err := wire.QueryText(payload, s.client.Caps)
		if err != nil {
			return false
		}
		sql = payload[offset:]
		g.meaning, g.text = classify.Classify(sql, s.state.mode), sql
		m = &g.meaning
	case wire.ComStmtExecute:
		var err error
		if st, _, err = s.statementOf(payload); err != nil || st == nil || st.long != nil || st.longErr != nil || st.cursor != nil {
			return false
		}
		meaning := st.meaning // decide may change it
		m, sql, g.stmt = &meaning, st.text, st
	default:
		return false
	}
	if !s.mayShare(m) {
		return false
	}
	if st != nil {
		g.print = s.printOf(st)
	} else {
		g.print = classify.Fingerprint(sql, s.state.mode)
	}
	if !s.Quick.Trusts(g.print, s.began) || s.decide(m, sql).Target != route.Replica {
		return false
	}
	ok := false
	if g.command, ok = s.laneCommand(payload, st); !ok {
		return false
	}
	if g.group = s.laneFor(s.freshnessOf(m), false); g.group == nil {
		return false
	}
	s.shares.glance = g
	return true
}

// Ask sends what Glance has found; then is called when Answer is to be, without
// waiting for anything. False: it is to be called already.
func (s *Session) Ask(then func()) bool {
	g := &s.shares.glance
	s.shared.begin(wire.Command(g.command.Payload[0]), s.began)
	return g.group.Start(s.shares.call, g.command, then)
}

// Answer has the client's answer ready for Send, without waiting for anything. False:
// there is none, and Serve is to be called.
func (s *Session) Answer() bool {
	sh := s.shares
	g := &sh.glance
	answer, _ := sh.call.Answer()
	if answer == nil {
		s.notByLane(g.print)
		sh.refused = true
		s.shared.takeBack()
		return false
	}
	defer sh.call.Release()
	payload := s.conn.Buffered()[wire.HeaderSize:]
	if g.text != nil {
		s.Metrics.statement(&g.meaning, route.Replica)
		if s.Digests != nil {
			s.Digests.Count(g.print, g.text, s.state.mode, true)
		}
	}
	s.cameByLane(payload, g.stmt)
	sh.ended()
	s.ended = s.horizon.ended
	s.conn.Discard(wire.HeaderSize + len(payload))
	s.conn.WriteRaw(answer)
	return true
}

// Send sends the answer; then is called when Sent is to be, without waiting for
// anything. False: it is to be called already.
func (s *Session) Send(then func()) bool { return s.conn.FlushSoon(then) }

// Sent ends the command. False: Serve is to be called, which sends what is left.
func (s *Session) Sent() bool {
	s.shared.end(s)
	s.conn.Idle()
	return s.conn.Flushed()
}

// begin begins a command.
func (s *Session) begin() {
	s.began = time.Now()
	s.policy = s.Policy()
	s.horizon.pause(s.policy.Pause, s.began)
}
