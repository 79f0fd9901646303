package auth

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

const (
	// maxClientPackets bounds the packets read from one client: the longest
	// honest exchange (each plugin tried once, with RSA) needs fewer.
	maxClientPackets = 16
	// maxClientPacket bounds the size of one: a password or an RSA block.
	maxClientPacket = MaxPassword + 1
)

// exchange is one client's authentication while it runs.
type exchange struct {
	auth *Authenticator
	link Link
	req  Request
	view view

	keys    []key           // of every account that a password can fit
	plugins map[string]bool // account plugins that have keys
	decoy   bool            // no account: keys are made up and nothing may fit

	// What the client answered last: its plugin, the nonce and the response.
	plugin   string
	nonce    []byte
	response []byte
	packets  int

	usedPassword bool // the client gave a password, right or wrong
	learned      bool // the password itself, or its absence, was compared with every key
}

func newExchange(a *Authenticator, link Link, r Request, v view) *exchange {
	x := &exchange{
		auth: a, link: link, req: r, view: v,
		plugins: make(map[string]bool),
		plugin:  r.firstPlugin(), nonce: r.Nonce[:NonceLen], response: r.Response,
	}
	x.note(r.Response)
	accounts := v.accounts
	if len(accounts) == 0 {
		x.decoy = true
		plugin := r.GreetingPlugin
		if schemes[plugin] == nil {
			plugin = a.opts.DefaultPlugin
		}
		seed := a.mac("decoy " + r.User)
		accounts = []Account{{User: r.User, Plugin: plugin, AuthString: schemes[plugin].decoy(seed)}}
	}
	for _, account := range accounts {
		s, ok := schemes[account.Plugin]
		if !ok {
			continue
		}
		if k, ok := s.parse(account.AuthString); ok {
			x.keys = append(x.keys, k)
			x.plugins[account.Plugin] = true
		}
	}
	return x
}

// order returns the account plugins to try: the client's own choice first, which
// costs no round trip.
func (x *exchange) order() []string {
	var order []string
	for _, plugin := range schemeOrder {
		switch {
		case !x.plugins[plugin]:
		case plugin == x.plugin:
			order = slices.Insert(order, 0, plugin)
		default:
			order = append(order, plugin)
		}
	}
	return order
}

// refuseUnusable says why none of the user's accounts can be used.
func (x *exchange) refuseUnusable() error {
	var plugins []string
	for _, account := range x.view.accounts {
		plugins = append(plugins, account.Plugin)
	}
	slices.Sort(plugins)
	return &Refusal{
		codeDeniedNoMethod, stateDenied,
		fmt.Sprintf("Access denied for user '%s'@'%s': the account has no password that works through this proxy (its plugin: %s)",
			x.req.User, x.req.Host, strings.Join(slices.Compact(plugins), ", ")),
	}
}

// challenge makes x.nonce and x.response those of the client plugin name: what
// the handshake brought if it was made for it, else by an AuthSwitchRequest.
func (x *exchange) challenge(name string) error {
	long := name == ed25519Name || name == parsecName
	if x.plugin == name && !long {
		return nil
	}
	x.nonce = NewNonce()
	data := terminated(x.nonce)
	if long {
		x.nonce = newLongNonce()
		data = x.nonce // no NUL: clients insist on 32 bytes
	}
	request := append([]byte{headerSwitch}, name...)
	request = append(append(request, 0), data...)
	if err := x.link.WritePacket(request); err != nil {
		return err
	}
	response, err := x.read()
	if err != nil {
		return err
	}
	x.plugin, x.response = name, response
	x.note(response)
	return nil
}

// note records whether a response carries a password, for the refusal's text.
func (x *exchange) note(response []byte) {
	x.usedPassword = x.usedPassword || !saysNoPassword(response)
}

// read returns the client's next payload, which is the caller's to keep.
func (x *exchange) read() ([]byte, error) {
	if x.packets++; x.packets > maxClientPackets {
		return nil, refuseBadHandshake()
	}
	payload, err := x.link.ReadPacket()
	if err != nil {
		return nil, err
	}
	if len(payload) > maxClientPacket {
		return nil, refuseBadHandshake()
	}
	return bytes.Clone(payload), nil
}

// known are the proven credentials of this user with a password, void if the
// account rows have changed since.
func (x *exchange) known() []*Credential {
	return slices.DeleteFunc(slices.Clone(x.auth.memory.known(x.req.User, x.view.print)), func(c *Credential) bool {
		return !c.Plain()
	})
}

// speaksSHA2 reports whether the client is known to have caching_sha2_password:
// then a password is learned that way, which needs neither a secure link nor the
// client's consent to send passwords in the clear.
func (x *exchange) speaksSHA2() bool { return x.req.Plugin == cachingName }

// asksPassword reports whether a client of an account whose plugin makes
// signatures (ed25519, PARSEC) is asked for the password although a known
// credential could verify its signature: where nobody can listen, unless it named
// the plugin itself. The choice must not depend on what is known, or clients that
// lack the plugin (PHP's mysqlnd, the drivers of MySQL) would be let in until
// somebody's password is known and never after.
func (x *exchange) asksPassword(plugin string) bool {
	return x.speaksSHA2() || (x.req.Secure || x.req.Loopback) && x.req.Plugin != plugin
}

// learn gets the password itself from a client whose account's plugin gives
// nothing that would log in elsewhere.
func (x *exchange) learn() (*Credential, error) {
	if x.speaksSHA2() {
		return cachingSHA2{}.ask(x)
	}
	if !x.req.Secure && !x.req.Loopback {
		return nil, &Refusal{
			codeSecureTransport, stateGeneral,
			fmt.Sprintf("Access denied for user '%s'@'%s': the proxy must learn this account's password once, because of its plugin; connect once with TLS, over the unix socket or from the proxy's own machine",
				x.req.User, x.req.Host),
		}
	}
	if err := x.challenge(clearName); err != nil {
		return nil, err
	}
	password, _ := bytes.CutSuffix(x.response, []byte{0}) // mysqlnd sends no NUL
	return x.fit(password), nil
}

// learnSealed gets the password from sent, a packet of one of the SHA-2 plugins:
// the password ended by NUL, or encrypted, or askKey alone, which asks for the
// key to encrypt with.
func (x *exchange) learnSealed(sent []byte, askKey byte) (*Credential, error) {
	x.usedPassword = true
	asks := len(sent) == 1 && sent[0] == askKey
	if x.req.Secure && !asks {
		password, ok := bytes.CutSuffix(sent, []byte{0})
		if !ok {
			return nil, refuseBadHandshake()
		}
		return x.fit(password), nil
	}
	private, err := x.auth.passwordKey()
	if err != nil {
		return nil, err
	}
	if asks {
		if err := x.link.WritePacket(append([]byte{headerMoreData}, private.pem...)); err != nil {
			return nil, err
		}
		if sent, err = x.read(); err != nil {
			return nil, err
		}
	}
	password, ok := private.decrypt(sent, x.nonce)
	if !ok {
		return nil, refuseBadHandshake()
	}
	return x.fit(password), nil
}

// fit returns the credential with password, which may be empty, if it fits any of
// the accounts. It compares with all of them whatever it finds, so that its time
// tells nothing.
func (x *exchange) fit(password []byte) *Credential {
	x.learned = true
	x.usedPassword = x.usedPassword || len(password) > 0
	if len(password) > MaxPassword {
		return nil
	}
	var found bool
	for _, k := range x.keys {
		if k.matches(password) {
			found = true
		}
	}
	if !found {
		return nil
	}
	return PasswordCredential(x.req.User, string(password))
}
