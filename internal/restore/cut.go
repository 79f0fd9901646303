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
	"farmhand/internal/binlog"
	"farmhand/internal/gtid"
)

// cutter takes of segments' binlog files what leads from a position to a target. It is
// asked about them in the order of the chain.
type cutter struct {
	format *binlog.Format
	has    history
	aimed  bool // a position is asked for
	until  time.Time

	taken int       // transactions
	last  time.Time // of the last one taken
	done  bool      // nothing that comes belongs to it
}

// history is which transactions data has, as a flavor counts them. One is given every
// transaction in the order of the chain.
type history interface {
	// had says whether the data has a transaction already. An error: another one has its
	// place.
	had(x *binlog.Transaction) (bool, error)
	// original says whether the data had it at first.
	original(x *binlog.Transaction) bool
	// wanted says whether it belongs to the position that is asked for.
	wanted(x *binlog.Transaction) (bool, error)
	add(x *binlog.Transaction) error
	// reached: the data has all of the position that is asked for.
	reached() bool
	// ended says, after the last one, why the data is not precisely there.
	ended() error
	position() string
	// wrote is who wrote what was added; nil where the position says it.
	wrote() gtid.Streams
}

// span is bytes of a file, from one up to another.
type span struct{ from, to int64 }

// wanted reads the binlog file of a segment and says which bytes of it make a file
// with what is to be replayed; none if there is nothing. The file must be what the
// segment's description says.
func (c *cutter) wanted(f *os.File, s *format.Segment) ([]span, error) {
	r := &events{from: bufio.NewReaderSize(f, 64<<10), format: c.format}
	if err := r.begin(); err != nil {
		return nil, fmt.Errorf("%s: %w", s.Key, err)
	}
	spans := []span{{0, r.at}} // the head
	in := gtid.Position{}      // what this file has
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
		if e.begins {
			x := &e.transaction
			if in.Contains(x.Position) {
				return nil, fmt.Errorf("%s has %s after %s", s.Key, x, in)
			}
			in = in.Merge(x.Position)
			transactions++
			inside = true
			if take, err = c.take(x); err != nil {
				return nil, fmt.Errorf("%s: %w", s.Key, err)
			}
		}
		if !inside {
			if c.format.Between(e.kind) {
				// It belongs to the head.
				spans[0].to, r.headEnd = r.at, r.at
				continue
			}
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
	promised, err := describedBy(s)
	if err != nil {
		return nil, err
	}
	if transactions != s.Transactions || !promised.Contains(in) {
		return nil, &format.FaultError{Key: s.Key, Reason: fmt.Sprintf("has %d transactions up to %s, not the %d up to %s of its description", transactions, in, s.Transactions, promised)}
	}
	if len(spans) == 1 && spans[0].to == r.headEnd {
		return nil, nil
	}
	return spans, nil
}

// take says whether a transaction is to be replayed, and counts it.
func (c *cutter) take(x *binlog.Transaction) (bool, error) {
	late := !c.until.IsZero() && x.Time.After(c.until)
	switch had, err := c.has.had(x); {
	case err != nil:
		return false, err
	case had && late && c.has.original(x):
		return false, fmt.Errorf("the backup holds %s of %s already; begin with an older one", x, x.Time.Format(time.RFC3339))
	case had:
		return false, nil
	}
	if c.done {
		return false, nil
	}
	if late {
		c.done = true
		return false, nil
	}
	if c.aimed {
		if wanted, err := c.has.wanted(x); err != nil || !wanted {
			return false, err
		}
	}
	if err := c.has.add(x); err != nil {
		return false, err
	}
	c.taken++
	c.last = x.Time
	if c.aimed && c.has.reached() {
		c.done = true
	}
	return true, nil
}

// ended says, after the last segment, whether the target is precisely where it ended.
func (c *cutter) ended() error {
	if !c.aimed {
		return nil
	}
	return c.has.ended()
}

// events reads a binlog file's events, without what is in them.
type events struct {
	from        *bufio.Reader
	format      *binlog.Format
	description binlog.Description
	at          int64 // where the next one begins
	headEnd     int64 // where the first transaction begins
}

type event struct {
	kind        byte
	begins      bool
	transaction binlog.Transaction // that it begins
}

// begin reads the file's head.
func (r *events) begin() error {
	magic := make([]byte, len(binlog.Magic))
	if _, err := io.ReadFull(r.from, magic); err != nil || string(magic) != binlog.Magic {
		return errors.New("it is no binlog file")
	}
	r.at = int64(len(magic))
	e, err := r.next()
	if err != nil {
		return fmt.Errorf("its first event: %w", unexpected(err))
	}
	if e.kind != binlog.FormatDescription {
		return fmt.Errorf("its first event is of type %d and does not describe its format", e.kind)
	}
	r.headEnd = r.at
	return nil
}

// next returns io.EOF at the file's end only.
func (r *events) next() (e event, err error) {
	var head [binlog.HeadSize]byte
	if _, err := io.ReadFull(r.from, head[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return e, io.EOF
		}
		return e, fmt.Errorf("an event at %d: %w", r.at, err)
	}
	size := int64(binary.LittleEndian.Uint32(head[9:]))
	if size < binlog.HeadSize {
		return e, fmt.Errorf("an event at %d has %d bytes", r.at, size)
	}
	e.kind, e.begins = head[4], r.format.Begins(head[4])
	if !e.begins && e.kind != binlog.FormatDescription {
		if n, err := io.CopyN(io.Discard, r.from, size-binlog.HeadSize); err != nil {
			return e, fmt.Errorf("an event at %d: %d of its last %d bytes are there: %w", r.at, n, size-binlog.HeadSize, unexpected(err))
		}
		r.at += size
		return e, nil
	}
	if size > binlog.MaxGTID {
		return e, fmt.Errorf("an event at %d has %d bytes", r.at, size)
	}
	whole := make([]byte, size)
	copy(whole, head[:])
	if _, err := io.ReadFull(r.from, whole[binlog.HeadSize:]); err != nil {
		return e, fmt.Errorf("an event at %d: %w", r.at, unexpected(err))
	}
	if e.begins {
		e.transaction, err = r.format.Transaction(whole, r.description)
	} else {
		r.description, err = binlog.Describe(whole)
	}
	if err != nil {
		return e, fmt.Errorf("an event at %d: %w", r.at, err)
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
