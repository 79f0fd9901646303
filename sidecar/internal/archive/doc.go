// Package archive copies a database server's binlog into an object store while it
// is written: with a full backup it gives the cluster's state at any transaction
// since. What is stored are segments (internal/backup), each a binlog file that
// mariadb-binlog or mysqlbinlog reads.
//
// It reads as a replica does, by GTID, and acknowledges nothing: a commit does not
// wait for it. Which server is followed, and from where, is for others, and so is
// what is done about a gap.
//
// Invariants: a segment holds whole transactions, and all between two positions of
// what its server sent; the position goes on only when a segment is stored; memory
// does not grow with the size of a transaction.
package archive
