package differential

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"

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
	{"MariaDB gives a user variable that has no value a type when a write reads it, for the binlog", func(direct, proxy packet, _ wire.Capability) bool {
		if direct.class != definition {
			return false
		}
		name := func(p []byte) string {
			d := wire.Decode(p)
			for range 4 { // catalog, schema, table, original table
				d.LenEncBytes()
			}
			return string(d.LenEncBytes())
		}
		return strings.HasPrefix(name(direct.payload), "@") && name(direct.payload) == name(proxy.payload)
	}},
	{"a replica refuses a write before it looks at privileges, and the proxy says that it is the transaction that reads only", func(direct, proxy packet, _ wire.Capability) bool {
		return direct.class == failure && bytes.HasSuffix(proxy.payload, []byte("#25006Cannot execute statement in a READ ONLY transaction"))
	}},
	{"statement ids are each side's own, in SHOW ERRORS as well", func(direct, proxy packet, _ wire.Capability) bool {
		for _, text := range [][]byte{[]byte("has no open cursor"), []byte("Unknown prepared statement handler")} {
			if direct.class == row && bytes.Contains(direct.payload, text) && bytes.Contains(proxy.payload, text) {
				return true
			}
		}
		return false
	}},
	{"a syntax error quotes what the server got, with the number in the place of CONNECTION_ID()", func(direct, proxy packet, _ wire.Capability) bool {
		return direct.class == failure && bytes.Contains(direct.payload, []byte("CONNECTION_ID()")) && len(proxy.payload) > 3 &&
			bytes.Equal(direct.payload[:3], proxy.payload[:3]) && connectionNumber.Match(proxy.payload)
	}},
	{"MariaDB does not always count rows anew in the errors of procedures' parameters", func(direct, proxy packet, _ wire.Capability) bool {
		return (direct.class == failure || direct.class == row) && bytes.Equal(atRow.ReplaceAll(direct.payload, nil), atRow.ReplaceAll(proxy.payload, nil))
	}},
	{"a plan with a temporary table changes a column's flags, and the table that it is said to come from", func(direct, proxy packet, _ wire.Capability) bool {
		return direct.class == definition && bytes.Equal(withoutTemporary(direct.payload), withoutTemporary(proxy.payload))
	}},
	{"SHOW WARNINGS in a read-only transaction on a replica shows why the replica refused a write", func(direct, proxy packet, _ wire.Capability) bool {
		return direct.class == row && bytes.Contains(direct.payload, []byte("Cannot execute statement in a READ ONLY transaction")) &&
			bytes.Contains(proxy.payload, []byte("running with the --read-only option"))
	}},
	{"MariaDB counts warnings of the client before in the OK of a login", func(direct, proxy packet, caps wire.Capability) bool {
		if direct.class != welcome {
			return false
		}
		d, err := wire.ParseOK(direct.payload, caps)
		if err != nil {
			return false
		}
		d.Warnings = 0
		return bytes.Equal(wire.AppendOK(nil, &d, caps), proxy.payload)
	}},
	{"which index a server uses is its own choice, and so are the flags that say it used none; and a statement prepared on another server has no earlier metadata that changed", func(direct, proxy packet, caps wire.Capability) bool {
		return (direct.class == ok || direct.class == head) && bytes.Equal(withoutPlan(direct.payload, caps), withoutPlan(proxy.payload, caps))
	}},
}

// Rows that are not compared (option "ignored" of the grammar): what the
// optimizer plans, statistics, times of creation, and the next AUTO_INCREMENT in
// SHOW CREATE TABLE, which only the primary knows.

// keepsFoundRows tells a statement whose answer is not compared: it asks for
// FOUND_ROWS() after a statement that failed, of which MariaDB gives what happens
// to be there, or before the session had a result set. MariaDB keeps the count over
// COM_CHANGE_USER and COM_RESET_CONNECTION, on the one connection that a client
// has there.
func keepsFoundRows(s *step, rows bool) bool {
	return !rows && strings.Contains(strings.ToUpper(s.text), "FOUND_ROWS()")
}

// withoutTemporary is a column's definition without what the use of a temporary
// table changes: the original table's name, and the flags.
func withoutTemporary(p []byte) []byte {
	d := wire.Decode(p)
	for range 3 { // catalog, schema, table
		d.LenEncBytes()
	}
	before := len(p) - d.Len()
	d.LenEncBytes()
	after := len(p) - d.Len()
	if d.Err() != nil || len(p)-after < 5 {
		return p
	}
	out := append(bytes.Clone(p[:before]), p[after:]...)
	flags := len(out) - 5 // two bytes, before the decimals and a filler
	out[flags], out[flags+1] = 0, 0
	return out
}

// unsaid tells whether a client's older warnings are there after a step as before
// it, which is not compared then. MariaDB forgets them when a stored function or
// procedure uses a table, and the proxy does not know what one uses. Nor is it said
// in which order a plan warns.
func unsaid(s *step, text string, before bool) bool {
	switch {
	case s.do == connect, s.do == changeUser, s.do == reset:
		return false
	case callsProgram.MatchString(text), converts.MatchString(text):
		return true
	case usesTable.MatchString(text):
		return false
	}
	return before
}

var (
	callsProgram = regexp.MustCompile(`(?i)\bf_\w+\s*\(|\bCALL\b|\bv_\w+|\bEXECUTE\b`)
	usesTable    = regexp.MustCompile(`(?i)\b(FROM (app_d\d\.)?(t1|t2|b1|b2|mark)|INTO (app_d\d\.)?(t1|t2|b1|b2)|UPDATE (app_d\d\.)?(t1|t2|b1|b2))\b`)
	warnings     = regexp.MustCompile(`(?i)\bSHOW (COUNT\(\*\) )?(WARNINGS|ERRORS)|(warning|error)_count|GET .*DIAGNOSTICS`)
)

func asksForWarnings(text string) bool { return warnings.MatchString(text) }

// excused tells an answer after which a session is not compared any more: what
// docs/COMPATIBILITY.md says that the proxy refuses, in a read-only transaction
// or after another session took the connection that knew the answer.
func excused(r *response) bool {
	for _, p := range r.packets {
		if p.class != failure {
			continue
		}
		e, err := wire.ParseError(p.payload)
		if err != nil {
			continue
		}
		if e.Code == 1792 && strings.HasPrefix(e.Message, "Farmhand: the read-only transaction runs on ") ||
			e.Code == 1235 && strings.Contains(e.Message, "cannot be told any more") {
			return true
		}
	}
	return false
}

// unnameable tells a text whose columns get other names: the proxy has the number
// in the place of CONNECTION_ID(), and the text is no possible alias.
func unnameable(text string) bool {
	return strings.Contains(text, "CONNECTION_ID") && strings.ContainsFunc(text, func(c rune) bool { return c == 0 || c > 0xffff })
}

// converts finds conditions that compare a number with what may be none: how often
// a server looks at it, and warns, depends on its plan.
var converts = regexp.MustCompile(`(?i)\bWHERE (x\.)?(id|a) (=|<=>) [^0-9-]`)

// withoutWarnings is an OK or EOF packet without the number of warnings, nor the
// flags of the optimizer.
func withoutWarnings(payload []byte, caps wire.Capability) []byte {
	payload = withoutPlan(payload, caps)
	if e, err := wire.ParseEOF(payload); len(payload) == 5 && err == nil {
		e.Warnings = 0
		return wire.AppendEOF(nil, e)
	}
	if o, err := wire.ParseOK(payload, caps); err == nil {
		o.Warnings = 0
		return wire.AppendOK(nil, &o, caps)
	}
	return payload
}

// withoutPlan is an OK or EOF packet without the flags of the optimizer.
func withoutPlan(payload []byte, caps wire.Capability) []byte {
	const plan = wire.StatusNoIndex | wire.StatusNoGoodIndex | wire.StatusMetadataChanged
	if len(payload) == 5 && payload[0] == 0xfe {
		e, err := wire.ParseEOF(payload)
		if err != nil {
			return payload
		}
		e.Status &^= plan
		// It has no room to say what changed, and the proxy leaves it to the OK.
		e.Status &^= wire.StatusSessionStateChanged
		return wire.AppendEOF(nil, e)
	}
	if len(payload) < 7 || payload[0] != 0 && payload[0] != 0xfe {
		return payload
	}
	o, err := wire.ParseOK(payload, caps)
	if err != nil {
		return payload
	}
	o.Status &^= plan
	return wire.AppendOK(nil, &o, caps)
}

// statementID is the id in "Unknown prepared statement handler (5) given to …"
// and "The statement (5) has no open cursor".
var statementID = regexp.MustCompile(`\(\d+\)`)

// connectionNumber is an id of a session of the proxy's.
var connectionNumber = regexp.MustCompile(`\b[2-4]\d{9}\b`)

var atRow = regexp.MustCompile(` at row \d+$`)

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
	if err != nil || !bytes.Equal(d, p) {
		return false
	}
	// MariaDB reports the schema again after a prepared statement of another one,
	// in the next OK of that connection unless an EOF came between.
	variables := func(changes []string) []string {
		return slices.DeleteFunc(slices.Clone(changes), func(c string) bool { return strings.HasPrefix(c, "schema ") })
	}
	return slices.Equal(dChanges, pChanges) || slices.Equal(variables(dChanges), variables(pChanges))
}

// tracked returns an OK without what it says of the session, and what of that
// every server says.
func tracked(payload []byte, caps wire.Capability) (rest []byte, changes []string, err error) {
	o, err := wire.ParseOK(payload, caps)
	if err != nil {
		return nil, nil, err
	}
	err = wire.Changes(o.Changes, func(c wire.Change) bool {
		switch {
		case c.Kind == wire.ChangeSchema:
			changes = append(changes, fmt.Sprintf("schema %q", c.Value))
		case c.Kind == wire.ChangeSystemVariable && trackedByDefault[string(c.Name)]:
			changes = append(changes, fmt.Sprintf("variable %s=%q", c.Name, c.Value))
		}
		return true
	})
	slices.Sort(changes) // the order is that of a hash table
	o.Changes = nil
	return wire.AppendOK(nil, &o, 0), changes, err
}
