package auth

import "errors"

// clear is mysql_clear_password: the password itself, ended by NUL. As a
// client, the proxy uses it on links that nobody can read only. It is no account
// plugin: servers use it for PAM and the like. Towards clients it serves to learn
// a password (exchange.learnClear).
type clear struct{}

const clearName = "mysql_clear_password"

var errNeedsPassword = errors.New("only SHA1 of the password is known, which suits " + nativeName + " alone")

func (clear) fits(c *Credential, secure bool) error {
	if !c.Plain() {
		return errNeedsPassword
	}
	if !secure {
		return errors.New("a password is not sent in the clear over a link without TLS")
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
