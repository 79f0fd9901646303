package auth

import (
	"bytes"
	"crypto/ed25519"
	"crypto/pbkdf2"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
)

// parsec is MariaDB's PARSEC (11.6 and later): the client's ed25519 key is
// PBKDF2-HMAC-SHA512 of the password with the account's salt. The server sends a
// nonce of 32 bytes; the client an empty packet, which asks for the salt; the
// server the algorithm, iterations and salt; the client 32 random bytes of its
// own and the signature over both nonces.
//
// As with ed25519 the password is learned once.
//
// https://mariadb.com/kb/en/authentication-plugin-parsec/
type parsec struct{}

const (
	parsecName = "parsec"

	parsecSaltLen = 18
	// parsecMaxFactor bounds the work that an account row or a server can ask
	// for: 1024<<10 iterations take about half a second.
	parsecMaxFactor = 10
)

// parsecParams are what both sides need to make the key of a password. On the
// wire: 'P', the factor as a number, the salt.
type parsecParams struct {
	factor int // 1024<<factor iterations
	salt   [parsecSaltLen]byte
}

type parsecKey struct {
	parsecParams
	public [ed25519.PublicKeySize]byte
}

func (p parsecParams) private(password []byte) (ed25519.PrivateKey, error) {
	seed, err := pbkdf2.Key(sha512.New, string(password), p.salt[:], 1024<<p.factor, ed25519.SeedSize)
	if err != nil { // crypto/pbkdf2 refuses some parameters in FIPS 140 mode
		return nil, fmt.Errorf("derive the key for %s: %w", parsecName, err)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

func (p parsecParams) wire() []byte {
	return append([]byte{'P', byte(p.factor)}, p.salt[:]...)
}

func parseParsecParams(data []byte) (p parsecParams, err error) {
	if len(data) != 2+parsecSaltLen || data[0] != 'P' {
		return p, errors.New("unknown parameters for " + parsecName)
	}
	if data[1] > parsecMaxFactor {
		return p, fmt.Errorf("%s with 1024<<%d iterations is more than the proxy computes", parsecName, data[1])
	}
	return parsecParams{int(data[1]), [parsecSaltLen]byte(data[2:])}, nil
}

func (k parsecKey) matches(password []byte) bool {
	private, err := k.private(password)
	if err != nil {
		return false
	}
	return subtle.ConstantTimeCompare(private.Public().(ed25519.PublicKey), k.public[:]) == 1
}

// parse reads "P", the factor as one digit in base 62, ":", the salt, ":" and the
// public key, both in base64 without padding.
func (parsec) parse(stored []byte) (key, bool) {
	var k parsecKey
	part := bytes.Split(stored, []byte{':'})
	if len(part) != 3 || len(part[0]) != 2 || part[0][0] != 'P' {
		return nil, false
	}
	switch digit := part[0][1]; {
	case digit >= '0' && digit <= '9':
		k.factor = int(digit - '0')
	case digit == 'A':
		k.factor = 10
	default:
		return nil, false
	}
	enc := base64.RawStdEncoding
	if len(part[1]) != enc.EncodedLen(len(k.salt)) || len(part[2]) != enc.EncodedLen(len(k.public)) {
		return nil, false
	}
	if _, err := enc.Decode(k.salt[:], part[1]); err != nil {
		return nil, false
	}
	if _, err := enc.Decode(k.public[:], part[2]); err != nil {
		return nil, false
	}
	return k, true
}

func (parsec) decoy(seed [32]byte) []byte {
	enc := base64.RawStdEncoding
	public := ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey)
	text := enc.AppendEncode([]byte("P0:"), seed[:parsecSaltLen])
	return enc.AppendEncode(append(text, ':'), public)
}

func (parsec) ask(x *exchange) (*Credential, error) {
	if x.asksPassword(parsecName) {
		return x.learn()
	}
	fit, public, alone := x.knownParsec()
	if fit == nil {
		return x.learn()
	}
	if err := x.challenge(parsecName); err != nil {
		return nil, err
	}
	if len(x.response) != 0 {
		return nil, refuseBadHandshake()
	}
	if err := x.link.WritePacket(public.wire()); err != nil {
		return nil, err
	}
	signed, err := x.read()
	if err != nil {
		return nil, err
	}
	x.usedPassword = true
	if len(signed) != longNonceLen+ed25519.SignatureSize {
		return nil, nil
	}
	message := append(x.nonce[:longNonceLen:longNonceLen], signed[:longNonceLen]...)
	if ed25519.Verify(public.public[:], message, signed[longNonceLen:]) {
		return fit, nil
	}
	if !alone { // it may fit another account, whose salt was not the one sent
		return x.learn()
	}
	return nil, nil
}

// knownParsec returns a known credential and the key of the account that it
// fits, whose salt is the one to send; alone: it is the user's only such key.
func (x *exchange) knownParsec() (fit *Credential, public parsecKey, alone bool) {
	known := x.known()
	keys := 0
	for _, k := range x.keys {
		candidate, ok := k.(parsecKey)
		if !ok {
			continue
		}
		keys++
		for _, c := range known {
			if fit == nil && candidate.matches(c.secret().password) {
				fit, public = c, candidate
			}
		}
	}
	return fit, public, keys == 1
}

func (parsec) fits(c *Credential, _ bool) error {
	if !c.Plain() {
		return errHashOnly
	}
	return nil
}

func (parsec) answer(_ *Credential, ch challenge) ([]byte, error) {
	if len(ch.data) != longNonceLen {
		return nil, errors.New(parsecName + " needs a nonce of 32 bytes")
	}
	return []byte{}, nil
}

func (parsec) more(c *Credential, ch challenge, data []byte) ([]byte, error) {
	params, err := parseParsecParams(data)
	if err != nil {
		return nil, err
	}
	private, err := params.private(c.secret().password)
	if err != nil {
		return nil, err
	}
	own := newLongNonce()
	message := append(ch.data[:longNonceLen:longNonceLen], own...)
	return append(own, ed25519.Sign(private, message)...), nil
}
