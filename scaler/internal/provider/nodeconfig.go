package provider

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"farmhand/scaler/internal/farmfile"
)

// mapping is a part of a configuration file.
type mapping = map[string]any

// cloneOffset is how far behind the server's port the one is at which its sidecar
// gives its data away.
const cloneOffset = 2

// Site is where an instance's things are on its machine, and where it is reached: what a
// provider decides. From that and the farm file every provider makes the same configuration.
// Paths are absolute.
type Site struct {
	// Address is the instance's own.
	Address netip.Addr
	// State, Node and Work are directories: the sidecar's own, that of the key and the
	// certificate, and what the role's own files are in, which the farm file calls
	// {directory}.
	State, Node, Work string
	// Token is the file with the token to join with.
	Token string
	// Secret is the file with the password of one of the farm's accounts, by the names that
	// [Passwords] has.
	Secret func(who string) string
	// Data is the directory of a database server, on the volume if there is one; Socket its
	// unix socket and Account the system account that it runs as, empty for the sidecar's.
	Data, Socket, Account string
	// ProxyProgram and ProxyFile are a web node's proxy and its configuration, Topology what
	// the sidecar writes for it; Listen, ListenSocket and Admin where it listens, empty for
	// not there.
	ProxyProgram, ProxyFile, Topology string
	Listen, ListenSocket, Admin       string
	// DrainTimeout is how long a proxy that is told to end waits for its clients; empty for the
	// proxy's default.
	DrainTimeout string
}

// Sidecar returns the configuration of the instance's sidecar.
func (s *Spec) Sidecar(site Site) (map[string]any, error) {
	farm := mapping{"directory": site.Node, "token_file": site.Token, "name": s.Name, "role": s.RoleName, "slot": s.Slot, "slots": s.Role.Count.Min}
	config := mapping{"name": s.Name, "state": site.State, "farm": farm, "role": string(s.Role.Kind)}
	if s.Volume != "" {
		config["volume"] = mapping{"name": s.Volume, "directory": site.Data}
	}
	parameters := s.Role.Parameters
	switch s.Role.Kind {
	case farmfile.MySQLKind:
		config["mysql"] = s.mysql(site)
	case farmfile.WebKind:
		proxy := mapping{"command": []string{site.ProxyProgram, "run", site.ProxyFile}, "metrics": site.Admin}
		config["web"] = mapping{"topology": site.Topology, "cluster": s.Cluster, "proxy": proxy}
		if parameters.Web.HTTP.Port > 0 {
			config["web"].(mapping)["http"] = s.http(site)
		}
	case farmfile.BaseKind:
		config["base"] = mapping{}
	case farmfile.LBKind:
		lb := parameters.LB
		section := mapping{
			"backend": lb.Backend, "listen": site.at(lb.Port), "certificates": lb.Certificates, "balance": lb.Balance,
			"check_path": lb.CheckPath, "max_connections": lb.MaxConnections, "program": lb.Program,
		}
		if lb.TLSPort > 0 {
			section["listen_tls"] = site.at(lb.TLSPort)
		}
		config["lb"] = section
	case farmfile.MemcachedKind:
		m := parameters.Memcached
		config["memcached"] = mapping{
			"listen": site.at(m.Port), "memory": m.Memory, "max_item": m.MaxItem, "max_connections": m.MaxConnections, "program": m.Program,
		}
	case farmfile.WorkerKind:
		w := parameters.Worker
		config["worker"] = mapping{
			"queue": w.Queue, "command": s.words(site).all(w.Command), "processes": w.Processes, "hold": w.Hold, "limit": w.Limit,
			"retry": w.Retry, "run_as": w.RunAs, "environment": s.words(site).environment(w.Environment),
		}
	case farmfile.StorageServerKind:
		v := parameters.StorageServer
		config["storage"] = mapping{"data": site.Data, "listen": site.at(v.Port), "owner": v.Owner, "durable": v.Durable, "program": v.Program}
	default:
		return nil, fmt.Errorf("there is no configuration of an instance of kind %s", s.Role.Kind)
	}
	if port := s.Role.Port(); s.Role.Frame() != nil && port > 0 {
		farm["address"] = site.at(port)
	}
	if s.Role.Frame() != nil {
		config["membership"] = mapping{"source": "registry", "registry": mapping{"cluster": s.Cluster}}
		s.frame(config[string(s.Role.Kind)].(mapping), site)
	}
	return config, s.Reconfigure(config, site)
}

// Reconfigure changes in a sidecar's configuration what it can take while it runs, to what
// the farm file says now.
func (s *Spec) Reconfigure(config map[string]any, site Site) error {
	config["hooks"] = hooksConfig(s.Role.Hooks, site)
	section, ok := config[string(s.Role.Kind)].(mapping)
	if !ok {
		return fmt.Errorf("it has no section %s", s.Role.Kind)
	}
	if m := s.Role.Parameters.MySQL; m != nil {
		section["buffer_pool"] = m.BufferPool
	}
	if w := s.Role.Parameters.Web; w != nil {
		s.reconfigureWeb(section, site)
	}
	if f := s.Role.Frame(); f != nil {
		words := s.words(site)
		section["templates"], section["health"] = templates(f, words), health(f, words)
		section["drain"], section["drain_limit"] = words.all(f.Drain), f.DrainLimit
	}
	return nil
}

// at is a port of the instance.
func (s Site) at(port int) string { return netip.AddrPortFrom(s.Address, uint16(port)).String() }

// words puts what is the instance's own in the place of the words for it.
type words struct{ *strings.Replacer }

func (s *Spec) words(site Site) words {
	return words{strings.NewReplacer(
		"{name}", s.Name, "{role}", s.RoleName, "{slot}", strconv.Itoa(s.Slot), "{address}", site.Address.String(), "{directory}", site.Work,
	)}
}

func (w words) all(texts []string) []string {
	list := make([]string, len(texts))
	for i, text := range texts {
		list[i] = w.Replace(text)
	}
	return list
}

func (w words) environment(texts map[string]string) map[string]string {
	environment := map[string]string{}
	for name, value := range texts {
		environment[name] = w.Replace(value)
	}
	return environment
}

// frame adds what a role of any kind but mysql has that an instance cannot take while it
// runs.
func (s *Spec) frame(section mapping, site Site) {
	f, words := s.Role.Frame(), s.words(site)
	programs := []mapping{}
	for _, name := range slices.Sorted(maps.Keys(f.Programs)) {
		p := f.Programs[name]
		programs = append(programs, mapping{
			"name": name, "command": words.all(p.Command), "run_as": p.RunAs, "environment": words.environment(p.Environment),
			"stop_signal": string(p.StopSignal), "reload_signal": string(p.ReloadSignal), "stop_after": p.StopAfter,
		})
	}
	mounts := []mapping{}
	for _, m := range f.Mounts {
		mounts = append(mounts, mapping{"storage": m.Storage, "path": words.Replace(m.Path), "wait": m.Wait, "program": m.Program})
	}
	section["programs"], section["mounts"], section["directory"] = programs, mounts, site.Work
}

func templates(f *farmfile.Frame, words words) []mapping {
	list := []mapping{}
	for _, t := range f.Templates {
		check := words.all(t.Check)
		for i, word := range check {
			check[i] = strings.ReplaceAll(word, "{file}", "{}")
		}
		list = append(list, mapping{
			"template": t.Source, "destination": words.Replace(t.Destination), "mode": t.Mode.String(),
			"check": check, "reload": words.all(t.Reload), "program": t.Program, "time_limit": t.TimeLimit,
		})
	}
	return list
}

func health(f *farmfile.Frame, words words) []mapping {
	list := []mapping{}
	for _, h := range f.Health {
		list = append(list, mapping{
			"http": words.Replace(h.HTTP), "tcp": words.Replace(h.TCP), "command": words.all(h.Command),
			"interval": h.Interval, "time_limit": h.TimeLimit, "failures": h.Failures, "successes": h.Successes,
		})
	}
	return list
}

// hooksConfig has every node keep all the farm's passwords out of its journal: on one
// machine a hook can come across each.
func hooksConfig(h farmfile.Hooks, site Site) mapping {
	events := mapping{}
	for event := range h.Events {
		events[string(event)] = mapping{"time_limit": h.Of(event).TimeLimit}
	}
	var secrets []string
	for _, name := range slices.Sorted(maps.Keys(new(Passwords).byName())) {
		secrets = append(secrets, site.Secret(name))
	}
	return mapping{"directory": h.Directory, "time_limit": h.TimeLimit, "events": events, "secret_files": secrets}
}

func (s *Spec) mysql(site Site) mapping {
	m := s.Role.Parameters.MySQL
	clone := m.Port + cloneOffset
	if clone > 65535 {
		clone = m.Port - cloneOffset
	}
	return mapping{
		"flavor": m.Flavor, "program_root": m.ProgramRoot, "directory": site.Data, "socket": site.Socket,
		"listen": site.at(m.Port), "clone_listen": site.at(clone), "cluster": s.Cluster, "run_as": site.Account,
		"accounts": mapping{
			"replication": mapping{"user": ReplicationUser, "password_file": site.Secret("replication")},
			"monitor":     mapping{"user": MonitorUser, "password_file": site.Secret("monitor")},
			"application": mapping{"user": AppUser, "password_file": site.Secret("app"), "schema": AppUser},
		},
	}
}

// reconfigureWeb changes what a web node serves; where it does that, and by which programs, stays.
func (s *Spec) reconfigureWeb(section mapping, site Site) {
	w := s.Role.Parameters.Web
	delete(section, "release")
	delete(section, "mail")
	served, ok := section["http"].(mapping)
	if !ok {
		return // it has to be another one that serves
	}
	maps.Copy(served, s.served(site))
	if w.Release.Store != "" {
		section["release"] = s.release(site)
	}
	if m := w.Mail; m.Relay != "" {
		section["mail"] = mapping{
			"relay": m.Relay, "tls": string(m.TLS), "ca_file": m.CAFile, "user": m.User, "password_file": m.PasswordFile, "from": m.From,
			"time_limit": m.TimeLimit, "program": m.Program,
		}
	}
}

// http is of a web node's nginx and php-fpm.
func (s *Spec) http(site Site) mapping {
	h := s.Role.Parameters.Web.HTTP
	config := mapping{
		"listen": site.at(h.Port), "nginx": h.Nginx, "php_fpm": h.PHP.Program,
		"database": reached(site.Listen), "database_socket": site.ListenSocket,
	}
	maps.Copy(config, s.served(site))
	return config
}

// served is what they serve, which they can take while they run.
func (s *Spec) served(site Site) mapping {
	h, words := s.Role.Parameters.Web.HTTP, s.words(site)
	sites := []mapping{}
	for _, name := range slices.Sorted(maps.Keys(h.Sites)) {
		one := h.Sites[name]
		sites = append(sites, mapping{
			"name": name, "names": one.Names, "document_root": words.Replace(one.DocumentRoot), "front_controller": one.FrontController,
			"children": one.Children, "settings": words.environment(one.Settings),
		})
	}
	return mapping{
		"document_root": words.Replace(h.DocumentRoot), "front_controller": h.FrontController, "balancers": h.LB, "balancer_networks": h.BalancerNets, "sites": sites,
		"max_body": h.MaxBody, "time_limit": h.TimeLimit, "children": h.PHP.Children, "settings": words.environment(h.PHP.Settings),
		"nginx_template": h.Template, "php_fpm_template": h.PHP.Template,
	}
}

// release is how a web node gets its site's code.
func (s *Spec) release(site Site) mapping {
	r, words := s.Role.Parameters.Web.Release, s.words(site)
	shared := []mapping{}
	for _, one := range r.Shared {
		shared = append(shared, mapping{"path": one.Path, "target": words.Replace(one.Target)})
	}
	return mapping{
		"store": r.Store, "keep": r.Keep, "check": words.all(r.Check), "check_limit": r.CheckLimit, "path": r.Path, "host": r.Host, "within": r.Within,
		"shared": shared,
	}
}

// reached is where the same machine reaches what listens at an address.
func reached(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	switch host {
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}

// Proxy returns the configuration of a web node's proxy: what differs from its defaults.
func (s *Spec) Proxy(site Site) map[string]any {
	listeners := []mapping{}
	if site.Listen != "" {
		listeners = append(listeners, mapping{"tcp": site.Listen})
	}
	if site.ListenSocket != "" {
		listeners = append(listeners, mapping{"unix": site.ListenSocket})
	}
	config := mapping{
		"listen": listeners, "topology": site.Topology, "cluster": s.Cluster,
		"monitor": mapping{"user": MonitorUser, "password_file": site.Secret("monitor")},
		"admin":   mapping{"address": site.Admin},
	}
	if site.DrainTimeout != "" {
		config["drain_timeout"] = site.DrainTimeout
	}
	maps.Copy(config, proxyTuning(s.Role.Parameters.Web.Proxy))
	return config
}

// proxyTuning is what a proxy can take while it runs: its successor has it.
func proxyTuning(p farmfile.Proxy) mapping {
	return mapping{
		"reads": mapping{"consistency": p.Consistency, "max_lag": p.MaxLag},
		"pool":  mapping{"max_per_server": p.MaxPerServer},
	}
}
