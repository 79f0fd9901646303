// Package mariabackup runs mariadb-backup and mariadb-dump: a running MariaDB server's
// data becomes one stream, of files or of statements, and the stream becomes data that a
// server can run on. Clones and backups use it. https://mariadb.com/kb/en/mariadb-backup/
//
// Where the stream goes and comes from is for others. It starts and stops no server
// of the node's, but for one on the data that was made, without a network.
//
// Invariants: a stream of which Stream returned no error is whole; the programs die
// with the call, and with this process; no password is in a program's arguments.
package mariabackup
