package mysqladmin

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
)

// Channel is one replication of a server from one source, as the server
// describes it. A server may have several (MariaDB's named connections, MySQL's
// channels); nearly all have at most one, without a name.
type Channel struct {
	Name string
	// Source is host:port as the replica was told it.
	Source string
	// SourceID and SourceUUID are what the source called itself when the replica
	// last reached it; 0 and empty before that. MariaDB has no UUID.
	SourceID   uint32
	SourceUUID string

	// Receiver and Applier are the states of the two threads: "Yes", "No", for
	// the receiver also "Connecting" and MariaDB's "Preparing".
	Receiver, Applier string
	ReceiverError     ThreadError
	ApplierError      ThreadError

	// Behind is the server's own estimate of its lag, in whole seconds. It is
	// not to be trusted: it is zero while the receiver is behind, and jumps.
	Behind time.Duration
	// BehindKnown is false if the server gives none (NULL).
	BehindKnown bool
	// Delay is the delay that the replica was told to keep (MASTER_DELAY).
	Delay time.Duration

	// UsesGTID tells whether the replica finds its place by GTID (MariaDB's
	// Using_Gtid, MySQL's Auto_Position).
	UsesGTID bool
	// Received is what the receiver has got: MariaDB's Gtid_IO_Pos, MySQL's
	// Retrieved_Gtid_Set, which covers only what is since the relay logs began.
	Received gtid.Position
	// File and Offset are the place in the source's binlog up to which the receiver has
	// got whole events.
	File   string
	Offset uint32
}

// Running tells whether a thread's state is that of one that works.
func Running(state string) bool { return state == "Yes" }

// ThreadError is the error at which a replication thread last failed; the zero
// value if it did not.
type ThreadError struct {
	Code uint16
	Text string
}

func (e ThreadError) String() string {
	if e.Code == 0 {
		return ""
	}
	return fmt.Sprintf("error %d: %s", e.Code, e.Text)
}

// Replication returns the server's replication channels; none if it replicates
// from nowhere. The account needs MariaDB's REPLICA MONITOR (before 10.5:
// REPLICATION CLIENT) or MySQL's REPLICATION CLIENT privilege.
func (c *Conn) Replication(ctx context.Context) ([]Channel, error) {
	mariadb, version := c.Flavor() == farm.MariaDB, c.greeting.VersionNumber()
	sql := "SHOW REPLICA STATUS"
	switch {
	case mariadb:
		sql = "SHOW ALL SLAVES STATUS"
	case version < 80022:
		sql = "SHOW SLAVE STATUS"
	}
	rows, err := c.Query(ctx, sql)
	if err != nil {
		return nil, fmt.Errorf("read the replication's state: %w", err)
	}
	channels := make([]Channel, 0, len(rows))
	for _, row := range rows {
		ch, err := channelOf(c.Flavor(), row)
		if err != nil {
			return nil, fmt.Errorf("read the replication's state: %w", err)
		}
		channels = append(channels, ch)
	}
	if !mariadb && version >= 80000 {
		if err := c.workerErrors(ctx, channels); err != nil {
			return nil, err
		}
	}
	return channels, nil
}

// GTIDAt is the position of all that is before a place in a MariaDB server's binlog. It is
// an error if the server does not know, as of a file that it has not.
func (c *Conn) GTIDAt(ctx context.Context, file string, offset uint64) (gtid.Position, error) {
	rows, err := c.Query(ctx, fmt.Sprintf("SELECT BINLOG_GTID_POS(%s, %d) AS position", Text(file), offset))
	if err != nil {
		return gtid.Position{}, fmt.Errorf("ask for the GTID position at %d in binlog %q: %w", offset, file, err)
	}
	text, known := rows[0].Get("position")
	if !known {
		return gtid.Position{}, fmt.Errorf("the server does not say what GTID position is at %d in its binlog %q", offset, file)
	}
	return gtid.Parse(farm.MariaDB, text)
}

// ReplicationPrivilege is the privilege that reading the replication's state
// needs on the connection's server, to be named when it is missing.
func (c *Conn) ReplicationPrivilege() string {
	if c.Flavor() == farm.MariaDB && c.greeting.VersionNumber() >= 100500 {
		return "REPLICA MONITOR"
	}
	return "REPLICATION CLIENT"
}

func channelOf(flavor farm.Flavor, row Row) (Channel, error) {
	ch := Channel{
		Name:       row.String("Connection_name", "Channel_Name"),
		Source:     net.JoinHostPort(row.String("Source_Host", "Master_Host"), row.String("Source_Port", "Master_Port")),
		SourceUUID: row.String("Source_UUID", "Master_UUID"),
		Receiver:   row.String("Replica_IO_Running", "Slave_IO_Running"),
		Applier:    row.String("Replica_SQL_Running", "Slave_SQL_Running"),
		UsesGTID:   row.String("Auto_Position") == "1",
	}
	if ch.Receiver == "" || ch.Applier == "" {
		return ch, errors.New("the server's answer has no replication threads in it")
	}
	if flavor == farm.MariaDB {
		using := row.String("Using_Gtid")
		ch.UsesGTID = using != "" && using != "No"
	}
	if id, ok := row.Int("Source_Server_Id", "Master_Server_Id"); ok {
		ch.SourceID = uint32(id)
	}
	ch.ReceiverError = threadError(row, "Last_IO_Errno", "Last_IO_Error")
	ch.ApplierError = threadError(row, "Last_SQL_Errno", "Last_SQL_Error")
	if n, ok := row.Int("Seconds_Behind_Source", "Seconds_Behind_Master"); ok {
		ch.Behind, ch.BehindKnown = time.Duration(n)*time.Second, true
	}
	if n, ok := row.Int("SQL_Delay"); ok {
		ch.Delay = time.Duration(n) * time.Second
	}
	ch.File = row.String("Source_Log_File", "Master_Log_File")
	if n, ok := row.Int("Read_Source_Log_Pos", "Read_Master_Log_Pos"); ok && n <= math.MaxUint32 {
		ch.Offset = uint32(n)
	}
	var err error
	ch.Received, err = gtid.Parse(flavor, row.String("Gtid_IO_Pos", "Retrieved_Gtid_Set"))
	return ch, err
}

func threadError(row Row, code, text string) ThreadError {
	n, err := strconv.ParseUint(row.String(code), 10, 16)
	if err != nil || n == 0 {
		return ThreadError{}
	}
	return ThreadError{Code: uint16(n), Text: row.String(text)}
}

// workerErrors puts the failed worker's own words in the place of MySQL's "see
// performance_schema". An account that may not read them keeps the general
// text.
func (c *Conn) workerErrors(ctx context.Context, channels []Channel) error {
	for i := range channels {
		if channels[i].ApplierError.Code == 0 {
			continue
		}
		rows, err := c.Query(ctx, "SELECT LAST_ERROR_NUMBER, LAST_ERROR_MESSAGE"+
			" FROM performance_schema.replication_applier_status_by_worker"+
			" WHERE LAST_ERROR_NUMBER <> 0 AND CHANNEL_NAME = "+Text(channels[i].Name)+" LIMIT 1")
		switch {
		case Code(err) != 0:
			return nil
		case err != nil:
			return fmt.Errorf("read the replication workers' errors: %w", err)
		case len(rows) == 1:
			if e := threadError(rows[0], "LAST_ERROR_NUMBER", "LAST_ERROR_MESSAGE"); e.Code != 0 {
				channels[i].ApplierError = e
			}
		}
	}
	return nil
}
