package auth

import (
	"context"
	"slices"
	"time"
)

// aheadFor is how old the last reading of a user's rows may be for a login to be
// let in by it, ahead of the next reading.
const aheadFor = 10 * time.Second

// asker is a Directory that can be asked without waiting for the answer.
type asker interface {
	// Ask asks what Accounts does; the answer is waited for by what it returns.
	Ask(user string) func(ctx context.Context) ([]Account, error)
}

// Check is a login that was let in by what the account table said a moment ago,
// while it is read again. Nothing of the session's may reach its client, and
// nothing that it writes a server, before Wait has returned nil.
type Check struct {
	auth    *Authenticator
	request Request
	was     view
	began   time.Time
	answer  func(ctx context.Context) ([]Account, error)
	used    *Credential
}

// AuthenticateAhead is Authenticate, but where the client's first answer is right
// by the rows that were read last, it does not wait for them to be read again: the
// Check does; nil where nothing is left to check.
func (a *Authenticator) AuthenticateAhead(ctx context.Context, link Link, r Request) (*Credential, *Check, error) {
	if c, check := a.ahead(link, r); check != nil {
		return c, check, nil
	}
	c, err := a.Authenticate(ctx, link, r)
	return c, nil, err
}

func (a *Authenticator) ahead(link Link, r Request) (*Credential, *Check) {
	dir, ok := a.dir.(asker)
	if !ok || len(r.Nonce) < NonceLen || len(r.User) > maxUserLen || r.SSLRequired && !r.Secure ||
		r.Plugin != nativeName || !r.ClientCanSwitch {
		return nil, nil
	}
	last, ok := a.memory.last(r.User)
	now := time.Now()
	if !ok || now.Sub(last.read) > aheadFor {
		return nil, nil
	}
	c := a.native(link, r, last)
	if c == nil {
		return nil, nil
	}
	if c = a.memory.find(r.User, last.print, c); c == nil {
		return nil, nil
	}
	// What is kept of the request outlives the packet that it was read from.
	r.Nonce, r.Response = slices.Clone(r.Nonce), slices.Clone(r.Response)
	return c, &Check{auth: a, request: r, was: last, began: now, answer: dir.Ask(r.User), used: c}
}

// native is the credential of a client whose first answer is right by the rows of
// v; nil if it is not, or says nothing by itself.
func (a *Authenticator) native(link Link, r Request, v view) *Credential {
	x := newExchange(a, link, r, v)
	if order := x.order(); x.decoy || len(order) == 0 || order[0] != nativeName {
		return nil
	}
	c, err := native{}.ask(x) // which needs no packet: the client has answered to this plugin
	if err != nil {
		return nil
	}
	return c
}

// Wait returns nil once the account table, read since the login began, lets the
// client in; a *Refusal if it does not; else the end of ctx. While the table
// cannot be read the last known rows count, as for any login.
func (k *Check) Wait(ctx context.Context) error {
	a, r := k.auth, k.request
	rows, err := k.answer(ctx)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return context.Cause(ctx)
	default:
		return nil
	}
	now := applying(rows, r.User)
	v := view{accounts: now, read: k.began, print: k.was.print}
	same := slices.EqualFunc(now, k.was.accounts, func(x, y Account) bool {
		return x.User == y.User && x.Host == y.Host && x.Plugin == y.Plugin && string(x.AuthString) == string(y.AuthString) &&
			x.Locked == y.Locked && x.PasswordExpired == y.PasswordExpired
	})
	if !same {
		v.print = a.fingerprint(now)
	}
	a.memory.refresh(r.User, v)
	if same {
		return nil
	}
	c := a.native(nil, r, v)
	if c == nil {
		return refuseDenied(r.User, r.Host, true)
	}
	_, err = a.prove(ctx, v, c, r)
	return err
}
