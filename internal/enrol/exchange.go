package enrol

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"farmhand/internal/pki"
)

// Paths of the scaler's endpoint for nodes.
const (
	JoinPath  = "/v1/join"  // a Request for a Reply
	RenewPath = "/v1/renew" // by a node's certificate, for a Reply
)

// Request asks for the admission of a node.
type Request struct {
	ID      string `json:"id"`
	Secret  string `json:"secret"`
	Name    string `json:"name"`
	Request string `json:"request"` // for a certificate, PEM
}

// Reply makes a node.
type Reply struct {
	Node
	Certificate string `json:"certificate"` // PEM
	// Authority has signed it, and RegistryAuthority the registry's servers; PEM.
	Authority         string `json:"authority"`
	RegistryAuthority string `json:"registry_authority"`
	// Secrets are the passwords that the node's role needs, by the account's name in the
	// farm; of the answer to a token only. They go over TLS to who knew the token.
	Secrets map[string]string `json:"secrets,omitempty"`
}

// Refusal is the answer to a request that failed.
type Refusal struct {
	Error string `json:"error"`
}

// RefusedError is what the scaler had against a request.
type RefusedError struct {
	Status int // of HTTP
	Reason string
}

func (e *RefusedError) Error() string { return "the scaler refused: " + e.Reason }

const (
	// MaxBody bounds requests and replies.
	MaxBody = 32 << 10
	// exchangeLimit bounds one attempt at one address.
	exchangeLimit = 15 * time.Second
)

// join exchanges the token for a certificate of key as name. It asks one address
// after the other; once one of them has answered, the token may be spent.
func join(ctx context.Context, t Token, name string, key *ecdsa.PrivateKey) (Reply, error) {
	request, err := pki.Request(key, name)
	if err != nil {
		return Reply{}, err
	}
	body, err := json.Marshal(Request{ID: t.ID, Secret: t.Secret, Name: name, Request: string(request)})
	if err != nil {
		return Reply{}, err
	}
	return ask[Reply](ctx, t.Addresses, JoinPath, body, func(host string) *tls.Config { return pki.PinnedTLS(host, t.Fingerprint) })
}

// ask posts body to the first address that can be reached. A request that may
// have arrived is not sent to another one.
func ask[R any](ctx context.Context, addresses []string, path string, body []byte, config func(host string) *tls.Config) (none R, err error) {
	var unreached error
	for _, address := range addresses {
		reply, sent, err := askOne[R](ctx, address, path, body, config)
		if err == nil {
			return reply, nil
		}
		err = fmt.Errorf("ask %s: %w", address, err)
		if sent {
			return none, err
		}
		unreached = errors.Join(unreached, err)
	}
	return none, unreached
}

func askOne[R any](ctx context.Context, address, path string, body []byte, config func(host string) *tls.Config) (r R, sent bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, exchangeLimit, fmt.Errorf("no answer within %v", exchangeLimit))
	defer cancel()
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return r, false, err
	}
	// The connection is made first: what fails until then has told nobody anything.
	dialer := tls.Dialer{Config: config(host)}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return r, false, err
	}
	transport := &http.Transport{
		DisableKeepAlives: true, MaxResponseHeaderBytes: 8 << 10,
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
			if conn == nil {
				return nil, errors.New("the scaler closed the connection without an answer")
			}
			c := conn
			conn = nil
			return c, nil
		},
	}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+address+path, bytes.NewReader(body))
	if err != nil {
		return r, false, errors.Join(err, conn.Close())
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := transport.RoundTrip(request)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return r, true, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	data, err := io.ReadAll(io.LimitReader(response.Body, MaxBody+1))
	if err == nil && len(data) > MaxBody {
		err = fmt.Errorf("its answer is longer than %d bytes", MaxBody)
	}
	if err != nil {
		return r, true, err
	}
	if response.StatusCode != http.StatusOK {
		refusal := Refusal{Error: response.Status}
		if json.Unmarshal(data, &refusal) != nil || refusal.Error == "" {
			refusal.Error = response.Status // it is no scaler's answer; its status is all that is known
		}
		return r, true, &RefusedError{Status: response.StatusCode, Reason: refusal.Error}
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, true, fmt.Errorf("read its answer: %w", err)
	}
	return r, true, nil
}
