package role

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"farmhand/sidecar/internal/config"
	"farmhand/sidecar/internal/load"
	"farmhand/sidecar/internal/render"
)

// haproxyTemplate makes haproxy's configuration of the membership.
//
//go:embed haproxy.cfg.tmpl
var haproxyTemplate string

// balancer is what the template sees of the role.
type balancer struct {
	config.LB
	Socket string
}

// CertificatesDigest changes with the certificates' files, so that they are read anew.
func (b balancer) CertificatesDigest() (string, error) {
	entries, err := os.ReadDir(b.Certificates)
	if err != nil {
		return "", err
	}
	digest := sha256.New()
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return "", err
		}
		_, _ = fmt.Fprintf(digest, "%q %d %d\n", e.Name(), info.Size(), info.ModTime().UnixNano()) // a hash takes all
	}
	return hex.EncodeToString(digest.Sum(nil)[:8]), nil
}

// newLB is a node with haproxy. Its master process hands the listening sockets to the
// workers of a new configuration, and those of the old one end when their clients have.
func newLB(c config.Config, tools Tools) (Role, error) {
	file, socket := filepath.Join(c.LB.Directory, "haproxy.cfg"), filepath.Join(c.State, "haproxy.sock")
	path, err := find(c.LB.Program)
	if err != nil {
		return nil, err
	}
	haproxy := &program{
		name: config.LBProgram, args: []string{path, "-W", "-f", file}, stopSignal: syscall.SIGUSR1, reloadSignal: syscall.SIGUSR2,
		stopAfter: 30 * time.Second, record: filepath.Join(c.State, "program-"+config.LBProgram+".json"),
	}
	n, err := newNode(c, tools, haproxy)
	if err != nil {
		return nil, err
	}
	n.values = balancer{c.LB, socket}
	n.templates = append(n.templates, render.Template{
		Source: "haproxy.cfg", Text: haproxyTemplate, Destination: file, Mode: 0o600, Limit: 10 * time.Second,
		Check: []string{path, "-c", "-f", render.NewFile}, Signal: func() error { return reloadHAProxy(haproxy, load.NewHAProxy(socket)) }, Secrets: c.Secrets(),
	})
	n.check(&check{
		interval: 2 * time.Second, limit: time.Second, failures: 3, successes: 2, try: get("http://" + c.LB.Listen + "/farmhand-lb-health"),
	})
	n.farm.measures("haproxy", load.NewHAProxy(socket).Sample)
	return n, nil
}

// reloadLimit is how long haproxy may take to have a worker with the new configuration.
const reloadLimit = 8 * time.Second

// reloadHAProxy returns when a new worker serves: a signal that comes while the master is at
// the one before is lost.
func reloadHAProxy(p *program, h *load.HAProxy) error {
	ctx, cancel := context.WithTimeout(context.Background(), reloadLimit)
	defer cancel()
	before, err := h.Worker(ctx)
	if err != nil || before == 0 {
		return nil // it does not run, and will begin with the new file
	}
	if err := p.reload(); err != nil {
		return err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if now, err := h.Worker(ctx); err == nil && now != 0 && now != before {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("haproxy has no worker with the new configuration after %v", reloadLimit)
		}
	}
}
