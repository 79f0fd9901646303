package binlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/serialization"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
)

const (
	mysqlGTIDEvent        = 33
	mysqlPreviousGTIDs    = 35
	mysqlPayloadEvent     = 40 // a transaction that is compressed as a whole
	mysqlHeartbeatEventV2 = 41
	mysqlTaggedGTIDEvent  = 42

	// ignorable is the flag of events that a reader who does not know them may pass over.
	ignorable = 0x80
)

var mySQL = Format{
	Flavor: farm.MySQL,
	begins: func(kind byte) bool { return kind == mysqlGTIDEvent || kind == mysqlTaggedGTIDEvent },
	between: func(kind byte) bool {
		switch kind {
		case rotateEvent, heartbeatEvent, mysqlHeartbeatEventV2, stopEvent, mysqlPreviousGTIDs:
			return true
		}
		return false
	},
	// The length tells the rest.
	ends:        func(kind byte) bool { return kind == xidEvent || kind == xaPrepareEvent || kind == mysqlPayloadEvent },
	statement:   func(byte) bool { return false },
	transaction: mysqlTransaction,
	head:        mysqlHead,
}

// mysqlGTID is what an event with a GTID says. Times are in microseconds since 1970, 0 if
// the server did not tell.
type mysqlGTID struct {
	uuid                [16]byte
	tag                 string
	number              uint64
	committed, original uint64
	length              uint64
}

func mysqlTransaction(e Event) (Transaction, error) {
	read := plainGTID
	if e.kind() == mysqlTaggedGTIDEvent {
		read = taggedGTID
	}
	g, err := read(e[HeadSize:])
	if err != nil {
		return Transaction{}, fmt.Errorf("a GTID cannot be read: %w", err)
	}
	x := Transaction{Time: e.time(), Server: e.server(), Length: g.length}
	// What has been replicated from a server that does not tell it has none.
	if g.original != 0 {
		x.Time = time.UnixMicro(int64(g.original)).UTC()
	}
	x.Position, err = gtid.Single(g.uuid, g.tag, g.number)
	return x, err
}

// plainGTID: flags (1), UUID (16), number (8), the type of what follows (1: 2), what it may
// be applied beside (8, 8), when it was committed here (7) and, if the highest bit of that is
// set, by the server that wrote it (7), its length (1 to 9).
func plainGTID(b []byte) (g mysqlGTID, err error) {
	const numbered, dated = 1 + 16 + 8, 1 + 16 + 8 + 1 + 8 + 8
	if len(b) < numbered {
		return g, fmt.Errorf("it has %d bytes", len(b))
	}
	copy(g.uuid[:], b[1:])
	g.number = binary.LittleEndian.Uint64(b[17:])
	if len(b) < dated+7 || b[numbered] != 2 {
		return g, nil // of a server of before
	}
	b = b[dated:]
	const also = 1 << 55
	g.committed, b = micros(b), b[7:]
	if g.original = g.committed; g.committed&also != 0 {
		if g.committed &^= also; len(b) < 7 {
			return g, errors.New("it ends in a time")
		}
		g.original, b = micros(b), b[7:]
	}
	if len(b) == 0 {
		return g, nil
	}
	// As in the client protocol.
	size := map[byte]int{0xfc: 2, 0xfd: 3, 0xfe: 8}[b[0]]
	switch {
	case b[0] == 0xfb || b[0] == 0xff || len(b) < 1+size:
		return g, errors.New("its length cannot be read")
	case size == 0:
		g.length = uint64(b[0])
	}
	for i := range size {
		g.length |= uint64(b[1+i]) << (8 * i)
	}
	return g, nil
}

func micros(b []byte) (n uint64) {
	for i := range 7 {
		n |= uint64(b[i]) << (8 * i)
	}
	return n
}

// taggedGTID is in a format that describes itself.
func taggedGTID(b []byte) (g mysqlGTID, err error) {
	defer func() {
		if p := recover(); p != nil { // the decoder indexes into what was sent
			err = fmt.Errorf("it is malformed: %v", p)
		}
	}()
	var (
		uuid                                     = serialization.FieldIntFixed{Length: 16}
		number, beside, sequence                 serialization.FieldIntVar
		tag                                      serialization.FieldString
		committed, original, length, made, first serialization.FieldUintVar
	)
	m := serialization.Message{Format: serialization.Format{Fields: []serialization.Field{
		{Name: "gtid_flags", Type: &serialization.FieldIntFixed{Length: 1}},
		{Name: "uuid", Type: &uuid},
		{Name: "gno", Type: &number},
		{Name: "tag", Type: &tag},
		{Name: "last_committed", Type: &beside},
		{Name: "sequence_number", Type: &sequence},
		{Name: "immediate_commit_timestamp", Type: &committed},
		{Name: "original_commit_timestamp", Type: &original, Optional: true},
		{Name: "transaction_length", Type: &length},
		{Name: "immediate_server_version", Type: &made},
		{Name: "original_server_version", Type: &first, Optional: true},
	}}}
	if err := serialization.Unmarshal(b, &m); err != nil {
		return g, err
	}
	if len(uuid.Value) != len(g.uuid) || number.Value <= 0 {
		return g, errors.New("it does not say whose it is")
	}
	copy(g.uuid[:], uuid.Value)
	g.number, g.tag, g.committed, g.original, g.length = uint64(number.Value), tag.Value, committed.Value, original.Value, length.Value
	if g.original == 0 {
		g.original = g.committed
	}
	return g, nil
}

// mysqlHead adds what a MySQL server wants to know at the beginning of each file of its
// own: what came before. The description says where it ends, as in any file, which a server
// takes as a sign to end what it has under way.
func mysqlHead(d Description, after gtid.Position) ([]byte, error) {
	set, err := mysql.ParseMysqlGTIDSet(after.String())
	if err != nil {
		return nil, fmt.Errorf("the position %s: %w", after, err)
	}
	file := append([]byte(Magic), d.event...)
	binary.LittleEndian.PutUint32(file[len(Magic)+13:], uint32(len(file)))
	sum(file[len(Magic):])

	previous := bytes.Clone(d.event[:HeadSize])
	previous[4] = mysqlPreviousGTIDs
	binary.LittleEndian.PutUint16(previous[17:], ignorable)
	previous = append(previous, set.Encode()...)
	if d.sums {
		previous = append(previous, make([]byte, sumSize)...)
	}
	binary.LittleEndian.PutUint32(previous[9:], uint32(len(previous)))
	binary.LittleEndian.PutUint32(previous[13:], uint32(len(file)+len(previous)))
	if d.sums {
		sum(previous)
	}
	return append(file, previous...), nil
}

// sum writes the checksum of an event that ends with one.
func sum(e []byte) {
	n := len(e) - sumSize
	binary.LittleEndian.PutUint32(e[n:], crc32.ChecksumIEEE(e[:n]))
}
