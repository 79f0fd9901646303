package wire

// ChangeKind is the kind of a session state change in an OK packet.
type ChangeKind uint8

// The kinds of session state change.
const (
	ChangeSystemVariable ChangeKind = 0 // Name and Value
	ChangeSchema         ChangeKind = 1 // Value is the new default schema
	ChangeState          ChangeKind = 2 // Value is "1"
	ChangeGTIDs          ChangeKind = 3 // Value is the GTID set (MySQL)
	ChangeTrxCharacter   ChangeKind = 4 // Value is SQL that restarts the transaction
	ChangeTrxState       ChangeKind = 5 // Value is eight characters of transaction state
)

// Change is one session state change. Its slices point into the packet.
type Change struct {
	Kind  ChangeKind
	Name  []byte
	Value []byte
}

// Changes yields the changes in an OK packet's session state information,
// until yield returns false. Kinds that it does not know are yielded with
// their undecoded value. It returns ErrMalformed where the information is
// not well-formed.
func Changes(info []byte, yield func(Change) bool) error {
	d := Decode(info)
	for d.Len() > 0 {
		c := Change{Kind: ChangeKind(d.Uint8())}
		value := Decode(d.LenEncBytes())
		if d.bad {
			return ErrMalformed
		}
		switch c.Kind {
		case ChangeSystemVariable:
			// MariaDB may put several name and value pairs into one entry.
			for first := true; first || value.Len() > 0; first = false {
				c.Name, c.Value = value.LenEncBytes(), value.LenEncBytes()
				if value.bad {
					return ErrMalformed
				}
				if !yield(c) {
					return nil
				}
			}
			continue
		case ChangeSchema, ChangeTrxCharacter, ChangeTrxState:
			c.Value = value.LenEncBytes()
		case ChangeGTIDs:
			value.Skip(1) // encoding specification, 0
			c.Value = value.LenEncBytes()
		default: // ChangeState has a bare byte, whatever the documentation says
			c.Value = value.Rest()
		}
		if value.bad {
			return ErrMalformed
		}
		if !yield(c) {
			return nil
		}
	}
	return nil
}

// AppendChange appends a change to session state information.
func AppendChange(dst []byte, c Change) []byte {
	dst = append(dst, byte(c.Kind))
	var v []byte
	switch c.Kind {
	case ChangeSystemVariable:
		v = AppendLenEncString(AppendLenEncString(v, c.Name), c.Value)
	case ChangeGTIDs:
		v = AppendLenEncString(append(v, 0), c.Value)
	case ChangeSchema, ChangeTrxCharacter, ChangeTrxState:
		v = AppendLenEncString(v, c.Value)
	default:
		v = c.Value
	}
	return AppendLenEncString(dst, v)
}
