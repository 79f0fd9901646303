package drill

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"farmhand/internal/mysqladmin"
)

// table names a table.
type table struct{ schema, name string }

func (t table) String() string { return t.schema + "." + t.name }

// quoted is the table's name in a statement.
func (t table) quoted() string {
	quote := func(s string) string { return "`" + strings.ReplaceAll(s, "`", "``") + "`" }
	return quote(t.schema) + "." + quote(t.name)
}

// list is every table of applications, and its engine.
func list(ctx context.Context, conn *mysqladmin.Conn) (map[table]string, error) {
	rows, err := conn.Query(ctx, "SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE FROM information_schema.TABLES WHERE TABLE_TYPE='BASE TABLE'"+
		" AND TABLE_SCHEMA NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')")
	if err != nil {
		return nil, err
	}
	all := map[table]string{}
	for _, row := range rows {
		all[table{row.String("TABLE_SCHEMA"), row.String("TABLE_NAME")}] = row.String("ENGINE")
	}
	return all, nil
}

func sorted(all map[table]string) []table {
	return slices.SortedFunc(maps.Keys(all), func(a, b table) int {
		return cmp.Or(cmp.Compare(a.schema, b.schema), cmp.Compare(a.name, b.name))
	})
}

// content is what is compared of a table.
type content struct {
	rows     int64
	checksum string
	absent   string // why it cannot be read
	moving   bool   // because it has been altered since the transaction began, or is being
}

func (c content) String() string {
	if c.absent != "" {
		return c.absent
	}
	return fmt.Sprintf("%d rows, checksum %s", c.rows, c.checksum)
}

// Errors that say that a table is not there as it was at the beginning of the
// transaction.
const (
	errNoSuchTable  = 1146
	errNoSuchSchema = 1049
	errTableChanged = 1412
	errLockTimeout  = 1205
)

// read reads a table within the connection's transaction. CHECKSUM TABLE reads InnoDB's as
// any consistent read does.
func read(ctx context.Context, conn *mysqladmin.Conn, t table) (content, error) {
	rows, err := conn.Query(ctx, "SELECT COUNT(*) AS rows_there FROM "+t.quoted())
	if err == nil {
		n, _ := rows[0].Int("rows_there")
		c := content{rows: n}
		if rows, err = conn.Query(ctx, "CHECKSUM TABLE "+t.quoted()); err == nil {
			var known bool
			if c.checksum, known = rows[0].Get("Checksum"); known {
				return c, nil
			}
			return content{absent: "no checksum"}, nil // it says so by NULL where the table cannot be read
		}
	}
	switch mysqladmin.Code(err) {
	case errNoSuchTable, errNoSuchSchema:
		return content{absent: "no such table"}, nil
	case errTableChanged:
		return content{absent: "a table that was altered meanwhile", moving: true}, nil
	case errLockTimeout:
		return content{absent: "a table that is being altered", moving: true}, nil
	}
	return content{}, err
}
