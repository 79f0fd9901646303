package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// site is a directory with everything that a proxy's configuration names.
type site struct{ dir, config string }

func newSite(t *testing.T) site {
	t.Helper()
	s := site{dir: t.TempDir()}
	s.config = s.path("proxy.yaml")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s.put(t, "certificate.pem", 0o644, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})))
	s.put(t, "key.pem", 0o600, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	s.put(t, "password", 0o640, "geheim\n")
	s.put(t, "topology.json", 0o644, `{"version": 1, "clusters": {"main": {"epoch": 3,
  "primary": {"name": "db1", "address": "127.0.10.1:3306"},
  "replicas": [{"name": "db2", "address": "127.0.10.2:3306"}, {"name": "db3", "address": "/run/db3.sock", "state": "draining"}]}}}`)
	s.put(t, "proxy.yaml", 0o644, strings.ReplaceAll(`topology: DIR/topology.json
monitor:
  password_file: DIR/password
tls:
  clients: {certificate: DIR/certificate.pem, key: DIR/key.pem, ca: DIR/certificate.pem}
`, "DIR", s.dir))
	return s
}

func (s site) path(name string) string { return filepath.Join(s.dir, name) }

func (s site) put(t *testing.T, name string, mode os.FileMode, content string) {
	t.Helper()
	if err := os.WriteFile(s.path(name), []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(s.path(name), mode); err != nil {
		t.Fatal(err)
	}
}

func TestCheck(t *testing.T) {
	s := newSite(t)
	got, err := Check(s.config)
	if err != nil {
		t.Fatal(err)
	}
	if want := "ok: cluster main, epoch 3, primary db1 at 127.0.10.1:3306, replicas db2 at 127.0.10.2:3306, db3 at /run/db3.sock (draining)"; got != want {
		t.Errorf(" got %s\nwant %s", got, want)
	}
	s.put(t, "topology.json", 0o644, `{"version": 1, "clusters": {"main": {"epoch": 3, "primary": null}}}`)
	if got, err := Check(s.config); err != nil || got != "ok: cluster main, epoch 3, no primary (writes wait), no replicas" {
		t.Errorf("%s, %v", got, err)
	}
}

func TestCheckFindsWhatIsWrong(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(t *testing.T, s site)
		want  []string // each line's begin; DIR stands for the directory
	}{
		"a value": {
			func(t *testing.T, s site) { s.put(t, "proxy.yaml", 0o644, "cluster: a b\n") },
			[]string{`DIR/proxy.yaml:1:10: cluster: "a b" is not a name`, "  1 | cluster: a b", "    |          ^"},
		},
		"no configuration": {
			func(t *testing.T, s site) { os.Remove(s.config) },
			[]string{"read configuration: open DIR/proxy.yaml: no such file"},
		},
		"an open password": {
			func(t *testing.T, s site) { os.Chmod(s.path("password"), 0o644) },
			[]string{"DIR/proxy.yaml:3:18: monitor.password_file: secret file DIR/password has mode 0644", "  3 |", "    |"},
		},
		"an open key": {
			func(t *testing.T, s site) { os.Chmod(s.path("key.pem"), 0o604) },
			[]string{"DIR/proxy.yaml:5:", "  5 |", "    |"},
		},
		"no certificate": {
			func(t *testing.T, s site) { s.put(t, "certificate.pem", 0o644, "nothing") },
			[]string{"DIR/proxy.yaml:5:26: tls.clients.certificate: ", "  5 |", "    |", "DIR/proxy.yaml:5:", "  5 |", "    |"},
		},
		"no topology": {
			func(t *testing.T, s site) { os.Remove(s.path("topology.json")) },
			[]string{"read topology: open DIR/topology.json: no such file"},
		},
		"a wrong topology and no password": {
			func(t *testing.T, s site) {
				s.put(t, "topology.json", 0o644, "{\"version\": 1, \"clusters\": {\"main\": {\n\"epoch\": 0,\n\"primary\": 5}}}")
				os.Remove(s.path("password"))
			},
			[]string{
				"DIR/proxy.yaml:3:18: monitor.password_file: ", "  3 |", "    |",
				"DIR/topology.json:2:10: clusters.main.epoch: 0 is not a whole number from 1",
				"DIR/topology.json:3:12: clusters.main.primary: expected an object, found a number",
			},
		},
		"another cluster": {
			func(t *testing.T, s site) {
				s.put(t, "topology.json", 0o644, `{"version": 1, "clusters": {"other": {"epoch": 3, "primary": null}}}`)
			},
			[]string{`DIR/topology.json: there is no cluster "main" in it`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			test.spoil(t, s)
			summary, err := Check(s.config)
			if err == nil || summary != "" {
				t.Fatalf("got %q, %v; want an error", summary, err)
			}
			lines := strings.Split(err.Error(), "\n")
			for i, want := range test.want {
				want = strings.ReplaceAll(want, "DIR", s.dir)
				if i >= len(lines) || !strings.HasPrefix(lines[i], want) {
					t.Fatalf("line %d does not begin with %s:\n%s", i+1, want, err)
				}
			}
			if len(lines) != len(test.want) {
				t.Errorf("%d lines; want %d:\n%s", len(lines), len(test.want), err)
			}
			if strings.Contains(fmt.Sprint(err), "geheim") {
				t.Error("the error shows the password")
			}
		})
	}
}

func TestPassword(t *testing.T) {
	s := newSite(t)
	m := Monitor{User: "farmhand", PasswordFile: s.path("password")}
	if password, err := m.Password(); err != nil || password != "geheim" {
		t.Errorf("%q, %v", password, err)
	}
	s.put(t, "password", 0o640, "anders")
	if password, err := m.Password(); err != nil || password != "anders" {
		t.Errorf("a changed password: %q, %v", password, err)
	}
	if password, err := (Monitor{User: "farmhand"}).Password(); err != nil || password != "" {
		t.Errorf("no password: %q, %v", password, err)
	}
}
