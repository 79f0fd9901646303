package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// ErrMalformed is what decoders return for a payload that is not what the
// protocol asks for.
var ErrMalformed = errors.New("malformed packet")

// Decoder reads fields from a payload, front to back. After the first field
// that is not there, every method returns a zero value and Err says so.
type Decoder struct {
	rest []byte
	bad  bool
}

// Decode starts to read payload.
func Decode(payload []byte) Decoder { return Decoder{rest: payload} }

// Err is ErrMalformed once a field was not there, else nil.
func (d *Decoder) Err() error {
	if d.bad {
		return ErrMalformed
	}
	return nil
}

// Len is the number of bytes not yet read.
func (d *Decoder) Len() int { return len(d.rest) }

// Rest returns all that is left.
func (d *Decoder) Rest() []byte {
	b := d.rest
	d.rest = nil
	return b
}

// Bytes returns the next n bytes.
func (d *Decoder) Bytes(n int) []byte {
	if n < 0 || n > len(d.rest) {
		d.bad, d.rest = true, nil
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

// Skip passes over n bytes.
func (d *Decoder) Skip(n int) { d.Bytes(n) }

// Uint8 reads one byte.
func (d *Decoder) Uint8() uint8 {
	if b := d.Bytes(1); b != nil {
		return b[0]
	}
	return 0
}

// Uint16 reads two bytes, little endian.
func (d *Decoder) Uint16() uint16 {
	if b := d.Bytes(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

// Uint32 reads four bytes, little endian.
func (d *Decoder) Uint32() uint32 {
	if b := d.Bytes(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// LenEnc reads a length-encoded integer. NULL (0xfb) and 0xff are malformed.
func (d *Decoder) LenEnc() uint64 {
	switch b := d.Uint8(); b {
	case 0xfb, 0xff:
		d.bad, d.rest = true, nil
		return 0
	case 0xfc:
		return uint64(d.Uint16())
	case 0xfd:
		if v := d.Bytes(3); v != nil {
			return uint64(v[0]) | uint64(v[1])<<8 | uint64(v[2])<<16
		}
		return 0
	case 0xfe:
		if v := d.Bytes(8); v != nil {
			return binary.LittleEndian.Uint64(v)
		}
		return 0
	default:
		return uint64(b)
	}
}

// LenEncBytes reads a length-encoded string.
func (d *Decoder) LenEncBytes() []byte {
	n := d.LenEnc()
	if n > uint64(len(d.rest)) {
		d.bad, d.rest = true, nil
		return nil
	}
	return d.Bytes(int(n))
}

// NulBytes reads up to a NUL, which is passed over.
func (d *Decoder) NulBytes() []byte {
	i := bytes.IndexByte(d.rest, 0)
	if i < 0 {
		d.bad, d.rest = true, nil
		return nil
	}
	b := d.rest[:i:i]
	d.rest = d.rest[i+1:]
	return b
}

// NulOrRest reads up to a NUL or, without one, to the end: some clients leave
// the last NUL out.
func (d *Decoder) NulOrRest() []byte {
	if bytes.IndexByte(d.rest, 0) < 0 {
		return d.Rest()
	}
	return d.NulBytes()
}
