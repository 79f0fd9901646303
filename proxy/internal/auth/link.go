package auth

import (
	"context"
	"crypto/rand"
	"errors"
)

// Link exchanges whole payloads of the connection phase with one peer. Packet
// headers, sequence numbers, time limits and the bound on a packet's size are
// the implementation's.
type Link interface {
	// ReadPacket returns the peer's next payload, valid until the next call.
	ReadPacket() ([]byte, error)
	// WritePacket sends payload at once. It does not keep it.
	WritePacket(payload []byte) error
}

// SocketLink is what a Link towards a server over a unix socket also implements.
// Only sha256_password wants to know: its servers take a socket for a link that
// can be read, and want the password encrypted there.
type SocketLink interface {
	Link
	// UnixSocket reports whether the link is a unix socket.
	UnixSocket() bool
}

// Account is one way into an account of the server: a row of its account table,
// or one alternative of a row that has several (MariaDB's IDENTIFIED VIA a OR b,
// MySQL's RETAIN CURRENT PASSWORD): one Account for each.
type Account struct {
	// User is empty for an anonymous account.
	User, Host string
	// Plugin is the server's name of the authentication plugin, such as
	// "ed25519" (whose client side is called "client_ed25519").
	Plugin string
	// AuthString is the stored hash or public key, byte for byte as the account
	// table has it (authentication_string).
	AuthString              []byte
	Locked, PasswordExpired bool
}

// Directory looks accounts up in the primary's account table, freshly at each
// call (it may answer calls that wait at the same time with one query).
type Directory interface {
	// Accounts returns the rows of user and, in the same answer, the anonymous
	// rows, if any; roles are left out. No row is not an error. An error means
	// that the table could not be read; its text is shown to the client.
	Accounts(ctx context.Context, user string) ([]Account, error)
}

// Prover logs in to the primary with a credential and leaves again, which also
// lets the server decide about host, account lock, expiry and limits.
type Prover interface {
	// Prove returns a *ServerError if the server refused the login, any other
	// error if the server could not be asked; its text is shown to the client.
	// database is the default schema asked for, possibly empty.
	Prove(ctx context.Context, c *Credential, database string) error
}

// NonceLen is the length in bytes of a greeting's nonce (auth-plugin-data),
// without the NUL that ends it on the wire.
const NonceLen = 20

// NewNonce returns the nonce of a greeting: NonceLen random bytes from 1 to
// 127, none of them '$', as servers make them.
func NewNonce() []byte {
	nonce := make([]byte, 0, NonceLen)
	var random [2 * NonceLen]byte
	for {
		rand.Read(random[:]) // never fails: crypto/rand ends the program instead
		for _, b := range random {
			if b &= 0x7f; b == 0 || b == '$' {
				continue
			}
			if nonce = append(nonce, b); len(nonce) == NonceLen {
				return nonce
			}
		}
	}
}

// newLongNonce returns the 32 bytes of ed25519's and PARSEC's challenges, which
// may have any value.
func newLongNonce() []byte {
	nonce := make([]byte, longNonceLen)
	rand.Read(nonce)
	return nonce
}

const longNonceLen = 32

// First bytes of a server's payloads in the connection phase.
const (
	headerOK       = 0x00
	headerMoreData = 0x01
	headerNextAuth = 0x02
	headerSwitch   = 0xfe
	headerErr      = 0xff
)

// errMalformed is a payload that the protocol does not allow at this place.
var errMalformed = errors.New("auth: malformed packet")
