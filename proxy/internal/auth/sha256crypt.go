package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"strconv"
)

// sha2Key is a stored string of caching_sha2_password or sha256_password: the
// digest of sha256-crypt (https://www.akkadia.org/drepper/SHA-crypt.txt), which
// the servers use with salts of 20 bytes instead of at most 16.
type sha2Key struct {
	rounds int
	salt   []byte
	digest [sha2DigestLen]byte
}

const (
	sha2SaltLen   = 20
	sha2DigestLen = 43
	// maxCryptRounds is the servers' own limit (caching_sha2_password_digest_rounds).
	maxCryptRounds     = 4095000
	defaultCryptRounds = 5000
)

func (k sha2Key) matches(password []byte) bool {
	digest := sha256Crypt(password, k.salt, k.rounds)
	return subtle.ConstantTimeCompare(digest[:], k.digest[:]) == 1 && len(password) > 0
}

// parseCachingKey reads "$A$", the rounds in thousands as three hexadecimal
// digits, "$", 20 bytes of salt and 43 of digest. The salt may hold any byte,
// '$' too in dumps of old versions, so it is cut by length.
func parseCachingKey(stored []byte) (key, bool) {
	const prefix = len("$A$005$")
	if len(stored) != prefix+sha2SaltLen+sha2DigestLen || string(stored[:3]) != "$A$" || stored[prefix-1] != '$' {
		return nil, false
	}
	thousands, err := strconv.ParseUint(string(stored[3:prefix-1]), 16, 16)
	rounds := int(thousands) * 1000
	if err != nil || rounds == 0 || rounds > maxCryptRounds {
		return nil, false
	}
	return newSHA2Key(rounds, stored[prefix:]), true
}

// parseSHA256Key reads "$5$", 20 bytes of salt, "$" and 43 of digest.
func parseSHA256Key(stored []byte) (key, bool) {
	const prefix = len("$5$")
	if len(stored) != prefix+sha2SaltLen+1+sha2DigestLen || string(stored[:prefix]) != "$5$" || stored[prefix+sha2SaltLen] != '$' {
		return nil, false
	}
	salt := stored[prefix : prefix+sha2SaltLen : prefix+sha2SaltLen]
	return newSHA2Key(defaultCryptRounds, append(salt, stored[prefix+sha2SaltLen+1:]...)), true
}

func newSHA2Key(rounds int, saltAndDigest []byte) sha2Key {
	return sha2Key{rounds, saltAndDigest[:sha2SaltLen], [sha2DigestLen]byte(saltAndDigest[sha2SaltLen:])}
}

// sha256Crypt is the digest part of sha256-crypt.
func sha256Crypt(password, salt []byte, rounds int) [sha2DigestLen]byte {
	sum := func(parts ...[]byte) []byte {
		h := sha256.New()
		for _, p := range parts {
			h.Write(p)
		}
		return h.Sum(nil)
	}
	b := sum(password, salt, password)
	h := sha256.New()
	h.Write(password)
	h.Write(salt)
	h.Write(stretch(b, len(password)))
	for n := len(password); n > 0; n >>= 1 {
		if n&1 == 1 {
			h.Write(b)
		} else {
			h.Write(password)
		}
	}
	a := h.Sum(nil)

	h.Reset()
	for range password {
		h.Write(password)
	}
	p := stretch(h.Sum(nil), len(password))
	h.Reset()
	for range 16 + int(a[0]) {
		h.Write(salt)
	}
	s := stretch(h.Sum(nil), len(salt))

	for round := range rounds {
		h.Reset()
		if round&1 == 1 {
			h.Write(p)
		} else {
			h.Write(a)
		}
		if round%3 != 0 {
			h.Write(s)
		}
		if round%7 != 0 {
			h.Write(p)
		}
		if round&1 == 1 {
			h.Write(a)
		} else {
			h.Write(p)
		}
		a = h.Sum(a[:0])
	}
	return cryptBase64([sha256.Size]byte(a))
}

// stretch repeats sum up to n bytes.
func stretch(sum []byte, n int) []byte {
	out := make([]byte, 0, n+len(sum))
	for len(out) < n {
		out = append(out, sum...)
	}
	return out[:n]
}

const cryptAlphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// cryptBase64 writes a digest as crypt does: groups of three bytes that are ten
// apart (rotating), the low six bits first.
func cryptBase64(d [sha256.Size]byte) (out [sha2DigestLen]byte) {
	at := 0
	put := func(bits uint, chars int) {
		for range chars {
			out[at] = cryptAlphabet[bits&63]
			bits >>= 6
			at++
		}
	}
	x, y, z := 0, 10, 20
	for range 10 {
		put(uint(d[x])<<16|uint(d[y])<<8|uint(d[z]), 4)
		x, y, z = z+1, x+1, y+1
	}
	put(uint(d[31])<<8|uint(d[30]), 3)
	return out
}
