package localfarm

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/goccy/go-yaml"

	"farmhand/internal/farm"
	"farmhand/internal/topology"
)

// Cluster is the name of the farm's one cluster.
const Cluster = "main"

// AppUser is the application's account, and the name of its schema. Its
// password is the same: the farm answers on this machine only.
const AppUser = "app"

// layout is where things stand in a farm's directory.
type layout struct{ dir string }

func (l layout) lock() string             { return filepath.Join(l.dir, "lock") }
func (l layout) state() string            { return filepath.Join(l.dir, "state.json") }
func (l layout) topology() string         { return filepath.Join(l.dir, "topology.json") }
func (l layout) proxyConfig() string      { return filepath.Join(l.dir, "proxy.yaml") }
func (l layout) proxyLog() string         { return filepath.Join(l.dir, "proxy.log") }
func (l layout) secret(who string) string { return filepath.Join(l.dir, "secrets", who+".password") }

// ErrRunning says that a farm runs in the directory already.
var ErrRunning = errors.New("a farm runs there already")

// ErrNotRunning says that none does.
var ErrNotRunning = errors.New("no farm runs there")

// hold takes the directory for this process until the file is closed.
func (l layout) hold() (*os.File, error) {
	lock, err := os.OpenFile(l.lock(), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", l.dir, err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w (scaler status --local %s shows it, scaler down --local %s stops it)", l.dir, ErrRunning, l.dir, l.dir)
		}
		return nil, fmt.Errorf("lock %s: %w", l.dir, err)
	}
	return lock, nil
}

// held says whether a farm runs in the directory.
func (l layout) held() (bool, error) {
	lock, err := os.Open(l.lock())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", l.dir, err)
	}
	defer func() { _ = lock.Close() }() // lets a lock go that was taken here
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// writeSecrets makes the password files that are missing. They stay the same
// over the farm's life: the data directories hold them too.
func (l layout) writeSecrets() error {
	if err := os.MkdirAll(filepath.Join(l.dir, "secrets"), 0o700); err != nil {
		return fmt.Errorf("make the secrets' directory: %w", err)
	}
	for who, password := range map[string]string{"replication": rand.Text(), "monitor": rand.Text(), "app": AppUser} {
		f, err := os.OpenFile(l.secret(who), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("make a password: %w", err)
		}
		_, err = f.WriteString(password + "\n")
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("make a password: %w", err)
		}
	}
	return nil
}

// writeTopology writes the topology file with the first instance as primary.
// The epoch of a file that is there stays: the primary does not change.
func (l layout) writeTopology(instances []instance) error {
	epoch := farm.Epoch(1)
	if old, err := topology.Read(l.topology()); err == nil {
		epoch = max(epoch, old.Clusters[Cluster].Epoch)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the topology of an earlier run cannot be read (remove the file to begin at epoch 1): %w", err)
	}
	primary := farm.Server{Name: instances[0].Name, Address: instances[0].Address.String()}
	cluster := farm.Cluster{Epoch: epoch, Primary: &primary}
	for _, i := range instances[1:] {
		cluster.Replicas = append(cluster.Replicas, farm.Server{Name: i.Name, Address: i.Address.String(), State: farm.Serving})
	}
	return topology.Write(l.topology(), farm.Topology{
		Version: 1, Written: time.Now().UTC(), Clusters: map[string]farm.Cluster{Cluster: cluster},
	})
}

// writeProxyConfig writes what differs from the proxy's defaults.
func (l layout) writeProxyConfig(listen netip.AddrPort, socket, admin string) error {
	type m = map[string]any
	listeners := []m{{"tcp": listen.String()}}
	if socket != "" {
		listeners = append(listeners, m{"unix": socket})
	}
	text, err := yaml.Marshal(m{
		"listen":   listeners,
		"topology": l.topology(),
		"cluster":  Cluster,
		"monitor":  m{"user": monitorUser, "password_file": l.secret("monitor")},
		"admin":    m{"address": admin},
		// A person waits at the terminal.
		"drain_timeout": "3s",
	})
	if err != nil {
		return fmt.Errorf("proxy configuration: %w", err)
	}
	if err := os.WriteFile(l.proxyConfig(), text, 0o644); err != nil {
		return fmt.Errorf("proxy configuration: %w", err)
	}
	return nil
}

// writeJSON replaces the file at path; readers see the old or the new content.
func writeJSON(path string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(path), err)
	}
	temp := path + ".new"
	if err := os.WriteFile(temp, append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(temp, path)
}
