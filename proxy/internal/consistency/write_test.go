package consistency

import (
	"strconv"
	"strings"
)

// kind is a way to write, and a read that shows whether the write is there.
type kind struct {
	name   string
	setup  []string
	writes string // statements; $k is the number of the write, $w of its writer
	read   string // gives a row that is not 0 once the write is there
	brief  bool   // checked in every run
	xa     bool   // it commits in two phases
	here   bool   // MariaDB only
}

const (
	table = "CREATE TABLE t (k INT PRIMARY KEY, v INT DEFAULT 0)"
	there = "SELECT COUNT(*) FROM t WHERE k=$k"
	one   = "CREATE TABLE c$k AS SELECT 1 AS k"
)

// sequences are one for each writer: to set one back does nothing.
var sequences = []string{"CREATE SEQUENCE s0 NOCACHE", "CREATE SEQUENCE s1 NOCACHE", "CREATE SEQUENCE s2 NOCACHE"}

// kinds are the ways to write that servers log and apply in ways of their own.
var kinds = []kind{
	{name: "insert", setup: []string{table}, writes: "INSERT INTO t (k) VALUES ($k)", read: there, brief: true},
	{
		name: "transaction", setup: []string{table}, read: there,
		writes: "BEGIN;INSERT INTO t (k) VALUES (-$k);SAVEPOINT a;INSERT INTO t (k) VALUES (10000000+$k);ROLLBACK TO a;INSERT INTO t (k) VALUES ($k);COMMIT",
	},
	{
		name: "update of one row by all", brief: true, // so that appliers collide
		setup:  []string{"CREATE TABLE t (k INT PRIMARY KEY, v INT, n INT)", "INSERT INTO t VALUES (1,0,0)"},
		writes: "UPDATE t SET v=GREATEST(v,$k), n=n+1 WHERE k=1", read: "SELECT v>=$k FROM t WHERE k=1",
	},
	{name: "replace", setup: []string{table}, writes: "INSERT INTO t (k) VALUES ($k);REPLACE INTO t VALUES ($k,1)", read: "SELECT v FROM t WHERE k=$k"},
	{name: "delete", setup: []string{table}, writes: "INSERT INTO t (k) VALUES ($k);DELETE FROM t WHERE k=$k", read: "SELECT COUNT(*)=0 FROM t WHERE k=$k"},
	{
		name: "XA", setup: []string{table}, read: there, brief: true, xa: true,
		writes: "XA START 'a$k';INSERT INTO t (k) VALUES ($k);XA END 'a$k';XA PREPARE 'a$k';XA COMMIT 'a$k'",
	},
	{
		name: "XA of one phase", setup: []string{table}, read: there,
		writes: "XA START 'a$k';INSERT INTO t (k) VALUES ($k);XA END 'a$k';XA COMMIT 'a$k' ONE PHASE",
	},
	{name: "CREATE TABLE", writes: "CREATE TABLE c$k (k INT PRIMARY KEY)", read: "SELECT COUNT(*)=0 FROM c$k", brief: true},
	{name: "CREATE TABLE AS SELECT", writes: one, read: "SELECT COUNT(*) FROM c$k"},
	{
		name: "DROP TABLE", writes: one + ";DROP TABLE c$k",
		read: "SELECT COUNT(*)=0 FROM information_schema.tables WHERE table_schema=DATABASE() AND table_name='c$k'",
	},
	{name: "TRUNCATE", writes: one + ";TRUNCATE TABLE c$k", read: "SELECT COUNT(*)=0 FROM c$k"},
	{name: "ALTER TABLE", writes: one + ";ALTER TABLE c$k ADD COLUMN x INT DEFAULT 1", read: "SELECT x FROM c$k"},
	{name: "ALTER TABLE by copy", writes: one + ";ALTER TABLE c$k ADD COLUMN x INT DEFAULT 1, ALGORITHM=COPY", read: "SELECT x FROM c$k"},
	{name: "RENAME TABLE", writes: one + ";RENAME TABLE c$k TO d$k", read: "SELECT k FROM d$k"},
	{name: "CREATE OR REPLACE VIEW", writes: "CREATE OR REPLACE VIEW c$w AS SELECT $k AS x", read: "SELECT x=$k FROM c$w"},
	{name: "CREATE FUNCTION", writes: "CREATE FUNCTION c$k() RETURNS INT DETERMINISTIC RETURN 1", read: "SELECT c$k()"},
	{name: "CREATE USER", writes: "CREATE USER u$k", read: "SELECT COUNT(*) FROM mysql.user WHERE user='u$k'"},
	{name: "MyISAM", setup: []string{table + " ENGINE=MyISAM"}, writes: "INSERT INTO t (k) VALUES ($k)", read: there, brief: true},
	{name: "MEMORY", setup: []string{table + " ENGINE=MEMORY"}, writes: "INSERT INTO t (k) VALUES ($k)", read: there},
	{name: "Aria", setup: []string{table + " ENGINE=Aria"}, writes: "INSERT INTO t (k) VALUES ($k)", read: there, here: true},
	{name: "Aria without transactions", setup: []string{table + " ENGINE=Aria TRANSACTIONAL=0"}, writes: "INSERT INTO t (k) VALUES ($k)", read: there, here: true},
	{
		name: "InnoDB and Aria at once", setup: []string{table, "CREATE TABLE m (k INT PRIMARY KEY) ENGINE=Aria"}, here: true,
		writes: "BEGIN;INSERT INTO t (k) VALUES ($k);INSERT INTO m (k) VALUES ($k);COMMIT", read: "SELECT COUNT(*) FROM t JOIN m USING (k) WHERE k=$k",
	},
	{
		name: "SETVAL", setup: sequences, here: true,
		writes: "SELECT SETVAL(s$w,$k)", read: "SELECT next_not_cached_value>$k FROM s$w",
	},
	{
		name: "NEXTVAL", setup: sequences, here: true,
		writes: "SELECT SETVAL(s$w,$k);SELECT NEXTVAL(s$w)", read: "SELECT next_not_cached_value>$k+1 FROM s$w",
	},
	{
		name: "temporary table", setup: []string{table}, read: there,
		writes: "CREATE TEMPORARY TABLE x (k INT);INSERT INTO x VALUES ($k);INSERT INTO t (k) SELECT k FROM x;DROP TEMPORARY TABLE x",
	},
	{name: "logged as statement", setup: []string{table}, writes: "SET binlog_format=STATEMENT;INSERT INTO t (k) VALUES ($k)", read: there},
	{name: "two domains", setup: []string{table}, writes: "SET gtid_domain_id=$k%2+1;INSERT INTO t (k) VALUES ($k)", read: there, here: true},
}

// fill puts numbers into a text of a kind.
func fill(text string, write, writer int) string {
	return strings.NewReplacer("$k", strconv.Itoa(write), "$w", strconv.Itoa(writer)).Replace(text)
}
