package differential

import (
	"bytes"
	"regexp"

	"farmhand/proxy/internal/wire"
)

// allowance is a difference that is right, or promised nowhere:
// docs/COMPATIBILITY.md says the same to users.
type allowance struct {
	reason string
	// same tells whether the packets are the same but for it.
	same func(direct, proxy packet, caps wire.Capability) bool
}

var allowed = []allowance{
	{"statement ids are each side's own", func(direct, proxy packet, _ wire.Capability) bool {
		return direct.class == prepared && len(direct.payload) > 5 && len(proxy.payload) > 5 &&
			bytes.Equal(direct.payload[5:], proxy.payload[5:])
	}},
	{"statement ids are each side's own, in errors as well", func(direct, proxy packet, _ wire.Capability) bool {
		return direct.class == failure &&
			bytes.Equal(statementID.ReplaceAll(direct.payload, nil), statementID.ReplaceAll(proxy.payload, nil))
	}},
	{"connection ids and nonces are each side's own, and the proxy offers its own TLS and no metadata cache", func(direct, proxy packet, _ wire.Capability) bool {
		return direct.class == greeting && sameGreeting(direct.payload, proxy.payload)
	}},
	{"the proxy has the server report more of the session than it would by itself", func(direct, proxy packet, caps wire.Capability) bool {
		return direct.class == ok && caps.Has(wire.ClientSessionTrack) && sameTracked(direct.payload, proxy.payload, caps)
	}},
}

// statementID is the id in "Unknown prepared statement handler (5) given to …"
// and "The statement (5) has no open cursor".
var statementID = regexp.MustCompile(`\(\d+\)`)

func sameGreeting(direct, proxy []byte) bool {
	d, err := wire.ParseGreeting(direct)
	if err != nil {
		return false
	}
	p, err := wire.ParseGreeting(proxy)
	if err != nil {
		return false
	}
	const either = wire.ClientSSL | wire.ClientCompress | wire.MariaDBCacheMetadata
	return d.Version == p.Version && d.Collation == p.Collation && d.Status == p.Status && d.AuthPlugin == p.AuthPlugin &&
		d.Capabilities&^either == p.Capabilities&^either
}

// trackedByDefault are the system variables that MariaDB reports to a client
// that asks for session tracking and sets nothing.
var trackedByDefault = map[string]bool{
	"autocommit": true, "character_set_client": true, "character_set_connection": true, "character_set_results": true, "time_zone": true,
}

// sameTracked compares what servers track by default.
func sameTracked(direct, proxy []byte, caps wire.Capability) bool {
	d, dChanges, err := tracked(direct, caps)
	if err != nil {
		return false
	}
	p, pChanges, err := tracked(proxy, caps)
	return err == nil && bytes.Equal(d, p) && dChanges == pChanges
}

// tracked returns an OK without what it says of the session, and what of that
// every server says.
func tracked(payload []byte, caps wire.Capability) (rest []byte, changes string, err error) {
	o, err := wire.ParseOK(payload, caps)
	if err != nil {
		return nil, "", err
	}
	var said []byte
	err = wire.Changes(o.Changes, func(c wire.Change) bool {
		if c.Kind == wire.ChangeSchema || c.Kind == wire.ChangeSystemVariable && trackedByDefault[string(c.Name)] {
			said = wire.AppendChange(said, c)
		}
		return true
	})
	o.Changes = nil
	return wire.AppendOK(nil, &o, 0), string(said), err
}
