package provider

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"farmhand/internal/atomicfile"
	"farmhand/scaler/internal/farmfile"
)

type mapping = map[string]any

// cloneOffset is how far behind the server's port the one is at which its sidecar
// gives its data away.
const cloneOffset = 2

// write writes the files from which an instance's sidecar runs.
func (l *Local) write(s Spec, r *record) error {
	p := l.place
	config := mapping{
		"name": s.Name, "state": p.of(s.Name, "state"),
		"farm":  mapping{"directory": p.node(s.Name), "token_file": p.token(s.Name), "name": s.Name},
		"hooks": l.hooksConfig(s.Role.Hooks),
	}
	if r.Volume != "" {
		config["volume"] = mapping{"name": r.Volume, "directory": l.data(*r)}
	}
	switch s.Role.Kind {
	case farmfile.MySQLKind:
		account, err := serverAccount(filepath.Join(p.dir, s.Name))
		if err != nil {
			return err
		}
		config["role"], config["mysql"] = "mysql", l.mysqlConfig(s, r, account)
	case farmfile.WebKind:
		if err := l.writeProxy(s, r); err != nil {
			return err
		}
		config["role"], config["web"] = "web", l.webConfig(s, r)
		config["membership"] = mapping{"source": "registry", "registry": mapping{"cluster": s.Cluster}}
	default:
		return fmt.Errorf("the local provider has no instances of kind %s", s.Role.Kind)
	}
	text, err := yaml.Marshal(config)
	if err != nil {
		return fmt.Errorf("sidecar configuration: %w", err)
	}
	if err := atomicfile.WritePrivate(p.token(s.Name), []byte(s.Token+"\n")); err != nil {
		return err
	}
	return atomicfile.Write(p.config(s.Name), text, 0o644, nil)
}

// rewrite writes anew what an instance can take while it runs; the rest of its files
// stays.
func (l *Local) rewrite(s Spec) error {
	if err := edit(l.place.config(s.Name), func(config mapping) error {
		config["hooks"] = l.hooksConfig(s.Role.Hooks)
		if w := s.Role.Parameters.Web; w != nil {
			web, ok := config["web"].(mapping)
			if !ok {
				return errors.New("it has no section web")
			}
			web["templates"] = templates(w)
		}
		if m := s.Role.Parameters.MySQL; m != nil {
			mysql, ok := config["mysql"].(mapping)
			if !ok {
				return errors.New("it has no section mysql")
			}
			mysql["buffer_pool"] = m.BufferPool
		}
		return nil
	}); err != nil {
		return err
	}
	if s.Role.Parameters.Web == nil {
		return nil
	}
	return edit(l.place.proxy(s.Name), func(config mapping) error {
		maps.Copy(config, proxyTuning(s.Role.Parameters.Web.Proxy))
		return nil
	})
}

// edit changes a file that a write of this package has left.
func edit(path string, change func(mapping) error) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	config := mapping{}
	if err = yaml.Unmarshal(text, &config); err == nil {
		err = change(config)
	}
	if err == nil {
		text, err = yaml.Marshal(config)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return atomicfile.Write(path, text, 0o644, nil)
}

// hooksConfig has every node keep all the farm's passwords out of its journal: on one
// machine a hook can come across each.
func (l *Local) hooksConfig(h farmfile.Hooks) mapping {
	events := mapping{}
	for event := range h.Events {
		events[string(event)] = mapping{"time_limit": h.Of(event).TimeLimit}
	}
	var secrets []string
	for _, name := range slices.Sorted(maps.Keys(new(Passwords).byName())) {
		secrets = append(secrets, l.place.secret(name))
	}
	return mapping{"directory": h.Directory, "time_limit": h.TimeLimit, "events": events, "secret_files": secrets}
}

func (l *Local) mysqlConfig(s Spec, r *record, account string) mapping {
	m := s.Role.Parameters.MySQL
	at := func(port int) string { return netip.AddrPortFrom(r.Address, uint16(port)).String() }
	clone := m.Port + cloneOffset
	if clone > 65535 {
		clone = m.Port - cloneOffset
	}
	return mapping{
		"flavor": m.Flavor, "directory": l.data(*r), "socket": l.place.socket(s.Name, l.data(*r)),
		"listen": at(m.Port), "clone_listen": at(clone), "cluster": s.Cluster,
		"run_as": account, "buffer_pool": m.BufferPool,
		"accounts": mapping{
			"replication": mapping{"user": ReplicationUser, "password_file": l.place.secret("replication")},
			"monitor":     mapping{"user": MonitorUser, "password_file": l.place.secret("monitor")},
			"application": mapping{"user": AppUser, "password_file": l.place.secret("app"), "schema": AppUser},
		},
	}
}

func (l *Local) webConfig(s Spec, r *record) mapping {
	return mapping{
		"topology": l.place.of(s.Name, "topology.json"), "cluster": s.Cluster, "templates": templates(s.Role.Parameters.Web),
		"proxy": mapping{"command": []string{filepath.Join(l.Programs, "proxy"), "run", l.place.proxy(s.Name)}, "metrics": r.Admin},
	}
}

func templates(w *farmfile.Web) []mapping {
	list := []mapping{}
	for _, t := range w.Templates {
		var check []string
		for _, word := range t.Check {
			check = append(check, strings.ReplaceAll(word, "{file}", "{}"))
		}
		list = append(list, mapping{
			"template": t.Source, "destination": t.Destination, "mode": t.Mode.String(),
			"check": check, "reload": t.Reload, "time_limit": t.TimeLimit,
		})
	}
	return list
}

// proxyTuning is what a proxy can take while it runs: its successor has it.
func proxyTuning(p farmfile.Proxy) mapping {
	return mapping{
		"reads": mapping{"consistency": p.Consistency, "max_lag": p.MaxLag},
		"pool":  mapping{"max_per_server": p.MaxPerServer},
	}
}

// writeProxy writes what differs from the proxy's defaults.
func (l *Local) writeProxy(s Spec, r *record) error {
	listeners := []mapping{}
	if r.Listen != "" {
		listeners = append(listeners, mapping{"tcp": r.Listen})
	}
	if r.Socket != "" {
		listeners = append(listeners, mapping{"unix": r.Socket})
	}
	config := mapping{
		"listen": listeners, "topology": l.place.of(s.Name, "topology.json"), "cluster": s.Cluster,
		"monitor": mapping{"user": MonitorUser, "password_file": l.place.secret("monitor")},
		"admin":   mapping{"address": r.Admin},
		// A person waits at the terminal.
		"drain_timeout": "3s",
	}
	maps.Copy(config, proxyTuning(s.Role.Parameters.Web.Proxy))
	text, err := yaml.Marshal(config)
	if err != nil {
		return fmt.Errorf("proxy configuration: %w", err)
	}
	return atomicfile.Write(l.place.proxy(s.Name), text, 0o644, nil)
}

// listens gives a web node's proxy its places. The first one has those of the farm
// file; the machine has them once only, so each other one has the same ports at
// its own address, and a socket in its own directory.
func (l *Local) listens(s Spec, r *record, others []record) error {
	if s.Role.Kind != farmfile.WebKind {
		return nil
	}
	asked := s.Role.Parameters.Web.Proxy
	r.Listen, r.Socket, r.Admin = asked.TCP, asked.Unix, asked.Admin
	if l.Launcher != "" {
		// On a network of its own: there is no other who has its places, and nobody reaches
		// it but at its address.
		for _, place := range []*string{&r.Listen, &r.Admin} {
			if at, err := netip.ParseAddrPort(*place); err == nil {
				*place = netip.AddrPortFrom(r.Address, at.Port()).String()
			}
		}
		return nil
	}
	for _, other := range others {
		if other.Kind != farmfile.WebKind {
			continue
		}
		own := func(place *string, theirs string) error {
			if *place == "" || *place != theirs {
				return nil
			}
			_, port, err := net.SplitHostPort(*place)
			if err == nil {
				*place = net.JoinHostPort(r.Address.String(), port)
			}
			return err
		}
		if err := own(&r.Listen, other.Listen); err != nil {
			return err
		}
		if err := own(&r.Admin, other.Admin); err != nil {
			return err
		}
		if r.Socket != "" && r.Socket == other.Socket {
			r.Socket = l.place.of(s.Name, "proxy.sock")
		}
	}
	return nil
}

// serverAccount is the system account for a server below dir: "mysql" when we are
// root and it can reach dir, else our own ("").
func serverAccount(dir string) (string, error) {
	const name = "mysql"
	if os.Geteuid() != 0 {
		return "", nil
	}
	if _, err := user.Lookup(name); err != nil {
		return "", nil // the package makes it; without it root runs the server
	}
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return "", err
		}
		if info.Mode()&0o001 == 0 {
			return "", nil // as in a home directory that is closed to others
		}
		if at == filepath.Dir(at) {
			return name, nil
		}
	}
}

// mark is the environment variable by which a sidecar, and what it started, is
// known as the instance's whose directory is its value.
const mark = "FARMHAND_INSTANCE"

func (l *Local) environment(name string) []string {
	return append(os.Environ(), mark+"="+filepath.Join(l.Dir, name))
}
