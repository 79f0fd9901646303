package control

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"farmhand/internal/atomicfile"
	"farmhand/internal/pki"
	"farmhand/internal/registry"
)

// Dir is a control node's directory:
//
//	registry.yaml            the configuration, the same on every control node
//	ca.crt, ca.key           the farm's authority
//	server.crt, server.key   what this node serves with, and calls its peers with
//	control.crt, control.key what the scaler is the registry's administrator with
//	data/                    the embedded etcd's data
//	seat                     how far the node is a member of the embedded etcd
//	lock                     held by the one that runs
type Dir struct{ Path string }

// ConfigFile is the path of the configuration.
func (d Dir) ConfigFile() string { return filepath.Join(d.Path, "registry.yaml") }

// Lock is the path of the file that the control node's process has open while it runs.
func (d Dir) Lock() string { return d.lock() }

func (d Dir) data() string       { return filepath.Join(d.Path, "data") }
func (d Dir) lock() string       { return filepath.Join(d.Path, "lock") }
func (d Dir) server() pki.Files  { return pki.In(d.Path, "server") }
func (d Dir) control() pki.Files { return pki.In(d.Path, "control") }
func (d Dir) registryFiles(c *Config) pki.Files {
	f := d.control()
	if c.External.Authority != "" {
		f.Authority = c.External.Authority
	}
	return f
}

// memberPrefix keeps the names of control nodes apart from those of nodes: no
// node's name has a colon.
const memberPrefix = "member:"

// Init makes the directories of a new farm's control nodes and returns them: d
// itself for one member, and a directory with each one's name below d for
// several. Nothing that exists is changed.
func Init(d Dir, c Config, now time.Time) ([]Dir, error) {
	if problems := c.Validate(); len(problems) > 0 {
		lines := make([]string, len(problems))
		for i, p := range problems {
			lines[i] = p.Path + ": " + p.Message
		}
		return nil, fmt.Errorf("make a registry: %s", strings.Join(lines, "; "))
	}
	authority, err := pki.NewAuthority(c.Farm, now)
	if err != nil {
		return nil, err
	}
	dirs := make([]Dir, len(c.Members))
	for i, m := range c.Members {
		dirs[i] = d
		if len(c.Members) > 1 {
			dirs[i].Path = filepath.Join(d.Path, m.Name)
		}
		if _, err := os.Stat(dirs[i].ConfigFile()); !errors.Is(err, fs.ErrNotExist) {
			return nil, errors.Join(fmt.Errorf("there is a registry in %s already; it is left as it is", dirs[i].Path), err)
		}
	}
	text := c.text()
	for i, m := range c.Members {
		if err := dirs[i].fill(authority, m, text, now); err != nil {
			return nil, fmt.Errorf("make a registry in %s: %w", dirs[i].Path, err)
		}
	}
	return dirs, nil
}

// fill writes the files of one member; the configuration, by which a directory
// is known, last.
func (d Dir) fill(authority *pki.Authority, m Member, config string, now time.Time) error {
	if err := pki.MakeDir(d.Path); err != nil {
		return err
	}
	if err := pki.WriteAuthority(d.Path, authority); err != nil {
		return err
	}
	for _, files := range []pki.Files{d.server(), d.control()} {
		key, err := pki.NewKey()
		if err != nil {
			return err
		}
		if err := pki.WriteKey(files.Key, key); err != nil {
			return err
		}
	}
	if err := d.certify(authority, m, now); err != nil {
		return err
	}
	return atomicfile.WritePrivate(d.ConfigFile(), []byte(config))
}

// certify signs the certificates of the node anew, for the keys that are there.
func (d Dir) certify(authority *pki.Authority, m Member, now time.Time) error {
	server, control := d.server(), d.control()
	key, err := pki.ReadKey(server.Key)
	if err != nil {
		return err
	}
	cert, err := authority.Server(&key.PublicKey, memberPrefix+m.Name, []string{m.Address}, now)
	if err != nil {
		return err
	}
	if err := pki.WriteCertificate(server.Certificate, cert); err != nil {
		return err
	}
	if key, err = pki.ReadKey(control.Key); err != nil {
		return err
	}
	if cert, err = authority.Client(&key.PublicKey, registry.Administrator, now); err != nil {
		return err
	}
	return pki.WriteCertificate(control.Certificate, cert)
}

// renewAt is when certify is to be called next.
func (d Dir) renewAt() (time.Time, error) {
	var first time.Time
	for _, files := range []pki.Files{d.server(), d.control()} {
		cert, err := pki.ReadCertificate(files.Certificate)
		if err != nil {
			return time.Time{}, err
		}
		if at := pki.RenewAt(cert); first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first, nil
}

// Config reads the configuration.
func (d Dir) Config() (Config, error) {
	if _, err := os.Stat(d.ConfigFile()); errors.Is(err, fs.ErrNotExist) {
		return Config{}, fmt.Errorf("there is no registry in %s; \"scaler registry init\" makes one", d.Path)
	}
	return Load(d.ConfigFile())
}

// load reads the configuration and says which of its members d is.
func (d Dir) load() (Config, Member, error) {
	c, err := d.Config()
	if err != nil {
		return Config{}, Member{}, err
	}
	cert, err := pki.ReadCertificate(d.server().Certificate)
	if err != nil {
		return Config{}, Member{}, err
	}
	m, err := c.member(cert)
	return c, m, err
}

func (c *Config) member(cert *x509.Certificate) (Member, error) {
	name, _ := nameOf(cert)
	for _, m := range c.Members {
		if m.Name == name {
			return m, nil
		}
	}
	return Member{}, fmt.Errorf("the certificate says that this is member %q, which the configuration does not list", name)
}

// nameOf is whose server certificate it is, and whether it is a control node's.
func nameOf(cert *x509.Certificate) (string, bool) {
	return strings.CutPrefix(cert.Subject.CommonName, memberPrefix)
}

// text is the configuration file of a new registry.
func (c *Config) text() string {
	var s bytes.Buffer
	fmt.Fprintf(&s, "# The farm's registry: the same file on every control node.\nfarm: %s\n\n"+
		"# Kept by the scaler: scaler join adds a control node, scaler registry remove takes one away.\n%s", c.Farm, membersText(c.Members))
	fmt.Fprintf(&s, `
# The embedded etcd.
etcd:
  quota: %v         # what it stores at most; beyond that it takes no writes
  history: %v         # how long old values are kept for watches that fell behind
  heartbeat: %v
  election: %v
  log_level: %s

# An etcd that is run by somebody else, instead of the embedded one. It must trust
# ca.crt for client certificates and have its access control switched on with
# the user root; its servers' certificates are signed by authority (a file; the
# farm's own authority if it is not given).
# external:
#   endpoints: [10.0.0.11:2379, 10.0.0.12:2379, 10.0.0.13:2379]
#   authority: /etc/farmhand/etcd-ca.crt

log:
  level: %s
  format: %s
`, c.Etcd.Quota, c.Etcd.History, c.Etcd.Heartbeat, c.Etcd.Election, c.Etcd.LogLevel, c.Log.Level, c.Log.Format)
	return s.String()
}
