package restore

import (
	"context"
	"fmt"
	"io"
	"maps"

	format "farmhand/internal/backup"
	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/gtid"
	"farmhand/internal/mariabackup"
	"farmhand/internal/mysqladmin"
)

// mariaDB makes data of what mariadb-backup or mariadb-dump has written.
type mariaDB struct{}

func (mariaDB) ready(_ dbserver.Install, m *format.Manifest) error {
	if m.Kind == format.Logical {
		return mariabackup.DumpReady()
	}
	return mariabackup.Ready()
}

func (mariaDB) extract(ctx context.Context, in dbserver.Config, r io.Reader) error {
	return mariabackup.Extract(ctx, in, r)
}

func (mariaDB) recover(ctx context.Context, _ dbserver.Install, in dbserver.Config) (string, error) {
	return mariabackup.Prepare(ctx, in)
}

func (mariaDB) load(ctx context.Context, _ dbserver.Install, in dbserver.Config, socket string, r io.Reader) error {
	return mariabackup.Load(ctx, in, socket, r)
}

func (mariaDB) tell(ctx context.Context, conn *mysqladmin.Conn, position string) error {
	// The table behind it is that of the server that was copied, which may have led.
	_, err := conn.Exec(ctx, "SET GLOBAL gtid_slave_pos="+mysqladmin.Text(position))
	return err
}

// tellHistory tells the binlog's state. A backup of before does not say it.
func (mariaDB) tellHistory(ctx context.Context, m *format.Manifest, inst dbserver.Install, in dbserver.Config, reached Reached) error {
	if m.BinlogState == "" {
		return nil
	}
	state, err := gtid.ParseStreams(m.BinlogState)
	if err != nil {
		return fmt.Errorf("the binlog state of the backup: %w", err)
	}
	maps.Copy(state, reached.wrote)
	// The position's streams are the last ones: with them the next transaction is compared.
	last, err := mariabackup.StateAt(reached.Position, state.String(), "")
	if err != nil {
		return err
	}
	return dbserver.Settle(ctx, inst, in, func(ctx context.Context, conn *mysqladmin.Conn) error {
		return mariabackup.SetState(ctx, conn, reached.Position, last)
	})
}

func (mariaDB) history(base, to gtid.Position, server uint32) (history, error) {
	return newDomains(base, to, server)
}

func (mariaDB) arguments(threads int) []string {
	if threads == 1 {
		threads = 0
	}
	return []string{
		"--log-slave-updates=OFF", "--sync-relay-log-info=0",
		fmt.Sprintf("--slave-parallel-threads=%d", threads), "--slave-parallel-mode=conservative",
	}
}

func (mariaDB) start(first string) []string {
	return []string{
		// There is no such log; an applier in parallel reads the number at the end of its
		// name and dies where there is none (compare_log_name, 10.11.19).
		"CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_USER='nobody', MASTER_LOG_FILE='archive.000001', MASTER_LOG_POS=4," +
			" RELAY_LOG_FILE='" + first + "', RELAY_LOG_POS=4",
		"START SLAVE SQL_THREAD",
	}
}

func (mariaDB) stop() []string { return []string{"STOP SLAVE", "RESET SLAVE ALL"} }

func (mariaDB) wait(position string) string {
	return "SELECT MASTER_GTID_WAIT(" + mysqladmin.Text(position) + ", 0.5) AS outcome"
}

func (mariaDB) applied(ctx context.Context, conn *mysqladmin.Conn) (gtid.Position, error) {
	return positionOf(ctx, conn, farm.MariaDB, "SELECT @@gtid_slave_pos AS v")
}
