package enrol

import (
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var whole = Token{Addresses: []string{"10.0.0.1:2381", "[::1]:2381"}, Fingerprint: strings.Repeat("ab", 32), ID: "0123456789abcdef", Secret: "very secret", Names: "web-*"}

func TestTokenIsReadAsItWasWritten(t *testing.T) {
	text, err := whole.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseToken(" " + text + "\n")
	if err != nil || back.Secret != whole.Secret || back.Addresses[1] != whole.Addresses[1] || back.Fingerprint != whole.Fingerprint || back.Names != whole.Names {
		t.Errorf("%+v, %v", back, err)
	}
}

func TestBadTokens(t *testing.T) {
	text, err := whole.Encode()
	if err != nil {
		t.Fatal(err)
	}
	change := func(f func(*Token)) string {
		bad := whole
		f(&bad)
		text, err := bad.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for what, bad := range map[string]string{
		"nothing":          "",
		"half of it":       text[:len(text)/2],
		"without its head": strings.TrimPrefix(text, tokenPrefix),
		"too much":         text + strings.Repeat("A", maxToken),
		"no fingerprint":   change(func(t *Token) { t.Fingerprint = "" }),
		"a short one":      change(func(t *Token) { t.Fingerprint = "abcd" }),
		"no address":       change(func(t *Token) { t.Addresses = nil }),
		"no port":          change(func(t *Token) { t.Addresses = []string{"10.0.0.1"} }),
		"no secret":        change(func(t *Token) { t.Secret = "" }),
	} {
		_, err := ParseToken(bad)
		if err == nil {
			t.Errorf("%s was accepted", what)
			continue
		}
		if len(bad) > 20 && strings.Contains(err.Error(), bad[len(tokenPrefix):20]) || strings.Contains(err.Error(), whole.Secret) {
			t.Errorf("%s: the error shows the token: %v", what, err)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	text, err := whole.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(tokenPrefix + "e30")
	f.Fuzz(func(t *testing.T, text string) {
		if token, err := ParseToken(text); err == nil && (len(token.Fingerprint) != 64 || len(token.Addresses) == 0) {
			t.Errorf("%+v", token)
		}
	})
}
