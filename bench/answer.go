package main

import "errors"

// answer follows one answer to a COM_QUERY to its end, by the packets' headers
// and first bytes. The zero value awaits the first packet.
type answer struct {
	phase     phase
	header    [4]byte
	have      int // bytes of the header
	length    int // of the packet's payload
	left      int // of it still to come
	kind      byte
	continued bool   // the packet goes on with one of the maximal length
	failure   []byte // an ERR packet, as far as it has come
}

type phase uint8

const (
	atFirst   phase = iota // OK, ERR, a wish for a file, or the number of columns
	inColumns              // the columns' descriptions, to an EOF packet
	inRows                 // the rows, to an EOF or ERR packet
)

// outcome is how far an answer is.
type outcome uint8

const (
	more      outcome = iota // there is more to come
	ended                    // the answer is complete
	wantsFile                // the server wants the file of a LOAD DATA LOCAL
)

var errTooMuch = errors.New("bytes after the end of an answer")

// feed takes the next bytes. Bytes after the end are an error: nothing was
// asked.
func (a *answer) feed(b []byte) (outcome, error) {
	for len(b) > 0 {
		if a.have < 4 {
			n := copy(a.header[a.have:], b)
			a.have, b = a.have+n, b[n:]
			if a.have < 4 {
				return more, nil
			}
			a.length = int(a.header[0]) | int(a.header[1])<<8 | int(a.header[2])<<16
			a.left, a.failure = a.length, a.failure[:0]
			if a.length > 0 {
				continue
			}
			a.kind = 0
		} else {
			if a.left == a.length {
				a.kind = b[0]
			}
			n := min(a.left, len(b))
			if a.kind == 0xff && !a.continued {
				a.failure = append(a.failure, b[:n]...)
			}
			a.left, b = a.left-n, b[n:]
		}
		if a.left > 0 {
			return more, nil
		}
		a.have = 0
		out, err := a.packet()
		if out == more && err == nil {
			continue
		}
		if err == nil && len(b) > 0 {
			err = errTooMuch
		}
		return out, err
	}
	return more, nil
}

// packet is told that a packet is complete.
func (a *answer) packet() (outcome, error) {
	was := a.continued
	a.continued = a.length == maximalPacket
	switch {
	case was:
		return more, nil
	case a.kind == 0xff:
		return ended, refusal(a.failure)
	case a.phase == atFirst && a.kind == 0xfb:
		*a = answer{}
		return wantsFile, nil
	case a.phase == atFirst && a.kind == 0:
		*a = answer{failure: a.failure}
		return ended, nil
	case a.phase == atFirst:
		a.phase = inColumns
	case a.kind == 0xfe && a.length < 9 && a.phase == inColumns:
		a.phase = inRows
	case a.kind == 0xfe && a.length < 9:
		*a = answer{failure: a.failure}
		return ended, nil
	}
	return more, nil
}
