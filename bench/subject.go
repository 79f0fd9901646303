package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"farmhand/internal/child"
)

// path is how clients and servers meet.
type path string

const (
	byTCP    path = "tcp"    // the client's connection
	bySocket path = "socket" // the same by unix socket
	byDelay  path = "delay"  // by TCP, with the delay between web node and servers
	// The same as PHP's "localhost" means it: by unix socket to what is on the web
	// node, and by TCP to a server, which is not.
	localDelay path = "local delay"
	encrypted  path = "encrypt" // by TCP with TLS from the client to the subject
)

// subject is one way from the clients to the servers.
type subject struct {
	name string
	to   map[path]endpoint
	// reads is where loads go that only read, if that is elsewhere.
	reads map[path]endpoint
	// readsOnly: it has nowhere to write.
	readsOnly bool
	// binary is the program of a Farmhand proxy, "" for others.
	binary string
}

// behind says which process is behind endpoints.
func behind(c *child.Child, to map[path]endpoint) {
	for p, e := range to {
		e.pids = []int{c.PID()}
		to[p] = e
	}
}

// at is where a load connects; false if it cannot be run on the subject.
func (s *subject) at(p path, onlyReads bool) (endpoint, bool) {
	if s.readsOnly && !onlyReads {
		return endpoint{}, false
	}
	if onlyReads && s.reads != nil {
		to, ok := s.reads[p]
		return to, ok
	}
	to, ok := s.to[p]
	return to, ok
}

// The names of the subjects that the acceptance rows name.
const (
	directName     = "direct"
	haproxyName    = "haproxy 1t"
	haproxy2Name   = "haproxy 2t"
	haproxyReads   = "haproxy 1t, replicas"
	farmhandName   = "farmhand-proxy"
	farmhandVsName = "farmhand-proxy (vs)"
)

// startSubjects starts all that is compared.
func (b *bench) startSubjects(ctx context.Context, o options) error {
	if err := makeCertificate(b.dir); err != nil {
		return fmt.Errorf("a certificate: %w", err)
	}
	b.subjects = []*subject{{name: directName, to: map[path]endpoint{
		byTCP:      b.primary(),
		bySocket:   {network: "unix", address: b.servers[0].socket},
		byDelay:    {network: "tcp", address: b.servers[0].late},
		localDelay: {network: "tcp", address: b.servers[0].late},
	}}}
	threads := []int{1, 2}
	if o.quick {
		threads = threads[:1]
	}
	for _, n := range threads {
		if err := b.startHaproxy(ctx, n); err != nil {
			return fmt.Errorf("haproxy: %w", err)
		}
	}
	for _, p := range []struct{ name, binary string }{{farmhandName, o.proxy}, {farmhandVsName, o.vs}} {
		if p.binary == "" {
			continue
		}
		if err := b.startFarmhand(ctx, p.name, p.binary); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	for _, r := range []struct {
		program string
		start   func(ctx context.Context, program string) error
	}{{"proxysql", b.startProxySQL}, {"mysqlrouter", b.startRouter}} {
		program, err := exec.LookPath(r.program)
		if err != nil {
			continue // it is compared where it is installed
		}
		if err := r.start(ctx, program); err != nil {
			return fmt.Errorf("%s: %w", r.program, err)
		}
	}
	return nil
}

// startHaproxy runs haproxy with n threads in TCP mode: to the primary, and with
// one thread also to the replicas in turn, which is what the proxy does with
// reads. Both are the same process, of which only one side is used at a time.
func (b *bench) startHaproxy(ctx context.Context, n int) error {
	// As Go's TLS chooses where the processor has AES.
	const suite = "TLS_AES_128_GCM_SHA256"
	text := "global\n  nbthread " + strconv.Itoa(n) + "\n  maxconn 4000\n  ssl-default-bind-options ssl-min-ver TLSv1.3\n" +
		"  ssl-default-bind-ciphersuites " + suite + "\n" +
		"defaults\n  mode tcp\n  balance roundrobin\n  timeout connect 5s\n  timeout client 5m\n  timeout server 5m\n"
	count := 0
	listen := func(at, options string, servers ...string) {
		count++
		text += fmt.Sprintf("listen l%d\n  bind %s%s\n", count, at, options)
		for i, s := range servers {
			text += fmt.Sprintf("  server s%d %s\n", i, s)
		}
	}
	side := func(name string, servers, late []string) map[path]endpoint {
		socket := filepath.Join(b.dir, fmt.Sprintf("haproxy%d-%s.sock", n, name))
		to := map[path]endpoint{
			byTCP: {network: "tcp", address: b.place()}, bySocket: {network: "unix", address: socket},
			byDelay: {network: "tcp", address: b.place()}, localDelay: {network: "unix", address: socket + ".late"},
			encrypted: {network: "tcp", address: b.place(), tls: frontTLS},
		}
		listen(to[byTCP].address, "", servers...)
		listen("unix@"+socket, "", servers...)
		listen(to[byDelay].address, "", late...)
		listen("unix@"+to[localDelay].address, "", late...)
		listen(to[encrypted].address, " ssl crt "+certificateFile(b.dir), servers...)
		return to
	}
	var servers, late []string
	for _, s := range b.servers {
		servers, late = append(servers, s.address), append(late, s.late)
	}
	name := haproxyName
	if n == 2 {
		name = haproxy2Name
	}
	added := []*subject{{name: name, to: side("primary", servers[:1], late[:1])}}
	if n == 1 {
		added = append(added, &subject{name: haproxyReads, readsOnly: true, to: side("replicas", servers[1:], late[1:])})
	}
	label := fmt.Sprintf("haproxy%d", n)
	config := filepath.Join(b.dir, label+".cfg")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	c, err := b.launch(label, "haproxy", "-db", "-f", config)
	if err != nil {
		return err
	}
	for _, s := range added {
		behind(c, s.to)
		for _, to := range s.to {
			if err := answers(ctx, to, c, filepath.Join(b.dir, label+".log")); err != nil {
				return err
			}
		}
	}
	b.subjects = append(b.subjects, added...)
	return nil
}

// The files of the certificate: both parts in one, as haproxy has it, and the
// key alone.
func certificateFile(dir string) string { return filepath.Join(dir, "certificate.pem") }
func keyFile(dir string) string         { return filepath.Join(dir, "key.pem") }

// makeCertificate makes the certificate that all who end TLS show.
func makeCertificate(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	keyText := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	if err := os.WriteFile(keyFile(dir), keyText, 0o600); err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
	return os.WriteFile(certificateFile(dir), append(text, keyText...), 0o600)
}
