package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"farmhand/internal/mysqladmin"
)

// LoadPlugin loads the clone plugin, if it is not there; see Locally.
func LoadPlugin(ctx context.Context, conn *mysqladmin.Conn) error {
	rows, err := conn.Query(ctx, "SELECT plugin_status AS status FROM information_schema.plugins WHERE plugin_name='clone'")
	if err != nil {
		return fmt.Errorf("look for the clone plugin: %w", err)
	}
	if len(rows) == 1 && rows[0].String("status") == "ACTIVE" {
		return nil
	}
	if _, err := conn.Exec(ctx, "INSTALL PLUGIN clone SONAME 'mysql_clone.so'"); err != nil {
		return fmt.Errorf("load the clone plugin: %w", err)
	}
	return nil
}

// Locally changes something that is the server's own business: it does not get
// into the binlog, and works on a server that refuses writes. That lasts a moment,
// in which administrators could write, who are at the socket only.
func Locally(ctx context.Context, admin mysqladmin.Target, do func(*mysqladmin.Conn) error) (err error) {
	conn, err := mysqladmin.Dial(ctx, admin)
	if err != nil {
		return fmt.Errorf("as administrator: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	rows, err := conn.Query(ctx, "SELECT @@GLOBAL.super_read_only AS refuses")
	if err != nil {
		return err
	}
	exec := func(statement string) error {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
		return nil
	}
	if err := exec("SET SESSION sql_log_bin=OFF"); err != nil {
		return err
	}
	if rows[0].String("refuses") == "0" {
		return do(conn)
	}
	if err := exec("SET GLOBAL super_read_only=OFF"); err != nil {
		return err
	}
	err = do(conn)
	// A server that was made to lead meanwhile must not be shut again.
	return errors.Join(err, exec("SET GLOBAL super_read_only=@@GLOBAL.read_only"))
}

// mostNamed is how many tables an error names.
const mostNamed = 5

// OnlyInnoDB returns an error with the names of tables that hold something the plugin does not
// copy: it makes empty ones of them.
func OnlyInnoDB(ctx context.Context, conn *mysqladmin.Conn) error {
	rows, err := conn.Query(ctx, "SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME, ' (', ENGINE, ')') AS t FROM information_schema.TABLES WHERE TABLE_TYPE='BASE TABLE'"+
		" AND ENGINE NOT IN ('InnoDB', 'BLACKHOLE', 'FEDERATED') AND TABLE_SCHEMA NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys') ORDER BY 1")
	if err != nil {
		return fmt.Errorf("look at the tables' engines: %w", err)
	}
	if len(rows) == 0 {
		return nil
	}
	var names []string
	for _, row := range rows[:min(len(rows), mostNamed)] {
		names = append(names, row.String("t"))
	}
	more := ""
	if n := len(rows) - len(names); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Errorf("the clone plugin copies InnoDB's tables only, and would leave these empty: %s%s; alter them (ENGINE=InnoDB)", strings.Join(names, ", "), more)
}
