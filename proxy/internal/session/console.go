package session

import (
	"time"

	"farmhand/proxy/internal/classify"
	"farmhand/proxy/internal/route"
	"farmhand/proxy/internal/wire"
)

// Explained is how a text would be routed in a session.
type Explained struct {
	Class, Target, Reason, Server, Considered string
}

// console answers SHOW FARMHAND ….
func (s *Session) console(sql []byte) error {
	s.Metrics.statements[route.Console].Inc()
	s.shared.refresh(s)
	table, err := s.Console.Query(string(sql), Ask{
		User: s.client.User, All: s.policy.MayAskConsole(s.client.User), ID: s.id, Route: s.explain,
	})
	if err != nil {
		return s.sendError(&wire.Error{Code: 1105, State: "HY000", Message: "Farmhand: " + err.Error()})
	}
	return s.sendTable(table)
}

// explain routes a text as if the client had sent it, without running it.
func (s *Session) explain(sql string) Explained {
	text := []byte(sql)
	m := classify.Classify(text, s.state.mode)
	d := s.decide(&m, text)
	e := Explained{Class: m.Class.String(), Target: d.Target.String(), Reason: d.Reason}
	v := s.Farm.View()
	f := s.freshnessOf(&m)
	f.until = time.Now().Add(s.policy.ReadWait)
	need := s.need(f, nil, time.Now())
	switch d.Target {
	case route.Replica:
		choice := route.Read(v, &need, s.policy.PrimaryReads, time.Now(), random())
		switch {
		case choice.Server == nil:
			e.Considered = choice.Considered.String()
		case choice.ForWant == route.Fitness:
			e.Server, e.Considered = choice.Server.Name, "no replica is fit"
		case choice.ForWant == route.Freshness:
			e.Server, e.Considered = choice.Server.Name, "no replica has what the session must see"
		case choice.Wait:
			e.Server, e.Considered = choice.Server.Name, "it is waited for until it has what the session must see"
		default:
			e.Server = choice.Server.Name
		}
	case route.Transaction:
		e.Server = s.transaction.Server.Name
	case route.Last:
		e.Server = s.last.Server.Name
	case route.Primary:
		if v.Primary != nil {
			e.Server = v.Primary.Name
		}
		e.Considered = primaryProblem(v)
	}
	return e
}

// utf8mb4General is the collation id of the console's results.
const utf8mb4General = 45

// sendTable answers the current command with a result set of text.
func (s *Session) sendTable(t *Table) error {
	status := s.status &^ (wire.StatusMoreResults | wire.StatusSessionStateChanged | wire.StatusCursorExists)
	var b []byte
	b = wire.AppendLenEnc(b, uint64(len(t.Columns)))
	if s.client.Caps.Has(wire.ClientOptionalMetadata) {
		b = append(b, 1)
	}
	s.conn.Write(b)
	for _, name := range t.Columns {
		s.conn.Write(wire.AppendTextColumn(b[:0], name, utf8mb4General, s.client.Caps))
	}
	end := func() {
		if s.client.Caps.Has(wire.ClientDeprecateEOF) {
			s.conn.Write(wire.AppendOK(b[:0], &wire.OK{Header: 0xfe, Status: status}, s.client.Caps))
		} else {
			s.conn.Write(wire.AppendEOF(b[:0], wire.EOF{Status: status}))
		}
	}
	if !s.client.Caps.Has(wire.ClientDeprecateEOF) {
		end()
	}
	for _, row := range t.Rows {
		b = b[:0]
		for _, cell := range row {
			b = wire.AppendLenEncString(b, cell)
		}
		s.conn.Write(b)
	}
	end()
	return s.conn.Flush()
}
