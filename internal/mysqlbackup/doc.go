// Package mysqlbackup makes one stream of a running MySQL server's data, of files or of
// statements, and data that a server can run on of the stream.
//
// The files are those of the server's clone plugin, which copies its data into a
// directory beside it: so there must be room for the data once more. A server without a
// network is run on the copy, which makes it consistent and says up to where it goes. The
// stream is a tar archive of that. The plugin copies InnoDB's tables only; where there are
// others that hold something a copy is refused.
// https://dev.mysql.com/doc/refman/9.7/en/clone-plugin-local.html
//
// Where the stream goes and comes from is for others. It stops no server of the node's.
//
// Invariants: a stream of which Stream returned no error is whole; nothing of a copy is
// left when it has returned, and what a killed process left Clear removes; no password, and
// no server's UUID, is in a stream of files.
package mysqlbackup
