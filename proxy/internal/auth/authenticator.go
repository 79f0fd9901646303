package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options are an Authenticator's settings. The zero value of each means its
// default.
type Options struct {
	// DefaultPlugin is the account plugin that unknown users are asked for if
	// Request.GreetingPlugin does not say; it should be the one that new accounts
	// get on the servers. Default, and instead of a plugin that the proxy does
	// not have: mysql_native_password.
	DefaultPlugin string
	// StaleFor is how long the last known rows of a user stand in for the
	// account table while it cannot be read. Default: one hour. Negative: never.
	StaleFor time.Duration
	// MaxAge is how old a reading of the account table may be by which a client is
	// let in whose password has been proved before. Default: none, every login
	// waits for a reading of its own. Whoever is not let in by an older reading is
	// judged by a new one.
	MaxAge time.Duration
	// MaxUsers bounds the number of users whose credentials are remembered.
	// Default: 10000.
	MaxUsers int
}

func (o Options) withDefaults() Options {
	if _, ok := schemes[o.DefaultPlugin]; !ok {
		o.DefaultPlugin = nativeName
	}
	if o.StaleFor == 0 {
		o.StaleFor = time.Hour
	}
	if o.MaxUsers <= 0 {
		o.MaxUsers = 10_000
	}
	return o
}

// Authenticator authenticates clients. It is safe for concurrent use. The only
// goroutines that it starts read the account table ahead of need (MaxAge), and
// end with that.
type Authenticator struct {
	dir     Directory
	prover  Prover
	opts    Options
	secret  [32]byte // of this process: makes decoys and fingerprints
	memory  *memory
	flights flights
	// passwordKey is made when the first client needs it (0.2 s).
	passwordKey func() (*passwordKey, error)
}

// New returns an Authenticator that looks accounts up in dir and proves new
// credentials by prove.
func New(dir Directory, prove Prover, opts Options) *Authenticator {
	opts = opts.withDefaults()
	a := &Authenticator{
		dir: dir, prover: prove, opts: opts,
		memory:      newMemory(opts.MaxUsers),
		passwordKey: sync.OnceValues(newPasswordKey),
	}
	rand.Read(a.secret[:])
	return a
}

// Request is what a client said in its handshake response or COM_CHANGE_USER,
// and how it is connected.
type Request struct {
	User, Database string
	// Host is the client's host as it appears in messages: 'user'@'host'.
	Host string
	// GreetingPlugin is the plugin that the greeting named, which should be the
	// servers' own. An unknown user is asked for it.
	GreetingPlugin string
	// Plugin is the client's authentication plugin; empty if it named none.
	Plugin string
	// Nonce is the greeting's, NonceLen bytes; Response what the client made of it.
	Nonce, Response []byte
	// Secure: nobody can read the link (TLS, unix socket). Loopback: nobody
	// outside this machine can.
	Secure, Loopback bool
	// ClientCanSwitch: the client has CLIENT_PLUGIN_AUTH. Else it can do
	// mysql_native_password with the greeting's nonce and nothing more.
	ClientCanSwitch bool
	// SSLRequired: the proxy's configuration lets nobody in over a link that is
	// not Secure.
	SSLRequired bool
}

// firstPlugin is the plugin that Response was made by.
func (r *Request) firstPlugin() string {
	if !r.ClientCanSwitch {
		return nativeName
	}
	return r.Plugin
}

// maxUserLen is beyond what servers allow (MariaDB: 128 characters).
const maxUserLen = 1024

// Authenticate runs the rest of the exchange (AuthSwitchRequest, AuthMoreData)
// with the client behind link and returns its credential, or a *Refusal to send
// to it, or another error if the link or ctx broke. The final OK or ERR is the
// caller's to send. Request and rows are not kept.
func (a *Authenticator) Authenticate(ctx context.Context, link Link, r Request) (*Credential, error) {
	if len(r.Nonce) < NonceLen {
		return nil, fmt.Errorf("auth: a nonce of %d bytes", len(r.Nonce))
	}
	if len(r.User) > maxUserLen {
		return nil, refuseBadHandshake()
	}
	if r.SSLRequired && !r.Secure {
		return nil, refuseInsecure()
	}
	if c, more := a.quick(ctx, &r); c != nil {
		if more != nil {
			return c, link.WritePacket(more)
		}
		return c, nil
	}
	v, err := a.look(ctx, r.User)
	if err != nil {
		return nil, err
	}
	x := newExchange(a, link, r, v)
	order := x.order()
	if len(order) == 0 {
		return nil, x.refuseUnusable()
	}
	if !r.ClientCanSwitch {
		if !slices.Contains(order, nativeName) {
			return nil, refuseOldClient()
		}
		order = []string{nativeName}
	}
	for _, plugin := range order {
		c, err := schemes[plugin].ask(x)
		if err != nil {
			return nil, err
		}
		if c != nil && !x.decoy {
			return a.prove(ctx, v, c, r)
		}
		if x.learned {
			break // the password itself was compared with every account
		}
	}
	if v.unread != nil {
		return nil, refuseNotReachable(r.User, r.Host, "the primary's account table cannot be read", v.unread)
	}
	return nil, refuseDenied(r.User, r.Host, x.usedPassword)
}

// AuthenticateNow is Authenticate for who can be let in without waiting for
// anything, else it returns nil. more is what the client is sent before its OK, nil
// for nothing.
func (a *Authenticator) AuthenticateNow(ctx context.Context, r *Request) (c *Credential, more []byte) {
	if len(r.Nonce) < NonceLen || len(r.User) > maxUserLen || r.SSLRequired && !r.Secure {
		return nil, nil
	}
	return a.quick(ctx, r)
}

// quick returns the credential of a client whose first response proves a password
// that is known, by a recent reading of its user's rows; else nil. The client must
// have chosen the plugin of one of the accounts, and that be one of the two which
// need no more than the greeting's nonce. more is what it is sent before its OK.
func (a *Authenticator) quick(ctx context.Context, r *Request) (_ *Credential, more []byte) {
	if a.opts.MaxAge <= 0 {
		return nil, nil
	}
	plugin := r.firstPlugin()
	switch plugin {
	case nativeName:
	case cachingName:
		more = []byte{headerMoreData, cachingFastOK}
	default:
		return nil, nil
	}
	v, credentials, ahead := a.memory.recent(r.User, a.opts.MaxAge)
	if ahead {
		go func() {
			defer a.memory.wasAhead(r.User)
			// Nobody waits for it: the next login finds out what is wrong.
			_, _ = a.look(context.WithoutCancel(ctx), r.User)
		}()
	}
	if !slices.ContainsFunc(v.accounts, func(account Account) bool { return account.Plugin == plugin }) {
		return nil, nil
	}
	how := answerers[plugin]
	for _, c := range credentials {
		if c.empty() || how.fits(c, false) != nil {
			continue
		}
		right, err := how.answer(c, challenge{data: r.Nonce[:NonceLen]})
		if err == nil && subtle.ConstantTimeCompare(right, r.Response) == 1 {
			return c, more
		}
	}
	return nil, nil
}

// Expire has every login wait for a reading of the account table that begins
// after now: it is called after a statement that may have changed accounts.
func (a *Authenticator) Expire() { a.memory.expire(time.Now()) }

// view is what is known about a user's accounts.
type view struct {
	accounts []Account
	print    [sha256.Size]byte // fingerprint of accounts
	read     time.Time         // when the reading of accounts began
	unread   error             // why the table cannot be read now; accounts are the last known, or none
}

// look reads the rows that apply to user. Its error is ctx's.
func (a *Authenticator) look(ctx context.Context, user string) (view, error) {
	v := view{read: time.Now()}
	rows, err := a.dir.Accounts(ctx, user)
	if err == nil {
		v.accounts = applying(rows, user)
		v.print = a.fingerprint(v.accounts)
		a.memory.refresh(user, v)
		return v, nil
	}
	if ctx.Err() != nil {
		return view{}, context.Cause(ctx)
	}
	if last, ok := a.memory.last(user); ok && v.read.Sub(last.read) < a.opts.StaleFor {
		last.unread = err
		return last, nil
	}
	v.unread = err
	return v, nil
}

// applying returns the rows of user, else the anonymous ones.
func applying(rows []Account, user string) []Account {
	var named, anonymous []Account
	for _, r := range rows {
		switch r.User {
		case "":
			anonymous = append(anonymous, r)
		case user:
			named = append(named, r)
		}
	}
	if user == "" || len(named) == 0 {
		return anonymous
	}
	return named
}

// fingerprint tells whether rows are the same as before, in whatever order.
func (a *Authenticator) fingerprint(rows []Account) [sha256.Size]byte {
	texts := make([]string, len(rows))
	for i, r := range rows {
		texts[i] = fmt.Sprintf("%q %q %q %q %t %t", r.User, r.Host, r.Plugin, r.AuthString, r.Locked, r.PasswordExpired)
	}
	slices.Sort(texts)
	return a.mac(strings.Join(texts, "\n"))
}

func (a *Authenticator) mac(text string) [sha256.Size]byte {
	m := hmac.New(sha256.New, a.secret[:])
	m.Write([]byte(text))
	return [sha256.Size]byte(m.Sum(nil))
}

// prove makes sure that the primary accepts c, once for each state of the rows.
func (a *Authenticator) prove(ctx context.Context, v view, c *Credential, r Request) (*Credential, error) {
	if known := a.memory.find(r.User, v.print, c); known != nil {
		return known, nil
	}
	err := a.flights.do(ctx, flightKey{v.print, c.Key(), r.Database}, func() error {
		if err := a.prover.Prove(ctx, c, r.Database); err != nil {
			return err
		}
		a.memory.remember(r.User, v, c)
		return nil
	})
	var refused *ServerError
	switch {
	case err == nil:
		return c, nil
	case errors.As(err, &refused):
		state := refused.State
		if len(state) != 5 {
			state = stateGeneral
		}
		return nil, &Refusal{refused.Code, state, refused.Message}
	case errors.Is(err, ErrUnfit):
		denied := refuseDenied(r.User, r.Host, true)
		denied.Message += ": the primary has no such account for connections from the proxy's host"
		return nil, denied
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	default:
		return nil, refuseNotReachable(r.User, r.Host, "the primary cannot be asked to prove the login", err)
	}
}
