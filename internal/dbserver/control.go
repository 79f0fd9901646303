package dbserver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

// controlLimit bounds a control exchange, connecting included.
const controlLimit = 30 * time.Second

// AdminUser is the administrator's account name on every server that
// Initialise made; it exists at localhost only.
const AdminUser = "root"

// Admin returns a handle on the server as administrator over its socket. It
// connects when it is first used; the caller closes it.
func (s *Server) Admin() (*sql.DB, error) {
	return openAdmin(s.config.Socket, s.secret)
}

func openAdmin(socket, secret string) (*sql.DB, error) {
	c := mysql.NewConfig()
	c.User, c.Passwd = AdminUser, secret
	c.Net, c.Addr = "unix", socket
	c.Timeout, c.ReadTimeout, c.WriteTimeout = controlLimit, controlLimit, controlLimit
	c.Logger = silent{} // the driver's own log repeats what its errors say
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, fmt.Errorf("administrator's connection to %s: %w", socket, err)
	}
	return sql.OpenDB(connector), nil
}

type silent struct{}

func (silent) Print(...any) {}

// Exec runs statements in order on one administrator's connection and stops
// at the first error, which names the kind of statement but never its text:
// that may hold a password.
func (s *Server) Exec(ctx context.Context, statements ...string) error {
	return s.control(ctx, func(ctx context.Context, conn *sql.Conn) error {
		for _, statement := range statements {
			if _, err := conn.ExecContext(ctx, statement); err != nil {
				return fmt.Errorf("%s: %w", kind(statement), err)
			}
		}
		return nil
	})
}

// Rows runs one query as administrator and returns its rows as column name to
// text; NULL is the empty string.
func (s *Server) Rows(ctx context.Context, query string) ([]map[string]string, error) {
	var list []map[string]string
	err := s.control(ctx, func(ctx context.Context, conn *sql.Conn) error {
		rows, err := conn.QueryContext(ctx, query)
		if err != nil {
			return fmt.Errorf("%s: %w", kind(query), err)
		}
		list, err = texts(rows)
		return err
	})
	return list, err
}

func (s *Server) control(ctx context.Context, do func(context.Context, *sql.Conn) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, controlLimit)
	defer cancel()
	defer func() {
		if err != nil {
			err = fmt.Errorf("server %s: %w", s.Addr(), err)
		}
	}()
	db, err := s.Admin()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect as administrator: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	return do(ctx, conn)
}

func texts(rows *sql.Rows) (list []map[string]string, err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		values := make([]sql.NullString, len(columns))
		targets := make([]any, len(columns))
		for i := range values {
			targets[i] = &values[i]
		}
		if err := rows.Scan(targets...); err != nil {
			return nil, err
		}
		row := make(map[string]string, len(columns))
		for i, name := range columns {
			row[name] = values[i].String
		}
		list = append(list, row)
	}
	return list, rows.Err()
}

// kind is a statement's first words.
func kind(statement string) string {
	words := strings.Fields(statement)
	return strings.Join(words[:min(3, len(words))], " ") + " …"
}
