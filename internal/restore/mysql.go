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
	"farmhand/internal/mysqlbackup"
)

// mySQL makes data of what internal/mysqlbackup has written.
type mySQL struct{}

func (mySQL) ready(inst dbserver.Install, m *format.Manifest) error {
	if m.Kind == format.Logical {
		return mysqlbackup.LoadReady(inst)
	}
	return nil
}

func (mySQL) extract(ctx context.Context, in dbserver.Config, r io.Reader) error {
	return mysqlbackup.Extract(ctx, in, r)
}

func (mySQL) recover(ctx context.Context, inst dbserver.Install, in dbserver.Config) (string, error) {
	return mysqlbackup.Prepare(ctx, inst, in)
}

func (mySQL) load(ctx context.Context, inst dbserver.Install, in dbserver.Config, socket string, r io.Reader) error {
	return mysqlbackup.Load(ctx, inst, in, socket, r)
}

// tell is of use for data that statements have made; files know their position.
func (mySQL) tell(ctx context.Context, conn *mysqladmin.Conn, position string) error {
	want, err := gtid.Parse(farm.MySQL, position)
	if err != nil {
		return err
	}
	is, err := executed(ctx, conn)
	if err == nil && is.IsZero() && !want.IsZero() {
		if _, err := conn.Exec(ctx, "SET GLOBAL gtid_purged="+mysqladmin.Text(position)); err != nil {
			return err
		}
		is, err = executed(ctx, conn)
	}
	if err == nil && !is.Equal(want) {
		err = fmt.Errorf("it is at %s, and its position is to be %s", is, want)
	}
	return err
}

// tellHistory has nothing to tell: the position is all that there is of it.
func (mySQL) tellHistory(context.Context, *format.Manifest, dbserver.Install, dbserver.Config, Reached) error {
	return nil
}

func (mySQL) history(base, to gtid.Position, _ uint32) (history, error) {
	return &set{base: base, at: base, to: to}, nil
}

func (mySQL) arguments(threads int) []string {
	return []string{
		// Whoever wrote it: it is all to be replayed.
		"--replicate-same-server-id=ON", fmt.Sprintf("--replica-parallel-workers=%d", threads),
		// No log is read but those that are there.
		"--relay-log-recovery=OFF",
	}
}

func (mySQL) start(first string) []string {
	return []string{
		"CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_USER='nobody', RELAY_LOG_FILE='" + first + "', RELAY_LOG_POS=4",
		"START REPLICA SQL_THREAD",
	}
}

func (mySQL) stop() []string { return []string{"STOP REPLICA", "RESET REPLICA ALL"} }

func (mySQL) wait(position string) string {
	return "SELECT WAIT_FOR_EXECUTED_GTID_SET(" + mysqladmin.Text(position) + ", 0.5) AS outcome"
}

func (mySQL) applied(ctx context.Context, conn *mysqladmin.Conn) (gtid.Position, error) {
	return executed(ctx, conn)
}

func executed(ctx context.Context, conn *mysqladmin.Conn) (gtid.Position, error) {
	return positionOf(ctx, conn, farm.MySQL, "SELECT @@GLOBAL.gtid_executed AS v")
}
