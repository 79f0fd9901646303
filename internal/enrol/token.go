package enrol

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
)

// Token is what a node needs to join. Its text is a secret until it was used.
type Token struct {
	Addresses   []string `json:"at"` // host:port of those that admit nodes
	Fingerprint string   `json:"ca"` // of the farm's authority
	ID          string   `json:"id"`
	Secret      string   `json:"secret"`
	Names       string   `json:"names"` // the name or the pattern that it is for
}

// tokenPrefix lets people and secret scanners see what it is.
const tokenPrefix = "farmhand-join-"

// maxToken is more than a token with many addresses needs, in bytes.
const maxToken = 4 << 10

// Encode returns the token's text.
func (t Token) Encode() (string, error) {
	return encodeToken(tokenPrefix, t)
}

func encodeToken(prefix string, t any) (string, error) {
	data, err := json.Marshal(t)
	if err != nil {
		return "", fmt.Errorf("encode token: %w", err)
	}
	return prefix + base64.RawURLEncoding.EncodeToString(data), nil
}

// ParseToken reads a token's text. Its errors have nothing of the text in them.
func ParseToken(text string) (Token, error) {
	if strings.HasPrefix(strings.TrimSpace(text), scalerPrefix) {
		return Token{}, errors.New("token: it is for a control node, which joins by \"scaler join\"")
	}
	var t Token
	if err := decodeToken(tokenPrefix, text, &t); err != nil {
		return Token{}, err
	}
	return t, t.check()
}

func decodeToken(prefix, text string, into any) error {
	text = strings.TrimSpace(text)
	if len(text) > maxToken {
		return fmt.Errorf("token: it is longer than %d bytes", maxToken)
	}
	coded, ok := strings.CutPrefix(text, prefix)
	if !ok {
		return fmt.Errorf("token: it does not begin with %s, as those of \"scaler registry token\" do", prefix)
	}
	data, err := base64.RawURLEncoding.DecodeString(coded)
	if err != nil || json.Unmarshal(data, into) != nil {
		return errors.New("token: it is damaged; was all of it copied?")
	}
	return nil
}

func (t Token) check() error {
	if sum, err := hex.DecodeString(t.Fingerprint); err != nil || len(sum) != 32 || t.ID == "" || t.Secret == "" || len(t.Addresses) == 0 {
		return errors.New("token: it is not complete")
	}
	for _, address := range t.Addresses {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return fmt.Errorf("token: %q is not an address", address)
		}
	}
	return nil
}
