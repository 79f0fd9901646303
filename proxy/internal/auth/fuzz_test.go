package auth

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
)

// fuzzed is a peer that says the packets in a byte string: each is a length
// byte (255: 600 bytes more than the next byte says) and so many bytes.
type fuzzed struct {
	rest    []byte
	written int
	largest int
}

var errFuzzEnd = errors.New("the peer hung up")

func (f *fuzzed) ReadPacket() ([]byte, error) {
	if len(f.rest) == 0 {
		return nil, errFuzzEnd
	}
	n := int(f.rest[0])
	f.rest = f.rest[1:]
	if n == 255 {
		n = 855
	}
	n = min(n, len(f.rest))
	payload := slices.Clone(f.rest[:n])
	f.rest = f.rest[n:]
	return payload, nil
}

func (f *fuzzed) WritePacket(payload []byte) error {
	f.written++
	f.largest = max(f.largest, len(payload))
	return nil
}

func packets(all ...[]byte) (script []byte) {
	for _, p := range all {
		script = append(append(script, byte(len(p))), p...)
	}
	return script
}

// fuzzServer has an account for each plugin, whose password no input has.
func fuzzServer(t testing.TB) *server {
	s := new(server)
	for i, plugin := range schemeOrder {
		s.rows = append(s.rows, Account{User: plugin, Plugin: plugin, AuthString: stored(t, plugin, "nobody guesses this")})
		s.rows = append(s.rows, Account{User: "all", Plugin: plugin, AuthString: stored(t, plugin, string(rune('a'+i))+"nobody guesses this")})
	}
	return s
}

// Whatever a client sends: nobody gets in, nothing panics, the exchange ends and
// what the proxy says stays small.
func FuzzAuthenticate(f *testing.F) {
	nonce := bytes.Repeat([]byte{7}, NonceLen)
	scramble := cachingScramble([]byte("guess"), nonce)
	f.Add("u", nativeName, []byte{}, []byte{}, byte(0))
	for _, plugin := range schemeOrder {
		for flags := range byte(8) {
			f.Add(plugin, nativeName, bytes.Repeat([]byte{1}, 20), packets(scramble, []byte{cachingAskKey}, make([]byte, 254)), flags)
			f.Add(plugin, cachingName, scramble, packets([]byte("guess\x00")), flags)
			f.Add("all", sha256Name, []byte{sha256AskKey}, packets([]byte("guess\x00"), nil, make([]byte, 96)), flags)
		}
	}
	f.Add(parsecName, "", []byte{}, packets(nil, make([]byte, 96)), byte(7))
	f.Add(ed25519Server, clearName, []byte("guess\x00"), packets(make([]byte, 64)), byte(7))

	far := fuzzServer(f)
	a := newAuthenticator(far, Options{DefaultPlugin: cachingName})
	for _, plugin := range []string{ed25519Server, parsecName, cachingName} { // as if learned before
		rows, err := far.Accounts(f.Context(), plugin)
		if err != nil {
			f.Fatal(err)
		}
		a.memory.remember(plugin, view{accounts: rows, print: a.fingerprint(rows)}, PasswordCredential(plugin, "nobody guesses this"))
	}
	f.Fuzz(func(t *testing.T, user, plugin string, response, script []byte, flags byte) {
		link := &fuzzed{rest: script}
		c, err := a.Authenticate(context.Background(), link, Request{
			User: user, Host: "h", Plugin: plugin, Nonce: nonce, Response: response,
			Secure: flags&1 != 0, Loopback: flags&2 != 0, ClientCanSwitch: flags&4 != 0,
		})
		var refusal *Refusal
		if c != nil || !errors.As(err, &refusal) && !errors.Is(err, errFuzzEnd) {
			t.Fatalf("%v, %v", c, err)
		}
		if refusal != nil && (refusal.Code == 0 || len(refusal.State) != 5 || refusal.Message == "") {
			t.Fatalf("refusal %+v", refusal)
		}
		if link.written > 2*maxClientPackets || link.largest > 1024 {
			t.Fatalf("%d packets sent, up to %d bytes", link.written, link.largest)
		}
	})
}

// Whatever a server sends: nothing panics, the exchange ends, and the password
// does not go over a link that can be read.
func FuzzLogin(f *testing.F) {
	nonce := bytes.Repeat([]byte{7}, NonceLen)
	key, err := testKey()
	if err != nil {
		f.Fatal(err)
	}
	moreKey := append([]byte{headerMoreData}, key.pem...)
	switches := [][]byte{
		switchTo(nativeName, append(nonce, 0)...), switchTo(cachingName, append(nonce, 0)...),
		switchTo(sha256Name, append(nonce, 0)...), switchTo(ed25519Name, make([]byte, 32)...),
		switchTo(parsecName, make([]byte, 32)...), switchTo(clearName),
		{headerSwitch},
	}
	f.Add(cachingName, packets([]byte{1, cachingFastOK}, okPacket), true, true)
	for _, s := range switches {
		f.Add(nativeName, packets(s, okPacket), true, true)
		f.Add(cachingName, packets(s, []byte{1, cachingFull}, moreKey[:200], okPacket), true, false)
		f.Add(cachingName, packets(s, append([]byte{'P', 0}, make([]byte, 18)...), okPacket), true, false)
		f.Add(nativeName, packets(s, []byte("\xff\x15\x04#28000no")), false, true)
	}
	const password = "the password of the test"
	plain := PasswordCredential("u", password)
	hash := HashCredential("u", plain.secret().stage1)
	f.Fuzz(func(t *testing.T, plugin string, script []byte, withPassword, secure bool) {
		c := hash
		if withPassword {
			c = plain
		}
		link := &recording{fuzzed: fuzzed{rest: script}}
		ok, err := Login(link, c, plugin, nonce, secure)
		if (ok == nil) == (err == nil) || ok != nil && ok[0] != headerOK {
			t.Fatalf("% x, %v", ok, err)
		}
		if link.written > maxServerPackets || link.largest > 4096 {
			t.Fatalf("%d packets sent, up to %d bytes", link.written, link.largest)
		}
		if !secure && bytes.Contains(link.all, []byte(password)) {
			t.Fatal("the password went over a link that can be read")
		}
	})
}

// recording keeps what is written.
type recording struct {
	fuzzed
	all []byte
}

func (r *recording) WritePacket(payload []byte) error {
	r.all = append(r.all, payload...)
	return r.fuzzed.WritePacket(payload)
}
