// Package auth is all authentication of the proxy: it finds out who a client
// is (Authenticator), and logs in to servers as that user (Login). It owns the
// authentication plugins (mysql_native_password, caching_sha2_password,
// sha256_password, ed25519, parsec, mysql_clear_password) from both sides, and
// the memory of proven credentials.
//
// It opens no connection and knows no packet header: payloads come and go
// through a Link, account rows from a Directory, and a new credential is proved
// on the primary by a Prover. There is no list of users to maintain: whatever
// the primary's account table says at this moment is the truth.
//
// Invariants:
//   - A Credential is handed out only if it fits a row of the account table as
//     the directory gave it for this call, and the primary accepted a login with
//     it while the rows were the same. While the directory cannot be read, the
//     last rows known stand in for at most Options.StaleFor.
//   - A client learns nothing from the exchange about whether a user exists
//     that the server itself would not tell it: an unknown user goes through
//     the same packets and the same work as a wrong password for an account of
//     the default plugin.
//   - Secrets stay in a Credential. They are never in an error, a log or JSON.
//
// Protocol: https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_authentication_methods.html
// and https://mariadb.com/kb/en/connection/
package auth
