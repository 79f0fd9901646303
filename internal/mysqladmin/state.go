package mysqladmin

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
)

// State is what a server says of itself.
type State struct {
	ServerID uint32
	UUID     string // MySQL only
	// ReadOnly is read_only; SuperReadOnly is MySQL's super_read_only.
	ReadOnly, SuperReadOnly bool
	// Executed is everything that the server has executed, as primary or as
	// replica: MySQL's gtid_executed; on MariaDB what its binlog and
	// gtid_slave_pos say together. It is empty on a server without GTIDs.
	Executed gtid.Position
	// Applied is what the server has executed of what it received: MariaDB's
	// gtid_slave_pos, in which transactions of the server's own do not show. On
	// MySQL it is Executed.
	Applied gtid.Position
	// AheadOfXA: Applied, and a wait for it, run ahead of transactions that are
	// committed in two phases. A MariaDB server that applies in parallel and logs
	// what it applies writes XA COMMIT to its log first, which lets transactions
	// after it commit and the position pass, and commits it in the engine after
	// that. Until then Branches, asked later than Applied, counts it.
	AheadOfXA bool
}

// State asks the server for its state, in one round trip.
func (c *Conn) State(ctx context.Context) (State, error) {
	mariadb := c.Flavor() == farm.MariaDB
	sql := "SELECT @@server_id AS id, @@read_only AS ro, @@super_read_only AS sro, @@server_uuid AS uuid, @@gtid_executed AS executed"
	if mariadb {
		sql = "SELECT @@server_id AS id, @@read_only AS ro, @@gtid_binlog_pos AS logged, @@gtid_slave_pos AS applied, @@slave_parallel_threads AS threads, @@log_slave_updates AS logs"
	}
	rows, err := c.Query(ctx, sql)
	if err != nil {
		return State{}, fmt.Errorf("read the server's state: %w", err)
	}
	if len(rows) != 1 {
		return State{}, fmt.Errorf("read the server's state: %d rows", len(rows))
	}
	return stateOf(mariadb, rows[0])
}

// Executed asks for two of the facts of State, and for nothing else: it is asked
// before reads, which wait for it.
func (c *Conn) Executed(ctx context.Context) (executed gtid.Position, readOnly bool, err error) {
	flavor := c.Flavor()
	sql := "SELECT CONCAT_WS('|', @@read_only, @@gtid_executed) AS state"
	if flavor == farm.MariaDB {
		sql = "SELECT CONCAT_WS('|', @@read_only, @@gtid_binlog_pos, @@gtid_slave_pos) AS state"
	}
	rows, err := c.Query(ctx, sql)
	if err != nil {
		return gtid.Position{}, false, fmt.Errorf("read the server's position: %w", err)
	}
	if len(rows) != 1 {
		return gtid.Position{}, false, fmt.Errorf("read the server's position: %d rows", len(rows))
	}
	ro, text, found := strings.Cut(rows[0].String("state"), "|")
	if !found {
		return gtid.Position{}, false, fmt.Errorf("read the server's position: the answer is %q", rows[0].String("state"))
	}
	logged, applied, _ := strings.Cut(text, "|")
	executed, _, err = positions(flavor, logged, applied)
	return executed, isSet(ro), err
}

// positions reads what a server has executed, and of that what it has received,
// from what its binlog says (MySQL: gtid_executed) and from MariaDB's
// gtid_slave_pos.
func positions(flavor farm.Flavor, logged, received string) (executed, applied gtid.Position, err error) {
	if executed, err = gtid.Parse(flavor, logged); err != nil || flavor != farm.MariaDB {
		return executed, executed, err
	}
	applied, err = gtid.Parse(flavor, received)
	return applied.Merge(executed), applied, err
}

func stateOf(mariadb bool, row Row) (State, error) {
	id, err := strconv.ParseUint(row.String("id"), 10, 32)
	if err != nil {
		return State{}, fmt.Errorf("server_id: %w", err)
	}
	s := State{
		ServerID:      uint32(id),
		UUID:          row.String("uuid"),
		ReadOnly:      isSet(row.String("ro")),
		SuperReadOnly: isSet(row.String("sro")),
	}
	if !mariadb {
		s.Executed, s.Applied, err = positions(farm.MySQL, row.String("executed"), "")
		return s, err
	}
	s.Executed, s.Applied, err = positions(farm.MariaDB, row.String("logged"), row.String("applied"))
	s.AheadOfXA = isSet(row.String("threads")) && isSet(row.String("logs"))
	return s, err
}

// Branches counts the XA transactions that are prepared on a MariaDB server and
// neither committed nor rolled back. It needs no privilege there.
func (c *Conn) Branches(ctx context.Context) (int, error) {
	rows, err := c.Query(ctx, "XA RECOVER")
	if err != nil {
		return 0, fmt.Errorf("list prepared XA transactions: %w", err)
	}
	return len(rows), nil
}

// isSet reads a switch; MariaDB 12 has more words for "on" (NO_LOCK …).
func isSet(v string) bool { return v != "" && v != "0" && !strings.EqualFold(v, "OFF") }
