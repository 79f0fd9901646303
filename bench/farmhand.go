package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"farmhand/internal/child"
	"farmhand/internal/farm"
	"farmhand/internal/mysqladmin"
	"farmhand/internal/topology"
)

// table is a table of a YAML configuration.
type table = map[string]any

// startFarmhand runs a Farmhand proxy, and a second of it to the servers behind
// the delay.
func (b *bench) startFarmhand(ctx context.Context, name, binary string) error {
	s := &subject{name: name, binary: binary}
	label := strings.Map(func(r rune) rune {
		if r < 'a' || r > 'z' {
			return '-'
		}
		return r
	}, name)
	near, err := b.startProxy(ctx, label, binary, false, nil)
	if err != nil {
		return err
	}
	late, err := b.startProxy(ctx, label+"-late", binary, true, nil)
	if err != nil {
		return err
	}
	s.to = near.to
	s.to[byDelay], s.to[localDelay] = late.to[byTCP], late.to[bySocket]
	b.subjects = append(b.subjects, s)
	return nil
}

// instance is one running proxy.
type instance struct {
	child *child.Child
	to    map[path]endpoint
}

// errConfiguration says that the proxy does not take its configuration.
var errConfiguration = errors.New("the proxy refuses its configuration")

// startProxy runs one proxy at the level session: by a configuration that is
// that of the farm's own proxy but for what is said here, and with the tables in
// extra laid over it.
func (b *bench) startProxy(ctx context.Context, label, binary string, late bool, extra table) (*instance, error) {
	in := &instance{to: map[path]endpoint{
		byTCP:    {network: "tcp", address: b.place()},
		bySocket: {network: "unix", address: filepath.Join(b.dir, label+".sock")},
	}}
	in.to[encrypted] = endpoint{network: "tcp", address: in.to[byTCP].address, tls: mysqlTLS}
	cluster := farm.Cluster{Epoch: 1}
	for i, s := range b.servers {
		described := farm.Server{Name: fmt.Sprintf("db%d", i+1), Address: s.address, State: farm.Serving}
		if late {
			described.Address = s.late
		}
		if i == 0 {
			described.State = ""
			cluster.Primary = &described
			continue
		}
		cluster.Replicas = append(cluster.Replicas, described)
	}
	// A directory of its own: the proxy follows what happens in it.
	topologyFile := filepath.Join(b.dir, label, "topology.json")
	if err := os.Mkdir(filepath.Dir(topologyFile), 0o755); err != nil {
		return nil, err
	}
	if err := topology.Write(topologyFile, farm.Topology{Version: 1, Written: time.Now().UTC(), Clusters: map[string]farm.Cluster{"main": cluster}}); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(b.web, "proxy.yaml"))
	if err != nil {
		return nil, err
	}
	config := table{}
	if err := yaml.Unmarshal(text, &config); err != nil {
		return nil, err
	}
	maps.Copy(config, table{
		"listen":        []table{{"tcp": in.to[byTCP].address}, {"unix": in.to[bySocket].address}},
		"cluster":       "main",
		"topology":      topologyFile,
		"reads":         table{"consistency": "session"},
		"tls":           table{"clients": table{"certificate": certificateFile(b.dir), "key": keyFile(b.dir)}, "servers": table{"mode": "disabled"}},
		"drain_timeout": "1s",
	})
	maps.Copy(config, extra)
	if text, err = yaml.Marshal(config); err != nil {
		return nil, err
	}
	file := filepath.Join(b.dir, label, "proxy.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	if said, err := exec.CommandContext(ctx, binary, "check", file).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", errConfiguration, strings.Join(strings.Fields(strings.ReplaceAll(string(said), file, filepath.Base(file))), " "))
	}
	if in.child, err = b.launch(label, binary, "run", file); err != nil {
		return nil, err
	}
	behind(in.child, in.to)
	for _, to := range in.to {
		if err := answers(ctx, to, in.child, filepath.Join(b.dir, label+".log")); err != nil {
			return nil, err
		}
	}
	if err := b.awaitReplicas(ctx, in.to[byTCP]); err != nil {
		return nil, fmt.Errorf("reads are not spread over the replicas: %w", err)
	}
	return in, nil
}

// awaitReplicas returns when every replica serves reads; a session keeps to one.
func (b *bench) awaitReplicas(ctx context.Context, to endpoint) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Second, errors.New("not after 20 s"))
	defer cancel()
	for seen := map[string]bool{}; len(seen) < replicas; {
		id, err := serverID(ctx, to)
		if err != nil {
			return err
		}
		if id != "1" { // the primary's
			seen[id] = true
		}
	}
	return nil
}

// serverID is the id of the server that a new session reads from.
func serverID(ctx context.Context, to endpoint) (string, error) {
	c, err := mysqladmin.Dial(ctx, mysqladmin.Target{Network: to.network, Address: to.address, User: user, Password: password})
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }() // only asked
	rows, err := c.Query(ctx, "SELECT @@server_id AS id")
	if err != nil || len(rows) != 1 {
		return "", fmt.Errorf("server id: %d rows: %w", len(rows), err)
	}
	return rows[0].String("id"), nil
}
