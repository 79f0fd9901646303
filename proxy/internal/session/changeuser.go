package session

import (
	"context"
	"errors"

	"farmhand/proxy/internal/auth"
	"farmhand/proxy/internal/backend"
	"farmhand/proxy/internal/consistency"
	"farmhand/proxy/internal/wire"
)

// authLimit bounds a packet of the authentication exchange, in bytes.
const authLimit = 64 << 10

// AuthLink is an authentication exchange on a packet connection.
type AuthLink struct{ Conn *wire.Conn }

// ReadPacket implements auth.Link.
func (l AuthLink) ReadPacket() ([]byte, error) { return l.Conn.ReadPayload(authLimit) }

// WritePacket implements auth.Link.
func (l AuthLink) WritePacket(p []byte) error {
	l.Conn.Write(p)
	return l.Conn.Flush()
}

// changeUser runs COM_CHANGE_USER: another login on the same connection, which
// clears everything. A refusal ends the session, as it does directly.
func (s *Session) changeUser(ctx context.Context, payload []byte) error {
	c, err := wire.ParseChangeUser(payload, s.client.Caps)
	if err != nil {
		return s.fatal(&wire.Error{Code: 1835, State: "HY000", Message: "Malformed communication packet"})
	}
	if err := s.wipe(); err != nil {
		return err
	}
	if err := s.unhurried(ctx); err != nil {
		return err
	}
	credential, err := s.Auth.Authenticate(ctx, AuthLink{s.conn}, auth.Request{
		User: c.User, Database: c.Schema, Host: s.client.Host, GreetingPlugin: s.client.GreetingPlugin, Plugin: c.AuthPlugin, Nonce: s.client.Nonce,
		Response: c.AuthResponse, Secure: s.client.Secure, Loopback: s.client.Loopback,
		ClientCanSwitch: s.client.Caps.Has(wire.ClientPluginAuth),
	})
	var refusal *auth.Refusal
	if errors.As(err, &refusal) {
		_ = s.sendError(&wire.Error{Code: refusal.Code, State: refusal.State, Message: refusal.Message})
		return errEnd
	}
	if err != nil {
		return err
	}
	if s.client.Admit != nil {
		if e := s.client.Admit(c.User); e != nil {
			_ = s.sendError(e)
			return errEnd
		}
	}
	s.client.User, s.client.Credential = c.User, credential
	if c.Collation != 0 {
		s.client.Collation = c.Collation
	}
	s.client.Caps &^= atLogin
	s.start("", s.client.Collation)
	if e := s.UseSchema(ctx, c.Schema); e != nil {
		_ = s.sendError(e)
		return errEnd
	}
	s.conn.Write(wire.AppendOK(nil, Welcome(s.status, c.Schema), s.client.Caps))
	return s.conn.Flush()
}

// Welcome is the OK that ends a login. Servers report the schema in it to a
// client that tracks session state.
func Welcome(status wire.Status, schema string) *wire.OK {
	ok := &wire.OK{Status: status & standing}
	if schema != "" {
		ok.Status |= wire.StatusSessionStateChanged
		ok.Changes = wire.AppendChange(nil, wire.Change{Kind: wire.ChangeSchema, Value: []byte(schema)})
	}
	return ok
}

// knowsSchema tells whether a connection to a server is idle that has the schema,
// and all else that the session's would have.
func (s *Session) knowsSchema(schema string) bool {
	w := backend.Want{Credential: s.client.Credential, Caps: s.client.Caps, Schema: schema, Settings: s.state.settings()}
	v := s.Farm.View()
	for _, r := range v.Replicas {
		if w.Server = r.Server; s.Pool.Suits(&w) {
			return true
		}
	}
	if v.Primary == nil {
		return false
	}
	w.Server = v.Primary.Server
	return s.Pool.Suits(&w)
}

// UseSchema makes schema the session's default schema, as the handshake does:
// a server is asked whether it exists and may be used. It returns what to
// refuse the login with.
func (s *Session) UseSchema(ctx context.Context, schema string) *wire.Error {
	if schema == "" {
		return nil
	}
	s.state.schema = schema
	c, err := s.acquireRead(ctx, freshness{level: min(s.policy.Level(s.client.User), consistency.Session), maxLag: s.policy.MaxLag}, nil)
	var refused *wire.Error
	if errors.As(err, &refused) || err != nil {
		// A replica that is behind may lack it.
		if c == nil || c != s.primary {
			_, err = s.acquirePrimary(ctx)
		}
	}
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		return refused
	}
	return noServer("the schema %s could not be asked for: %v", schema, err)
}
