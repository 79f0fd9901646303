package backend

import (
	"farmhand/internal/farm"
	"farmhand/proxy/internal/auth"
	"farmhand/proxy/internal/wire"
)

// key names the connections that are interchangeable.
type key struct {
	server  string
	address string
	login   [32]byte // auth.Credential.Key
	shape   wire.Capability
}

// Want is the connection that a session asks for.
type Want struct {
	Server     farm.Server
	Credential *auth.Credential
	Caps       wire.Capability // of which Shape matters
	// Schema is the session's default one. There is no command that takes a schema
	// away, so a session that has none cannot use a connection that has one.
	Schema string
	// Settings are what the session has established by value.
	Settings *Settings
	// Clean asks for a connection on which no statement of a client's has run
	// since its login or reset: it has no diagnostics, and no last insert id.
	Clean bool
	// Urgent asks for a connection beyond the limits, rather than to wait: to kill
	// what keeps the others busy.
	Urgent bool
}

func (w *Want) key() key {
	return key{server: w.Server.Name, address: w.Server.Address, login: w.Credential.Key(), shape: w.Caps & Shape}
}

// State names all that a session's connection is like: two sessions that want the
// same may use the same connection, one statement after the other.
type State struct {
	key      key
	schema   string
	settings uint64
	count    int
}

// State names what a connection is like on which w is established.
func (w *Want) State() State {
	s := State{key: w.key(), schema: w.Schema}
	if w.Settings != nil {
		s.settings, s.count = w.Settings.sum, len(w.Settings.list)
	}
	return s
}
