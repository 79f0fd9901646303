package auth

import (
	"crypto/sha1"
	"crypto/subtle"
	"encoding/hex"
	"errors"
)

// native is mysql_native_password. The server stores H2 = SHA1(SHA1(password));
// the client sends SHA1(password) XOR SHA1(nonce + H2). Whoever knows H2 and
// sees a valid token knows SHA1(password), which logs in anywhere: so the proxy
// needs nothing but the account table.
//
// https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_authentication_methods_native_password_authentication.html
type native struct{}

const nativeName = "mysql_native_password"

// nativeKey is H2.
type nativeKey [sha1.Size]byte

func (k nativeKey) matches(password []byte) bool {
	stage1 := sha1.Sum(password)
	stage2 := sha1.Sum(stage1[:])
	// An empty password is an empty response, which such an account refuses.
	return subtle.ConstantTimeCompare(stage2[:], k[:]) == 1 && len(password) > 0
}

// parse reads "*" and 40 hexadecimal digits. Anything else is no hash: MariaDB
// writes "invalid" for an account that only its other plugins let in.
func (native) parse(stored []byte) (key, bool) {
	if len(stored) == 0 {
		return emptyKey{}, true
	}
	var k nativeKey
	if len(stored) != 1+hex.EncodedLen(len(k)) || stored[0] != '*' {
		return nil, false
	}
	if _, err := hex.Decode(k[:], stored[1:]); err != nil {
		return nil, false
	}
	return k, true
}

func (native) decoy(seed [32]byte) []byte {
	return hex.AppendEncode([]byte{'*'}, seed[:sha1.Size])
}

func (native) ask(x *exchange) (*Credential, error) {
	if err := x.challenge(nativeName); err != nil {
		return nil, err
	}
	if len(x.response) == 0 {
		return x.fit(nil), nil
	}
	if len(x.response) != sha1.Size {
		return nil, nil
	}
	var found *Credential
	for _, k := range x.keys {
		stage2, ok := k.(nativeKey)
		if !ok {
			continue
		}
		stage1 := nativeToken(x.nonce, stage2, [sha1.Size]byte(x.response))
		check := sha1.Sum(stage1[:])
		if subtle.ConstantTimeCompare(check[:], stage2[:]) == 1 {
			found = HashCredential(x.req.User, stage1)
		}
	}
	return found, nil
}

// nativeToken turns SHA1(password) into the token and, XOR being its own
// inverse, the token into SHA1(password).
func nativeToken(nonce []byte, stage2, in [sha1.Size]byte) [sha1.Size]byte {
	mask := sha1.Sum(append(nonce[:NonceLen:NonceLen], stage2[:]...))
	subtle.XORBytes(in[:], in[:], mask[:])
	return in
}

func (native) fits(*Credential, bool) error { return nil }

func (native) answer(c *Credential, ch challenge) ([]byte, error) {
	if c.empty() {
		return []byte{}, nil
	}
	stage2 := sha1.Sum(c.secret().stage1[:])
	token := nativeToken(ch.data, stage2, c.secret().stage1)
	return token[:], nil
}

func (native) more(*Credential, challenge, []byte) ([]byte, error) {
	return nil, errors.New("unexpected data for " + nativeName)
}
