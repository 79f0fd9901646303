package restore

import (
	"context"
	"fmt"
	"io"

	format "farmhand/internal/backup"
	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/gtid"
	"farmhand/internal/mysqladmin"
)

// flavor is how data of one make of server is made, and how a server of it replays.
type flavor interface {
	// ready says what is missing on this machine to make data of a backup.
	ready(inst dbserver.Install, m *format.Manifest) error
	// extract makes files of a backup's stream, in the empty data directory of in.
	extract(ctx context.Context, in dbserver.Config, r io.Reader) error
	// recover makes them consistent. It returns the position up to which they hold
	// transactions.
	recover(ctx context.Context, inst dbserver.Install, in dbserver.Config) (position string, err error)
	// load has the new server that runs in in, whose socket is socket, execute a backup's
	// statements, unlogged.
	load(ctx context.Context, inst dbserver.Install, in dbserver.Config, socket string, r io.Reader) error
	// tell lets data know its position, of which no server has replayed anything yet.
	tell(ctx context.Context, conn *mysqladmin.Conn, position string) error
	// tellHistory lets data know who wrote it: servers that are to follow it are compared
	// with that.
	tellHistory(ctx context.Context, m *format.Manifest, inst dbserver.Install, in dbserver.Config, reached Reached) error

	// history is that of data at base; to is the position that is asked for, empty for
	// none, server the id of the server that replays.
	history(base, to gtid.Position, server uint32) (history, error)
	// arguments are those of a server that replays with so many threads.
	arguments(threads int) []string
	// start and stop are the statements for the replay of relay logs, of which the first is
	// named; wait is a query that ends, with the outcome 0, when a position is reached, or
	// with another one after half a second.
	start(first string) []string
	stop() []string
	wait(position string) string
	// applied is the position that has been reached.
	applied(ctx context.Context, conn *mysqladmin.Conn) (gtid.Position, error)
}

var flavors = map[farm.Flavor]flavor{
	farm.MariaDB: mariaDB{},
	farm.MySQL:   mySQL{},
}

func flavorOf(of farm.Flavor) (flavor, error) {
	how, ok := flavors[of]
	if !ok {
		return nil, fmt.Errorf("no way is known to restore a %v server as a whole", of)
	}
	return how, nil
}

// positionOf asks a server for a position: the column v.
func positionOf(ctx context.Context, conn *mysqladmin.Conn, of farm.Flavor, query string) (gtid.Position, error) {
	rows, err := conn.Query(ctx, query)
	if err == nil && len(rows) != 1 {
		err = fmt.Errorf("%d rows", len(rows))
	}
	if err != nil {
		return gtid.Position{}, fmt.Errorf("read the position of the data: %w", err)
	}
	return gtid.Parse(of, rows[0].String("v"))
}
