// Package wire is the MySQL client/server protocol as MySQL 8.4/9 and MariaDB
// 10.11 speak it: constants, payload encoders and decoders, the packet
// connection, and the tracker that follows a response without decoding rows.
//
// Encoders append to a caller's slice; decoders return views of the slice they
// were given, valid as long as it is. Decoders return errors: nothing that a
// peer sends makes them panic or allocate more than it sent.
//
// It imports the standard library only.
//
// Protocol: https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html
// and https://mariadb.com/kb/en/clientserver-protocol/
package wire
