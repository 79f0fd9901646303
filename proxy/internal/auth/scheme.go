package auth

// scheme is one authentication plugin: how its stored strings are read, how a
// client is asked and how a server is answered.
type scheme interface {
	answerer
	// parse reads an account's stored string. ok is false if no password can
	// ever fit it.
	parse(stored []byte) (k key, ok bool)
	// ask runs the exchange with a client and returns the credential that fits
	// one of the account's keys. Nil without an error means: a wrong password.
	ask(x *exchange) (*Credential, error)
	// decoy is a well-formed stored string made of seed, for an account that
	// does not exist.
	decoy(seed [32]byte) []byte
}

// key is an account's stored string, read.
type key interface {
	// matches reports whether password is the one that was stored. Its time
	// depends on the key's parameters and the password's length only.
	matches(password []byte) bool
}

// answerer is the client's side of an authentication plugin.
type answerer interface {
	// fits reports whether c can answer the plugin over such a link.
	fits(c *Credential, secure bool) error
	// answer is the first response to a challenge.
	answer(c *Credential, ch challenge) ([]byte, error)
	// more answers the server's further data; reply is nil if nothing is to be
	// sent.
	more(c *Credential, ch challenge, data []byte) (reply []byte, err error)
}

// challenge is what a server sent for an answerer.
type challenge struct {
	data   []byte // nonce and what may follow it, at least NonceLen bytes
	secure bool   // nobody can read the link: TLS or a unix socket
	socket bool   // a unix socket
}

// schemes are the account plugins that the proxy can authenticate, by the
// server's name of them.
var schemes = map[string]scheme{
	nativeName:    native{},
	cachingName:   cachingSHA2{},
	sha256Name:    sha256Password{},
	ed25519Server: mariaEd25519{},
	parsecName:    parsec{},
}

// schemeOrder is the order in which the plugins of a user's accounts are tried
// if the client's own choice is not among them: first what costs no learning.
var schemeOrder = []string{nativeName, cachingName, parsecName, ed25519Server, sha256Name}

// answerers are the plugins that a server may ask for, by their name on the
// wire.
var answerers = map[string]answerer{
	nativeName:  native{},
	cachingName: cachingSHA2{},
	sha256Name:  sha256Password{},
	ed25519Name: mariaEd25519{},
	parsecName:  parsec{},
	clearName:   clear{},
}

// emptyKey is an empty stored string: an account without a password, which the
// plugins that have it let in with an empty response.
type emptyKey struct{}

func (emptyKey) matches(password []byte) bool { return len(password) == 0 }
