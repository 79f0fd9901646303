package backupagent

import (
	"context"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
	"farmhand/internal/mysqladmin"
)

// dialect is how a server of one flavor is asked where it is.
type dialect struct {
	// now is up to where its binlog goes.
	now func(context.Context, *Agent) (gtid.Position, error)
	// first is where the archive can go on after a position whose successor the binlog does
	// not have any more.
	first func(ctx context.Context, a *Agent, from gtid.Position) (gtid.Position, error)
	// writer is a query for what its transactions are named by, the column v; empty if that
	// is not the server's own.
	writer string
}

var dialects = map[farm.Flavor]dialect{
	farm.MariaDB: {
		now: func(ctx context.Context, a *Agent) (gtid.Position, error) {
			return a.ask(ctx, "SELECT @@GLOBAL.gtid_binlog_pos AS v")
		},
		first: func(ctx context.Context, a *Agent, _ gtid.Position) (gtid.Position, error) {
			rows, err := a.query(ctx, "SHOW BINARY LOGS")
			if err != nil || len(rows) == 0 {
				return gtid.Position{}, err
			}
			return a.ask(ctx, "SELECT BINLOG_GTID_POS("+mysqladmin.Text(rows[0].String("Log_name"))+", 4) AS v")
		},
	},
	farm.MySQL: {
		now: func(ctx context.Context, a *Agent) (gtid.Position, error) {
			return a.ask(ctx, "SELECT @@GLOBAL.gtid_executed AS v")
		},
		first: func(ctx context.Context, a *Agent, from gtid.Position) (gtid.Position, error) {
			purged, err := a.ask(ctx, "SELECT @@GLOBAL.gtid_purged AS v")
			return from.Merge(purged), err
		},
		writer: "SELECT @@GLOBAL.server_uuid AS v",
	},
}

// dialect is that of the node's server.
func (a *Agent) dialect() dialect { return dialects[a.o.Install.Flavor] }

// reign is by what the server's transactions are named and what it had when it began to
// lead, with what it has written since; nothing of a flavor where that is not needed.
func (a *Agent) reign(ctx context.Context, base string) (writer string, had gtid.Position, err error) {
	d := a.dialect()
	if d.writer == "" {
		return "", had, nil
	}
	rows, err := a.query(ctx, d.writer)
	if err != nil {
		return "", had, err
	}
	if had, err = gtid.Parse(a.o.Install.Flavor, base); err != nil {
		return "", had, err
	}
	now, err := d.now(ctx, a)
	return rows[0].String("v"), had.Merge(now), err
}
