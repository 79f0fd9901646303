package provider

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"

	"github.com/goccy/go-yaml"

	"farmhand/internal/atomicfile"
	"farmhand/scaler/internal/farmfile"
)

// write writes the files from which an instance's sidecar runs.
func (l *Local) write(s Spec, r *record) error {
	site, err := l.site(s, r)
	if err != nil {
		return err
	}
	config, err := s.Sidecar(site)
	if err != nil {
		return err
	}
	if s.Role.Kind == farmfile.WebKind {
		if err := writeYAML(l.place.proxy(s.Name), s.Proxy(site)); err != nil {
			return err
		}
	}
	if err := atomicfile.WritePrivate(site.Token, []byte(s.Token+"\n")); err != nil {
		return err
	}
	return writeYAML(l.place.config(s.Name), config)
}

// site is where an instance's things are on this machine.
func (l *Local) site(s Spec, r *record) (Site, error) {
	p := l.place
	site := Site{
		Address: r.Address, State: p.of(s.Name, "state"), Node: p.node(s.Name), Token: p.token(s.Name), Work: p.work(s.Name),
		Secret: p.secret, Data: l.data(*r), ProxyProgram: filepath.Join(l.Programs, "proxy"), ProxyFile: p.proxy(s.Name),
		Topology: p.of(s.Name, "topology.json"), Listen: r.Listen, ListenSocket: r.Socket, Admin: r.Admin,
		DrainTimeout: "3s", // a person waits at the terminal
	}
	site.Socket = p.socket(s.Name, site.Data)
	var err error
	site.Account, err = serverAccount(filepath.Join(p.dir, s.Name))
	return site, err
}

func writeYAML(path string, content mapping) error {
	text, err := yaml.Marshal(content)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return atomicfile.Write(path, text, 0o644, nil)
}

// rewrite writes anew what an instance can take while it runs; the rest of its files
// stays.
func (l *Local) rewrite(s Spec, r *record) error {
	site, err := l.site(s, r)
	if err != nil {
		return err
	}
	if err := edit(l.place.config(s.Name), func(config mapping) error { return s.Reconfigure(config, site) }); err != nil {
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
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return writeYAML(path, config)
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
