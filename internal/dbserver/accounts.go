package dbserver

import (
	"strings"

	"farmhand/internal/farm"
)

// Account is a user name and its password, at any host.
type Account struct{ User, Password string }

func (a Account) create(grants ...string) []string {
	who := a.who()
	statements := []string{"CREATE USER " + who + " IDENTIFIED BY " + quote(a.Password)}
	for _, grant := range grants {
		statements = append(statements, "GRANT "+grant+" TO "+who)
	}
	return statements
}

// MonitorAccount are the statements that make the account with which the
// proxy watches a server: it reads replication state and the accounts'
// authentication data, and changes nothing.
func MonitorAccount(flavor farm.Flavor, a Account) []string {
	if flavor == farm.MySQL {
		return a.create("REPLICATION CLIENT ON *.*", "SELECT ON mysql.user")
	}
	// MariaDB has split REPLICATION CLIENT in two:
	// https://mariadb.com/kb/en/grant/#replica-monitor
	return a.create("BINLOG MONITOR, REPLICA MONITOR ON *.*", "SELECT ON mysql.user", "SELECT ON mysql.global_priv")
}

// ReplicationAccount are the statements that make the account with which
// followers read a server's binlog.
func ReplicationAccount(_ farm.Flavor, a Account) []string {
	return a.create("REPLICATION SLAVE ON *.*")
}

// ApplicationAccount are the statements that make a schema and the account
// that owns it and every schema whose name begins with its name and "_". The
// account gets grants ("PRIVILEGE ON OBJECT") too, which must not be such that
// it can write to a read-only server (SUPER, READ_ONLY ADMIN): a misrouted
// write would go unseen until it breaks replication.
func ApplicationAccount(_ farm.Flavor, a Account, schema string, grants ...string) []string {
	grants = append([]string{
		"ALL PRIVILEGES ON `" + schema + "`.*",
		"ALL PRIVILEGES ON `" + schema + `\_%` + "`.*",
	}, grants...)
	return append([]string{"CREATE DATABASE IF NOT EXISTS `" + schema + "`"}, a.create(grants...)...)
}

// Anew are statements of the functions above in a form in which they give an account
// that is there its password and its grants, too.
func Anew(statements []string) (anew []string) {
	for _, s := range statements {
		if who, isCreate := strings.CutPrefix(s, "CREATE USER "); isCreate {
			anew = append(anew, "CREATE USER IF NOT EXISTS "+who, "ALTER USER "+who)
			continue
		}
		anew = append(anew, s)
	}
	return anew
}
