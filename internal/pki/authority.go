package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// How long certificates last. A node that cannot renew for a third of its time
// has to join again, so that third must outlast a registry that is away over a
// long weekend.
const (
	authorityLife = 10 * 365 * 24 * time.Hour
	serverLife    = 90 * 24 * time.Hour
	NodeLife      = 30 * 24 * time.Hour

	// skew is how far the clock of another machine may be behind ours.
	skew = 5 * time.Minute
)

// Authority is a farm's certificate authority.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes the authority of the farm with that name.
func NewAuthority(farm string, now time.Time) (*Authority, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	template, err := draft("farmhand authority of "+farm, now, authorityLife)
	if err != nil {
		return nil, err
	}
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	template.IsCA = true
	template.MaxPathLenZero = true
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign the authority's own certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read the authority's own certificate: %w", err)
	}
	return &Authority{cert: cert, key: key}, nil
}

// Certificate is the authority's own certificate, which everyone in the farm
// trusts.
func (a *Authority) Certificate() *x509.Certificate { return a.cert }

// Fingerprint is the SHA-256 of a certificate in hexadecimal digits.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

// KeyFingerprint is the SHA-256 of a public key in hexadecimal digits.
func KeyFingerprint(key *ecdsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("fingerprint of a key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// PeerHost is the host name in the certificates of the registry's own members
// and in no other: what shows one member that another one calls.
const PeerHost = "peer.registry.farmhand.internal"

// Server signs the certificate of a control node, which serves at hosts (names
// or IP addresses) and calls the registry's other members.
func (a *Authority) Server(key *ecdsa.PublicKey, name string, hosts []string, now time.Time) (*x509.Certificate, error) {
	template, err := draft(name, now, serverLife)
	if err != nil {
		return nil, err
	}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.DNSNames = []string{PeerHost}
	addHosts(template, hosts)
	return a.sign(template, key)
}

// Client signs a certificate that is good for nothing but to be name towards
// the registry.
func (a *Authority) Client(key *ecdsa.PublicKey, name string, now time.Time) (*x509.Certificate, error) {
	template, err := draft(name, now, NodeLife)
	if err != nil {
		return nil, err
	}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.sign(template, key)
}

func (a *Authority) sign(template *x509.Certificate, key *ecdsa.PublicKey) (*x509.Certificate, error) {
	if key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("sign the certificate of %s: its key is on the curve %s; expected P-256", template.Subject.CommonName, key.Params().Name)
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	if template.NotAfter.After(a.cert.NotAfter) {
		template.NotAfter = a.cert.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of %s: %w", template.Subject.CommonName, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read the new certificate of %s: %w", template.Subject.CommonName, err)
	}
	return cert, nil
}

// draft is what all certificates have in common.
func draft(name string, now time.Time, life time.Duration) (*x509.Certificate, error) {
	if name == "" {
		return nil, errors.New("a certificate needs a name")
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("draw a serial number: %w", err)
	}
	return &x509.Certificate{
		SerialNumber:          serial.Add(serial, big.NewInt(1)),
		Subject:               pkix.Name{CommonName: name, Organization: []string{"farmhand"}},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(life),
		BasicConstraintsValid: true,
	}, nil
}

// RenewAt is when a certificate should be renewed: when two thirds of its time
// have passed.
func RenewAt(cert *x509.Certificate) time.Time {
	return cert.NotBefore.Add(cert.NotAfter.Sub(cert.NotBefore) / 3 * 2)
}
