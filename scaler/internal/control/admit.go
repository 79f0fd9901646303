package control

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/enrol"
	"farmhand/internal/pki"
	"farmhand/internal/registry"
)

// With runs do with a client of the registry as its administrator, for the time
// of the call.
func (d Dir) With(do func(*registry.Client, Config) error) (err error) {
	c, m, err := d.load()
	if err != nil {
		return err
	}
	client, err := d.open(&c, m, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	err = do(client, c)
	if errors.Is(err, registry.ErrUnavailable) {
		// The command's own time may be over.
		err = errors.Join(err, client.Diagnose(context.Background()))
	}
	return err
}

// open makes a client of the registry. A member that has no vote yet answers
// nobody, itself included.
func (d Dir) open(c *Config, m Member, log *zap.Logger) (*registry.Client, error) {
	s, err := d.seat()
	if err != nil {
		return nil, err
	}
	others := *c
	if s == joining {
		others.Members = slices.DeleteFunc(slices.Clone(c.Members), func(other Member) bool { return other.Name == m.Name })
	}
	return registry.Open(registry.Options{Farm: c.Farm, Endpoints: others.endpoints(), Files: d.registryFiles(c), Log: log})
}

// NewToken makes a token that admits one node at the farm's control nodes.
func (d Dir) NewToken(ctx context.Context, client *registry.Client, c *Config, role, names string, life time.Duration) (enrol.Token, registry.Admission, error) {
	authority, err := pki.ReadCertificate(d.control().Authority)
	if err != nil {
		return enrol.Token{}, registry.Admission{}, err
	}
	joins, err := joinsNow(ctx, client, c)
	if err != nil {
		return enrol.Token{}, registry.Admission{}, err
	}
	id, secret, admission, err := client.AddToken(ctx, role, names, life)
	if err != nil {
		return enrol.Token{}, registry.Admission{}, err
	}
	return enrol.Token{Addresses: joins, Fingerprint: pki.Fingerprint(authority), ID: id, Secret: secret, Names: names}, admission, nil
}
