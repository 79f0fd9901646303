// Package binlog knows of binlog files what an archive and a restore need: how a file
// begins, which events begin and end a transaction, and what that is called. What is in
// a transaction is not looked at.
//
// A file begins with four bytes and an event that describes its format. Every event
// begins with its time (4 bytes, little-endian, as all numbers), type (1), the server's id
// (4), its length (4), where it ends in the server's file (4), and flags (2). A transaction
// is an event with its GTID and all up to the next one.
//
// https://mariadb.com/kb/en/gtid_event/,
// https://dev.mysql.com/doc/dev/mysql-server/latest/classmysql_1_1binlog_1_1event_1_1Gtid__event.html
package binlog
