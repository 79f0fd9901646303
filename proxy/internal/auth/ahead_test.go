package auth

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"testing"
)

// table is an account table that is asked without waiting.
type table struct{ rows []Account }

func (d *table) Accounts(context.Context, string) ([]Account, error) { return d.rows, nil }

func (d *table) Ask(string) func(context.Context) ([]Account, error) {
	return func(ctx context.Context) ([]Account, error) { return d.Accounts(ctx, "") }
}

type yes struct{ asked int }

func (y *yes) Prove(context.Context, *Credential, string) error {
	y.asked++
	return nil
}

// silent is a client that has said everything in its first answer.
type silent struct{ t *testing.T }

func (l silent) ReadPacket() ([]byte, error) {
	l.t.Error("the client was asked for more")
	return nil, errors.New("nothing")
}

func (l silent) WritePacket([]byte) error {
	l.t.Error("the client was told something")
	return nil
}

func TestALoginAheadOfTheAccountTable(t *testing.T) {
	row := func(password string) Account {
		once := sha1.Sum([]byte(password))
		return Account{User: "app", Host: "%", Plugin: nativeName, AuthString: fmt.Appendf(nil, "*%X", sha1.Sum(once[:]))}
	}
	nonce := NewNonce()[:NonceLen]
	request := func(password string) Request {
		c := PasswordCredential("app", password)
		_, response := c.FirstResponse(nativeName, nonce, false)
		return Request{User: "app", Plugin: nativeName, GreetingPlugin: nativeName, Nonce: nonce, Response: response, ClientCanSwitch: true}
	}
	d, p := &table{[]Account{row("old")}}, &yes{}
	a := New(d, p, Options{})
	login := func(password string) (*Check, error) {
		_, check, err := a.AuthenticateAhead(t.Context(), silent{t}, request(password))
		return check, err
	}
	if check, err := login("old"); err != nil || check != nil {
		t.Fatalf("the first login: ahead %v, %v", check != nil, err)
	}
	check, err := login("old")
	if err != nil || check == nil {
		t.Fatalf("the second login: ahead %v, %v", check != nil, err)
	}
	if err := check.Wait(t.Context()); err != nil {
		t.Errorf("nothing has changed: %v", err)
	}
	if p.asked != 1 {
		t.Errorf("the primary was asked %d times to prove one password", p.asked)
	}

	// A wrong password does not go ahead, and a new one need not wait for the next
	// reading of the table.
	var refusal *Refusal
	if _, err := login("wrong"); !errors.As(err, &refusal) {
		t.Errorf("a wrong password: %v", err)
	}
	check, err = login("old")
	if err != nil || check == nil {
		t.Fatal("the old password should go ahead", err)
	}
	d.rows = []Account{row("new")}
	if err := check.Wait(t.Context()); !errors.As(err, &refusal) {
		t.Errorf("the old password goes on after it was changed: %v", err)
	}
	if check, err := login("new"); err != nil || check != nil {
		t.Errorf("the new password: ahead %v, %v", check != nil, err)
	}

	// An account that was dropped.
	check, err = login("new")
	if err != nil || check == nil {
		t.Fatal("the new password should go ahead", err)
	}
	d.rows = nil
	if err := check.Wait(t.Context()); !errors.As(err, &refusal) {
		t.Errorf("an account that is gone: %v", err)
	}
	if check, err := login("new"); !errors.As(err, &refusal) || check != nil {
		t.Errorf("an account that is gone: ahead %v, %v", check != nil, err)
	}
}
