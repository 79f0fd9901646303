package auth

// sha256Password is sha256_password: the password itself at every login, in the
// clear over TLS, encrypted for the server's RSA key elsewhere, even on a unix
// socket.
//
// https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_authentication_methods_authentication_256.html
type sha256Password struct{}

const (
	sha256Name = "sha256_password"

	sha256AskKey = 0x01 // client: send me your public key
)

func (sha256Password) parse(stored []byte) (key, bool) {
	if len(stored) == 0 {
		return emptyKey{}, true
	}
	return parseSHA256Key(stored)
}

func (sha256Password) decoy(seed [32]byte) []byte {
	text := append([]byte("$5$"), sha2Decoy(seed)...)
	const at = len("$5$") + sha2SaltLen
	return append(append(text[:at:at], '$'), text[at:]...)
}

func (sha256Password) ask(x *exchange) (*Credential, error) {
	if err := x.challenge(sha256Name); err != nil {
		return nil, err
	}
	if saysNoPassword(x.response) {
		return x.fit(nil), nil
	}
	return x.learnSealed(x.response, sha256AskKey)
}

func (sha256Password) fits(c *Credential, _ bool) error {
	if !c.Plain() {
		return errHashOnly
	}
	return nil
}

func (sha256Password) answer(c *Credential, ch challenge) ([]byte, error) {
	switch {
	case c.empty():
		return []byte{0}, nil
	case ch.secure && !ch.socket:
		return terminated(c.secret().password), nil
	default:
		return []byte{sha256AskKey}, nil
	}
}

func (sha256Password) more(c *Credential, ch challenge, data []byte) ([]byte, error) {
	return sealPassword(c.secret().password, ch.data, data)
}
