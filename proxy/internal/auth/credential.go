package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
)

// MaxPassword is the longest password in bytes that is accepted from a client.
// It is beyond what the servers accept (MySQL: 256).
const MaxPassword = 512

// Credential is what can log a user in on any server of the farm: either the
// password, or SHA1(password), which is enough for mysql_native_password.
//
// A Credential is immutable and safe for concurrent use. Its secrets do not
// appear in any formatting, logging or JSON of it. They are behind a function
// because fmt follows pointers in unexported fields of a struct around it when
// the verb is wrong for them, and calls no method of theirs.
type Credential struct {
	// User is the name to log in with.
	User   string
	secret func() *secret
}

type secret struct {
	stage1   [sha1.Size]byte // SHA1(password)
	password []byte
	plain    bool // password is known; it may be empty
	key      [sha256.Size]byte
}

// PasswordCredential is user's credential with a password, which may be empty.
func PasswordCredential(user, password string) *Credential {
	return newCredential(user, secret{stage1: sha1.Sum([]byte(password)), password: []byte(password), plain: true})
}

// HashCredential is user's credential with stage1 = SHA1(password) only. It
// answers mysql_native_password and nothing else.
func HashCredential(user string, stage1 [sha1.Size]byte) *Credential {
	return newCredential(user, secret{stage1: stage1})
}

func newCredential(user string, s secret) *Credential {
	mac := hmac.New(sha256.New, keyOfKeys[:])
	mac.Write(s.stage1[:])
	io.WriteString(mac, user)
	mac.Sum(s.key[:0])
	return &Credential{user, func() *secret { return &s }}
}

// keyOfKeys keeps Key from being a hash of the password that could be attacked.
var keyOfKeys = func() (k [32]byte) { rand.Read(k[:]); return k }()

// Key tells credentials apart, for instance in a pool of connections: two
// credentials have the same key if and only if they have the same user and the
// same password. It is good for this process only and betrays nothing.
func (c *Credential) Key() [sha256.Size]byte { return c.secret().key }

// Plain reports whether the password itself is known, so that every
// authentication plugin can be answered.
func (c *Credential) Plain() bool { return c.secret().plain }

// empty reports whether there is no password.
func (c *Credential) empty() bool { return c.Plain() && len(c.secret().password) == 0 }

// same reports in constant time whether both hold the same password.
func (c *Credential) same(o *Credential) bool {
	return subtle.ConstantTimeCompare(c.secret().stage1[:], o.secret().stage1[:]) == 1
}

// String names the user and hides the rest.
func (c Credential) String() string { return fmt.Sprintf("credential of '%s'", c.User) }

// GoString is String.
func (c Credential) GoString() string { return c.String() }

// Format prints String, whatever the verb.
func (c Credential) Format(f fmt.State, _ rune) { io.WriteString(f, c.String()) }

// MarshalJSON gives the user and nothing else.
func (c Credential) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{"user": c.User})
}
