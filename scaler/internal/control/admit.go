package control

import (
	"context"
	"errors"
	"time"

	"farmhand/internal/enrol"
	"farmhand/internal/pki"
	"farmhand/internal/registry"
)

// With runs do with a client of the registry as its administrator, for the time
// of the call.
func (d Dir) With(do func(*registry.Client, Config) error) (err error) {
	c, _, err := d.load()
	if err != nil {
		return err
	}
	client, err := registry.Open(registry.Options{Farm: c.Farm, Endpoints: c.endpoints(), Files: d.registryFiles(&c)})
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

// NewToken makes a token that admits one node at the farm's control nodes.
func (d Dir) NewToken(ctx context.Context, client *registry.Client, c *Config, role, names string, life time.Duration) (enrol.Token, registry.Admission, error) {
	authority, err := pki.ReadCertificate(d.control().Authority)
	if err != nil {
		return enrol.Token{}, registry.Admission{}, err
	}
	id, secret, admission, err := client.AddToken(ctx, role, names, life)
	if err != nil {
		return enrol.Token{}, registry.Admission{}, err
	}
	return enrol.Token{Addresses: c.joins(), Fingerprint: pki.Fingerprint(authority), ID: id, Secret: secret, Names: names}, admission, nil
}
