package frontend

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"strings"
	"time"

	"farmhand/proxy/internal/config"
)

// selfSignedFor is how long a certificate of the proxy's own is good. It is made
// anew at each start, and no client verifies it.
const selfSignedFor = 10 * 365 * 24 * time.Hour

// ClientTLS returns what the proxy shows to clients, nil if TLS is not offered.
// Without a certificate file it makes a self-signed certificate. A reload is
// another call; what runs keeps the configuration that it began with. The
// configuration is immutable: session tickets of one do not hold for the next,
// so that nobody keeps a trust that was taken back.
//
// In the mode verify a client must show a certificate that an authority of the
// CA file has signed; in the others, required included, none is asked for.
// Whether a client may go without TLS is the caller's to decide, by the mode.
func ClientTLS(c config.TLSClients, now time.Time) (*tls.Config, error) {
	if c.Mode == config.TLSDisabled {
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	certificate, err := load(c.Certificate, c.Key)
	if err == nil && certificate == nil {
		certificate, err = selfSigned(now)
	}
	if err != nil {
		return nil, fmt.Errorf("TLS for clients: %w", err)
	}
	t.Certificates = []tls.Certificate{*certificate}
	if c.Mode != config.TLSVerify {
		return t, nil
	}
	if c.CA == "" {
		return nil, errors.New("TLS for clients: verify needs a CA file")
	}
	if t.ClientCAs, err = authorities(c.CA); err != nil {
		return nil, fmt.Errorf("TLS for clients: %w", err)
	}
	t.ClientAuth = tls.RequireAndVerifyClientCert
	return t, nil
}

// ServerTLS returns how the proxy connects to servers, nil if it does not use
// TLS. Whoever dials sets ServerName to the server's host where it is empty, and
// gives VerifyConnection that name in the state even if it is an IP address,
// which crypto/tls leaves out. As for MySQL's own clients, preferred and required
// encrypt and verify nothing: only verify makes sure of the server, by its chain
// up to an authority of the CA file (the system's, without one) and by ServerName.
func ServerTLS(c config.TLSServers) (*tls.Config, error) {
	if c.Mode == config.TLSDisabled {
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName, InsecureSkipVerify: true}
	certificate, err := load(c.Certificate, c.Key)
	if err != nil {
		return nil, fmt.Errorf("TLS to servers: %w", err)
	}
	if certificate != nil {
		t.Certificates = []tls.Certificate{*certificate}
	}
	if c.Mode != config.TLSVerify {
		return t, nil
	}
	var roots *x509.CertPool // nil: the system's
	if c.CA != "" {
		if roots, err = authorities(c.CA); err != nil {
			return nil, fmt.Errorf("TLS to servers: %w", err)
		}
	}
	// In the place of Go's own verification, which knows no common names:
	// certificates made for MySQL often have nothing else.
	t.VerifyConnection = func(state tls.ConnectionState) error {
		name := state.ServerName
		if name == "" { // crypto/tls leaves an IP address out
			name = c.ServerName
		}
		return verifyServer(state.PeerCertificates, roots, name)
	}
	return t, nil
}

func verifyServer(chain []*x509.Certificate, roots *x509.CertPool, name string) error {
	if len(chain) == 0 {
		return errors.New("the server showed no certificate")
	}
	leaf := chain[0]
	options := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, c := range chain[1:] {
		options.Intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(options); err != nil {
		return err
	}
	if len(leaf.DNSNames)+len(leaf.IPAddresses)+len(leaf.EmailAddresses)+len(leaf.URIs) == 0 {
		if name != "" && strings.EqualFold(leaf.Subject.CommonName, name) {
			return nil
		}
		return fmt.Errorf("the server's certificate is for %q, not for %q", leaf.Subject.CommonName, name)
	}
	return leaf.VerifyHostname(name)
}

// load reads a certificate with its key; nil if there is none to read.
func load(certificateFile, keyFile string) (*tls.Certificate, error) {
	switch {
	case certificateFile == "" && keyFile == "":
		return nil, nil
	case certificateFile == "" || keyFile == "":
		return nil, errors.New("a certificate needs its key, and a key its certificate")
	}
	certificate, err := tls.LoadX509KeyPair(certificateFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("read certificate %s with key %s: %w", certificateFile, keyFile, err)
	}
	return &certificate, nil
}

func authorities(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read CA file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("read CA file: %s holds no certificate", file)
	}
	return pool, nil
}

func selfSigned(now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "Farmhand proxy, self-signed"},
		NotBefore:             now.Add(-time.Hour), // for clocks that are behind
		NotAfter:              now.Add(selfSignedFor),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if host, err := os.Hostname(); err == nil && host != "" && host != "localhost" {
		template.DNSNames = append(template.DNSNames, host)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
