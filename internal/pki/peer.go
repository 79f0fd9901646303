package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// PeerTLS is the configuration of both ends of a connection between two nodes.
// Each shows its own certificate, and each checks the other's itself: signed by
// the farm's authority for a client, and of a name that expect does not refuse.
//
// A node's certificate has no host name and is no server's, so that nobody can
// pose as a control node with it. That leaves the names, which the authority
// gives to one node only; where a node listens proves nothing.
func (f Files) PeerTLS(expect func(name string) error) (*tls.Config, error) {
	_, roots, err := f.authority()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return f.pair()
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return f.pair()
		},
		// The usual checks want a server's certificate of the server, and a host name;
		// VerifyConnection does the whole check, the same at both ends.
		ClientAuth:         tls.RequireAnyClientCert,
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 {
				return errors.New("the other node shows no certificate")
			}
			cert := state.PeerCertificates[0]
			if _, err := cert.Verify(x509.VerifyOptions{
				Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
			}); err != nil {
				return fmt.Errorf("the certificate of the other node: %w", err)
			}
			return expect(cert.Subject.CommonName)
		},
	}, nil
}
