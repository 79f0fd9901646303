package control

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/service"
)

// Config is registry.yaml: the same file on every control node. Which of the
// members one is, its certificate says. The list of members is kept as the
// registry has it (roster.go); the rest is the operator's.
type Config struct {
	Farm     string            `yaml:"farm"`
	Members  []Member          `yaml:"members"`
	Etcd     Etcd              `yaml:"etcd"`
	External External          `yaml:"external"`
	Log      service.LogConfig `yaml:"log"`
}

// Member is one control node.
type Member struct {
	Name string `yaml:"name"`
	// Address is the IP address that it listens on and is reached at.
	Address    string `yaml:"address"`
	ClientPort uint16 `yaml:"client_port"` // of the registry, for nodes and scalers
	PeerPort   uint16 `yaml:"peer_port"`   // of the registry, for its other members
	JoinPort   uint16 `yaml:"join_port"`   // of the endpoint at which nodes join
}

func (m Member) at(port uint16) string { return net.JoinHostPort(m.Address, strconv.Itoa(int(port))) }

// Listens are the addresses, host:port, that nodes and other control nodes are to reach.
func (m Member) Listens() []string {
	return []string{m.at(m.ClientPort), m.at(m.PeerPort), m.at(m.JoinPort)}
}

// Etcd is how the embedded server runs.
type Etcd struct {
	// Quota is how much it stores at most; then it takes no writes.
	Quota service.Size `yaml:"quota"`
	// History is how long old values are kept for watches that fell behind. Nodes
	// report twice a second, and every report is kept for so long.
	History service.Duration `yaml:"history"`
	// Heartbeat is how often the leader of the members shows that it lives, and
	// Election how long the others wait for that.
	Heartbeat service.Duration `yaml:"heartbeat"`
	Election  service.Duration `yaml:"election"`
	// LogLevel is the least level of its own messages that is logged.
	LogLevel string `yaml:"log_level"`
}

// External is an etcd that is run by somebody else; if it is named, none is
// embedded.
type External struct {
	Endpoints []string `yaml:"endpoints"`
	// Authority is the file with the certificate that its servers' are signed by;
	// empty for the farm's own.
	Authority string `yaml:"authority"`
}

// Default is the configuration of a registry of one member on loopback.
func Default() Config {
	return Config{
		Etcd: Etcd{
			Quota: 1 << 30, History: service.Duration(10 * time.Minute),
			Heartbeat: service.Duration(100 * time.Millisecond), Election: service.Duration(time.Second),
			LogLevel: "warn",
		},
		Log: service.DefaultLog(),
	}
}

// The ports of a member that names none: etcd's own two and the next one.
const (
	clientPort = 2379
	peerPort   = 2380
	joinPort   = 2381
)

// maxMembers is as many as etcd's own advice goes to.
const maxMembers = 7

// Load reads the file at path over the defaults.
func Load(path string) (Config, error) {
	c := Default()
	if err := service.Load(path, &c); err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	return c, nil
}

// Validate says what is wrong.
func (c *Config) Validate() service.Problems {
	var p service.Problems
	if err := farm.CheckName(c.Farm); err != nil {
		p.Add("farm", "%v", err)
	}
	c.validateMembers(&p)
	p.SizeBetween("etcd.quota", c.Etcd.Quota, 16<<20, 8<<30)
	p.DurationBetween("etcd.history", c.Etcd.History, service.Duration(time.Minute), service.Duration(30*24*time.Hour))
	p.DurationBetween("etcd.heartbeat", c.Etcd.Heartbeat, service.Duration(10*time.Millisecond), service.Duration(5*time.Second))
	// etcd itself wants five heartbeats in an election's time, and at most 50 s.
	p.DurationBetween("etcd.election", c.Etcd.Election, 5*c.Etcd.Heartbeat, service.Duration(50*time.Second))
	p.OneOf("etcd.log_level", c.Etcd.LogLevel, "debug", "info", "warn", "error")
	for i, endpoint := range c.External.Endpoints {
		if _, err := farm.CanonicalAddress(endpoint); err != nil {
			p.Add(fmt.Sprintf("external.endpoints[%d]", i), "%v", err)
		}
	}
	if c.External.Authority != "" && len(c.External.Endpoints) == 0 {
		p.Add("external.authority", "there is no endpoint that it would be for")
	}
	p.Join(c.Log.Validate("log"))
	return p
}

func (c *Config) validateMembers(p *service.Problems) {
	if n := len(c.Members); n == 0 || n > maxMembers {
		p.Add("members", "%d members are not possible; expected 1, 3 or 5, at most %d", n, maxMembers)
	}
	taken := map[string]string{}
	for i := range c.Members {
		m := &c.Members[i]
		at := fmt.Sprintf("members[%d]", i)
		if err := farm.CheckName(m.Name); err != nil {
			p.Add(at+".name", "%v", err)
		}
		if address, err := netip.ParseAddr(m.Address); err != nil || address.IsUnspecified() || address.Zone() != "" {
			p.Add(at+".address", "%q is not an IP address at which others can reach it", m.Address)
		}
		if slices.ContainsFunc(c.Members[:i], func(other Member) bool { return other.Name == m.Name }) {
			p.Add(at+".name", "%q stands twice", m.Name)
		}
		for _, port := range []struct {
			key      string
			number   *uint16
			standard uint16
		}{{".client_port", &m.ClientPort, clientPort}, {".peer_port", &m.PeerPort, peerPort}, {".join_port", &m.JoinPort, joinPort}} {
			// A port that is not given; the list of the file replaced the default one.
			if *port.number == 0 {
				*port.number = port.standard
			}
			place := m.at(*port.number)
			if other, ok := taken[place]; ok {
				p.Add(at+port.key, "%s is the same as %s", place, other)
			}
			taken[place] = at + port.key
		}
	}
}

// endpoints are where the registry answers.
func (c *Config) endpoints() []string {
	if len(c.External.Endpoints) > 0 {
		return c.External.Endpoints
	}
	return c.each(func(m Member) string { return m.at(m.ClientPort) })
}

// joins are where nodes join.
func (c *Config) joins() []string { return c.each(func(m Member) string { return m.at(m.JoinPort) }) }

func (c *Config) each(address func(Member) string) []string {
	all := make([]string, len(c.Members))
	for i, m := range c.Members {
		all[i] = address(m)
	}
	return all
}
