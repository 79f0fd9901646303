package binlog

import (
	"encoding/binary"
	"errors"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
)

// The types of events, some of which both flavors have.
const (
	queryEvent     = 2
	stopEvent      = 3
	rotateEvent    = 4
	xidEvent       = 16
	heartbeatEvent = 27
	xaPrepareEvent = 38

	mariaCheckpointEvent = 161
	mariaGTIDEvent       = 162
	mariaListEvent       = 163
	mariaQueryCompressed = 165
)

// Heartbeat: a server that has nothing to send sends such events.
const Heartbeat = heartbeatEvent

// mariaStandalone is MariaDB's flag of a transaction that is one statement without an end
// of its own.
const mariaStandalone = 1

var mariaDB = Format{
	Flavor: farm.MariaDB,
	begins: func(kind byte) bool { return kind == mariaGTIDEvent },
	between: func(kind byte) bool {
		switch kind {
		case rotateEvent, heartbeatEvent, stopEvent, mariaListEvent, mariaCheckpointEvent:
			return true
		}
		return false
	},
	ends:      func(kind byte) bool { return kind == xidEvent || kind == xaPrepareEvent },
	statement: func(kind byte) bool { return kind == queryEvent || kind == mariaQueryCompressed },
	// Sequence number (8), domain (4), flags (1).
	transaction: func(e Event) (Transaction, error) {
		body := e[HeadSize:]
		if len(body) < 13 {
			return Transaction{}, errors.New("a GTID cannot be read")
		}
		x := Transaction{
			Time: e.time(), Server: e.server(), InDomain: true,
			Number: binary.LittleEndian.Uint64(body), Domain: binary.LittleEndian.Uint32(body[8:]), Standalone: body[12]&mariaStandalone != 0,
		}
		x.Position = gtid.InDomain(x.Domain, x.Server, x.Number)
		return x, nil
	},
	head: func(d Description, _ gtid.Position) ([]byte, error) { return append([]byte(Magic), d.event...), nil },
}
