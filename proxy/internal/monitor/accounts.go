package monitor

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/mysqladmin"
	"farmhand/proxy/internal/auth"
)

const nativePassword = "mysql_native_password"

// readAccounts reads the rows of users, and the anonymous ones, from a server's
// account table.
func readAccounts(ctx context.Context, conn *mysqladmin.Conn, users []string) ([]auth.Account, error) {
	var in strings.Builder
	in.WriteString("User IN (''")
	for _, user := range users {
		if user != "" {
			in.WriteString(", " + mysqladmin.Text(user))
		}
	}
	in.WriteString(")")

	if conn.Flavor() != farm.MariaDB {
		return readMySQL(ctx, conn, in.String())
	}
	accounts, err := readGlobalPriv(ctx, conn, in.String())
	switch mysqladmin.Code(err) {
	case errTableAccess, errColumnAccess, errNoSuchTable:
		// The view mysql.user shows most of it: it has one of a row's
		// alternatives, and not whether an account is locked.
		return readUserView(ctx, conn, in.String())
	}
	return accounts, err
}

// readGlobalPriv reads MariaDB's account table, which is JSON since 10.4.
// https://mariadb.com/kb/en/mysqlglobal_priv-table/
func readGlobalPriv(ctx context.Context, conn *mysqladmin.Conn, where string) ([]auth.Account, error) {
	rows, err := conn.Query(ctx, "SELECT User, Host, Priv, @@default_password_lifetime AS lifetime,"+
		" UNIX_TIMESTAMP() AS now FROM mysql.global_priv WHERE "+where)
	if err != nil {
		return nil, fmt.Errorf("read mysql.global_priv: %w", err)
	}
	var accounts []auth.Account
	for _, row := range rows {
		user, host := row.String("User"), row.String("Host")
		lifetime, _ := row.Int("lifetime")
		now, _ := row.Int("now")
		found, err := parsePriv(user, host, row.String("Priv"), lifetime, time.Unix(now, 0))
		if err != nil {
			return nil, fmt.Errorf("read mysql.global_priv: account %s@%s: %w", user, host, err)
		}
		accounts = append(accounts, found...)
	}
	return accounts, nil
}

// factor is one way to authenticate in a row of mysql.global_priv.
type factor struct {
	Plugin     *string `json:"plugin"`
	AuthString string  `json:"authentication_string"`
}

// parsePriv reads the Priv column of mysql.global_priv: the account, once for
// each of its alternatives; nothing for a role. lifetime is the server's
// default for a password's, in days, 0 for none; now is the server's time.
func parsePriv(user, host, text string, lifetime int64, now time.Time) ([]auth.Account, error) {
	var priv struct {
		factor
		// Or has the alternatives in their order; an empty one stands for the
		// row's own plugin.
		Or          []factor `json:"auth_or"`
		Locked      bool     `json:"account_locked"`
		IsRole      bool     `json:"is_role"`
		LastChanged *int64   `json:"password_last_changed"` // unix time; 0: expired by command
		Lifetime    *int64   `json:"password_lifetime"`     // days; 0 never, -1 the default
	}
	if err := json.Unmarshal([]byte(text), &priv); err != nil {
		return nil, err
	}
	if priv.IsRole {
		return nil, nil
	}
	if priv.Lifetime != nil && *priv.Lifetime >= 0 {
		lifetime = *priv.Lifetime
	}
	expired := false
	if changed := priv.LastChanged; changed != nil {
		expired = *changed == 0 || lifetime > 0 && now.After(time.Unix(*changed, 0).AddDate(0, 0, int(lifetime)))
	}
	ways := priv.Or
	if len(ways) == 0 {
		ways = []factor{{}}
	}
	accounts := make([]auth.Account, 0, len(ways))
	for _, way := range ways {
		if way.Plugin == nil {
			way = priv.factor
		}
		plugin := nativePassword
		if way.Plugin != nil && *way.Plugin != "" {
			plugin = *way.Plugin
		}
		accounts = append(accounts, auth.Account{
			User:            user,
			Host:            host,
			Plugin:          plugin,
			AuthString:      []byte(way.AuthString),
			Locked:          priv.Locked,
			PasswordExpired: expired,
		})
	}
	return accounts, nil
}

// readUserView reads mysql.user of MariaDB: a table before 10.4, a view after.
func readUserView(ctx context.Context, conn *mysqladmin.Conn, where string) ([]auth.Account, error) {
	rows, err := conn.Query(ctx, "SELECT User, Host, plugin, Password, authentication_string, password_expired"+
		" FROM mysql.user WHERE is_role = 'N' AND "+where)
	if err != nil {
		return nil, fmt.Errorf("read mysql.user: %w (grant SELECT on mysql.global_priv to the monitor's account)", err)
	}
	accounts := make([]auth.Account, 0, len(rows))
	for _, row := range rows {
		a := auth.Account{
			User:            row.String("User"),
			Host:            row.String("Host"),
			Plugin:          row.String("plugin"),
			AuthString:      []byte(row.String("authentication_string")),
			PasswordExpired: row.String("password_expired") == "Y",
		}
		if a.Plugin == "" {
			a.Plugin = nativePassword
		}
		if len(a.AuthString) == 0 {
			a.AuthString = []byte(row.String("Password"))
		}
		accounts = append(accounts, a)
	}
	return accounts, nil
}

// readMySQL reads mysql.user of MySQL. The hashes of caching_sha2_password are
// binary, so they come as hexadecimal digits. A role is a locked account there
// and cannot be told from one.
func readMySQL(ctx context.Context, conn *mysqladmin.Conn, where string) ([]auth.Account, error) {
	second := "NULL"
	if conn.Greeting().VersionNumber() >= 80014 {
		// ALTER USER … RETAIN CURRENT PASSWORD
		second = "HEX(JSON_UNQUOTE(JSON_EXTRACT(User_attributes, '$.additional_password')))"
	}
	rows, err := conn.Query(ctx, "SELECT User, Host, plugin, HEX(authentication_string) AS auth, "+second+" AS second,"+
		" account_locked AS locked, password_expired = 'Y' OR"+
		" COALESCE(password_lifetime, @@default_password_lifetime) > 0 AND"+
		" NOW() > password_last_changed + INTERVAL COALESCE(password_lifetime, @@default_password_lifetime) DAY AS expired"+
		" FROM mysql.user WHERE "+where)
	if err != nil {
		if mysqladmin.Code(err) == 0 {
			return nil, fmt.Errorf("read mysql.user: %w", err)
		}
		return nil, fmt.Errorf("read mysql.user: %w (grant SELECT on mysql.user to the monitor's account)", err)
	}
	var accounts []auth.Account
	for _, row := range rows {
		for _, column := range []string{"auth", "second"} {
			digits, ok := row.Get(column)
			if !ok && column == "second" {
				continue
			}
			secret, err := hex.DecodeString(digits)
			if err != nil {
				return nil, fmt.Errorf("read mysql.user: account %s@%s: %w", row.String("User"), row.String("Host"), err)
			}
			accounts = append(accounts, auth.Account{
				User:            row.String("User"),
				Host:            row.String("Host"),
				Plugin:          row.String("plugin"),
				AuthString:      secret,
				Locked:          row.String("locked") == "Y",
				PasswordExpired: row.String("expired") == "1",
			})
		}
	}
	return accounts, nil
}
