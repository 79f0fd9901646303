package pki

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
)

// ClientTLS is the configuration of who calls a server of the farm with the
// certificate in f. The certificate is read at every handshake, so that a
// renewed one is used from the next connection on.
func (f Files) ClientTLS() (*tls.Config, error) {
	_, roots, err := f.authority()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		RootCAs:    roots,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return f.pair()
		},
	}, nil
}

// ServerTLS is the configuration of a server with the certificate in f, which it
// sends with the authority's: who knows the authority by its fingerprint only
// can then check both. Clients may show a certificate of the farm's; the handler
// decides what those without may do.
func (f Files) ServerTLS() (*tls.Config, error) {
	authority, clients, err := f.authority()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ClientAuth: tls.VerifyClientCertIfGiven,
		ClientCAs:  clients,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			pair, err := f.pair()
			if err == nil {
				pair.Certificate = append(pair.Certificate, authority.Raw)
			}
			return pair, err
		},
	}, nil
}

// authority reads the authority's certificate, once the own one is seen to be good.
func (f Files) authority() (*x509.Certificate, *x509.CertPool, error) {
	cert, err := ReadCertificate(f.Authority)
	if err != nil {
		return nil, nil, err
	}
	if _, err := f.pair(); err != nil {
		return nil, nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return cert, pool, nil
}

func (f Files) pair() (*tls.Certificate, error) {
	cert, key, err := f.read()
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("%s is not the key of the certificate %s", f.Key, f.Certificate)
	}
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}, nil
}

// PinnedTLS is the configuration of who knows of a server nothing but its host
// and the fingerprint of its farm's authority: the server must send that very
// authority and be certified by it for host.
func PinnedTLS(host, fingerprint string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: host,
		// The usual check wants a root that is known already; VerifyConnection does
		// the whole check with the root that the fingerprint names.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			roots := x509.NewCertPool()
			found := false
			for _, cert := range state.PeerCertificates {
				if cert.IsCA && Fingerprint(cert) == fingerprint {
					roots.AddCert(cert)
					found = true
				}
			}
			if !found {
				return &WrongAuthorityError{Host: host, Fingerprint: fingerprint}
			}
			_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
				DNSName: host, Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
			})
			return err
		},
	}
}

// WrongAuthorityError says that a server is not of the farm that was expected.
type WrongAuthorityError struct{ Host, Fingerprint string }

func (e *WrongAuthorityError) Error() string {
	return fmt.Sprintf("%s does not belong to the farm whose authority has the fingerprint %.16s…; nothing was told to it: "+
		"is the address right, and is anybody in between?", e.Host, e.Fingerprint)
}
