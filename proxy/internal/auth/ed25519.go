package auth

import (
	"crypto/ed25519"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"

	"filippo.io/edwards25519"
)

// mariaEd25519 is MariaDB's ed25519: the server stores a public key and the
// client signs a nonce of 32 bytes. The key is not an RFC 8032 key: what RFC
// 8032 hashes is a seed of 32 bytes, what MariaDB hashes is the password. From
// there on (signature, verification) both are the same.
//
// Neither the stored key nor a signature is enough to sign for another server:
// the password is learned once.
//
// https://mariadb.com/kb/en/connection/#client_ed25519-plugin
type mariaEd25519 struct{}

const (
	ed25519Server = "ed25519"        // in the account table
	ed25519Name   = "client_ed25519" // on the wire
)

type ed25519Key [ed25519.PublicKeySize]byte

func (k ed25519Key) matches(password []byte) bool {
	secret, _ := ed25519Secret(password)
	public := ed25519Public(secret)
	return subtle.ConstantTimeCompare(public, k[:]) == 1
}

func (mariaEd25519) parse(stored []byte) (key, bool) {
	var k ed25519Key
	if len(stored) != base64.RawStdEncoding.EncodedLen(len(k)) {
		return nil, false
	}
	if _, err := base64.RawStdEncoding.Decode(k[:], stored); err != nil {
		return nil, false
	}
	return k, true
}

func (mariaEd25519) decoy(seed [32]byte) []byte {
	secret, _ := ed25519Secret(seed[:])
	public := ed25519Public(secret)
	return base64.RawStdEncoding.AppendEncode(nil, public)
}

func (mariaEd25519) ask(x *exchange) (*Credential, error) {
	known := x.known()
	if len(known) == 0 || x.asksPassword(ed25519Name) {
		return x.learn()
	}
	if err := x.challenge(ed25519Name); err != nil {
		return nil, err
	}
	if len(x.response) != ed25519.SignatureSize {
		return nil, nil
	}
	for _, k := range x.keys {
		public, ok := k.(ed25519Key)
		if !ok || !ed25519.Verify(public[:], x.nonce, x.response) {
			continue
		}
		for _, c := range known {
			if public.matches(c.secret().password) {
				return c, nil
			}
		}
		return x.learn() // right, but another password than the known ones
	}
	return nil, nil
}

// ed25519Secret is the scalar of a password and the prefix that makes its
// signatures deterministic.
func ed25519Secret(password []byte) (scalar *edwards25519.Scalar, prefix []byte) {
	hash := sha512.Sum512(password)
	scalar, err := edwards25519.NewScalar().SetBytesWithClamping(hash[:32])
	if err != nil {
		panic("auth: 32 bytes are not 32 bytes: " + err.Error()) // the only error there is
	}
	return scalar, hash[32:]
}

func ed25519Public(secret *edwards25519.Scalar) []byte {
	return new(edwards25519.Point).ScalarBaseMult(secret).Bytes()
}

// ed25519Sign signs message with the key of password.
func ed25519Sign(password, message []byte) []byte {
	secret, prefix := ed25519Secret(password)
	public := ed25519Public(secret)
	r := hashToScalar(prefix, message)
	commitment := new(edwards25519.Point).ScalarBaseMult(r).Bytes()
	k := hashToScalar(commitment, public, message)
	s := edwards25519.NewScalar().MultiplyAdd(k, secret, r)
	return append(commitment, s.Bytes()...)
}

func hashToScalar(parts ...[]byte) *edwards25519.Scalar {
	h := sha512.New()
	for _, p := range parts {
		h.Write(p)
	}
	s, err := edwards25519.NewScalar().SetUniformBytes(h.Sum(nil))
	if err != nil {
		panic("auth: SHA-512 is not 64 bytes: " + err.Error()) // the only error there is
	}
	return s
}

func (mariaEd25519) fits(c *Credential, _ bool) error {
	if !c.Plain() {
		return errHashOnly
	}
	return nil
}

func (mariaEd25519) answer(c *Credential, ch challenge) ([]byte, error) {
	if len(ch.data) != longNonceLen {
		return nil, errors.New(ed25519Name + " needs a nonce of 32 bytes")
	}
	return ed25519Sign(c.secret().password, ch.data), nil
}

func (mariaEd25519) more(*Credential, challenge, []byte) ([]byte, error) {
	return nil, errors.New("unexpected data for " + ed25519Name)
}
