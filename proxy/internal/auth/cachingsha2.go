package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
)

// cachingSHA2 is caching_sha2_password. With the password in its memory a
// server checks the client's scramble (fast authentication); else it asks for
// the password itself: in the clear over a link that nobody can read, encrypted
// for its RSA key elsewhere (full authentication), and compares with the stored
// sha256-crypt digest. The proxy does the same.
//
// https://dev.mysql.com/doc/dev/mysql-server/latest/page_caching_sha2_authentication_exchanges.html
type cachingSHA2 struct{}

const (
	cachingName = "caching_sha2_password"

	cachingAskKey = 0x02 // client: send me your public key
	cachingFastOK = 0x03 // server: the scramble is right
	cachingFull   = 0x04 // server: send me the password
)

func (cachingSHA2) parse(stored []byte) (key, bool) {
	if len(stored) == 0 {
		return emptyKey{}, true
	}
	return parseCachingKey(stored)
}

func (cachingSHA2) decoy(seed [32]byte) []byte {
	return append([]byte("$A$005$"), sha2Decoy(seed)...)
}

// sha2Decoy is a salt and a digest that no known password has.
func sha2Decoy(seed [32]byte) []byte {
	digest := cryptBase64(seed)
	return append(digest[:sha2SaltLen:sha2SaltLen], digest[:]...)
}

func (cachingSHA2) ask(x *exchange) (*Credential, error) {
	if err := x.challenge(cachingName); err != nil {
		return nil, err
	}
	if saysNoPassword(x.response) {
		return x.fit(nil), nil
	}
	if len(x.response) != sha256.Size {
		return nil, nil
	}
	for _, c := range x.known() {
		want := cachingScramble(c.secret().password, x.nonce)
		if subtle.ConstantTimeCompare(want, x.response) == 1 {
			return c, x.link.WritePacket([]byte{headerMoreData, cachingFastOK})
		}
	}
	if err := x.link.WritePacket([]byte{headerMoreData, cachingFull}); err != nil {
		return nil, err
	}
	sent, err := x.read()
	if err != nil {
		return nil, err
	}
	return x.learnSealed(sent, cachingAskKey)
}

// saysNoPassword reports whether a response of the SHA-2 plugins means: there is
// no password. Clients send nothing or a lone NUL.
func saysNoPassword(response []byte) bool {
	return len(response) == 0 || len(response) == 1 && response[0] == 0
}

// cachingScramble is XOR(SHA256(password), SHA256(SHA256(SHA256(password)) + nonce)).
func cachingScramble(password, nonce []byte) []byte {
	once := sha256.Sum256(password)
	twice := sha256.Sum256(once[:])
	mask := sha256.Sum256(append(twice[:], nonce[:NonceLen]...))
	subtle.XORBytes(mask[:], mask[:], once[:])
	return mask[:]
}

func (cachingSHA2) fits(c *Credential, _ bool) error {
	if !c.Plain() {
		return errHashOnly
	}
	return nil
}

func (cachingSHA2) answer(c *Credential, ch challenge) ([]byte, error) {
	if c.empty() {
		return []byte{0}, nil
	}
	return cachingScramble(c.secret().password, ch.data), nil
}

func (cachingSHA2) more(c *Credential, ch challenge, data []byte) ([]byte, error) {
	if len(data) != 1 {
		return sealPassword(c.secret().password, ch.data, data)
	}
	switch data[0] {
	case cachingFastOK:
		return nil, nil
	case cachingFull:
		if ch.secure {
			return terminated(c.secret().password), nil
		}
		return []byte{cachingAskKey}, nil
	default:
		return nil, fmt.Errorf("unknown data 0x%02x for %s", data[0], cachingName)
	}
}
