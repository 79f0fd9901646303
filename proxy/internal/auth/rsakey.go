package auth

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// rsaBits is the size of the key that the servers make themselves.
const rsaBits = 2048

// passwordKey decrypts passwords that clients send over links that can be read.
type passwordKey struct {
	private *rsa.PrivateKey
	pem     []byte // the public half, as servers send it
}

func newPasswordKey() (*passwordKey, error) {
	private, err := rsa.GenerateKey(rand.Reader, rsaBits)
	if err != nil {
		return nil, fmt.Errorf("make the RSA key for passwords: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("make the RSA key for passwords: %w", err)
	}
	return &passwordKey{private, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}, nil
}

// decrypt returns the password in sealed, ok false if there is none.
func (k *passwordKey) decrypt(sealed, nonce []byte) (password []byte, ok bool) {
	text, err := rsa.DecryptOAEP(sha1.New(), nil, k.private, sealed, nil)
	if err != nil {
		return nil, false
	}
	xorNonce(text, nonce)
	return bytes.CutSuffix(text, []byte{0})
}

// sealPassword encrypts password for the server whose public key is in pemText.
func sealPassword(password, nonce, pemText []byte) ([]byte, error) {
	block, _ := pem.Decode(pemText)
	if block == nil {
		return nil, errors.New("the server's public key is no PEM text")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the server's public key: %w", err)
	}
	public, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("the server's public key is a %T, not RSA", parsed)
	}
	text := terminated(password)
	xorNonce(text, nonce)
	sealed, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, public, text, nil)
	if err != nil {
		return nil, fmt.Errorf("encrypt the password for the server: %w", err)
	}
	return sealed, nil
}

// xorNonce applies the nonce over and over to text, so that the same password
// is another plain text each time.
func xorNonce(text, nonce []byte) {
	for i := range text {
		text[i] ^= nonce[i%NonceLen]
	}
}
