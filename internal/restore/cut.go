package restore

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	format "farmhand/internal/backup"
)

// A binlog file begins with four bytes and an event that describes its format. Every
// event begins with its time (4 bytes), type (1), the server's id (4), its length (4),
// where it ends in the server's file (4), and flags (2). A transaction is an event
// with its GTID and all up to the next one.
// https://mariadb.com/kb/en/gtid_event/
const (
	binlogMagic       = "\xfebin"
	eventHead         = 19
	formatDescription = 15
	gtidEvent         = 162
	gtidBody          = 8 + 4 // sequence number, domain
)

// cutter takes of segments' binlog files what leads from a position to a target. It is
// asked about them in the order of the chain.
type cutter struct {
	base  marks // what the data had at first
	at    marks // base and all that was taken
	to    marks // nil: no position is asked for
	until time.Time
	// server is an id that no transaction may have: that of who replays them, which
	// would pass over them.
	server uint32

	taken int       // transactions
	last  time.Time // of the last one taken
	done  bool      // nothing that comes belongs to it
}

// span is bytes of a file, from one up to another.
type span struct{ from, to int64 }

// wanted reads the binlog file of a segment and says which bytes of it make a file
// with what is to be replayed; none if there is nothing. The file must be what the
// segment's description says.
func (c *cutter) wanted(f *os.File, s *format.Segment) ([]span, error) {
	r := &events{from: bufio.NewReaderSize(f, 64<<10)}
	if err := r.begin(); err != nil {
		return nil, fmt.Errorf("%s: %w", s.Key, err)
	}
	spans := []span{{0, r.at}} // the head
	in := marks{}              // what this file has
	inside, take, transactions := false, false, 0
	for {
		begin := r.at
		e, err := r.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Key, err)
		}
		if e.isGTID {
			if k, ok := in[e.domain]; ok && k.number >= e.number {
				return nil, fmt.Errorf("%s has %d-%d-%d after %d-%d-%d", s.Key, e.domain, e.server, e.number, e.domain, k.server, k.number)
			}
			in[e.domain] = mark{e.server, e.number}
			transactions++
			inside = true
			if take, err = c.take(e); err != nil {
				return nil, fmt.Errorf("%s: %w", s.Key, err)
			}
		}
		if !inside {
			return nil, fmt.Errorf("%s has an event of type %d outside of a transaction", s.Key, e.kind)
		}
		if take {
			if last := &spans[len(spans)-1]; last.to == begin {
				last.to = r.at
			} else {
				spans = append(spans, span{begin, r.at})
			}
		}
	}
	position, err := in.position()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Key, err)
	}
	promised, err := describedBy(s)
	if err != nil {
		return nil, err
	}
	if transactions != s.Transactions || !promised.Contains(position) {
		return nil, &format.FaultError{Key: s.Key, Reason: fmt.Sprintf("has %d transactions up to %s, not the %d up to %s of its description", transactions, position, s.Transactions, promised)}
	}
	if len(spans) == 1 && spans[0].to == r.headEnd {
		return nil, nil
	}
	return spans, nil
}

// take says whether a transaction is to be replayed, and counts it.
func (c *cutter) take(e event) (bool, error) {
	at := c.at[e.domain]
	if e.number <= at.number {
		// The data had it, or another segment.
		if e.number == at.number && e.server != at.server {
			return false, fmt.Errorf("it has %d-%d-%d, and what came before has %d-%d-%d", e.domain, e.server, e.number, e.domain, at.server, at.number)
		}
		if !c.until.IsZero() && e.time.After(c.until) && e.number <= c.base[e.domain].number {
			return false, fmt.Errorf("the backup holds %d-%d-%d of %s already; begin with an older one", e.domain, e.server, e.number, e.time.Format(time.RFC3339))
		}
		return false, nil
	}
	if c.done {
		return false, nil
	}
	if !c.until.IsZero() && e.time.After(c.until) {
		c.done = true
		return false, nil
	}
	if c.to != nil {
		to, asked := c.to[e.domain]
		if !asked || e.number > to.number {
			return false, nil
		}
		if e.number == to.number && e.server != to.server {
			return false, fmt.Errorf("it has %d-%d-%d, and %d-%d-%d is asked for: that is of another history", e.domain, e.server, e.number, e.domain, to.server, to.number)
		}
	}
	if e.server == c.server {
		return false, fmt.Errorf("%d-%d-%d is of the server id %d, with which it is to be replayed", e.domain, e.server, e.number, c.server)
	}
	c.at[e.domain] = mark{e.server, e.number}
	c.taken++
	c.last = e.time
	if c.to != nil && c.at.reached(c.to) {
		c.done = true
	}
	return true, nil
}

// ended says, after the last segment, whether the target is precisely where it ended.
func (c *cutter) ended() error {
	if c.to == nil {
		return nil
	}
	for domain, to := range c.to {
		if at := c.at[domain]; at != to {
			return fmt.Errorf("there is no transaction %d-%d-%d; the last one before is %d-%d-%d", domain, to.server, to.number, domain, at.server, at.number)
		}
	}
	return nil
}

// events reads a binlog file's events, without what is in them.
type events struct {
	from    *bufio.Reader
	at      int64 // where the next one begins
	headEnd int64 // where the first transaction begins
}

type event struct {
	kind   byte
	server uint32
	time   time.Time
	isGTID bool
	domain uint32
	number uint64
}

// begin reads the file's head.
func (r *events) begin() error {
	magic := make([]byte, len(binlogMagic))
	if _, err := io.ReadFull(r.from, magic); err != nil || string(magic) != binlogMagic {
		return errors.New("it is no binlog file")
	}
	r.at = int64(len(magic))
	e, err := r.next()
	if err != nil {
		return fmt.Errorf("its first event: %w", unexpected(err))
	}
	if e.kind != formatDescription {
		return fmt.Errorf("its first event is of type %d and does not describe its format", e.kind)
	}
	r.headEnd = r.at
	return nil
}

// next returns io.EOF at the file's end only.
func (r *events) next() (e event, err error) {
	var head [eventHead + gtidBody]byte
	if _, err := io.ReadFull(r.from, head[:eventHead]); err != nil {
		if errors.Is(err, io.EOF) {
			return e, io.EOF
		}
		return e, fmt.Errorf("an event at %d: %w", r.at, err)
	}
	size := int64(binary.LittleEndian.Uint32(head[9:]))
	e = event{
		kind: head[4], server: binary.LittleEndian.Uint32(head[5:]),
		time: time.Unix(int64(binary.LittleEndian.Uint32(head[:])), 0).UTC(),
	}
	rest := size - eventHead
	if e.kind == gtidEvent && rest >= gtidBody {
		if _, err := io.ReadFull(r.from, head[eventHead:]); err != nil {
			return e, fmt.Errorf("an event at %d: %w", r.at, unexpected(err))
		}
		e.isGTID = true
		e.number = binary.LittleEndian.Uint64(head[eventHead:])
		e.domain = binary.LittleEndian.Uint32(head[eventHead+8:])
		rest -= gtidBody
	}
	if rest < 0 || e.kind == gtidEvent && !e.isGTID {
		return e, fmt.Errorf("an event at %d has %d bytes", r.at, size)
	}
	if n, err := io.CopyN(io.Discard, r.from, rest); err != nil {
		return e, fmt.Errorf("an event at %d: %d of its last %d bytes are there: %w", r.at, n, rest, unexpected(err))
	}
	r.at += size
	return e, nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// copySpans writes spans of a file to another one.
func copySpans(to io.Writer, from *os.File, spans []span) error {
	for _, s := range spans {
		if _, err := io.Copy(to, io.NewSectionReader(from, s.from, s.to-s.from)); err != nil {
			return err
		}
	}
	return nil
}
