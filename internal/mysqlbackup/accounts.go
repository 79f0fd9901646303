package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"farmhand/internal/mysqladmin"
)

// defaultRole is in what makes an account: the roles may be made after it.
var defaultRole = regexp.MustCompile("(?s) DEFAULT ROLE ((?:`(?:[^`]|``)*`@`(?:[^`]|``)*`,?)+) REQUIRE ")

// accounts writes statements that make a server's accounts and roles, but for those that
// every server has: first all of them, then what they may do. (mysqldump --users writes
// accounts that the new server has, and default roles before there are any.)
func accounts(ctx context.Context, admin mysqladmin.Target, w io.Writer) (err error) {
	conn, err := mysqladmin.Dial(ctx, admin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	defer func() {
		if err != nil {
			err = fmt.Errorf("dump the accounts: %w", err)
		}
	}()
	// Hashes can have any bytes.
	if _, err := conn.Exec(ctx, "SET SESSION print_identified_with_as_hex=ON"); err != nil {
		return err
	}
	rows, err := conn.Query(ctx, "SELECT User AS user, Host AS host FROM mysql.user WHERE NOT (User='root' AND Host='localhost')"+
		" AND User NOT IN ('mysql.sys', 'mysql.session', 'mysql.infoschema') ORDER BY 1, 2")
	if err != nil {
		return err
	}
	var may []string
	for _, row := range rows {
		who := name(row.String("user")) + "@" + name(row.String("host"))
		made, err := column(ctx, conn, "SHOW CREATE USER "+who)
		if err != nil || len(made) != 1 {
			return fmt.Errorf("%s: %d statements: %w", who, len(made), err)
		}
		create := made[0]
		if m := defaultRole.FindStringSubmatch(create); m != nil {
			create = strings.Replace(create, m[0], " REQUIRE ", 1)
			may = append(may, "SET DEFAULT ROLE "+m[1]+" TO "+who)
		}
		if _, err := fmt.Fprintf(w, "%s;\n", strings.Replace(create, "CREATE USER ", "CREATE USER IF NOT EXISTS ", 1)); err != nil {
			return err
		}
		grants, err := column(ctx, conn, "SHOW GRANTS FOR "+who)
		if err != nil {
			return fmt.Errorf("%s: %w", who, err)
		}
		may = append(grants, may...) // a role is a default once it is granted
	}
	for _, statement := range may {
		if _, err := fmt.Fprintf(w, "%s;\n", statement); err != nil {
			return err
		}
	}
	return nil
}

func name(s string) string { return "`" + strings.ReplaceAll(s, "`", "``") + "`" }

// column is the only column of a query's rows, whatever its name.
func column(ctx context.Context, conn *mysqladmin.Conn, query string) (texts []string, err error) {
	rows, err := conn.Query(ctx, query)
	for _, row := range rows {
		texts = append(texts, row.First())
	}
	return texts, err
}
