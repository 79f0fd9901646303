package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"farmhand/internal/farmtest"
)

// certificates are paths of PEM files.
type certificates struct {
	// ca signed certificate, which servers show; other signed nothing.
	ca, certificate, key, other string
}

func makeCertificates(t *testing.T) certificates {
	t.Helper()
	dir := farmtest.ShortDir(t)
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// sign makes a key and its certificate, signed by parent or by itself.
	sign := func(name string, authority bool, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
			IsCA: authority, BasicConstraintsValid: true,
		}
		if parent == nil {
			parent, parentKey = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c, key
	}
	ca, caKey := sign("farm authority", true, nil, nil)
	server, serverKey := sign("farm server", false, ca, caKey)
	other, _ := sign("another authority", true, nil, nil)
	key, err := x509.MarshalPKCS8PrivateKey(serverKey)
	if err != nil {
		t.Fatal(err)
	}
	return certificates{
		ca:          write("ca.pem", "CERTIFICATE", ca.Raw),
		certificate: write("server.pem", "CERTIFICATE", server.Raw),
		key:         write("server.key", "PRIVATE KEY", key),
		other:       write("other.pem", "CERTIFICATE", other.Raw),
	}
}
