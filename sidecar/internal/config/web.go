package config

import (
	"maps"
	"slices"
	"strings"

	"farmhand/internal/farm"
	"farmhand/internal/service"
)

// Web is the configuration of the role "web".
type Web struct {
	// Topology is the file that the proxy reads; empty for none.
	Topology string `yaml:"topology"`
	// Cluster is the name that the farm's servers have in it.
	Cluster string `yaml:"cluster"`
	Frame   `yaml:",inline"`
	// Proxy is the program that is kept running.
	Proxy   Proxy   `yaml:"proxy"`
	HTTP    HTTP    `yaml:"http"`
	Release Release `yaml:"release"`
	Mail    Mail    `yaml:"mail"`
}

// ProxyProgram is the name of the proxy among a web node's programs.
const ProxyProgram = "proxy"

// Proxy is a program that is kept running.
type Proxy struct {
	Command []string `yaml:"command"` // empty for none
	// StopAfter is how long it may take to end.
	StopAfter service.Duration `yaml:"stop_after"`
	// Metrics is the proxy's admin address, host:port, of which it is asked how much
	// it has to do; empty for none. It is told to the farm.
	Metrics string `yaml:"metrics"`
}

// Membership is where the node learns who belongs to the farm.
type Membership struct {
	Source   string             `yaml:"source"` // file, dns, ec2 or registry
	File     string             `yaml:"file"`
	DNS      DNS                `yaml:"dns"`
	EC2      EC2                `yaml:"ec2"`
	Registry MembershipRegistry `yaml:"registry"`
}

// MembershipRegistry is the membership as the farm's registry has it.
type MembershipRegistry struct {
	// Cluster is the cluster whose database servers the proxy is told of.
	Cluster string `yaml:"cluster"`
}

// DNS is a membership in SRV records.
type DNS struct {
	// Records are their names, by the role of the hosts in them.
	Records map[string]string `yaml:"records"`
	// Server is a name server's host:port; empty for the system's.
	Server    string           `yaml:"server"`
	TimeLimit service.Duration `yaml:"time_limit"` // of one question to one server
	// AtLeast and AtMost bound the records' time to live.
	AtLeast service.Duration `yaml:"at_least"`
	AtMost  service.Duration `yaml:"at_most"`
}

// EC2 is a membership in the tags of EC2 instances.
type EC2 struct {
	// Region and Endpoint are where EC2 answers; empty for what the SDK finds.
	Region   string `yaml:"region"`
	Endpoint string `yaml:"endpoint"`
	// Tags are what the farm's instances are tagged with.
	Tags map[string]string `yaml:"tags"`
	// RoleTag is the tag whose value is an instance's role.
	RoleTag string `yaml:"role_tag"`
	// Ports are those of the addresses of each role.
	Ports map[string]int `yaml:"ports"`
	// Every is how often EC2 is asked; after errors less often, up to AtMost.
	Every     service.Duration `yaml:"every"`
	AtMost    service.Duration `yaml:"at_most"`
	TimeLimit service.Duration `yaml:"time_limit"` // of one answer with all its pages
	// Misses is how many answers in a row may lack an instance.
	Misses int `yaml:"misses"`
}

func defaultWeb() Web {
	return Web{Topology: "/etc/farmhand/topology.json", Cluster: "main", Frame: defaultFrame(), Proxy: Proxy{Command: []string{}, StopAfter: duration("1m")}, HTTP: defaultHTTP(), Release: defaultRelease(), Mail: defaultMail()}
}

func defaultMembership() Membership {
	return Membership{
		Source: "file", File: "/etc/farmhand/membership.yaml",
		DNS: DNS{Records: map[string]string{}, TimeLimit: duration("2s"), AtLeast: duration("5s"), AtMost: duration("1m")},
		EC2: EC2{
			Tags: map[string]string{}, RoleTag: "role", Ports: map[string]int{string(farm.Primary): 3306, string(farm.Replica): 3306},
			Every: duration("30s"), AtMost: duration("5m"), TimeLimit: duration("20s"), Misses: 2,
		},
	}
}

func (w Web) validate(path string) service.Problems {
	var p service.Problems
	if w.Topology != "" {
		absolute(&p, path+".topology", w.Topology)
	}
	if err := farm.CheckName(w.Cluster); err != nil {
		p.Add(path+".cluster", "%v", err)
	}
	var written []string
	if w.Topology != "" {
		written = append(written, w.Topology)
	}
	own := []string{ProxyProgram}
	if w.HTTP.Listen != "" {
		own = append(own, NginxProgram, PHPFPMProgram)
		absolute(&p, path+".directory", w.Directory)
	}
	p.Join(w.Frame.validate(path, written, own))
	p.Join(w.HTTP.validate(path+".http", w.Directory))
	w.validateRelease(&p, path)
	w.Mail.validate(&p, path+".mail")
	if w.Mail.Relay != "" && w.HTTP.Listen == "" {
		p.Add(path+".mail.relay", "there is no PHP whose mail it is: http.listen says where it serves")
	}
	command(&p, path+".proxy.command", w.Proxy.Command)
	p.DurationBetween(path+".proxy.stop_after", w.Proxy.StopAfter, duration("1s"), duration("24h"))
	if w.Proxy.Metrics != "" {
		if err := farm.CheckAddress(w.Proxy.Metrics); err != nil || strings.HasPrefix(w.Proxy.Metrics, "/") {
			p.Add(path+".proxy.metrics", "%q is not a host:port", w.Proxy.Metrics)
		}
	}
	return p
}

func (m Membership) validate(path string) service.Problems {
	var p service.Problems
	p.OneOf(path+".source", m.Source, "file", "dns", "ec2", "registry")
	switch m.Source {
	case "file":
		absolute(&p, path+".file", m.File)
	case "dns":
		p.Join(m.DNS.validate(path + ".dns"))
	case "ec2":
		p.Join(m.EC2.validate(path + ".ec2"))
	case "registry":
		if err := farm.CheckName(m.Registry.Cluster); err != nil {
			p.Add(path+".registry.cluster", "%v", err)
		}
	}
	return p
}

// maxEC2Tags is less than what one question can have in it.
const maxEC2Tags = 50

func (e EC2) validate(path string) service.Problems {
	var p service.Problems
	if len(e.Tags) == 0 || len(e.Tags) > maxEC2Tags {
		p.Add(path+".tags", "there are %d; expected 1 to %d, or every instance of the account would be a host", len(e.Tags), maxEC2Tags)
	}
	for _, tag := range append(slices.Sorted(maps.Keys(e.Tags)), e.RoleTag) {
		if tag == "" || len(tag) > 128 {
			p.Add(path+".tags", "%q is not the name of a tag", tag)
		}
	}
	if e.Endpoint != "" {
		if err := checkURL(e.Endpoint); err != nil {
			p.Add(path+".endpoint", "%v", err)
		}
	}
	for _, role := range slices.Sorted(maps.Keys(e.Ports)) {
		p.Between(path+".ports."+role, e.Ports[role], 1, 65535)
	}
	p.DurationBetween(path+".every", e.Every, duration("10ms"), duration("1h"))
	p.DurationBetween(path+".at_most", e.AtMost, e.Every, duration("24h"))
	p.DurationBetween(path+".time_limit", e.TimeLimit, duration("10ms"), duration("5m"))
	p.Between(path+".misses", e.Misses, 0, 100)
	return p
}

func (d DNS) validate(path string) service.Problems {
	var p service.Problems
	if len(d.Records) == 0 {
		p.Add(path+".records", "there are none; expected the name of an SRV record for each role")
	}
	for _, role := range slices.Sorted(maps.Keys(d.Records)) {
		if err := farm.CheckName(role); err != nil {
			p.Add(path+".records", "%v", err)
		}
		if _, err := farm.CanonicalAddress(strings.TrimSuffix(d.Records[role], ".") + ":53"); err != nil {
			p.Add(path+".records."+role, "%q is not the name of a record; expected one such as _mysql-replica._tcp.farm.example", d.Records[role])
		}
	}
	if d.Server != "" {
		if err := farm.CheckAddress(d.Server); err != nil || strings.HasPrefix(d.Server, "/") {
			p.Add(path+".server", "%q is not a host:port", d.Server)
		}
	}
	p.DurationBetween(path+".time_limit", d.TimeLimit, duration("10ms"), duration("1m"))
	p.DurationBetween(path+".at_least", d.AtLeast, duration("10ms"), duration("1h"))
	p.DurationBetween(path+".at_most", d.AtMost, d.AtLeast, duration("24h"))
	return p
}
