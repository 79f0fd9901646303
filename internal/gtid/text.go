package gtid

import (
	"errors"
	"fmt"
	"math"
	"strconv"

	"farmhand/internal/farm"
)

// maxNumber is the greatest sequence number: MySQL's numbers are signed and end
// one below the greatest signed value; MariaDB's are unsigned but stay as far
// below the top as a server counts.
const maxNumber = math.MaxInt64 - 1

// maxTag is the length of the longest tag of a MySQL GTID, in bytes.
const maxTag = 32

// Parse reads the text of a position of the given flavor: "0-1-123,1-2-5" of
// MariaDB (as in @@gtid_binlog_pos, @@gtid_slave_pos, @@last_gtid), or a GTID
// set of MySQL, "uuid:1-5:7,uuid:tag:1-3" (as in @@gtid_executed), in which
// white space may stand around commas, colons and dashes. The empty text is the
// empty position. The same MariaDB domain named twice counts with its higher
// number.
func Parse(flavor farm.Flavor, s string) (Position, error) { return parse(flavor, s) }

// ParseBytes is Parse without a conversion of the text, of which it keeps
// nothing. A position of one run without a tag costs no allocation.
func ParseBytes(flavor farm.Flavor, s []byte) (Position, error) { return parse(flavor, s) }

func parse[T string | []byte](flavor farm.Flavor, s T) (Position, error) {
	var b builder
	var at int
	var err error
	switch flavor {
	case farm.MariaDB:
		at, err = parseMariaDB(&b, s)
	case farm.MySQL:
		at, err = parseMySQL(&b, s)
	default:
		return Position{}, fmt.Errorf("GTID position of unknown flavor %v", flavor)
	}
	if err != nil {
		return Position{}, fmt.Errorf("GTID position %q, byte %d: %w", clip(string(s)), at, err)
	}
	return b.position(flavor), nil
}

// clip keeps an error about a peer's text short.
func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}

var (
	errNumber = errors.New("want a number")
	errRange  = errors.New("number out of range")
	errDash   = errors.New("want a dash")
	errComma  = errors.New("want a comma or the end")
	errUUID   = errors.New("want a UUID")
	errTag    = errors.New("tag is too long")
)

// builder gathers runs without allocating for the first.
type builder struct {
	n    int
	one  run
	many []run
}

func (b *builder) add(r run) {
	switch b.n {
	case 0:
		b.one, b.n = r, 1
		return
	case 1:
		if j, ok := join(b.one, r); ok {
			b.one = j
			return
		}
		b.many, b.n = []run{b.one}, 2
	}
	b.many = append(b.many, r)
}

func (b *builder) position(flavor farm.Flavor) Position {
	switch b.n {
	case 0:
		return Position{}
	case 1:
		return Position{flavor: flavor, one: [1]run{b.one}}
	}
	return newPosition(flavor, normalize(b.many))
}

func skipSpace[T string | []byte](s T, i int) int {
	for i < len(s) && (s[i] == ' ' || '\t' <= s[i] && s[i] <= '\r') {
		i++
	}
	return i
}

// number reads a decimal number of at most limit at s[i:].
func number[T string | []byte](s T, i int, limit uint64) (n uint64, next int, err error) {
	if i >= len(s) || s[i] < '0' || s[i] > '9' {
		return 0, i, errNumber
	}
	for ; i < len(s) && '0' <= s[i] && s[i] <= '9'; i++ {
		d := uint64(s[i] - '0')
		if n > (limit-d)/10 {
			return 0, i, errRange
		}
		n = n*10 + d
	}
	return n, i, nil
}

// parseMariaDB reads domain-server-sequence triples. It returns where it
// stopped.
func parseMariaDB[T string | []byte](b *builder, s T) (int, error) {
	i := skipSpace(s, 0)
	if i == len(s) {
		return i, nil
	}
	for {
		var parts [3]uint64
		for k, limit := range [3]uint64{math.MaxUint32, math.MaxUint32, maxNumber} {
			if k > 0 {
				if i >= len(s) || s[i] != '-' {
					return i, errDash
				}
				i++
			}
			var err error
			if parts[k], i, err = number(s, i, limit); err != nil {
				return i, err
			}
		}
		// Number 0 is the state before a domain's first transaction.
		if parts[2] > 0 {
			b.add(run{source: source{lo: parts[0]}, first: 1, last: parts[2], server: uint32(parts[1])})
		}
		i = skipSpace(s, i)
		if i == len(s) {
			return i, nil
		}
		if s[i] != ',' {
			return i, errComma
		}
		i = skipSpace(s, i+1)
	}
}

// parseMySQL reads uuid[:tag][:interval]... sections. As in the server, a
// section may be empty, intervals may overlap and come in any order, and a tag
// holds until the next one. It returns where it stopped.
func parseMySQL[T string | []byte](b *builder, s T) (int, error) {
	i := 0
	for {
		i = skipSpace(s, i)
		if i == len(s) {
			return i, nil
		}
		if s[i] == ',' {
			i++
			continue
		}
		hi, lo, next, ok := parseUUID(s, i)
		if !ok {
			return i, errUUID
		}
		src := source{hi: hi, lo: lo}
		i = skipSpace(s, next)
		for i < len(s) && s[i] == ':' {
			i = skipSpace(s, i+1)
			if i < len(s) && isTagStart(s[i]) {
				var err error
				if src.tag, i, err = parseTag(s, i); err != nil {
					return i, err
				}
				i = skipSpace(s, i)
				continue
			}
			first, next, err := number(s, i, maxNumber)
			if err == nil && first == 0 {
				err = errRange
			}
			if err != nil {
				return i, err
			}
			i = skipSpace(s, next)
			last := first
			if i < len(s) && s[i] == '-' {
				if last, next, err = number(s, skipSpace(s, i+1), maxNumber); err != nil {
					return next, err
				}
				i = skipSpace(s, next)
			}
			if first <= last {
				b.add(run{source: src, first: first, last: last})
			}
		}
		if i < len(s) && s[i] != ',' {
			return i, errComma
		}
	}
}

// parseUUID reads 32 hexadecimal digits with dashes in the usual places.
func parseUUID[T string | []byte](s T, i int) (hi, lo uint64, next int, ok bool) {
	if len(s)-i < 36 {
		return 0, 0, i, false
	}
	for k := range 36 {
		c := s[i+k]
		if k == 8 || k == 13 || k == 18 || k == 23 {
			if c != '-' {
				return 0, 0, i, false
			}
			continue
		}
		var d byte
		switch {
		case '0' <= c && c <= '9':
			d = c - '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			d = c | 0x20 - 'a' + 10
		default:
			return 0, 0, i, false
		}
		hi = hi<<4 | lo>>60
		lo = lo<<4 | uint64(d)
	}
	return hi, lo, i + 36, true
}

func isTagStart(c byte) bool { return c == '_' || 'a' <= c|0x20 && c|0x20 <= 'z' }

// parseTag reads a tag, which MySQL compares without regard to case and shows
// in lower case.
func parseTag[T string | []byte](s T, i int) (tag string, next int, err error) {
	var buf [maxTag]byte
	n := 0
	for ; i < len(s) && (isTagStart(s[i]) || '0' <= s[i] && s[i] <= '9'); i++ {
		if n == maxTag {
			return "", i, errTag
		}
		buf[n] = s[i]
		if 'A' <= s[i] && s[i] <= 'Z' {
			buf[n] |= 0x20
		}
		n++
	}
	return string(buf[:n]), i, nil
}

// String returns the position as its server writes it, without white space; the
// empty text for the empty position, and "incomparable" (which Parse refuses)
// for one merged from both flavors.
func (p Position) String() string { return string(p.Append(nil)) }

// Append appends the position's text to dst. The text holds no quote and no
// backslash, so it can stand in an SQL string as it is.
func (p Position) Append(dst []byte) []byte {
	if p.flavor == mixed {
		return append(dst, "incomparable"...)
	}
	var last source
	for i, r := range p.runs() {
		if p.flavor == farm.MariaDB {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = strconv.AppendUint(dst, r.lo, 10)
			dst = append(dst, '-')
			dst = strconv.AppendUint(dst, uint64(r.server), 10)
			dst = append(dst, '-')
			dst = strconv.AppendUint(dst, r.last, 10)
			continue
		}
		if i == 0 || r.hi != last.hi || r.lo != last.lo {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendUUID(dst, r.hi, r.lo)
			last = source{hi: r.hi, lo: r.lo}
		}
		if r.tag != last.tag {
			dst = append(dst, ':')
			dst = append(dst, r.tag...)
			last.tag = r.tag
		}
		dst = append(dst, ':')
		dst = strconv.AppendUint(dst, r.first, 10)
		if r.last > r.first {
			dst = append(dst, '-')
			dst = strconv.AppendUint(dst, r.last, 10)
		}
	}
	return dst
}

func appendUUID(dst []byte, hi, lo uint64) []byte {
	const digits = "0123456789abcdef"
	for k := range 32 {
		if k == 8 || k == 12 || k == 16 || k == 20 {
			dst = append(dst, '-')
		}
		word := hi
		if k >= 16 {
			word = lo
		}
		dst = append(dst, digits[word>>(60-4*(k%16))&0xf])
	}
	return dst
}
