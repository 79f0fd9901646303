package mariabackup

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"farmhand/internal/gtid"
	"farmhand/internal/mysqladmin"
)

// Streams is the binlog state of a MariaDB server: up to where each server's
// transactions are in its data. The position says that of the last server to write
// only. Without it a copy's replicas would seem to have transactions that the copy
// has not, once it leads.
func Streams(ctx context.Context, admin mysqladmin.Target) (state string, err error) {
	conn, err := mysqladmin.Dial(ctx, admin)
	if err != nil {
		return "", fmt.Errorf("as administrator: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	rows, err := conn.Query(ctx, "SELECT @@GLOBAL.gtid_binlog_state AS state")
	if err != nil {
		return "", fmt.Errorf("read the binlog state: %w", err)
	}
	return rows[0].String("state"), nil
}

// StateAt is the text of the binlog state that belongs to a copy's position, from
// what it was before the copy was begun and after it had ended.
//
// Numbers rise in a domain, whoever writes. So a stream that after the copy ends
// below the position ends there in the copy, too: also that of a primary which was
// replaced meanwhile. One that had gone beyond was perhaps continued both before the
// position and after it: if the position is not that server's own, this takes
// servers to have taken each other's place twice during the copy, and its end is
// taken to be that of before.
//
// The position's streams are the last ones: what comes next is compared with them.
// A donor with errant transactions is beyond the position elsewhere, and has the
// copy seen to be errant, too.
func StateAt(position, before, after string) (string, error) {
	var known [3]gtid.Streams
	for i, text := range []string{position, before, after} {
		var err error
		if known[i], err = gtid.ParseStreams(text); err != nil {
			return "", fmt.Errorf("the donor's binlog state: %w", err)
		}
	}
	last, state := known[0].Domains(), known[1]
	for stream, n := range known[2] {
		if n <= last[stream.Domain] {
			state[stream] = max(state[stream], n)
		}
	}
	maps.DeleteFunc(state, func(s gtid.Stream, _ uint64) bool { _, ok := known[0][s]; return ok })
	switch {
	case len(known[0]) == 0:
		return state.String(), nil
	case len(state) == 0:
		return known[0].String(), nil
	}
	return state.String() + "," + known[0].String(), nil
}

// SetState tells a server on copied data up to where that goes. It has been given
// no transaction yet.
func SetState(ctx context.Context, conn *mysqladmin.Conn, position, binlog string) error {
	// The table behind gtid_slave_pos is that of the donor, which may have led; and its
	// binlog, which says the rest, has not been copied.
	if _, err := conn.Exec(ctx, "SET GLOBAL gtid_slave_pos="+mysqladmin.Text(position)); err != nil {
		return fmt.Errorf("set the position of the copy: %w", err)
	}
	if binlog == "" {
		return nil
	}
	if _, err := conn.Exec(ctx, "SET GLOBAL gtid_binlog_state="+mysqladmin.Text(binlog)); err != nil {
		return fmt.Errorf("set the binlog state of the copy: %w", err)
	}
	rows, err := conn.Query(ctx, "SELECT @@GLOBAL.gtid_slave_pos AS position, @@GLOBAL.gtid_binlog_pos AS logged")
	if err != nil {
		return fmt.Errorf("read the position of the copy: %w", err)
	}
	var is [2]gtid.Streams
	for i, column := range []string{"position", "logged"} {
		if is[i], err = gtid.ParseStreams(rows[0].String(column)); err != nil {
			return fmt.Errorf("read the position of the copy: %w", err)
		}
	}
	// Strict mode logs the next transaction only if its number is higher.
	for stream, n := range is[0] {
		if is[1][stream] != n {
			return fmt.Errorf("the copy is at %v, and its binlog at %v (of the state %s): it could not go on from there", is[0], is[1], binlog)
		}
	}
	return nil
}
