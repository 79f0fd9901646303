package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"farmhand/internal/atomicfile"
	"farmhand/internal/service"
)

// maxPEM is more than any file here holds.
const maxPEM = 64 << 10

// Files are the paths of a certificate, of its key and of the authority's
// certificate.
type Files struct{ Authority, Certificate, Key string }

// In returns the files of the holder called name in dir: name.crt, name.key and
// ca.crt.
func In(dir, name string) Files {
	return Files{
		Authority:   filepath.Join(dir, "ca.crt"),
		Certificate: filepath.Join(dir, name+".crt"),
		Key:         filepath.Join(dir, name+".key"),
	}
}

// MakeDir makes the directory for keys with mode 0700; one that exists must not
// let others in.
func MakeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the directory for keys: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("make the directory for keys: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o, but is to hold keys: other users get into it; chmod it to 0700", dir, mode)
	}
	return nil
}

// WriteKey writes a key to a new file; it never replaces one.
func WriteKey(path string, key *ecdsa.PrivateKey) (err error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode key: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	err = errors.Join(pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der}), f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("write key: %w", errors.Join(err, os.Remove(path)))
	}
	return nil
}

// WriteCertificate writes or replaces a certificate's file; a reader sees the
// old one or the new one.
func WriteCertificate(path string, cert *x509.Certificate) error {
	if err := atomicfile.WritePrivate(path, EncodeCertificate(cert)); err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	return nil
}

// EncodeCertificate is a certificate as PEM.
func EncodeCertificate(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}

// DecodeCertificate reads the one certificate of a PEM text.
func DecodeCertificate(text []byte) (*x509.Certificate, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) != 0 {
		return nil, errors.New("it is not one PEM block of a certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}

// ReadCertificate reads a certificate's file.
func ReadCertificate(path string) (*x509.Certificate, error) {
	data, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	cert, err := DecodeCertificate(data)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", path, err)
	}
	return cert, nil
}

// ReadKey reads a key's file, which no other user may have access to.
func ReadKey(path string) (*ecdsa.PrivateKey, error) {
	if err := service.CheckSecretFile(path); err != nil {
		return nil, err
	}
	data, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("key %s: it is not a PEM block of a private key", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("key %s: it is not an ECDSA key", path)
	}
	return ec, nil
}

// read reads the certificate and the key, which need not belong together.
func (f Files) read() (*x509.Certificate, *ecdsa.PrivateKey, error) {
	cert, err := ReadCertificate(f.Certificate)
	if err != nil {
		return nil, nil, err
	}
	key, err := ReadKey(f.Key)
	return cert, key, err
}

func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxPEM {
		return nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("it is not a file of at most %d bytes", maxPEM)}
	}
	return os.ReadFile(path)
}

// EncodeKey is the authority's key as PEM: who has it owns the farm.
func (a *Authority) EncodeKey() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// DecodeAuthority is the authority with that certificate, from what EncodeKey
// returned. Its errors have nothing of the key in them.
func DecodeAuthority(cert *x509.Certificate, text []byte) (*Authority, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" || len(bytes.TrimSpace(rest)) != 0 {
		return nil, errors.New("the authority's key is not one PEM block of a private key")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the authority's key cannot be read")
	}
	if ec, ok := key.(*ecdsa.PrivateKey); ok && cert.IsCA && ec.PublicKey.Equal(cert.PublicKey) {
		return &Authority{cert: cert, key: ec}, nil
	}
	return nil, fmt.Errorf("it is not the key of the authority %s", cert.Subject.CommonName)
}

// WriteAuthority writes ca.key and ca.crt into dir, where none must be yet.
func WriteAuthority(dir string, a *Authority) error {
	files := In(dir, "ca")
	if err := WriteKey(files.Key, a.key); err != nil {
		return err
	}
	return WriteCertificate(files.Certificate, a.cert)
}

// ReadAuthority reads the authority that WriteAuthority wrote.
func ReadAuthority(dir string) (*Authority, error) {
	files := In(dir, "ca")
	cert, key, err := files.read()
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) || !cert.IsCA {
		return nil, fmt.Errorf("%s is not the key of the authority %s", files.Key, files.Certificate)
	}
	return &Authority{cert: cert, key: key}, nil
}
