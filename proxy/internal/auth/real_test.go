package auth

import (
	"context"
	"crypto/tls"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/proxy/internal/wire"
)

// connLink is the least of a Link over a connection: packets below 64 KiB, read
// without taking a byte more, so that TLS can follow.
type connLink struct {
	net.Conn
	seq    byte
	socket bool
}

func newConnLink(conn net.Conn) *connLink {
	return &connLink{Conn: conn, socket: conn.LocalAddr().Network() == "unix"}
}

func (l *connLink) UnixSocket() bool { return l.socket }

func (l *connLink) ReadPacket() ([]byte, error) {
	var header [wire.HeaderSize]byte
	if _, err := io.ReadFull(l.Conn, header[:]); err != nil {
		return nil, err
	}
	n, seq := wire.Header(header[:])
	if n > 1<<16 {
		return nil, fmt.Errorf("a packet of %d bytes", n)
	}
	l.seq = seq + 1
	payload := make([]byte, n)
	_, err := io.ReadFull(l.Conn, payload)
	return payload, err
}

func (l *connLink) WritePacket(payload []byte) error {
	packets, seq := wire.AppendPackets(nil, payload, l.seq)
	l.seq = seq
	_, err := l.Write(packets)
	return err
}

const exchangeLimit = 30 * time.Second

// realServer is a server process: where it listens, and its account table.
type realServer struct {
	t      testing.TB
	server *farmtest.Server
	admin  *sql.DB
	proofs int
}

func startServer(t testing.TB, flavor farm.Flavor, args ...string) *realServer {
	server := farmtest.Start(t, farmtest.Options{Flavor: flavor, ExtraArgs: args}).Primary()
	return &realServer{t: t, server: server, admin: server.Admin(t)}
}

// login logs in with c: network is "tcp", "tls" or "unix".
func (s *realServer) login(network string, c *Credential) error {
	dial, address := network, s.server.Addr()
	switch network {
	case "tls":
		dial = "tcp"
	case "unix":
		address = s.server.Socket()
	}
	raw, err := net.Dial(dial, address)
	if err != nil {
		return err
	}
	defer raw.Close() //nolint:errcheck // nothing was left to send
	if err := raw.SetDeadline(time.Now().Add(exchangeLimit)); err != nil {
		return err
	}
	link := newConnLink(raw)
	payload, err := link.ReadPacket()
	if err != nil {
		return err
	}
	greeting, err := wire.ParseGreeting(payload)
	if err != nil {
		return err
	}
	secure := network != "tcp"
	plugin, response := c.FirstResponse(greeting.AuthPlugin, greeting.Nonce, secure)
	answer := wire.HandshakeResponse{
		Capabilities: wire.ClientMySQL | wire.ClientProtocol41 | wire.ClientSecureConnection |
			wire.ClientPluginAuth | wire.ClientPluginAuthLenEnc | wire.ClientTransactions,
		MaxPacketSize: 1 << 24, Collation: 45, User: c.User, AuthResponse: response, AuthPlugin: plugin,
	}
	if network == "tls" {
		answer.Capabilities |= wire.ClientSSL
		if err := link.WritePacket(answer.AppendSSLRequest(nil)); err != nil {
			return err
		}
		link.Conn = tls.Client(raw, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // the test server's own certificate
	}
	if err := link.WritePacket(answer.Append(nil)); err != nil {
		return err
	}
	ok, err := Login(link, c, greeting.AuthPlugin, greeting.Nonce, secure)
	if err != nil {
		return err
	}
	if !wire.IsOK(ok) {
		return fmt.Errorf("OK is % x", ok)
	}
	return nil
}

func (s *realServer) Accounts(ctx context.Context, user string) (rows []Account, err error) {
	query := `SELECT User, Host, JSON_VALUE(Priv, '$.plugin'), HEX(JSON_VALUE(Priv, '$.authentication_string')),
		COALESCE(JSON_VALUE(Priv, '$.account_locked'), 0) FROM mysql.global_priv WHERE User = ?`
	if s.server.Flavor() == farm.MySQL {
		query = `SELECT User, Host, plugin, HEX(authentication_string), account_locked = 'Y' FROM mysql.user WHERE User = ?`
	}
	found, err := s.admin.QueryContext(ctx, query, user)
	if err != nil {
		return nil, err
	}
	defer found.Close() //nolint:errcheck // Err is looked at
	for found.Next() {
		var a Account
		var digits string
		if err := found.Scan(&a.User, &a.Host, &a.Plugin, &digits, &a.Locked); err != nil {
			return nil, err
		}
		if a.AuthString, err = hex.DecodeString(digits); err != nil {
			return nil, err
		}
		rows = append(rows, a)
	}
	return rows, found.Err()
}

func (s *realServer) Prove(_ context.Context, c *Credential, _ string) error {
	s.proofs++
	return s.login("tcp", c)
}

// mustAccept and mustDeny log in over network, expecting to.
func (s *realServer) mustAccept(network string, c *Credential) {
	s.t.Helper()
	if err := s.login(network, c); err != nil {
		s.t.Errorf("%v over %s: %v", c, network, err)
	}
}

func (s *realServer) mustDeny(network string, c *Credential, code uint16) {
	s.t.Helper()
	var refused *ServerError
	if err := s.login(network, c); !errors.As(err, &refused) || refused.Code != code {
		s.t.Errorf("%v over %s: %v, want error %d", c, network, err, code)
	}
}

var realPasswords = []string{"", "p", "päss wörd'\"\\", strings.Repeat("long ", 30)}

// quote writes text as an SQL string.
func quote(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
}

func TestMariaDB(t *testing.T) {
	s := startServer(t, farm.MariaDB)
	s.server.Exec(t, "INSTALL SONAME 'auth_ed25519'")
	a := newAuthenticatorOn(s)
	for i, password := range realPasswords {
		native, ed := fmt.Sprint("native", i), fmt.Sprint("ed", i)
		s.server.Exec(t,
			"CREATE USER "+native+" IDENTIFIED BY "+quote(password),
			"CREATE USER "+ed+" IDENTIFIED VIA ed25519 USING PASSWORD("+quote(password)+")",
		)
		for _, network := range []string{"tcp", "unix"} {
			s.mustAccept(network, PasswordCredential(native, password))
			s.mustDeny(network, PasswordCredential(native, password+"x"), codeAccessDenied)
			s.mustDeny(network, PasswordCredential(ed, password+"x"), codeAccessDenied)
			if password != "" { // MariaDB stores no key for an empty password, and lets nobody in
				s.mustAccept(network, PasswordCredential(ed, password))
			}
		}
		checkThrough(t, s, a, client{user: native, password: password})
		if password == "" {
			mustRefuse(t, ed, connect(t, a, client{user: ed, password: password}), codeDeniedNoMethod, "ed25519")
		} else {
			checkThrough(t, s, a, client{user: ed, password: password, over: overLoopback, sendsClear: true})
			// What native gives is enough for native, and what is learned for all.
			o := connect(t, a, client{user: native, password: password})
			if o.credential == nil || o.credential.Plain() {
				t.Fatalf("native: %v", o.err)
			}
			s.mustAccept("tcp", o.credential)
		}
	}
	checkChanges(t, s, a, "IDENTIFIED VIA mysql_native_password USING PASSWORD(%s)", nativeName)
	checkChanges(t, s, a, "IDENTIFIED VIA ed25519 USING PASSWORD(%s)", nativeName)
	// The account that Debian makes for root: only its socket lets it in.
	s.server.Exec(t, "CREATE USER sock IDENTIFIED VIA unix_socket")
	mustRefuse(t, "socket", connect(t, a, client{user: "sock", password: "x"}), codeDeniedNoMethod, "unix_socket")
}

func TestMySQL(t *testing.T) {
	s := startServer(t, farm.MySQL)
	a := newAuthenticatorOn(s)
	for i, password := range realPasswords {
		caching, old := fmt.Sprint("caching", i), fmt.Sprint("sha", i)
		s.server.Exec(t,
			"CREATE USER "+caching+" IDENTIFIED WITH caching_sha2_password BY "+quote(password),
			"CREATE USER "+old+" IDENTIFIED WITH sha256_password BY "+quote(password),
		)
		for _, network := range []string{"tcp", "tls", "unix"} {
			for _, user := range []string{caching, old} {
				s.server.Exec(t, "FLUSH PRIVILEGES") // empties the server's cache: full authentication
				s.mustAccept(network, PasswordCredential(user, password))
				s.mustAccept(network, PasswordCredential(user, password))
				s.mustDeny(network, PasswordCredential(user, password+"x"), codeAccessDenied)
			}
		}
		for _, user := range []string{caching, old} {
			for _, over := range []transport{overTLS, overNetwork} {
				for _, first := range []string{cachingName, nativeName} {
					checkThrough(t, s, a, client{user: user, password: password, over: over, plugin: first})
				}
			}
		}
	}
	checkChanges(t, s, a, "IDENTIFIED WITH caching_sha2_password BY %s", cachingName)
	checkChanges(t, s, a, "IDENTIFIED WITH sha256_password BY %s", cachingName)
}

// checkThrough lets c log in to the proxy, twice, and the proxy's credential to
// the server.
func checkThrough(t *testing.T, s *realServer, a *Authenticator, c client) {
	t.Helper()
	for range 2 {
		o := connect(t, a, c)
		mustLetIn(t, c.user, o, c.password)
		s.mustAccept("tcp", o.credential)
	}
	before := s.proofs
	c.password += "x"
	mustRefuse(t, c.user, connect(t, a, c), codeAccessDenied, "using password: YES")
	if s.proofs != before {
		t.Errorf("%s: a wrong password was tried on the server", c.user)
	}
}

// checkChanges: what happens to an account takes effect at the next connection.
func checkChanges(t *testing.T, s *realServer, a *Authenticator, identified, first string) {
	t.Helper()
	user := "changing"
	c := client{user: user, password: "one", plugin: first, over: overLoopback, sendsClear: first == nativeName}
	s.server.Exec(t, "CREATE USER changing "+fmt.Sprintf(identified, "'one'"))
	mustLetIn(t, "created", connect(t, a, c), "one")
	mustLetIn(t, "again", connect(t, a, c), "one")
	s.server.Exec(t, "ALTER USER changing "+fmt.Sprintf(identified, "'two'"))
	mustRefuse(t, "old password", connect(t, a, c), codeAccessDenied, "YES")
	c.password = "two"
	mustLetIn(t, "new password", connect(t, a, c), "two")
	s.server.Exec(t, "ALTER USER changing ACCOUNT LOCK")
	locked := uint16(3118) // ER_ACCOUNT_HAS_BEEN_LOCKED
	if s.server.Flavor() == farm.MariaDB {
		locked = 4151
	}
	mustRefuse(t, "locked", connect(t, a, c), locked, "lock")
	s.server.Exec(t, "ALTER USER changing ACCOUNT UNLOCK")
	mustLetIn(t, "unlocked", connect(t, a, c), "two")
	s.server.Exec(t, "RENAME USER changing TO changing@'127.9.9.9'")
	mustRefuse(t, "another host", connect(t, a, c), codeAccessDenied, "")
	s.server.Exec(t, "DROP USER changing@'127.9.9.9'")
	mustRefuse(t, "dropped", connect(t, a, c), codeAccessDenied, "YES")
}

func newAuthenticatorOn(s *realServer) *Authenticator {
	o := Options{DefaultPlugin: nativeName}
	if s.server.Flavor() == farm.MySQL {
		o.DefaultPlugin = cachingName
	}
	a := New(s, s, o)
	a.passwordKey = testKey
	return a
}
