package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"farmhand/internal/farm"
	"farmhand/internal/service"
	"farmhand/internal/topology"
)

// Check reads the configuration file at path and every file that it names, as
// the proxy would at its start, and returns one line that says what it found.
// An error has a line, or a few, for everything that is wrong.
func Check(path string) (string, error) {
	c, err := Load(path)
	if err != nil {
		return "", err
	}
	errs := []error{service.Locate(path, c.Files())}
	found, err := checkTopology(c.Topology, c.Cluster)
	if err := errors.Join(append(errs, err)...); err != nil {
		return "", err
	}
	return "ok: " + found, nil
}

// Files returns what is wrong with the password, certificate and key files that
// the configuration names. Load does not call it, so that a configuration can be
// read without them; the proxy does before it starts.
func (c *Config) Files() service.Problems {
	var p service.Problems
	if _, err := c.Monitor.Password(); err != nil {
		p.Add("monitor.password_file", "%v", err)
	}
	pair := func(path, certificate, key string) {
		if certificate == "" || key == "" {
			return
		}
		if err := service.CheckSecretFile(key); err != nil {
			p.Add(path+".key", "%v", err)
			return
		}
		if _, err := tls.LoadX509KeyPair(certificate, key); err != nil {
			p.Add(path+".certificate", "%v", err)
		}
	}
	authorities := func(path, file string) {
		if file == "" {
			return
		}
		data, err := os.ReadFile(file)
		switch {
		case err != nil:
			p.Add(path+".ca", "%v", err)
		case !x509.NewCertPool().AppendCertsFromPEM(data):
			p.Add(path+".ca", "there is no PEM certificate in %s", file)
		}
	}
	pair("tls.clients", c.TLS.Clients.Certificate, c.TLS.Clients.Key)
	authorities("tls.clients", c.TLS.Clients.CA)
	pair("tls.servers", c.TLS.Servers.Certificate, c.TLS.Servers.Key)
	authorities("tls.servers", c.TLS.Servers.CA)
	return p
}

// checkTopology describes the cluster in the topology file at path. Its error
// has a line for each problem, which begins file:line:column as those of the
// configuration do.
func checkTopology(path, cluster string) (string, error) {
	t, err := topology.Read(path)
	var problems topology.Problems
	if errors.As(err, &problems) {
		lines := make([]error, len(problems))
		for i, p := range problems {
			where := ""
			if p.Path != "" {
				where = p.Path + ": "
			}
			lines[i] = fmt.Errorf("%s:%d:%d: %s%w", path, p.Line, p.Column, where, p.Err)
		}
		return "", errors.Join(lines...)
	}
	if err != nil {
		return "", err
	}
	c, ok := t.Clusters[cluster]
	if !ok {
		return "", fmt.Errorf("%s: there is no cluster %q in it, which the configuration's key cluster names", path, cluster)
	}
	return describe(cluster, c), nil
}

func describe(name string, c farm.Cluster) string {
	var s strings.Builder
	fmt.Fprintf(&s, "cluster %s, epoch %d, ", name, c.Epoch)
	if c.Primary == nil {
		s.WriteString("no primary (writes wait)")
	} else {
		fmt.Fprintf(&s, "primary %s at %s", c.Primary.Name, c.Primary.Address)
	}
	for i, r := range c.Replicas {
		s.WriteString([]string{", replicas ", ", "}[min(i, 1)])
		fmt.Fprintf(&s, "%s at %s", r.Name, r.Address)
		if r.State != farm.Serving {
			fmt.Fprintf(&s, " (%s)", r.State)
		}
	}
	if len(c.Replicas) == 0 {
		s.WriteString(", no replicas")
	}
	return s.String()
}
