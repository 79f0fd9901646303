package wire

import (
	"encoding/binary"
	"fmt"
)

// OK is an OK packet, or the OK that stands for EOF after rows.
type OK struct {
	Header       byte // 0x00, or 0xfe where it stands for EOF
	AffectedRows uint64
	LastInsertID uint64
	Status       Status
	Warnings     uint16
	Info         []byte
	// Changes is the session state information, undecoded; see Changes.
	Changes []byte
}

// ParseOK decodes an OK packet as a connection with the given capabilities
// receives it. The slices of the result point into payload.
func ParseOK(payload []byte, caps Capability) (OK, error) {
	d := Decode(payload)
	ok := OK{Header: d.Uint8(), AffectedRows: d.LenEnc(), LastInsertID: d.LenEnc(), Status: Status(d.Uint16()), Warnings: d.Uint16()}
	if d.Len() > 0 {
		ok.Info = d.LenEncBytes()
	}
	// MariaDB sets StatusSessionStateChanged with nothing following.
	if caps.Has(ClientSessionTrack) && ok.Status&StatusSessionStateChanged != 0 && d.Len() > 0 {
		ok.Changes = d.LenEncBytes()
	}
	if ok.Header != headerOK && ok.Header != headerEOF {
		return OK{}, ErrMalformed
	}
	return ok, d.Err()
}

// AppendOK appends the payload of ok for a peer with the given capabilities:
// session state changes are left out where it does not track them.
func AppendOK(dst []byte, ok *OK, caps Capability) []byte {
	status, changes := ok.Status, ok.Changes
	if !caps.Has(ClientSessionTrack) || len(changes) == 0 {
		status &^= StatusSessionStateChanged
		changes = nil
	}
	dst = append(dst, ok.Header)
	dst = AppendLenEnc(dst, ok.AffectedRows)
	dst = AppendLenEnc(dst, ok.LastInsertID)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(status))
	dst = binary.LittleEndian.AppendUint16(dst, ok.Warnings)
	if len(ok.Info) > 0 || changes != nil {
		dst = AppendLenEncString(dst, ok.Info)
	}
	if changes != nil {
		dst = AppendLenEncString(dst, changes)
	}
	return dst
}

// EOF is an EOF packet.
type EOF struct {
	Warnings uint16
	Status   Status
}

// ParseEOF decodes an EOF packet.
func ParseEOF(payload []byte) (EOF, error) {
	d := Decode(payload)
	d.Skip(1)
	e := EOF{Warnings: d.Uint16(), Status: Status(d.Uint16())}
	return e, d.Err()
}

// AppendEOF appends the payload of an EOF packet.
func AppendEOF(dst []byte, e EOF) []byte {
	dst = append(dst, headerEOF)
	dst = binary.LittleEndian.AppendUint16(dst, e.Warnings)
	return binary.LittleEndian.AppendUint16(dst, uint16(e.Status))
}

// Error is an ERR packet, as the server or the proxy says it.
type Error struct {
	Code    uint16
	State   string // five characters; empty in an error before the handshake's end
	Message string
}

func (e *Error) Error() string {
	return fmt.Sprintf("error %d (%s): %s", e.Code, e.State, e.Message)
}

// ParseError decodes an ERR packet.
func ParseError(payload []byte) (*Error, error) {
	d := Decode(payload)
	if d.Uint8() != headerERR {
		return nil, ErrMalformed
	}
	e := &Error{Code: d.Uint16()}
	if d.Len() > 0 && d.rest[0] == '#' {
		d.Skip(1)
		e.State = string(d.Bytes(5))
	}
	e.Message = string(d.Rest())
	return e, d.Err()
}

// AppendError appends the payload of e.
func AppendError(dst []byte, e *Error) []byte {
	dst = append(dst, headerERR, byte(e.Code), byte(e.Code>>8))
	if len(e.State) == 5 {
		dst = append(append(dst, '#'), e.State...)
	}
	return append(dst, e.Message...)
}

// IsError and IsOK say what a reply's first byte means where no rows can be.
func IsError(payload []byte) bool { return len(payload) > 0 && payload[0] == headerERR }

// IsOK reports whether payload is an OK packet, where no rows can be.
func IsOK(payload []byte) bool { return len(payload) > 0 && payload[0] == headerOK }
