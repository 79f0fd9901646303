package dbserver

import (
	"crypto/sha1"
	"encoding/hex"
	"strings"

	"farmhand/internal/farm"
)

// AcceptBoth are the statements after which an account, whose password is a's, can log
// in with the password next, too. They go to the primary; replicas have them by the
// binlog, in which no password stands, only what servers keep of it.
//
// MySQL has a second password for that (RETAIN CURRENT PASSWORD). MariaDB has no such
// thing, but alternatives among the ways in which an account proves itself, each with
// a password of its own: https://mariadb.com/kb/en/alter-user/#identified-viawith-authentication_plugin
func AcceptBoth(flavor farm.Flavor, a Account, next string) []string {
	if flavor == farm.MySQL {
		return []string{"ALTER USER " + a.who() + " IDENTIFIED BY " + quote(next) + " RETAIN CURRENT PASSWORD"}
	}
	return []string{"ALTER USER " + a.who() + " IDENTIFIED VIA " + native(next) + " OR " + native(a.Password)}
}

// AcceptOnly are the statements after which an account can log in with a's password
// alone, which it could before. They go where those of [AcceptBoth] went.
func AcceptOnly(flavor farm.Flavor, a Account) []string {
	if flavor == farm.MySQL {
		return []string{"ALTER USER " + a.who() + " DISCARD OLD PASSWORD"}
	}
	return []string{"ALTER USER " + a.who() + " IDENTIFIED VIA " + native(a.Password)}
}

func (a Account) who() string { return quote(a.User) + "@'%'" }

// native is the proof by a password that MariaDB's accounts have unless another is asked
// for, with what the server keeps of the password: SHA1(SHA1(password)).
func native(password string) string {
	once := sha1.Sum([]byte(password))
	twice := sha1.Sum(once[:])
	return "mysql_native_password USING '*" + strings.ToUpper(hex.EncodeToString(twice[:])) + "'"
}
