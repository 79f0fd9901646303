package differential

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"farmhand/proxy/internal/wire"
)

// difference compares the two answers to a step and says what differs; empty if
// nothing does but what is allowed.
func difference(s *step, direct, proxy *response, caps wire.Capability) string {
	if direct.silent || proxy.silent {
		if direct.silent != proxy.silent {
			return "only one of them is still connected"
		}
		return ""
	}
	if (direct.broken == nil) != (proxy.broken == nil) {
		return "one of the connections broke"
	}
	if direct.broken != nil {
		return "" // MariaDB does not always end its answer to COM_FIELD_LIST without a schema
	}
	d, p := direct.packets, proxy.packets
	switch s.rows {
	case anyOrder:
		d, p = sorted(d), sorted(p)
	case ignored:
		d, p = withoutRows(d), withoutRows(p)
	}
	for i := range min(len(d), len(p)) {
		if s.rows != ignored && d[i].seq != p[i].seq {
			return fmt.Sprintf("packet %d has number %d, directly %d", i, p[i].seq, d[i].seq)
		}
		if d[i].class != p[i].class {
			return fmt.Sprintf("packet %d is of another kind (%s, directly %s)", i, classNames[p[i].class], classNames[d[i].class])
		}
		if s.do == setOption && d[i].class == ok {
			// The proxy answers it, and does not know yet whether a statement that
			// failed has ended the transaction.
			continue
		}
		if direct.rebound && d[i].class == definition {
			// What an expression of parameters is, MariaDB decides at the first
			// execution on a connection.
			continue
		}
		if d[i].class == definition && unnameable(s.text+strings.Join(s.texts, ";")) {
			continue
		}
		if d[i].class == ok && converts.MatchString(s.text) && bytes.Equal(withoutWarnings(d[i].payload, caps), withoutWarnings(p[i].payload, caps)) {
			continue
		}
		if !bytes.Equal(d[i].payload, p[i].payload) && !mayDiffer(d[i], p[i], caps) {
			return fmt.Sprintf("packet %d (%s) differs", i, classNames[d[i].class])
		}
	}
	if len(d) != len(p) {
		return fmt.Sprintf("there are %d packets, directly %d", len(p), len(d))
	}
	return ""
}

func mayDiffer(d, p packet, caps wire.Capability) bool {
	for i := range allowed {
		if allowed[i].same(d, p, caps) {
			return true
		}
	}
	return false
}

// sorted orders each run of rows by content.
func sorted(in []packet) []packet {
	out := slices.Clone(in)
	for i := 0; i < len(out); {
		j := i
		for j < len(out) && out[j].class == row {
			j++
		}
		seq := uint8(0)
		if j > i {
			seq = out[i].seq
			slices.SortFunc(out[i:j], func(a, b packet) int { return bytes.Compare(a.payload, b.payload) })
			for k := range out[i:j] {
				out[i+k].seq = seq + uint8(k)
			}
		}
		i = j + 1
	}
	return out
}

func withoutRows(in []packet) []packet {
	return slices.DeleteFunc(slices.Clone(in), func(p packet) bool { return p.class == row })
}

// show prints an answer for people.
func (r *response) show(caps wire.Capability) string {
	var b strings.Builder
	if r.silent {
		b.WriteString("    (not connected)\n")
	}
	rows := 0
	for _, p := range r.packets {
		switch p.class {
		case ok, head, welcome:
			fmt.Fprintf(&b, "    %s: %s\n", classNames[p.class], showOK(p.payload, caps))
		case failure:
			e, err := wire.ParseError(p.payload)
			if err != nil {
				fmt.Fprintf(&b, "    error, malformed: %q\n", p.payload)
				continue
			}
			fmt.Fprintf(&b, "    %v\n", e)
		case row:
			if rows++; rows > 20 {
				continue
			}
			fmt.Fprintf(&b, "    row: %q\n", clip(string(p.payload)))
		default:
			fmt.Fprintf(&b, "    %s: %q\n", classNames[p.class], clip(string(p.payload)))
		}
	}
	if r.broken != nil {
		fmt.Fprintf(&b, "    connection broken: %v\n", r.broken)
	}
	return b.String()
}

func showOK(payload []byte, caps wire.Capability) string {
	switch {
	case len(payload) == 5 && payload[0] == 0xfe:
		e, err := wire.ParseEOF(payload)
		if err == nil {
			return fmt.Sprintf("EOF status %#04x, %d warnings", uint16(e.Status), e.Warnings)
		}
	case len(payload) >= 7 && (payload[0] == 0 || payload[0] == 0xfe):
		o, err := wire.ParseOK(payload, caps)
		if err != nil {
			break
		}
		s := fmt.Sprintf("OK %#02x, %d affected, insert id %d, status %#04x, %d warnings, info %q", o.Header, o.AffectedRows, o.LastInsertID, uint16(o.Status), o.Warnings, o.Info)
		if err := wire.Changes(o.Changes, func(c wire.Change) bool {
			s += fmt.Sprintf(", change %d %s=%q", c.Kind, c.Name, c.Value)
			return true
		}); err != nil {
			s += ", " + err.Error()
		}
		return s
	}
	return fmt.Sprintf("%q", clip(string(payload)))
}
