package gtid

import (
	"encoding/binary"
	"fmt"

	"farmhand/internal/farm"
)

// Read is Parse for a text of which it is not known whose it is: the two forms have
// nothing in common.
func Read(s string) (Position, error) {
	i := 0
	for i < len(s) && (s[i] == ',' || skipSpace(s, i) > i) {
		i++
	}
	if _, _, _, isUUID := parseUUID(s, i); isUUID {
		return Parse(farm.MySQL, s)
	}
	return Parse(farm.MariaDB, s)
}

// Single is one transaction of a MySQL server, by the server's UUID, the tag ("" for
// none) and the number.
func Single(uuid [16]byte, tag string, number uint64) (Position, error) {
	if number == 0 || number > maxNumber {
		return Position{}, fmt.Errorf("transaction %d: %w", number, errRange)
	}
	if len(tag) > maxTag {
		return Position{}, errTag
	}
	who := source{binary.BigEndian.Uint64(uuid[:8]), binary.BigEndian.Uint64(uuid[8:]), tag}
	return Position{flavor: farm.MySQL, one: [1]run{{source: who, first: number, last: number}}}, nil
}

// Writers are the UUIDs of the servers whose transactions a MySQL position has.
func (p Position) Writers() (uuids []string) {
	if p.flavor != farm.MySQL {
		return nil
	}
	var last source
	for i, r := range p.runs() {
		if i == 0 || r.hi != last.hi || r.lo != last.lo {
			uuids = append(uuids, string(appendUUID(nil, r.hi, r.lo)))
		}
		last = r.source
	}
	return uuids
}

// WrittenBy is the part of a MySQL position that the server of a UUID has written, under
// whatever tags.
func (p Position) WrittenBy(uuid string) (Position, error) {
	hi, lo, next, ok := parseUUID(uuid, 0)
	if !ok || next != len(uuid) {
		return Position{}, fmt.Errorf("%q: %w", clip(uuid), errUUID)
	}
	if p.flavor != farm.MySQL {
		return Position{}, nil
	}
	var runs []run
	for _, r := range p.runs() {
		if r.hi == hi && r.lo == lo {
			runs = append(runs, r)
		}
	}
	return newPosition(p.flavor, runs), nil
}
