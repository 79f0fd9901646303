package config

import (
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/service"
)

// Bounds beyond which a value can only be a slip.
const (
	maxConnections = 1_000_000
	maxListeners   = 64
	day            = Duration(24 * time.Hour)
	millisecond    = Duration(time.Millisecond)
)

// Validate returns everything that is wrong with the values. It looks at no
// file; [Check] does.
func (c *Config) Validate() service.Problems {
	var p service.Problems
	p.Join(c.listeners())
	p.Join(absolute("topology", c.Topology))
	if err := farm.CheckName(c.Cluster); err != nil {
		p.Add("cluster", "%v", err)
	}
	p.Required("monitor.user", c.Monitor.User)
	if c.Monitor.PasswordFile != "" {
		p.Join(absolute("monitor.password_file", c.Monitor.PasswordFile))
	}
	// The version is a string up to a NUL in the handshake packet.
	if len(c.ServerVersion) > 64 || strings.ContainsFunc(c.ServerVersion, func(r rune) bool { return r <= ' ' || r > '~' }) {
		p.Add("server_version", `expected at most 64 printable characters without a blank, such as "10.11.14-MariaDB"`)
	}
	p.Join(c.TLS.validate())
	for i, trusted := range c.ProxyProtocol.Trusted {
		if _, err := ParseTrusted(trusted); err != nil {
			p.Add(fmt.Sprintf("proxy_protocol.trusted[%d]", i), "%v", err)
		}
	}
	p.Join(c.Logins.validate())
	p.Join(c.Limits.validate())
	p.Join(c.Pool.validate())
	p.Join(c.Reads.validate())
	p.DurationBetween("writes.wait", c.Writes.Wait, 0, day)
	p.Between("writes.max_waiting", c.Writes.MaxWaiting, 0, maxConnections)
	p.Between("writes.max_waiting_per_user", c.Writes.MaxWaitingPerUser, 0, maxConnections)
	p.Join(c.Writes.Replay.validate())
	p.Join(c.Health.validate())
	p.Join(users("hints.denied_users", c.Hints.DeniedUsers))
	p.Join(users("console.admins", c.Console.Admins))
	p.Between("digests.max", c.Digests.Max, 0, 100_000)
	p.Join(c.Admin.Validate("admin"))
	p.Join(c.Log.Validate("log"))
	p.DurationBetween("drain_timeout", c.DrainTimeout, 0, day)
	return p
}

func absolute(path, file string) service.Problems {
	var p service.Problems
	if !filepath.IsAbs(file) {
		p.Add(path, "%q is not the absolute path of a file", file)
	}
	return p
}

func users(path string, names []string) service.Problems {
	var p service.Problems
	for i, name := range names {
		p.Required(fmt.Sprintf("%s[%d]", path, i), name)
	}
	return p
}

func (c *Config) listeners() service.Problems {
	var p service.Problems
	if len(c.Listen) == 0 || len(c.Listen) > maxListeners {
		p.Add("listen", "%d addresses; expected 1 to %d", len(c.Listen), maxListeners)
	}
	seen := map[string]bool{}
	for i, l := range c.Listen {
		path := fmt.Sprintf("listen[%d]", i)
		switch {
		case (l.TCP == "") == (l.Unix == ""):
			p.Add(path, "expected either tcp or unix")
			continue
		case l.Unix == "" && l.Mode != 0:
			p.Add(path+".mode", "only a unix socket has a mode")
		case l.TCP != "":
			p.ListenAddress(path+".tcp", l.TCP)
		default:
			if err := farm.CheckAddress(l.Unix); err != nil || !filepath.IsAbs(l.Unix) {
				p.Add(path+".unix", "%q is not the absolute path of a socket of at most 107 bytes", l.Unix)
			}
		}
		// Port 0 is another port each time.
		if seen[l.Address()] && !strings.HasSuffix(l.TCP, ":0") {
			p.Add(path, "%s is listed twice", l.Address())
		}
		seen[l.Address()] = true
	}
	return p
}

func (t TLS) validate() service.Problems {
	var p service.Problems
	mode := func(path string, mode TLSMode) {
		p.OneOf(path, string(mode), string(TLSDisabled), string(TLSPreferred), string(TLSRequired), string(TLSVerify))
	}
	files := func(path, certificate, key, ca string) {
		for _, f := range []struct{ key, file string }{{"certificate", certificate}, {"key", key}, {"ca", ca}} {
			if f.file != "" {
				p.Join(absolute(path+"."+f.key, f.file))
			}
		}
		if (certificate == "") != (key == "") {
			p.Add(path, "a certificate and its key go together; one of them is missing")
		}
	}
	mode("tls.clients.mode", t.Clients.Mode)
	files("tls.clients", t.Clients.Certificate, t.Clients.Key, t.Clients.CA)
	if t.Clients.Mode == TLSVerify && t.Clients.CA == "" {
		p.Add("tls.clients.ca", "verify needs the file of the authorities that sign clients' certificates")
	}
	mode("tls.servers.mode", t.Servers.Mode)
	files("tls.servers", t.Servers.Certificate, t.Servers.Key, t.Servers.CA)
	return p
}

func (l Logins) validate() service.Problems {
	var p service.Problems
	p.DurationBetween("logins.account_age", l.AccountAge, 0, Duration(time.Minute))
	return p
}

func (l Limits) validate() service.Problems {
	var p service.Problems
	p.Between("limits.connections", l.Connections, 1, maxConnections)
	p.Between("limits.connections_per_user", l.ConnectionsPerUser, 0, maxConnections)
	p.DurationBetween("limits.handshake_timeout", l.HandshakeTimeout, 100*millisecond, Duration(time.Hour))
	p.SizeBetween("limits.packet_size", l.PacketSize, 1<<20, 1<<30)
	p.SizeBetween("limits.classify_size", l.ClassifySize, 1<<10, 16<<20)
	p.Between("limits.prepared_statements", l.PreparedStatements, 1, maxConnections)
	return p
}

func (l Pool) validate() service.Problems {
	var p service.Problems
	p.Between("pool.max_per_server", l.MaxPerServer, 0, 100_000)
	p.Between("pool.max_per_user", l.MaxPerUser, 0, 100_000)
	p.DurationBetween("pool.wait", l.Wait, millisecond, Duration(time.Hour))
	p.Between("pool.idle_per_user", l.IdlePerUser, 0, 10_000)
	p.DurationBetween("pool.idle_timeout", l.IdleTimeout, Duration(time.Second), day)
	p.DurationBetween("pool.max_lifetime", l.MaxLifetime, 0, 30*day)
	p.DurationBetween("pool.connect_timeout", l.ConnectTimeout, 10*millisecond, Duration(5*time.Minute))
	return p
}

func (r Reads) validate() service.Problems {
	var p service.Problems
	p.OneOf("reads.primary", string(r.Primary), string(PrimaryWhenNeeded), string(PrimaryShares), string(PrimaryNever))
	p.DurationBetween("reads.max_lag", r.MaxLag, 0, 30*day)
	levels := []string{string(Eventual), string(Session), string(Farm), string(Strict)}
	p.OneOf("reads.consistency", string(r.Consistency), levels...)
	for _, user := range slices.Sorted(maps.Keys(r.ConsistencyByUser)) {
		p.OneOf("reads.consistency_by_user."+user, string(r.ConsistencyByUser[user]), levels...)
	}
	p.OneOf("reads.without_primary", string(r.WithoutPrimary), string(WaitForPrimary), string(ServeWithoutPrimary))
	p.DurationBetween("reads.wait", r.Wait, 0, Duration(time.Minute))
	p.DurationBetween("reads.pause", r.Pause, 0, Duration(time.Hour))
	p.Between("reads.retries", r.Retries, 0, 100)
	return p
}

func (r Replay) validate() service.Problems {
	var p service.Problems
	p.SizeBetween("writes.replay.size", r.Size, 1<<10, 64<<20)
	p.DurationBetween("writes.replay.time", r.Time, 10*millisecond, Duration(time.Hour))
	p.Between("writes.replay.attempts", r.Attempts, 1, 100)
	return p
}

func (h Health) validate() service.Problems {
	var p service.Problems
	p.DurationBetween("health.interval", h.Interval, 10*millisecond, Duration(time.Minute))
	p.DurationBetween("health.timeout", h.Timeout, 10*millisecond, Duration(time.Minute))
	p.Between("health.failures", h.Failures, 1, 1000)
	p.DurationBetween("health.slow_start", h.SlowStart, 0, day)
	return p
}

// Trusted is who may use the PROXY protocol: the peers of one network, or those
// of the unix sockets.
type Trusted struct {
	Unix    bool
	Network netip.Prefix // not valid where Unix is set
}

// ParseTrusted reads one entry of proxy_protocol.trusted.
func ParseTrusted(text string) (Trusted, error) {
	if text == "unix" {
		return Trusted{Unix: true}, nil
	}
	if address, err := netip.ParseAddr(text); err == nil && address.Zone() == "" {
		address = address.Unmap()
		return Trusted{Network: netip.PrefixFrom(address, address.BitLen())}, nil
	}
	network, err := netip.ParsePrefix(text)
	if err != nil {
		return Trusted{}, fmt.Errorf(`%q is not a network; expected one such as 10.0.0.0/8, an address, or "unix"`, text)
	}
	if masked := network.Masked(); masked != network {
		return Trusted{}, fmt.Errorf("%q has bits beyond its prefix; did you mean %s?", text, masked)
	}
	return Trusted{Network: network}, nil
}
