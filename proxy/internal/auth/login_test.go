package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// scripted is a server that says fixed packets and notes what it is told.
type scripted struct {
	says [][]byte
	told [][]byte
}

func (s *scripted) ReadPacket() ([]byte, error) {
	if len(s.says) == 0 {
		return nil, errors.New("the server hung up")
	}
	next := s.says[0]
	s.says = s.says[1:]
	return next, nil
}

func (s *scripted) WritePacket(payload []byte) error {
	s.told = append(s.told, bytes.Clone(payload))
	return nil
}

func switchTo(plugin string, data ...byte) []byte {
	return append(append(append([]byte{headerSwitch}, plugin...), 0), data...)
}

func TestLoginRefusesWhatItMustNotOrCannotDo(t *testing.T) {
	nonce := []byte("12345678901234567890\x00")
	password := PasswordCredential("u", "top secret")
	hash := HashCredential("u", password.secret().stage1)
	for _, c := range []struct {
		what   string
		with   *Credential
		secure bool
		says   [][]byte
		want   string
	}{
		{"clear text without TLS", password, false, [][]byte{switchTo(clearName)}, "in the clear"},
		{"clear text of a hash", hash, true, [][]byte{switchTo(clearName)}, "only SHA1"},
		{"hash for SHA-2", hash, true, [][]byte{switchTo(cachingName, nonce...)}, "only SHA1"},
		{"hash for ed25519", hash, true, [][]byte{switchTo(ed25519Name, make([]byte, 32)...)}, "only SHA1"},
		{"unknown plugin", password, true, [][]byte{switchTo("auth_gssapi_client")}, "auth_gssapi_client"},
		{"MySQL 4.0", password, true, [][]byte{{headerSwitch}}, "4.0"},
		{"second factor", password, true, [][]byte{{headerNextAuth, 'x', 0}}, "second factor"},
		{"short nonce", password, true, [][]byte{switchTo(nativeName, nonce[:19]...)}, "malformed"},
		{"short nonce", password, true, [][]byte{switchTo(ed25519Name, nonce...)}, "32 bytes"},
		{"short nonce", password, true, [][]byte{switchTo(parsecName, nonce...)}, "32 bytes"},
		{"no name", password, true, [][]byte{[]byte("\xfename")}, "malformed"},
		{"empty packet", password, true, [][]byte{{}}, "malformed"},
		{"empty data", password, true, [][]byte{{headerMoreData}}, "unexpected data"},
		{"short error", password, true, [][]byte{{headerErr}}, "server's error"},
		{"no key", password, false, [][]byte{switchTo(cachingName, nonce...), {1, cachingFull}, []byte("\x01no key")}, "no PEM"},
		{"bad key", password, false, [][]byte{switchTo(cachingName, nonce...), []byte("\x01-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")}, "public key"},
		{"unknown data", password, false, [][]byte{switchTo(cachingName, nonce...), {1, 9}}, "0x09"},
		{"costly parameters", password, false, [][]byte{switchTo(parsecName, make([]byte, 32)...), append([]byte{'P', 30}, make([]byte, 18)...)}, "1024<<30"},
		{"strange parameters", password, false, [][]byte{switchTo(parsecName, make([]byte, 32)...), []byte("Q")}, "unknown parameters"},
		{"endless", password, true, slicesOf(30, switchTo(nativeName, nonce...)), "no end"},
		{"hangs up", password, true, nil, "hung up"},
	} {
		s := &scripted{says: c.says}
		ok, err := Login(s, c.with, nativeName, nonce, c.secure)
		if err == nil || ok != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
		for _, told := range s.told {
			if bytes.Contains(told, []byte("top secret")) {
				t.Errorf("%s: the password was sent", c.what)
			}
		}
		if err != nil && strings.Contains(err.Error(), "top secret") {
			t.Errorf("%s: the error has the password", c.what)
		}
	}
}

func slicesOf(n int, payload []byte) (all [][]byte) {
	for range n {
		all = append(all, payload)
	}
	return all
}

func TestLoginReturnsTheServersError(t *testing.T) {
	s := &scripted{says: [][]byte{[]byte("\xff\x15\x04#28000Access denied")}}
	_, err := Login(s, PasswordCredential("u", "p"), nativeName, NewNonce(), true)
	var refused *ServerError
	if !errors.As(err, &refused) || refused.Code != 1045 || refused.State != "28000" || refused.Message != "Access denied" {
		t.Errorf("%v", err)
	}
}

func TestFirstResponse(t *testing.T) {
	nonce := NewNonce()
	password := PasswordCredential("u", "p")
	hash := HashCredential("u", password.secret().stage1)
	for _, c := range []struct {
		with          *Credential
		plugin, usePl string
		length        int
	}{
		{password, nativeName, nativeName, 20},
		{password, cachingName, cachingName, 32},
		{password, sha256Name, cachingName, 32},
		{password, clearName, cachingName, 32},
		{password, "", cachingName, 32},
		{hash, nativeName, nativeName, 20},
		{hash, cachingName, nativeName, 20},
		{hash, "something", nativeName, 20},
		{PasswordCredential("u", ""), nativeName, nativeName, 0},
		{PasswordCredential("u", ""), cachingName, cachingName, 1},
	} {
		used, response := c.with.FirstResponse(c.plugin, nonce, true)
		if used != c.usePl || len(response) != c.length {
			t.Errorf("greeting %q: %q, %d bytes; want %q, %d", c.plugin, used, len(response), c.usePl, c.length)
		}
		if again, same := c.with.FirstResponse(used, nonce, true); again != used || !bytes.Equal(same, response) {
			t.Errorf("greeting %q: not the same when asked for %q", c.plugin, used)
		}
	}
	if used, response := hash.FirstResponse(nativeName, nil, true); used != nativeName || response != nil {
		t.Errorf("without a nonce: %q, % x", used, response)
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	c := PasswordCredential("u", "top secret")
	core, logs := observer.New(zapcore.DebugLevel)
	wrapped := struct {
		C  *Credential
		V  Credential
		in *Credential
		v  Credential
	}{c, *c, c, *c}
	asJSON, err := json.Marshal(wrapped)
	if err != nil {
		t.Fatal(err)
	}
	zap.New(core).Info("x", zap.Any("c", c), zap.Reflect("v", *c), zap.Any("w", wrapped), zap.Stringer("s", c))
	fields, err := json.Marshal(logs.All()[0].ContextMap())
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{string(asJSON), string(fields), c.String(), c.GoString()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		texts = append(texts, fmt.Sprintf(verb, c), fmt.Sprintf(verb, *c), fmt.Sprintf(verb, wrapped), fmt.Sprintf(verb, &wrapped))
	}
	secrets := []string{
		"top secret", fmt.Sprintf("%x", "top secret"), fmt.Sprint([]byte("top secret"))[1:20], fmt.Sprintf("%x", c.secret().stage1),
		fmt.Sprint(c.secret().stage1)[1:20], "dG9wIHNlY3JldA",
	}
	for _, text := range texts {
		for _, secret := range secrets {
			if strings.Contains(strings.ToLower(text), secret) {
				t.Errorf("%s", text)
			}
		}
	}
	if !strings.Contains(texts[0], `{"user":"u"}`) {
		t.Errorf("JSON: %s", texts[0])
	}
}

func TestKeyTellsCredentialsApart(t *testing.T) {
	p := PasswordCredential("u", "p")
	if p.Key() != HashCredential("u", p.secret().stage1).Key() {
		t.Error("the same login has two keys")
	}
	for _, other := range []*Credential{PasswordCredential("u", "q"), PasswordCredential("v", "p"), PasswordCredential("u", "")} {
		if p.Key() == other.Key() {
			t.Errorf("%v has the key of another login", other)
		}
	}
}
