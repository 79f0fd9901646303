package mysqladmin

import (
	"crypto/tls"
	"errors"
	"testing"
)

// A verification of one's own is told whom the connection is for, be it a name
// or an address.
func TestVerificationKnowsServer(t *testing.T) {
	for address, want := range map[string]string{"db1.example:3306": "db1.example", "10.0.0.7:3306": "10.0.0.7", "[2001:db8::7]:3306": "2001:db8::7"} {
		seen := errors.New("verified")
		var name string
		target := Target{Address: address, TLS: &tls.Config{VerifyConnection: func(state tls.ConnectionState) error {
			name = state.ServerName
			return seen
		}}}
		c := target.tlsFor(Greeting{})
		if err := c.VerifyConnection(tls.ConnectionState{}); err != seen || name != want || c.ServerName != want {
			t.Errorf("%s: verified for %q, connected to %q: %v", address, name, c.ServerName, err)
		}
		if target.TLS.ServerName != "" {
			t.Errorf("the shared configuration was changed")
		}
	}
}
