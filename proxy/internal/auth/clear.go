package auth

import (
	"errors"
	"fmt"
)

// clear is mysql_clear_password: the password itself, ended by NUL. As a
// client, the proxy uses it on links that nobody can read only. It is no account
// plugin: servers use it for PAM and the like. Towards clients it serves to learn
// a password (exchange.learnClear).
type clear struct{}

const clearName = "mysql_clear_password"

func (clear) fits(c *Credential, secure bool) error {
	if !c.Plain() {
		return errHashOnly
	}
	if !secure {
		return fmt.Errorf("%w: a password is not sent in the clear over a link without TLS", ErrUnfit)
	}
	return nil
}

func (clear) answer(c *Credential, _ challenge) ([]byte, error) {
	return terminated(c.secret().password), nil
}

func (clear) more(*Credential, challenge, []byte) ([]byte, error) {
	return nil, errors.New("unexpected data for " + clearName)
}

// terminated is password with the NUL that ends it on the wire.
func terminated(password []byte) []byte {
	return append(password[:len(password):len(password)], 0)
}
