package enrol

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"farmhand/internal/farm"
	"farmhand/internal/pki"
)

// Paths of the scaler's endpoint for further control nodes.
const (
	ScalerPath    = "/v1/scaler"    // a ScalerRequest for a ScalerReply
	AuthorityPath = "/v1/authority" // by a new control node's server certificate, for an AuthorityReply
)

// ScalerToken is what a machine needs to become a control node, by one name and at
// one place. Its text is a secret until it was used.
type ScalerToken struct {
	Token
	Place
}

// Place is where a control node answers.
type Place struct {
	Address    string `json:"address"` // an IP address
	ClientPort uint16 `json:"client_port"`
	PeerPort   uint16 `json:"peer_port"`
	JoinPort   uint16 `json:"join_port"`
}

const scalerPrefix = "farmhand-scaler-"

// Encode returns the token's text.
func (t ScalerToken) Encode() (string, error) { return encodeToken(scalerPrefix, t) }

// ParseScalerToken reads a token's text. Its errors have nothing of the text in
// them.
func ParseScalerToken(text string) (ScalerToken, error) {
	if strings.HasPrefix(strings.TrimSpace(text), tokenPrefix) {
		return ScalerToken{}, errors.New("token: it is for a node, which joins by \"sidecar join\"; for a control node: scaler registry token --control")
	}
	var t ScalerToken
	if err := decodeToken(scalerPrefix, text, &t); err != nil {
		return ScalerToken{}, err
	}
	if err := farm.CheckName(t.Names); err != nil {
		return ScalerToken{}, fmt.Errorf("token: %w", err)
	}
	if net.ParseIP(t.Address) == nil || t.ClientPort == 0 || t.PeerPort == 0 || t.JoinPort == 0 {
		return ScalerToken{}, errors.New("token: it is not complete")
	}
	return t, t.check()
}

// ScalerRequest asks for the admission of a control node. The requests are for the
// certificates that it serves with, and that it is the registry's administrator
// with; PEM.
type ScalerRequest struct {
	ID     string `json:"id"`
	Secret string `json:"secret"`
	Name   string `json:"name"`
	Place
	Server  string `json:"server"`
	Control string `json:"control"`
}

// ScalerReply makes a control node, but for the authority's key.
type ScalerReply struct {
	Server    string `json:"server"`  // certificates, PEM
	Control   string `json:"control"` // the same
	Authority string `json:"authority"`
	Config    string `json:"config"` // registry.yaml
}

// AuthorityReply is the key of the farm's authority, PEM.
type AuthorityReply struct {
	Key string `json:"key"`
}

// AskScaler exchanges the token for certificates.
func AskScaler(ctx context.Context, t ScalerToken, r ScalerRequest) (ScalerReply, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return ScalerReply{}, fmt.Errorf("encode the request: %w", err)
	}
	return ask[ScalerReply](ctx, t.Addresses, ScalerPath, body, func(host string) *tls.Config { return pki.PinnedTLS(host, t.Fingerprint) })
}

// AskAuthority gets the key of the farm's authority, over a connection at both
// ends of which is a certificate of the farm's: files are the new control node's.
func AskAuthority(ctx context.Context, t ScalerToken, files pki.Files) (AuthorityReply, error) {
	config, err := files.ClientTLS()
	if err != nil {
		return AuthorityReply{}, err
	}
	return ask[AuthorityReply](ctx, t.Addresses, AuthorityPath, []byte("{}"), func(host string) *tls.Config {
		c := config.Clone()
		c.ServerName = host
		return c
	})
}

// Follow keeps where the node in dir finds the registry and the scalers, which may
// have changed; it reports whether they had.
func Follow(dir string, endpoints, scalers []string) (changed bool, err error) {
	node, err := Read(dir)
	if err != nil || len(endpoints) == 0 || len(scalers) == 0 || slices.Equal(node.Endpoints, endpoints) && slices.Equal(node.Scalers, scalers) {
		return false, err
	}
	node.Endpoints, node.Scalers = endpoints, scalers
	return true, writeNode(dir, node)
}
