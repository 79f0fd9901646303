package enrol

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"farmhand/internal/atomicfile"
	"farmhand/internal/farm"
	"farmhand/internal/pki"
)

// Node is who a node is and where it finds the others.
type Node struct {
	Farm      string   `json:"farm"`
	Name      string   `json:"name"`
	Role      string   `json:"role"`
	Endpoints []string `json:"endpoints"` // of the registry
	Scalers   []string `json:"scalers"`   // that renew certificates
}

const (
	nodeFile     = "node.json"
	registryFile = "registry-ca.crt"
)

// Files are the node's certificate, its key and the authority of those that
// renew it.
func Files(dir string) pki.Files { return pki.In(dir, "node") }

// RegistryFiles are the same towards the registry.
func RegistryFiles(dir string) pki.Files {
	f := Files(dir)
	f.Authority = filepath.Join(dir, registryFile)
	return f
}

// SecretFile is where a node that has joined keeps a password that the farm gave it.
func SecretFile(dir, who string) string { return filepath.Join(dir, who+".password") }

// ErrNotJoined: the directory is not a node's.
var ErrNotJoined = errors.New("no node has joined from here")

// Read returns the node that joined from dir.
func Read(dir string) (Node, error) {
	var n Node
	data, err := os.ReadFile(filepath.Join(dir, nodeFile))
	if errors.Is(err, fs.ErrNotExist) {
		return n, fmt.Errorf("%s: %w; \"sidecar join\" does that", dir, ErrNotJoined)
	}
	if err == nil {
		err = json.Unmarshal(data, &n)
	}
	if err != nil {
		return n, fmt.Errorf("read node: %w", err)
	}
	return n, nil
}

// Join makes this machine the node called name and keeps in dir what it needs
// for that. A directory from which a node has joined is refused.
func Join(ctx context.Context, t Token, name, dir string) (Node, error) {
	if err := pki.MakeDir(dir); err != nil {
		return Node{}, err
	}
	if _, err := Read(dir); !errors.Is(err, ErrNotJoined) {
		return Node{}, errors.Join(err, fmt.Errorf("%s is a node's already; choose another directory, or remove it once that node was expelled", dir))
	}
	files := Files(dir)
	key, err := prepareKey(files.Key)
	if err != nil {
		return Node{}, err
	}
	reply, err := join(ctx, t, name, key)
	if err != nil {
		return Node{}, errors.Join(fmt.Errorf("join as %s: %w", name, err), os.Remove(files.Key))
	}
	if err := keep(dir, reply, name, key, t.Fingerprint); err != nil {
		return Node{}, fmt.Errorf("join as %s: %w; the token is spent, so expel the node and join with a new one", name, err)
	}
	return reply.Node, nil
}

// prepareKey writes the key before the token is spent: what is wrong with the
// disk must be known by then.
func prepareKey(path string) (*ecdsa.PrivateKey, error) {
	// Without node.json, a key is what an attempt that was killed has left.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the key of an attempt before: %w", err)
	}
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	return key, pki.WriteKey(path, key)
}

// keep checks the reply and writes it; node.json, by which a node is known, last.
func keep(dir string, r Reply, name string, key *ecdsa.PrivateKey, fingerprint string) error {
	files := Files(dir)
	authority, err := pki.DecodeCertificate([]byte(r.Authority))
	if err != nil {
		return fmt.Errorf("the authority in the answer: %w", err)
	}
	if pki.Fingerprint(authority) != fingerprint {
		return errors.New("the authority in the answer is not the token's")
	}
	if err := pki.WriteCertificate(files.Authority, authority); err != nil {
		return err
	}
	if r.Name != name {
		return fmt.Errorf("the answer is for %q", r.Name)
	}
	for who, password := range r.Secrets {
		if err := farm.CheckName(who); err != nil {
			return fmt.Errorf("the secrets in the answer: %w", err)
		}
		if err := atomicfile.WritePrivate(SecretFile(dir, who), []byte(password+"\n")); err != nil {
			return err
		}
	}
	return update(dir, r, authority, &key.PublicKey)
}

// update writes what may change with a renewal.
func update(dir string, r Reply, authority *x509.Certificate, key *ecdsa.PublicKey) error {
	cert, err := pki.DecodeCertificate([]byte(r.Certificate))
	if err != nil {
		return fmt.Errorf("the certificate in the answer: %w", err)
	}
	if err := cert.CheckSignatureFrom(authority); err != nil {
		return fmt.Errorf("the certificate in the answer: %w", err)
	}
	if cert.Subject.CommonName != r.Name || !key.Equal(cert.PublicKey) {
		return errors.New("the certificate in the answer is for another name or key")
	}
	registry, err := pki.DecodeCertificate([]byte(r.RegistryAuthority))
	if err != nil {
		return fmt.Errorf("the registry's authority in the answer: %w", err)
	}
	if err := pki.WriteCertificate(RegistryFiles(dir).Authority, registry); err != nil {
		return err
	}
	if err := pki.WriteCertificate(Files(dir).Certificate, cert); err != nil {
		return err
	}
	return writeNode(dir, r.Node)
}

func writeNode(dir string, n Node) error {
	data, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.WritePrivate(filepath.Join(dir, nodeFile), append(data, '\n'))
}

// Renew gets a new certificate for the node in dir, whose key stays.
func Renew(ctx context.Context, dir string) (Node, error) {
	node, err := Read(dir)
	if err != nil {
		return Node{}, err
	}
	files := Files(dir)
	config, err := files.ClientTLS()
	if err != nil {
		return Node{}, err
	}
	key, err := pki.ReadKey(files.Key)
	if err != nil {
		return Node{}, err
	}
	authority, err := pki.ReadCertificate(files.Authority)
	if err != nil {
		return Node{}, err
	}
	reply, err := ask[Reply](ctx, node.Scalers, RenewPath, []byte("{}"), func(host string) *tls.Config {
		c := config.Clone()
		c.ServerName = host
		return c
	})
	if err != nil {
		return Node{}, fmt.Errorf("renew the certificate of %s: %w", node.Name, err)
	}
	if reply.Name != node.Name {
		return Node{}, fmt.Errorf("renew the certificate of %s: the answer is for %q", node.Name, reply.Name)
	}
	if err := update(dir, reply, authority, &key.PublicKey); err != nil {
		return Node{}, fmt.Errorf("renew the certificate of %s: %w", node.Name, err)
	}
	return reply.Node, nil
}

// renewRetry is how long to wait after an attempt to renew; there are ten days for
// it.
const renewRetry = 10 * time.Minute

// KeepRenewed renews the certificate of the node in dir whenever it is time,
// until ctx ends. tell gets the outcome of each attempt.
func KeepRenewed(ctx context.Context, dir string, tell func(error)) error {
	for {
		cert, err := pki.ReadCertificate(Files(dir).Certificate)
		if err != nil {
			return err
		}
		wait := time.Until(pki.RenewAt(cert))
		if wait <= 0 {
			_, err := Renew(ctx, dir)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			tell(err)
			// After a success too: an authority near its own end signs for ever
			// shorter times.
			wait = renewRetry
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
