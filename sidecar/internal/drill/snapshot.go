package drill

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
	"farmhand/internal/mysqladmin"
)

// views are how a transaction is begun on conn, by flavor, of which it is known at which
// position it sees the replica. The replica goes on meanwhile. errMoved: it is not known,
// and is another time.
var views = map[farm.Flavor]func(ctx context.Context, admin mysqladmin.Target, conn *mysqladmin.Conn) (gtid.Position, error){
	farm.MariaDB: mariaDBView,
	farm.MySQL:   mySQLView,
}

var errMoved = errors.New("something was applied between the snapshot and its position")

// snapshot is a connection to the replica that sees its data as it was at a position,
// which contains from.
func snapshot(ctx context.Context, c Config, from string) (*mysqladmin.Conn, gtid.Position, error) {
	view, ok := views[c.Install.Flavor]
	if !ok {
		return nil, gtid.Position{}, fmt.Errorf("no way is known to see a %v server as it was at a position", c.Install.Flavor)
	}
	wanted, err := gtid.Parse(c.Install.Flavor, from)
	if err != nil {
		return nil, gtid.Position{}, err
	}
	admin, err := c.Server.Admin()
	if err != nil {
		return nil, gtid.Position{}, err
	}
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		conn, err := mysqladmin.Dial(ctx, admin)
		if err != nil {
			return nil, gtid.Position{}, err
		}
		at, err := view(ctx, admin, conn)
		if err == nil && at.Contains(wanted) {
			return conn, at, nil
		}
		why := err
		if errors.Is(err, errMoved) {
			err = nil
		}
		if err := errors.Join(err, conn.Close()); err != nil {
			return nil, gtid.Position{}, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, gtid.Position{}, errors.Join(fmt.Errorf("it is at %s: %w", at, context.Cause(ctx)), why)
		}
	}
}

func run(ctx context.Context, conn *mysqladmin.Conn, statements ...string) error {
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

const (
	repeatable = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"
	begin      = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"
)

// mariaDBView: MariaDB agrees on the position between its engine and its binlog, without a
// lock.
// https://mariadb.com/kb/en/enhancements-for-start-transaction-with-consistent-snapshot/
func mariaDBView(ctx context.Context, _ mysqladmin.Target, conn *mysqladmin.Conn) (gtid.Position, error) {
	if err := run(ctx, conn, repeatable, "SET SESSION lock_wait_timeout=30, max_statement_time=0", begin); err != nil {
		return gtid.Position{}, err
	}
	rows, err := conn.Query(ctx, "SHOW STATUS LIKE 'binlog\\_snapshot\\_%'")
	if err != nil {
		return gtid.Position{}, err
	}
	says := map[string]string{}
	for _, row := range rows {
		says[row.String("Variable_name")] = row.String("Value")
	}
	offset, err := strconv.ParseUint(says["Binlog_snapshot_position"], 10, 64)
	if err != nil {
		return gtid.Position{}, fmt.Errorf("where in the binlog the snapshot is: %w", err)
	}
	return conn.GTIDAt(ctx, says["Binlog_snapshot_file"], offset)
}

// resumeLimit bounds the start of an applier that was halted.
const resumeLimit = 30 * time.Second

// mySQLView halts the replica's applier for the moment in which the transaction begins: a
// MySQL server does not say which position a snapshot has, and nobody else writes there.
// Who watches over the replication starts an applier that stands still; so it is looked at
// again afterwards.
func mySQLView(ctx context.Context, admin mysqladmin.Target, conn *mysqladmin.Conn) (at gtid.Position, err error) {
	if err := run(ctx, conn, repeatable, "SET SESSION lock_wait_timeout=30, max_execution_time=0"); err != nil {
		return at, err
	}
	// A start of replication would end the transaction on its own connection.
	control, err := mysqladmin.Dial(ctx, admin)
	if err != nil {
		return at, err
	}
	defer func() { err = errors.Join(err, control.Close()) }()
	if _, err := applierIs(ctx, control); err != nil {
		return at, err
	}
	defer func() {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), resumeLimit)
		defer cancel()
		again, dialed := mysqladmin.Dial(limited, admin) // ctx may have broken the other
		if dialed == nil {
			dialed = errors.Join(run(limited, again, "START REPLICA SQL_THREAD"), again.Close())
		}
		if dialed != nil {
			err = errors.Join(err, fmt.Errorf("the applier, which was halted, cannot be started again: %w", dialed))
		}
	}()
	if err := run(ctx, control, "STOP REPLICA SQL_THREAD"); err != nil {
		return at, err
	}
	before, err := executed(ctx, control)
	if err != nil {
		return at, err
	}
	if err := run(ctx, conn, begin); err != nil {
		return at, err
	}
	after, err := executed(ctx, control)
	if err != nil {
		return at, err
	}
	state, err := applierIs(ctx, control)
	if err == nil && (state != "No" || !after.Equal(before)) {
		err = errMoved
	}
	return before, err
}

// applierIs is the state of a replica's applier.
func applierIs(ctx context.Context, conn *mysqladmin.Conn) (string, error) {
	channels, err := conn.Replication(ctx)
	if err != nil {
		return "", err
	}
	if len(channels) != 1 {
		return "", fmt.Errorf("the server has %d replication channels; a drill compares what is restored with a replica, which has one", len(channels))
	}
	return channels[0].Applier, nil
}

func executed(ctx context.Context, conn *mysqladmin.Conn) (gtid.Position, error) {
	rows, err := conn.Query(ctx, "SELECT @@GLOBAL.gtid_executed AS position")
	if err != nil {
		return gtid.Position{}, err
	}
	return gtid.Parse(farm.MySQL, rows[0].String("position"))
}
