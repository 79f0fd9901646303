package archive

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"

	"farmhand/internal/backup"
	"farmhand/internal/farm"
	"farmhand/internal/gtid"
)

// cutter makes segments of a stream of events.
type cutter struct {
	*Archiver
	ctx    context.Context // of the store
	format []byte          // the event with which a binlog file begins

	// The segment that is written; nil if there is none.
	writer  *backup.SegmentWriter
	segment backup.Segment
	began   time.Time
	bytes   int64

	came time.Time // the transaction that came in last
	// until is what Status.Until says.
	until time.Time

	// The transaction that comes in.
	inside     bool
	standalone bool // it ends with one statement
	line       backup.Line
	end        uint32 // where its last event ended in the server's file; 0 is not known
}

// MariaDB's flag of a transaction that is one statement without an end of its own.
const standalone = 1

// HandleEvent takes the next event.
func (c *cutter) HandleEvent(e *replication.BinlogEvent) error {
	switch e.Header.EventType {
	case replication.FORMAT_DESCRIPTION_EVENT:
		// A new file of the server; segments are files of one format.
		if err := errors.Join(c.ended(), c.flush()); err != nil {
			return err
		}
		c.format = bytes.Clone(e.RawData)
		return nil
	case replication.MARIADB_GTID_EVENT:
		if err := c.ended(); err != nil {
			return err
		}
		return c.begin(e)
	case replication.ROTATE_EVENT, replication.HEARTBEAT_EVENT, replication.STOP_EVENT,
		replication.MARIADB_GTID_LIST_EVENT, replication.MARIADB_BINLOG_CHECKPOINT_EVENT:
		// They come between transactions only, and are of the server's files.
		if err := c.ended(); err != nil {
			return err
		}
		// A heartbeat comes when there is nothing to send.
		if e.Header.EventType == replication.HEARTBEAT_EVENT && c.writer == nil {
			c.until = time.Now()
			c.Tell(Status{Position: c.Position, Until: c.until})
		}
		return nil
	}
	if !c.inside {
		return fmt.Errorf("the server sent a %v outside of a transaction", e.Header.EventType)
	}
	if err := c.write(e); err != nil {
		return err
	}
	if c.ends(e) {
		return c.ended()
	}
	return nil
}

// begin begins a transaction, and a segment if there is none.
func (c *cutter) begin(e *replication.BinlogEvent) error {
	const head = replication.EventHeaderSize
	if len(e.RawData) < head+13 || c.format == nil {
		return errors.New("the server sent a GTID that cannot be read")
	}
	c.line = backup.Line{
		Domain: binary.LittleEndian.Uint32(e.RawData[head+8:]), Server: e.Header.ServerID,
		First: binary.LittleEndian.Uint64(e.RawData[head:]),
	}
	c.line.Last = c.line.First
	c.standalone = e.RawData[head+12]&standalone != 0
	at := time.Unix(int64(e.Header.Timestamp), 0).UTC()
	if c.writer == nil {
		c.segment = backup.Segment{
			Cluster: c.Cluster, Flavor: farm.MariaDB.String(), Source: c.Node, Epoch: c.Epoch,
			After: c.Position.String(), Position: c.Position.String(), First: at,
		}
		w, err := backup.CreateSegment(c.ctx, c.Store, c.segment, c.To)
		if err != nil {
			return err
		}
		c.writer, c.began, c.bytes = w, time.Now(), 0
		for _, b := range [][]byte{replication.BinLogFileHeader, c.format} {
			if _, err := c.writer.Write(b); err != nil {
				return err
			}
		}
		c.until = moment(at, c.began)
		c.Tell(Status{Position: c.Position, Waiting: c.began, Until: c.until})
	}
	c.segment.Last, c.came = at, time.Now()
	c.inside, c.end = true, 0
	return c.write(e)
}

func (c *cutter) write(e *replication.BinlogEvent) error {
	// Within a transaction nothing may be left out. A server of 11.4 on does not say
	// where its events are.
	if end := e.Header.LogPos; end != 0 {
		if c.end != 0 && end-e.Header.EventSize != c.end {
			return fmt.Errorf("the server sent an event that ends at %d after one that ends at %d", end, c.end)
		}
		c.end = end
	}
	n, err := c.writer.Write(e.RawData)
	c.bytes += int64(n)
	return err
}

// ends tells whether an event is the last one of its transaction. Where that is not
// seen, the next one shows it.
func (c *cutter) ends(e *replication.BinlogEvent) bool {
	switch e.Header.EventType {
	case replication.XID_EVENT, replication.XA_PREPARE_LOG_EVENT:
		return true
	case replication.QUERY_EVENT, replication.MARIADB_QUERY_COMPRESSED_EVENT:
		return c.standalone
	}
	return false
}

// ended notes the end of a transaction, if there is one, and stores the segment if
// it is time.
func (c *cutter) ended() error {
	if c.inside {
		c.inside = false
		position, err := gtid.Parse(farm.MariaDB, fmt.Sprintf("%d-%d-%d", c.line.Domain, c.line.Server, c.line.Last))
		if err != nil {
			return err
		}
		before, err := gtid.Parse(farm.MariaDB, c.segment.Position)
		if err != nil {
			return err
		}
		if before.Contains(position) {
			return fmt.Errorf("the server sent %s after %s", position, before)
		}
		c.segment.Position = before.Merge(position).String()
		c.segment.Transactions++
		c.note()
	}
	if c.writer != nil && (c.bytes >= c.Size || time.Since(c.began) >= c.Every) {
		return c.flush()
	}
	return nil
}

// note adds the transaction to the segment's lines.
func (c *cutter) note() {
	for i := len(c.segment.Lines) - 1; i >= 0; i-- {
		switch l := &c.segment.Lines[i]; {
		case l.Domain != c.line.Domain:
			continue
		case l.Server == c.line.Server && l.Last+1 == c.line.First:
			l.Last = c.line.Last
			return
		}
		break
	}
	c.segment.Lines = append(c.segment.Lines, c.line)
}

// flush stores the segment, if there is one. No transaction may be inside.
func (c *cutter) flush() error {
	if c.writer == nil {
		return nil
	}
	w := c.writer
	c.writer = nil
	stored, err := w.Commit(func(s *backup.Segment) {
		s.Position, s.Lines, s.First, s.Last, s.Transactions = c.segment.Position, c.segment.Lines, c.segment.First, c.segment.Last, c.segment.Transactions
	})
	if err != nil {
		return err
	}
	if c.Position, err = gtid.Parse(farm.MariaDB, stored.Position); err != nil {
		return err
	}
	c.until = moment(stored.Last, c.came)
	c.Tell(Status{Position: c.Position, Until: c.until, Stored: stored})
	return nil
}

// moment is when a transaction was committed, which came in at a time: the server
// tells whole seconds only, and its clock may be another.
func moment(committed, came time.Time) time.Time {
	if age := came.Sub(committed); age < 2*time.Second {
		return came
	}
	return committed
}

// finish stores what is whole, after the stream's end. What is not comes again.
func (c *cutter) finish() error {
	if c.writer != nil && (c.inside || c.segment.Transactions == 0) {
		c.writer.Abort()
		c.writer = nil
		return nil
	}
	return c.flush()
}
