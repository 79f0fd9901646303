package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"

	"farmhand/internal/backup"
	"farmhand/internal/binlog"
	"farmhand/internal/gtid"
)

// cutter makes segments of a stream of events.
type cutter struct {
	*Archiver
	ctx         context.Context // of the store
	format      *binlog.Format
	description binlog.Description // with which a binlog file begins

	// The segment that is written; nil if there is none.
	writer  *backup.SegmentWriter
	segment backup.Segment
	reached gtid.Position // with what is in it
	began   time.Time
	bytes   int64

	came time.Time // the transaction that came in last
	// until is what Status.Until says.
	until time.Time

	// The transaction that comes in.
	inside      bool
	transaction binlog.Transaction
	has         uint64 // bytes of it have come
	end         uint32 // where its last event ended in the server's file; 0 is not known
}

// HandleEvent takes the next event.
func (c *cutter) HandleEvent(e *replication.BinlogEvent) error {
	kind := byte(e.Header.EventType)
	switch {
	case kind == binlog.FormatDescription:
		// A new file of the server; segments are files of one format.
		if err := errors.Join(c.ended(), c.flush()); err != nil {
			return err
		}
		if c.description.IsZero() {
			c.Tell(Status{Position: c.Position}) // the server sends
		}
		var err error
		c.description, err = binlog.Describe(bytes.Clone(e.RawData))
		return err
	case c.format.Begins(kind):
		if err := c.ended(); err != nil {
			return err
		}
		return c.begin(e)
	case c.format.Between(kind):
		// They come between transactions only, and are of the server's files.
		if err := c.ended(); err != nil {
			return err
		}
		// A heartbeat comes when there is nothing to send.
		if kind == binlog.Heartbeat && c.writer == nil {
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
	if length := c.transaction.Length; length > 0 && c.has == length || length == 0 && c.format.Ends(kind, &c.transaction) {
		return c.ended()
	}
	return nil
}

// begin begins a transaction, and a segment if there is none.
func (c *cutter) begin(e *replication.BinlogEvent) error {
	if c.description.IsZero() {
		return errors.New("the server sent a GTID before it described its binlog's format")
	}
	var err error
	if c.transaction, err = c.format.Transaction(e.RawData, c.description); err != nil {
		return err
	}
	at := c.transaction.Time
	if c.writer == nil {
		c.segment = backup.Segment{
			Cluster: c.Cluster, Flavor: c.format.Flavor.String(), Source: c.Node, Epoch: c.Epoch,
			After: c.Position.String(), Position: c.Position.String(), First: at, Writer: c.Writer, Had: c.Had.String(),
		}
		c.reached = c.Position
		head, err := c.format.Head(c.description, c.Position)
		if err != nil {
			return err
		}
		w, err := backup.CreateSegment(c.ctx, c.Store, c.segment, c.To)
		if err != nil {
			return err
		}
		c.writer, c.began, c.bytes = w, time.Now(), 0
		if _, err := c.writer.Write(head); err != nil {
			return err
		}
		c.until = moment(at, c.began)
		c.Tell(Status{Position: c.Position, Waiting: c.began, Until: c.until})
	}
	c.segment.Last, c.came = at, time.Now()
	c.inside, c.has, c.end = true, 0, 0
	return c.write(e)
}

func (c *cutter) write(e *replication.BinlogEvent) error {
	// Within a transaction nothing may be left out. A MariaDB server of 11.4 on does not
	// say where its events are.
	if end := e.Header.LogPos; end != 0 {
		if c.end != 0 && end-e.Header.EventSize != c.end {
			return fmt.Errorf("the server sent an event that ends at %d after one that ends at %d", end, c.end)
		}
		c.end = end
	}
	n, err := c.writer.Write(e.RawData)
	c.bytes += int64(n)
	c.has += uint64(n)
	return err
}

// ended notes the end of a transaction, if there is one, and stores the segment if
// it is time.
func (c *cutter) ended() error {
	if c.inside {
		c.inside = false
		x := &c.transaction
		if x.Length > 0 && c.has != x.Length {
			return fmt.Errorf("the server sent %d bytes of %s, which has %d", c.has, x, x.Length)
		}
		if c.reached.Contains(x.Position) {
			return fmt.Errorf("the server sent %s after %s", x, c.reached)
		}
		c.reached = c.reached.Merge(x.Position)
		c.segment.Transactions++
		if x.InDomain {
			c.note(backup.Line{Domain: x.Domain, Server: x.Server, First: x.Number, Last: x.Number})
		}
	}
	if c.writer != nil && (c.bytes >= c.Size || time.Since(c.began) >= c.Every) {
		return c.flush()
	}
	return nil
}

// note adds a transaction to the segment's lines.
func (c *cutter) note(line backup.Line) {
	for i := len(c.segment.Lines) - 1; i >= 0; i-- {
		switch l := &c.segment.Lines[i]; {
		case l.Domain != line.Domain:
			continue
		case l.Server == line.Server && l.Last+1 == line.First:
			l.Last = line.Last
			return
		}
		break
	}
	c.segment.Lines = append(c.segment.Lines, line)
}

// flush stores the segment, if there is one. No transaction may be inside.
func (c *cutter) flush() error {
	if c.writer == nil {
		return nil
	}
	w := c.writer
	c.writer = nil
	stored, err := w.Commit(func(s *backup.Segment) {
		s.Position, s.Lines, s.First, s.Last, s.Transactions = c.reached.String(), c.segment.Lines, c.segment.First, c.segment.Last, c.segment.Transactions
	})
	if err != nil {
		return err
	}
	c.Position = c.reached
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
