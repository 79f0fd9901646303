package binlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
)

// Magic is what a file begins with.
const Magic = "\xfebin"

// HeadSize is the length of an event's head.
const HeadSize = 19

// FormatDescription is the type of the event that describes a file's format.
const FormatDescription = 15

// MaxGTID bounds an event with a GTID.
const MaxGTID = 64 << 10

// Event is a whole event, its head included.
type Event []byte

func (e Event) kind() byte     { return e[4] }
func (e Event) server() uint32 { return binary.LittleEndian.Uint32(e[5:]) }

// time is when the event was written, in whole seconds.
func (e Event) time() time.Time {
	return time.Unix(int64(binary.LittleEndian.Uint32(e)), 0).UTC()
}

// Transaction is what the event at a transaction's beginning says of it.
type Transaction struct {
	// Position is that of which it is the last: MySQL's has it alone.
	Position gtid.Position
	// Time is when it was committed by the server that wrote it: in microseconds of MySQL,
	// in whole seconds of MariaDB.
	Time time.Time
	// Server is the id of the server that wrote it.
	Server uint32
	// Domain and Number name it together with Server if InDomain is set, as MariaDB's:
	// another server can write the same number.
	InDomain bool
	Domain   uint32
	Number   uint64
	// Length is how many bytes all of its events have; 0 is not known.
	Length uint64
	// Standalone: it ends with its first statement.
	Standalone bool
}

// String is the transaction's GTID.
func (x *Transaction) String() string { return x.Position.String() }

// Format is how one flavor of server writes binlogs.
type Format struct {
	Flavor farm.Flavor

	begins func(kind byte) bool
	// between are events that are of the server's files and come between transactions;
	// ends are those that a transaction ends with, statement those with which one ends that
	// is Standalone.
	between, ends, statement func(kind byte) bool
	transaction              func(event Event) (Transaction, error)
	head                     func(d Description, after gtid.Position) ([]byte, error)
}

var formats = map[farm.Flavor]*Format{
	farm.MariaDB: &mariaDB,
	farm.MySQL:   &mySQL,
}

// Of is the format of a flavor.
func Of(flavor farm.Flavor) (*Format, error) {
	f, ok := formats[flavor]
	if !ok {
		return nil, fmt.Errorf("no way is known to read the binlog of a %v server", flavor)
	}
	return f, nil
}

// Begins says whether an event of a type begins a transaction.
func (f *Format) Begins(kind byte) bool { return f.begins(kind) }

// Between says whether an event of a type belongs to no transaction.
func (f *Format) Between(kind byte) bool { return f.between(kind) }

// Ends says whether an event of a type ends a transaction. Where that is not seen the
// next one shows it.
func (f *Format) Ends(kind byte, of *Transaction) bool {
	return f.ends(kind) || of.Standalone && f.statement(kind)
}

// Transaction reads the event at a transaction's beginning, of a file that is so
// described.
func (f *Format) Transaction(event []byte, d Description) (Transaction, error) {
	if len(event) < HeadSize || len(event) > MaxGTID {
		return Transaction{}, fmt.Errorf("an event with a GTID has %d bytes", len(event))
	}
	if d.sums {
		if len(event) < HeadSize+sumSize {
			return Transaction{}, errors.New("an event with a GTID has no checksum")
		}
		event = event[:len(event)-sumSize]
	}
	return f.transaction(event)
}

// Head is what a file begins with that goes on after a position.
func (f *Format) Head(d Description, after gtid.Position) ([]byte, error) { return f.head(d, after) }

// Description is the event that describes a file's format.
type Description struct {
	event Event
	sums  bool // events end with a checksum
}

const sumSize = 4

// Describe reads it. The event is kept.
func Describe(event []byte) (Description, error) {
	// Its own checksum is always there, and before it what the others have.
	if len(event) < HeadSize+sumSize+1 || event[4] != FormatDescription {
		return Description{}, errors.New("the event that describes a binlog's format cannot be read")
	}
	d := Description{event: event}
	switch sum := event[len(event)-sumSize-1]; sum {
	case 0, 255: // none; of a server that knows none
	case 1:
		d.sums = true
	default:
		return Description{}, fmt.Errorf("the binlog's checksums are of the type %d, which is not known here", sum)
	}
	return d, nil
}

// IsZero: there is none.
func (d Description) IsZero() bool { return d.event == nil }
