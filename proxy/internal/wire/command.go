package wire

import (
	"encoding/binary"
	"fmt"
)

// maxQueryAttributes bounds the attributes of one query.
const maxQueryAttributes = 1 << 10

// AppendQuery appends what precedes the text of a COM_QUERY: the command byte
// and, on a connection with ClientQueryAttributes, that there are none.
func AppendQuery(dst []byte, caps Capability) []byte {
	dst = append(dst, byte(ComQuery))
	if caps.Has(ClientQueryAttributes) {
		dst = append(dst, 0, 1) // no parameters, in one set
	}
	return dst
}

// QueryText returns where the text of a COM_QUERY begins in its payload: behind
// the command byte and, on a connection with ClientQueryAttributes, behind the
// attributes.
func QueryText(payload []byte, caps Capability) (offset int, err error) {
	if !caps.Has(ClientQueryAttributes) {
		return 1, nil
	}
	d := Decode(payload)
	d.Skip(1)
	n := d.LenEnc()
	d.LenEnc() // number of parameter sets, 1
	if n > maxQueryAttributes {
		return 0, fmt.Errorf("%d query attributes: %w", n, ErrMalformed)
	}
	if n > 0 {
		nulls := d.Bytes(int(n+7) / 8)
		if d.Uint8() != 1 {
			return 0, fmt.Errorf("query attributes without types: %w", ErrMalformed)
		}
		types := make([]uint16, n)
		for i := range types {
			types[i] = d.Uint16()
			d.LenEncBytes()
		}
		if d.Err() != nil {
			return 0, fmt.Errorf("query attributes: %w", ErrMalformed)
		}
		for i, t := range types {
			if nulls[i/8]&(1<<(i%8)) == 0 {
				skipBinaryValue(&d, byte(t))
			}
		}
	}
	if d.Err() != nil {
		return 0, fmt.Errorf("query attributes: %w", ErrMalformed)
	}
	return len(payload) - d.Len(), nil
}

// skipBinaryValue passes over a value of the binary protocol.
func skipBinaryValue(d *Decoder, fieldType byte) {
	switch fieldType {
	case 1: // TINY
		d.Skip(1)
	case 2, 13: // SHORT, YEAR
		d.Skip(2)
	case 3, 4, 9: // LONG, FLOAT, INT24
		d.Skip(4)
	case 5, 8: // DOUBLE, LONGLONG
		d.Skip(8)
	case 6: // NULL
	case 7, 10, 11, 12: // TIMESTAMP, DATE, TIME, DATETIME
		d.Skip(int(d.Uint8()))
	default:
		d.LenEncBytes()
	}
}

// Execute is what a relay must know of a COM_STMT_EXECUTE's payload.
type Execute struct {
	Statement uint32
	// Bound: the payload has the types of its parameters.
	Bound bool
	// Flag is the offset of the byte that says so; 0 where there are no
	// parameters. Types is where the types end, where Bound.
	Flag, Types int
}

// ParseExecute looks at a COM_STMT_EXECUTE of a statement with the given number
// of parameters.
func ParseExecute(payload []byte, params int, caps Capability) (Execute, error) {
	const parameterCountAvailable = 0x08
	d := Decode(payload)
	d.Skip(1)
	e := Execute{Statement: d.Uint32()}
	flags := d.Uint8()
	d.Skip(4)
	attributes := caps.Has(ClientQueryAttributes)
	n := uint64(params)
	// The flag says that there may be attributes where there are no parameters;
	// with parameters the count is there whatever it says.
	if attributes && (params > 0 || flags&parameterCountAvailable != 0) {
		n = d.LenEnc()
	}
	if d.Err() != nil || n > 1<<16 {
		return Execute{}, fmt.Errorf("COM_STMT_EXECUTE: %w", ErrMalformed)
	}
	if n == 0 {
		return e, nil
	}
	d.Skip(int(n+7) / 8)
	e.Flag = len(payload) - d.Len()
	e.Bound = d.Uint8() == 1
	if e.Bound {
		for range n {
			d.Skip(2)
			if attributes {
				d.LenEncBytes()
			}
		}
		e.Types = len(payload) - d.Len()
	}
	if d.Err() != nil {
		return Execute{}, fmt.Errorf("COM_STMT_EXECUTE: %w", ErrMalformed)
	}
	return e, nil
}

// AppendExecuteTypes appends an execute payload to which the types of an
// earlier one are added: for a server that has not seen them.
func AppendExecuteTypes(dst, payload []byte, e Execute, types []byte) []byte {
	dst = append(append(dst, payload[:e.Flag]...), 1)
	dst = append(dst, types...)
	return append(dst, payload[e.Flag+1:]...)
}

// StatementID reads the statement id of a COM_STMT_… payload.
func StatementID(payload []byte) (uint32, error) {
	if len(payload) < 5 {
		return 0, fmt.Errorf("no statement id: %w", ErrMalformed)
	}
	return binary.LittleEndian.Uint32(payload[1:]), nil
}

// SetStatementID writes the statement id of a COM_STMT_… payload, or of the
// answer to COM_STMT_PREPARE.
func SetStatementID(payload []byte, id uint32) { binary.LittleEndian.PutUint32(payload[1:], id) }
