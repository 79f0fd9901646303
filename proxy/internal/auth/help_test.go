package auth

import (
	"context"
	"crypto/ed25519"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"farmhand/proxy/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pipe is a Link in memory. Its reader gets each payload in a buffer that is
// overwritten at the next read, as a real link's may be.
type pipe struct {
	in, out chan []byte
	closed  chan struct{}
	once    *sync.Once
	sent    *[][]byte // what was written to it; read after the exchange
	buffer  []byte
}

func newPipe() (client, server *pipe) {
	a, b := make(chan []byte, 64), make(chan []byte, 64)
	closed, once := make(chan struct{}), new(sync.Once)
	return &pipe{a, b, closed, once, new([][]byte), nil}, &pipe{b, a, closed, once, new([][]byte), nil}
}

func (p *pipe) ReadPacket() ([]byte, error) {
	for i := range p.buffer {
		p.buffer[i] = 0xaa
	}
	select {
	case payload := <-p.in:
		p.buffer = payload
		return payload, nil
	default:
	}
	select {
	case payload := <-p.in:
		p.buffer = payload
		return payload, nil
	case <-p.closed:
		return nil, io.ErrUnexpectedEOF
	}
}

func (p *pipe) WritePacket(payload []byte) error {
	own := append([]byte{}, payload...)
	*p.sent = append(*p.sent, own)
	select {
	case p.out <- append([]byte{}, own...):
		return nil
	case <-p.closed:
		return io.ErrClosedPipe
	}
}

func (p *pipe) close() { p.once.Do(func() { close(p.closed) }) }

// server is the far side: an account table and a primary that accepts whatever
// fits it, unless refuse says otherwise.
type server struct {
	mu      sync.Mutex
	rows    []Account
	unread  error // Accounts' answer
	refuse  error // Prove's answer
	proofs  int
	reads   int
	reached func() // called inside Prove
}

func (s *server) Accounts(_ context.Context, user string) ([]Account, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	var rows []Account
	for _, r := range s.rows {
		if r.User == user || r.User == "" {
			rows = append(rows, r)
		}
	}
	return rows, s.unread
}

func (s *server) Prove(_ context.Context, c *Credential, _ string) error {
	if s.reached != nil {
		s.reached()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proofs++
	return s.refuse
}

func (s *server) set(change func(*server)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *server) readings() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

func (s *server) proved() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proofs
}

// testKey is made once: it takes a while.
var testKey = sync.OnceValues(newPasswordKey)

func newAuthenticator(s *server, o Options) *Authenticator {
	a := New(s, s, o)
	a.passwordKey = testKey
	return a
}

// stored is what the server's account table holds for a password.
func stored(t testing.TB, plugin, password string) []byte {
	t.Helper()
	salt := "a salt of 20 bytes.."
	switch plugin {
	case nativeName:
		if password == "" {
			return nil
		}
		once := sha1.Sum([]byte(password))
		return fmt.Appendf(nil, "*%X", sha1.Sum(once[:]))
	case cachingName:
		if password == "" {
			return nil
		}
		digest := sha256Crypt([]byte(password), []byte(salt), 5000)
		return fmt.Appendf(nil, "$A$005$%s%s", salt, digest)
	case sha256Name:
		if password == "" {
			return nil
		}
		digest := sha256Crypt([]byte(password), []byte(salt), 5000)
		return fmt.Appendf(nil, "$5$%s$%s", salt, digest)
	case ed25519Server:
		for _, v := range madeByMariaDB {
			if v.password == password {
				return []byte(v.stored)
			}
		}
		scalar, _ := ed25519Secret([]byte(password))
		return base64.RawStdEncoding.AppendEncode(nil, ed25519Public(scalar))
	case parsecName:
		p := parsecParams{0, [parsecSaltLen]byte([]byte(salt))}
		private, err := p.private([]byte(password))
		if err != nil {
			t.Fatal(err)
		}
		enc := base64.RawStdEncoding
		return []byte("P0:" + enc.EncodeToString(p.salt[:]) + ":" + enc.EncodeToString(private.Public().(ed25519.PublicKey)))
	}
	t.Fatalf("no stored string for plugin %s", plugin)
	return nil
}

// How a client is connected.
type transport int

const (
	overTLS transport = iota
	overLoopback
	overNetwork
)

// client is a test's client: a Login, as the proxy logs in to servers.
type client struct {
	user, password string
	plugin         string // the one it begins with; default: mysql_native_password
	over           transport
	credential     *Credential // default: the password
	sendsClear     bool        // its user told it to, TLS or not
	old            bool        // without CLIENT_PLUGIN_AUTH
}

// outcome is how a dialogue ended, and what each side sent.
type outcome struct {
	credential           *Credential
	err                  error // Authenticate's
	login                error // Login's
	fromProxy, fromUser  [][]byte
	okPayload, firstSent []byte
}

var okPacket = []byte{0, 0, 0, 2, 0, 0, 0}

// connect lets a client log in to the proxy's Authenticator.
func connect(t testing.TB, a *Authenticator, c client) outcome {
	t.Helper()
	if c.plugin == "" {
		c.plugin = nativeName
	}
	if c.credential == nil {
		c.credential = PasswordCredential(c.user, c.password)
	}
	mine, theirs := newPipe()
	defer mine.close()
	nonce := NewNonce()
	secure := c.over == overTLS || c.sendsClear
	var o outcome
	used, response := c.credential.FirstResponse(c.plugin, nonce, secure)
	o.firstSent = response
	if c.old {
		used = ""
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.okPayload, o.login = Login(mine, c.credential, c.plugin, nonce, secure)
		mine.close()
	}()
	o.credential, o.err = a.Authenticate(t.Context(), theirs, Request{
		User: c.user, Host: "10.0.0.7", Plugin: used, Nonce: nonce, Response: response,
		Secure: c.over == overTLS, Loopback: c.over != overNetwork, ClientCanSwitch: !c.old,
	})
	var refusal *Refusal
	var reply []byte
	switch {
	case o.err == nil:
		reply = okPacket
	case errors.As(o.err, &refusal):
		reply = wire.AppendError(nil, &wire.Error{Code: refusal.Code, State: refusal.State, Message: refusal.Message})
	default:
		theirs.close()
	}
	if reply != nil {
		if err := theirs.WritePacket(reply); err != nil && o.login == nil {
			t.Logf("the client was gone before the answer: %v", err)
		}
	}
	<-done
	o.fromProxy, o.fromUser = *theirs.sent, *mine.sent
	return o
}

// mustLetIn fails the test unless the client was let in, with a credential that
// has its password.
func mustLetIn(t testing.TB, what string, o outcome, password string) {
	t.Helper()
	if o.err != nil || o.login != nil {
		t.Fatalf("%s: not let in: proxy: %v, client: %v", what, o.err, o.login)
	}
	if !o.credential.same(PasswordCredential("", password)) {
		t.Fatalf("%s: let in with another password than the client's", what)
	}
	if string(o.okPayload) != string(okPacket) {
		t.Fatalf("%s: OK payload % x", what, o.okPayload)
	}
}

// mustRefuse fails the test unless the client was refused with code and a
// message that contains part.
func mustRefuse(t testing.TB, what string, o outcome, code uint16, part string) {
	t.Helper()
	var refusal *Refusal
	if !errors.As(o.err, &refusal) {
		t.Fatalf("%s: %v, want a refusal with %d", what, o.err, code)
	}
	if refusal.Code != code || len(refusal.State) != 5 || !strings.Contains(refusal.Message, part) {
		t.Fatalf("%s: %v, want %d and %q", what, refusal, code, part)
	}
	if o.credential != nil {
		t.Fatalf("%s: refused, but with a credential", what)
	}
}
