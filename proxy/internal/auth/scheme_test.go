package auth

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Stored strings that MariaDB made: those of its documentation.
var madeByMariaDB = []struct {
	plugin, stored, password string
}{
	{nativeName, "*14E65567ABDB5135D0CFD9A70B3032C179A49EE7", "secret"},
	{ed25519Server, "ZIgUREUg5PVgQ6LskhXmO+eZLS0nC8be6HPjYWR4YJY", "secret"},
	{parsecName, "P0:lhXyNv1cIxpB8EnTxR7ON7S7:1l3rWRW1/jw45yrvYXB8eh02wzk7lcJcz4CMcWw2b+8", "MyPassword123!"},
}

func TestPasswordsMatchWhatMariaDBStored(t *testing.T) {
	for _, made := range madeByMariaDB {
		k, ok := schemes[made.plugin].parse([]byte(made.stored))
		if !ok {
			t.Fatalf("%s: %q is not read", made.plugin, made.stored)
		}
		if !k.matches([]byte(made.password)) {
			t.Errorf("%s: %q does not match its password", made.plugin, made.stored)
		}
		if k.matches([]byte(made.password + "x")) {
			t.Errorf("%s: %q matches another password", made.plugin, made.stored)
		}
	}
}

// Every plugin's contract: what it reads, what it refuses to read, and that its
// decoys are well-formed and fit nothing.
func TestSchemesReadTheirStoredStrings(t *testing.T) {
	for name, s := range schemes {
		t.Run(name, func(t *testing.T) {
			const password = "pass word"
			good := stored(t, name, password)
			k, ok := s.parse(good)
			if !ok || !k.matches([]byte(password)) || k.matches([]byte("pass wore")) {
				t.Fatalf("%q is read wrongly", good)
			}
			for _, bad := range [][]byte{
				[]byte("invalid"), good[:len(good)-1], append(bytes.Clone(good), 'x'),
				bytes.Repeat([]byte{0xff}, len(good)), append([]byte{'!'}, good[1:]...),
				[]byte(strings.Repeat(":", len(good))),
			} {
				if _, ok := s.parse(bad); ok {
					t.Errorf("%q is read as a key", bad)
				}
			}
			decoy, again := s.decoy([32]byte{1, 2, 3}), s.decoy([32]byte{1, 2, 3})
			if !bytes.Equal(decoy, again) || bytes.Equal(decoy, s.decoy([32]byte{9})) {
				t.Error("a decoy does not depend on its seed, or not on it alone")
			}
			k, ok = s.parse(decoy)
			if !ok || k.matches(nil) || k.matches([]byte(password)) {
				t.Errorf("decoy %q is not a key that fits nothing", decoy)
			}
			if len(decoy) != len(good) {
				t.Errorf("decoy %q is not as long as a stored string", decoy)
			}
			if _, ok := answerers[map[string]string{ed25519Server: ed25519Name}[name]]; !ok {
				if _, ok := answerers[name]; !ok {
					t.Error("the proxy cannot answer this plugin")
				}
			}
			if len(schemeOrder) != len(schemes) || !strings.Contains(strings.Join(schemeOrder, " "), name) {
				t.Error("not in schemeOrder")
			}
		})
	}
}

// Whatever the password: a client that has it is let in, and the credential
// that the proxy then holds logs in to a server with the same account.
func TestEveryPluginLetsInAndOn(t *testing.T) {
	for name := range schemes {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(r *rapid.T) { letInAndOn(t, r, name) })
		})
	}
}

func letInAndOn(t *testing.T, r *rapid.T, plugin string) {
	first := rapid.SampledFrom([]string{nativeName, cachingName}).Draw(r, "client's plugin")
	over := rapid.SampledFrom([]transport{overTLS, overLoopback, overNetwork}).Draw(r, "transport")
	password := string(rapid.SliceOfN(rapid.ByteRange(1, 255), 0, 60).Draw(r, "password"))
	account := Account{User: "u", Host: "%", Plugin: plugin, AuthString: stored(t, plugin, password)}
	far := &server{rows: []Account{account}}
	a := newAuthenticator(far, Options{})
	signs := plugin == ed25519Server || plugin == parsecName
	c := client{user: "u", password: password, plugin: first, over: over}
	c.sendsClear = signs && first == nativeName && over == overLoopback
	o := connect(t, a, c)
	if signs && over == overNetwork && first == nativeName {
		mustRefuse(t, "over a network", o, codeSecureTransport, "learn")
		c.over, c.sendsClear = overLoopback, true
		mustLetIn(t, "to be learned", connect(t, a, c), password)
		c.over, c.sendsClear = overNetwork, false
		o = connect(t, a, c)
	}
	mustLetIn(t, "first time", o, password)
	mustLetIn(t, "again", connect(t, a, c), password)
	if far.proved() != 1 {
		t.Fatalf("%d proofs, want 1", far.proved())
	}

	// The credential works on a server that never saw this user.
	other := newAuthenticator(far, Options{})
	on := connect(t, other, client{user: "u", password: password, credential: o.credential, plugin: plugin, over: overTLS})
	mustLetIn(t, "with the proxy's credential", on, password)

	wrong := c
	wrong.password = password + "x"
	mustRefuse(t, "wrong", connect(t, a, wrong), codeAccessDenied, "'u'@'10.0.0.7' (using password: YES)")
	if password != "" {
		wrong.password = ""
		o := connect(t, a, wrong)
		if o.err == nil {
			t.Fatal("let in without a password")
		}
		part := "(using password: NO)"
		if signs && first == nativeName {
			part = "" // a signature is there even without a password
		}
		mustRefuse(t, "none", o, codeAccessDenied, part)
	}
}

func TestLongPasswords(t *testing.T) {
	for name := range schemes {
		for _, n := range []int{214, 255, 256, MaxPassword, MaxPassword + 1} {
			password := strings.Repeat("p", n)
			far := &server{rows: []Account{{User: "u", Plugin: name, AuthString: stored(t, name, password)}}}
			o := connect(t, newAuthenticator(far, Options{}), client{user: "u", password: password, over: overTLS})
			switch {
			case name == nativeName || n <= MaxPassword:
				mustLetIn(t, fmt.Sprintf("%s, %d bytes", name, n), o, password)
			default:
				mustRefuse(t, fmt.Sprintf("%s, %d bytes", name, n), o, codeHandshake, "")
			}
		}
	}
}
