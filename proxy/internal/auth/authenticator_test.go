package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func rowsOf(t testing.TB, user, plugin, password string) []Account {
	return []Account{{User: user, Host: "%", Plugin: plugin, AuthString: stored(t, plugin, password)}}
}

// The same packets in number, direction, size and first byte, and the same
// refusal, whether the user exists or not.
func TestUnknownUserLooksLikeAWrongPassword(t *testing.T) {
	for name := range schemes {
		for _, over := range []transport{overTLS, overLoopback, overNetwork} {
			for _, first := range []string{nativeName, cachingName} {
				for _, password := range []string{"", "wrong password"} {
					known := &server{rows: rowsOf(t, "bob", name, "right")}
					nobody := &server{}
					opts := Options{DefaultPlugin: name}
					c := client{user: "bob", password: password, plugin: first, over: over}
					a := connect(t, newAuthenticator(known, opts), c)
					b := connect(t, newAuthenticator(nobody, opts), c)
					what := fmt.Sprintf("%s, transport %d, client %s, password %q", name, over, first, password)
					if a.err == nil || b.err == nil || a.err.Error() != b.err.Error() {
						t.Errorf("%s:\nknown:   %v\nunknown: %v", what, a.err, b.err)
					}
					if x, y := shape(a), shape(b); x != y {
						t.Errorf("%s:\nknown:   %s\nunknown: %s", what, x, y)
					}
					if known.proved()+nobody.proved() != 0 {
						t.Errorf("%s: a login was tried", what)
					}
				}
			}
		}
	}
}

// shape is what an eavesdropper on an encrypted link could see at best.
func shape(o outcome) string {
	var s strings.Builder
	for _, p := range o.fromProxy {
		fmt.Fprintf(&s, "<%d %.2x ", len(p), p[:1])
	}
	for _, p := range o.fromUser {
		fmt.Fprintf(&s, ">%d ", len(p))
	}
	return s.String()
}

// An unknown user costs the work of a wrong password: the digest is computed.
// Counted, because time on a busy machine proves nothing.
func TestUnknownUserIsAskedWithAKeyThatCostsTheSame(t *testing.T) {
	for _, c := range []struct{ option, greeting string }{
		{cachingName, ""},
		{cachingName, "unknown"},
		{nativeName, cachingName},
	} {
		a := newAuthenticator(&server{}, Options{DefaultPlugin: c.option})
		x := newExchange(a, nil, Request{User: "nobody", Nonce: NewNonce(), GreetingPlugin: c.greeting}, view{})
		k, ok := x.keys[0].(sha2Key)
		if len(x.keys) != 1 || !ok || k.rounds != defaultCryptRounds || !x.decoy {
			t.Fatalf("%+v: asked with %+v", c, x.keys)
		}
	}
}

func TestChangedRowsVoidWhatWasLearned(t *testing.T) {
	changes := map[string]func(*server){
		"password changed": func(s *server) { s.rows[0].AuthString = []byte("$A$005$" + strings.Repeat("x", 63)) },
		"account dropped":  func(s *server) { s.rows = nil },
		"plugin changed":   func(s *server) { s.rows = rowsOf(t, "u", ed25519Server, "other") },
	}
	for what, change := range changes {
		far := &server{rows: rowsOf(t, "u", cachingName, "old")}
		a := newAuthenticator(far, Options{DefaultPlugin: cachingName})
		c := client{user: "u", password: "old", plugin: cachingName}
		mustLetIn(t, what, connect(t, a, c), "old")
		far.set(change)
		mustRefuse(t, what, connect(t, a, c), codeAccessDenied, "'u'")
		far.set(func(s *server) { s.rows = rowsOf(t, "u", cachingName, "new") })
		c.password = "new"
		mustLetIn(t, what, connect(t, a, c), "new")
		if far.proved() != 2 {
			t.Errorf("%s: %d proofs, want 2", what, far.proved())
		}
	}
}

// Lock, expiry, host and limits are the server's to judge, once for each state
// of the rows.
func TestTheServersOwnRefusal(t *testing.T) {
	for _, refusal := range []*ServerError{
		{Code: 3118, State: "HY000", Message: "Access denied for user 'u'@'%'. Account is locked."},
		{Code: 1698, State: "28000", Message: "Access denied for user 'u'@'localhost'"},
		{Code: 1226, State: "42000", Message: "User 'u' has exceeded the 'max_user_connections' resource"},
		{Code: 1040, Message: "Too many connections"},
	} {
		far := &server{rows: rowsOf(t, "u", nativeName, "p")}
		a := newAuthenticator(far, Options{})
		c := client{user: "u", password: "p"}
		mustLetIn(t, "before", connect(t, a, c), "p")
		far.set(func(s *server) { s.rows[0].Locked, s.refuse = true, fmt.Errorf("log in: %w", refusal) })
		for range 2 {
			mustRefuse(t, "refused", connect(t, a, c), refusal.Code, refusal.Message)
		}
		if far.proved() != 3 {
			t.Errorf("%d proofs, want 3: a refusal is not remembered", far.proved())
		}
	}
}

func TestOneLoginForAStampede(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far := &server{rows: rowsOf(t, "u", nativeName, "p")}
		release := make(chan struct{})
		far.reached = func() { <-release }
		a := newAuthenticator(far, Options{})
		var group sync.WaitGroup
		outcomes := make([]outcome, 50)
		for i := range outcomes {
			group.Go(func() { outcomes[i] = connect(t, a, client{user: "u", password: "p"}) })
		}
		synctest.Wait() // all wait for the one proof
		close(release)
		group.Wait()
		for _, o := range outcomes {
			mustLetIn(t, "one of many", o, "p")
		}
		if far.proved() != 1 {
			t.Errorf("%d logins, want 1", far.proved())
		}
	})
}

func TestAnotherCallerTakesOverFromOneThatGaveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flights
		first, giveUp := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() {
			err := f.do(first, flightKey{}, func() error { <-first.Done(); return first.Err() })
			if !errors.Is(err, context.Canceled) {
				t.Errorf("first: %v", err)
			}
		})
		synctest.Wait()
		asked := 0
		for range 3 {
			group.Go(func() {
				if err := f.do(t.Context(), flightKey{}, func() error { asked++; time.Sleep(time.Second); return nil }); err != nil {
					t.Errorf("other: %v", err)
				}
			})
		}
		synctest.Wait()
		giveUp()
		group.Wait()
		if asked != 1 {
			t.Errorf("asked %d times, want once", asked)
		}
	})
}

func TestTheLastRowsStandInForAnUnreachablePrimary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far := &server{rows: append(rowsOf(t, "u", cachingName, "p"), rowsOf(t, "v", cachingName, "p")...)}
		a := newAuthenticator(far, Options{StaleFor: time.Hour, DefaultPlugin: cachingName})
		c := client{user: "u", password: "p", plugin: cachingName}
		mustLetIn(t, "alive", connect(t, a, c), "p")
		far.set(func(s *server) {
			s.unread, s.refuse = errors.New("primary db1: connection refused"), errors.New("connection refused")
		})
		mustLetIn(t, "dead, known", connect(t, a, c), "p")
		// Who might be right for all that can be known now is told so, not "denied".
		for _, other := range []client{
			{user: "u", password: "wrong", plugin: cachingName},
			{user: "v", password: "p", plugin: cachingName},
			{user: "nobody", password: "p", plugin: cachingName},
		} {
			mustRefuse(t, other.user, connect(t, a, other), codeNotReachable, "db1: connection refused")
		}
		time.Sleep(59 * time.Minute)
		mustLetIn(t, "still fresh enough", connect(t, a, c), "p")
		time.Sleep(2 * time.Minute)
		mustRefuse(t, "too old", connect(t, a, c), codeNotReachable, "db1")
		far.set(func(s *server) { s.unread = nil })
		mustLetIn(t, "alive again", connect(t, a, c), "p")
	})
}

func TestPrimaryThatCannotProveIsNamed(t *testing.T) {
	far := &server{rows: rowsOf(t, "u", nativeName, "p"), refuse: errors.New("dial db1: no route to host")}
	o := connect(t, newAuthenticator(far, Options{}), client{user: "u", password: "p"})
	mustRefuse(t, "no proof", o, codeNotReachable, "no route to host")
}

func TestCancelledContextIsNotARefusal(t *testing.T) {
	cause := errors.New("shutting down")
	far := &server{rows: rowsOf(t, "u", nativeName, "p"), unread: errors.New("interrupted")}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	_, theirs := newPipe()
	if _, err := newAuthenticator(far, Options{}).Authenticate(ctx, theirs, Request{User: "u", Nonce: NewNonce()}); !errors.Is(err, cause) {
		t.Errorf("%v, want %v", err, cause)
	}
}

func TestAccountsOfOneUserWithDifferentPasswords(t *testing.T) {
	rows := func(plugins ...string) []Account {
		var all []Account
		for i, p := range plugins {
			all = append(all, Account{User: "u", Host: fmt.Sprint(i), Plugin: p, AuthString: stored(t, p, fmt.Sprint("password ", i))})
		}
		return all
	}
	for _, plugins := range [][]string{
		{nativeName, nativeName, nativeName},
		{cachingName, cachingName},
		{nativeName, cachingName, sha256Name},
		{ed25519Server, ed25519Server},
		{parsecName, ed25519Server, parsecName},
		{nativeName, parsecName},
	} {
		for _, first := range []string{nativeName, cachingName} {
			far := &server{rows: rows(plugins...)}
			a := newAuthenticator(far, Options{})
			for round := range 2 {
				for i := range plugins {
					password := fmt.Sprint("password ", i)
					o := connect(t, a, client{user: "u", password: password, plugin: first})
					mustLetIn(t, fmt.Sprintf("%v, client %s, account %d, round %d", plugins, first, i, round), o, password)
				}
			}
			if far.proved() != len(plugins) {
				t.Errorf("%v: %d proofs", plugins, far.proved())
			}
			o := connect(t, a, client{user: "u", password: "no password", plugin: first})
			mustRefuse(t, fmt.Sprint(plugins), o, codeAccessDenied, "YES")
		}
	}
}

func TestAnonymousAccount(t *testing.T) {
	far := &server{rows: append(rowsOf(t, "", nativeName, "open"), rowsOf(t, "u", nativeName, "p")...)}
	a := newAuthenticator(far, Options{})
	o := connect(t, a, client{user: "whoever", password: "open"})
	mustLetIn(t, "anonymous", o, "open")
	if o.credential.User != "whoever" {
		t.Errorf("logs in as %q: the server must see the client's name", o.credential.User)
	}
	mustLetIn(t, "named", connect(t, a, client{user: "u", password: "p"}), "p")
	mustRefuse(t, "named, anonymous password", connect(t, a, client{user: "u", password: "open"}), codeAccessDenied, "YES")
}

func TestUnusableAccounts(t *testing.T) {
	socket := Account{User: "u", Host: "localhost", Plugin: "unix_socket"}
	invalid := Account{User: "u", Host: "localhost", Plugin: nativeName, AuthString: []byte("invalid")}
	far := &server{rows: []Account{socket, invalid}}
	a := newAuthenticator(far, Options{})
	mustRefuse(t, "socket", connect(t, a, client{user: "u", password: "p"}), codeDeniedNoMethod, "mysql_native_password, unix_socket")
	far.set(func(s *server) { s.rows = append(s.rows, rowsOf(t, "u", nativeName, "p")...) })
	mustLetIn(t, "with an alternative", connect(t, a, client{user: "u", password: "p"}), "p")
}

func TestOldClients(t *testing.T) {
	far := &server{rows: append(rowsOf(t, "n", nativeName, "p"), rowsOf(t, "c", cachingName, "p")...)}
	a := newAuthenticator(far, Options{})
	mustLetIn(t, "native", connect(t, a, client{user: "n", password: "p", old: true}), "p")
	mustRefuse(t, "native, wrong", connect(t, a, client{user: "n", password: "x", old: true}), codeAccessDenied, "YES")
	mustRefuse(t, "another plugin", connect(t, a, client{user: "c", password: "p", old: true}), codeOldClient, "upgrading")
}

func TestInsecureClientsCanBeKeptOut(t *testing.T) {
	far := &server{rows: rowsOf(t, "u", nativeName, "p")}
	_, theirs := newPipe()
	r := Request{User: "u", Nonce: NewNonce(), Loopback: true, SSLRequired: true}
	_, err := newAuthenticator(far, Options{}).Authenticate(t.Context(), theirs, r)
	mustRefuse(t, "no TLS", outcome{err: err}, codeSecureTransport, "TLS")
	if len(*theirs.sent) != 0 {
		t.Error("something was sent")
	}
}

// The fast way of caching_sha2_password needs no round trip of the password.
func TestCachingFastPath(t *testing.T) {
	const password = "horse battery staple"
	far := &server{rows: rowsOf(t, "u", cachingName, password)}
	a := newAuthenticator(far, Options{})
	c := client{user: "u", password: password, plugin: cachingName, over: overNetwork}
	first, second := connect(t, a, c), connect(t, a, c)
	mustLetIn(t, "first", first, password)
	mustLetIn(t, "second", second, password)
	if len(first.fromUser) != 2 || len(second.fromUser) != 0 || len(second.fromProxy) != 2 {
		t.Errorf("first %s, second %s", shape(first), shape(second))
	}
	if strings.Contains(fmt.Sprintf("%s", first.fromUser), password) {
		t.Error("the password went over the network in the clear")
	}
}

// Who is known is let in by a recent reading, which is renewed meanwhile; nobody
// is refused by one.
func TestRecentReadingsLetIn(t *testing.T) {
	for _, plugin := range []string{nativeName, cachingName} {
		synctest.Test(t, func(t *testing.T) {
			far := &server{rows: rowsOf(t, "u", plugin, "old")}
			a := newAuthenticator(far, Options{MaxAge: 10 * time.Millisecond})
			login := func(what, password string, right bool, readings int) {
				t.Helper()
				before := far.readings()
				got := connect(t, a, client{user: "u", password: password, plugin: plugin, over: overTLS})
				synctest.Wait()
				if right {
					mustLetIn(t, what, got, password)
				} else {
					mustRefuse(t, what, got, codeAccessDenied, "using password")
				}
				if read := far.readings() - before; read != readings {
					t.Errorf("%s, %s: the account table was read %d times, want %d", plugin, what, read, readings)
				}
			}
			login("first", "old", true, 1)
			login("at once", "old", true, 0)
			time.Sleep(6 * time.Millisecond)
			login("past the half", "old", true, 1) // ahead of need
			time.Sleep(5 * time.Millisecond)
			login("after the renewal", "old", true, 0)
			time.Sleep(11 * time.Millisecond)
			login("too old", "old", true, 1)
			far.set(func(s *server) { s.rows = rowsOf(t, "u", plugin, "new") })
			login("the new password counts at once", "new", true, 1)
			login("and the old one does not, where that is known", "old", false, 1)
			far.set(func(s *server) { s.rows = nil })
			a.Expire()
			login("dropped", "new", false, 1)
		})
	}
}

func TestMemoryIsBounded(t *testing.T) {
	far := &server{}
	for i := range 20 {
		far.rows = append(far.rows, rowsOf(t, fmt.Sprint("u", i), nativeName, "p")...)
	}
	for i := range 10 {
		far.rows = append(far.rows, Account{User: "many", Host: fmt.Sprint(i), Plugin: nativeName, AuthString: stored(t, nativeName, fmt.Sprint(i))})
	}
	a := newAuthenticator(far, Options{MaxUsers: 5})
	for i := range 20 {
		mustLetIn(t, "user", connect(t, a, client{user: fmt.Sprint("u", i), password: "p"}), "p")
	}
	for i := range 10 {
		mustLetIn(t, "password", connect(t, a, client{user: "many", password: fmt.Sprint(i)}), fmt.Sprint(i))
	}
	if len(a.memory.users) != 5 || a.memory.order.Len() != 5 {
		t.Errorf("%d users remembered, want 5", len(a.memory.users))
	}
	if v, _ := a.memory.last("many"); len(a.memory.known("many", v.print)) != maxCredentials {
		t.Errorf("%d credentials of one user remembered", len(a.memory.known("many", v.print)))
	}
	// The least recently used went first.
	before := far.proved()
	mustLetIn(t, "recent", connect(t, a, client{user: "u19", password: "p"}), "p")
	mustLetIn(t, "old", connect(t, a, client{user: "u0", password: "p"}), "p")
	if far.proved() != before+1 {
		t.Errorf("%d proofs, want one", far.proved()-before)
	}
}

func TestNonce(t *testing.T) {
	seen := make(map[string]bool)
	for range 1000 {
		n := NewNonce()
		if len(n) != NonceLen || strings.ContainsAny(string(n), "\x00$") || strings.IndexFunc(string(n), func(r rune) bool { return r > 127 }) >= 0 {
			t.Fatalf("nonce % x", n)
		}
		if seen[string(n)] {
			t.Fatal("the same nonce twice")
		}
		seen[string(n)] = true
	}
}
