package archive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"farmhand/internal/backup"
	"farmhand/internal/binlog"
	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/gtid"
	"farmhand/internal/objects"
)

// Archiver archives a server's binlog.
type Archiver struct {
	Flavor farm.Flavor
	// Node is the server's name, noted in the segments, Address where it listens.
	Node    string
	Address netip.AddrPort
	// Account may replicate; it is asked for at each connection.
	Account func() dbserver.Account
	// ServerID is the archiver's own; a replica of the same id would be cut off.
	ServerID uint32
	Cluster  string
	Epoch    farm.Epoch
	Store    objects.Store
	To       []backup.Recipient // none: not encrypted

	// Position is where the archive goes on: everything up to there is in it.
	Position gtid.Position
	// Writer is a MySQL server's UUID, and Had what it has executed, at least when it was
	// promoted (backup.Overruled).
	Writer string
	Had    gtid.Position
	// Every is how long a transaction waits at most for its segment to be sent, Size how
	// large a segment becomes before; defaults 3 s and 8 MiB.
	Every time.Duration
	Size  int64
	// Tell is told of every change; may be nil. It must not block.
	Tell func(Status)
}

// Status is how far an archive is.
type Status struct {
	Position gtid.Position // of what is stored
	// Waiting is since when the oldest transaction that came in has not been stored;
	// zero if there is none.
	Waiting time.Time
	// Until is the moment before which all commits are stored, by this machine's clock;
	// zero while that is not known: the stream has begun and may have much to catch up.
	Until time.Time
	// Stored is the segment that was stored just now; nil for none.
	Stored *backup.Segment
	// Err is why the stream broke last; nil once it is there again.
	Err error
}

// LostError says that a server cannot give what comes after a position: its binlog
// does not go back so far, or it does not know the position. There is a gap.
type LostError struct {
	Node     string
	Position gtid.Position
	Err      error
}

func (e *LostError) Error() string {
	return fmt.Sprintf("archive the binlog of %s: it cannot go on after %s: %v", e.Node, e.Position, e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }

const (
	connectLimit = 10 * time.Second
	heartbeat    = time.Second      // of a server that has nothing to send
	silence      = 10 * time.Second // after which it is gone
	retryPause   = time.Second
	finishLimit  = 10 * time.Second // for the last segment
)

// annotations asks a MariaDB server for the events that hold a statement's text, too
// (BINLOG_SEND_ANNOTATE_ROWS_EVENT): nothing of its binlog is left out then.
const annotations = 2

// protocols is how servers are asked for their binlogs: go-mysql's name of the flavor, and
// flags.
var protocols = map[farm.Flavor]struct {
	flavor string
	flags  uint16
}{
	farm.MariaDB: {mysql.MariaDBFlavor, annotations},
	farm.MySQL:   {mysql.MySQLFlavor, 0},
}

// Run archives until ctx ends, over broken connections, and then stores what has
// come in. Other errors than a LostError are those of a's own.
func (a Archiver) Run(ctx context.Context) error {
	if a.Every == 0 {
		a.Every = 3 * time.Second
	}
	if a.Size == 0 {
		a.Size = 8 << 20
	}
	if a.Tell == nil {
		a.Tell = func(Status) {}
	}
	if f := a.Position.Flavor(); f != a.Flavor && f != farm.UnknownFlavor {
		return fmt.Errorf("archive the binlog of %s: the position %s is not a %v server's", a.Node, a.Position, a.Flavor)
	}
	format, err := binlog.Of(a.Flavor)
	if err != nil {
		return fmt.Errorf("archive the binlog of %s: %w", a.Node, err)
	}
	for {
		err := a.follow(ctx, format)
		var refused *mysql.MyError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &refused) && refused.Code == mysql.ER_MASTER_FATAL_ERROR_READING_BINLOG:
			return &LostError{Node: a.Node, Position: a.Position, Err: err}
		}
		a.Tell(Status{Position: a.Position, Err: err})
		pause := time.NewTimer(retryPause)
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil
		case <-pause.C:
		}
	}
}

// follow archives over one connection. It moves a.Position.
func (a *Archiver) follow(ctx context.Context, format *binlog.Format) error {
	as := protocols[a.Flavor]
	from, err := mysql.ParseGTIDSet(as.flavor, a.Position.String())
	if err != nil {
		return fmt.Errorf("the position %s: %w", a.Position, err)
	}
	// The store gets some time after ctx has ended.
	storing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(finishLimit, stop) })()
	cut := &cutter{Archiver: a, ctx: storing, format: format}
	account := a.Account()
	syncer := replication.NewBinlogSyncer(replication.BinlogSyncerConfig{
		ServerID: a.ServerID, Flavor: as.flavor, Host: a.Address.Addr().String(), Port: a.Address.Port(),
		User: account.User, Password: account.Password,
		HeartbeatPeriod: heartbeat, ReadTimeout: silence,
		DisableRetrySync: true, // it would go on in the middle of a segment
		RawModeEnabled:   true, // rows are not looked at
		DiscardGTIDSet:   true,
		DumpCommandFlag:  as.flags,
		Logger:           slog.New(slog.DiscardHandler), // what matters is returned
		Dialer:           dial,
		// In turn with the reading: so nothing piles up.
		SynchronousEventHandler: cut,
	})
	streamer, err := syncer.StartSyncGTID(from)
	if err == nil {
		_, err = streamer.GetEvent(ctx) // events go to cut
	}
	syncer.Close() // waits for the handler
	return errors.Join(err, cut.finish())
}

// dial bounds the handshake, too: what comes after it has a limit of its own.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: connectLimit}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetReadDeadline(time.Now().Add(connectLimit))
}
