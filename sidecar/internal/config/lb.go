package config

import (
	"farmhand/internal/farm"
	"farmhand/internal/service"
)

// LB is the configuration of the role "lb": haproxy in front of the hosts of another role.
// Its files are in the role's directory.
type LB struct {
	Frame `yaml:",inline"`
	// Backend is the role that clients are led to.
	Backend string `yaml:"backend"`
	// Listen is the ip:port for HTTP, ListenTLS for HTTPS; empty for none.
	Listen    string `yaml:"listen"`
	ListenTLS string `yaml:"listen_tls"`
	// Certificates is a directory with PEM files, each with a chain and its key.
	Certificates string `yaml:"certificates"`
	// Balance is leastconn, roundrobin or source.
	Balance string `yaml:"balance"`
	// CheckPath is what each host is asked for.
	CheckPath      string `yaml:"check_path"`
	MaxConnections int    `yaml:"max_connections"`
	// Program is haproxy: a name that is looked for, or a path.
	Program string `yaml:"program"`
}

// LBProgram is the name of haproxy among the node's programs.
const LBProgram = "haproxy"

func defaultLB() LB {
	return LB{Frame: defaultFrame(), Balance: "leastconn", CheckPath: "/", MaxConnections: 4000, Program: "haproxy"}
}

func (l LB) validate(path string) service.Problems {
	p := l.Frame.validate(path, nil, []string{LBProgram})
	absolute(&p, path+".directory", l.Directory)
	if err := farm.CheckName(l.Backend); err != nil {
		p.Add(path+".backend", "%v", err)
	}
	place(&p, path+".listen", l.Listen)
	if l.ListenTLS != "" {
		place(&p, path+".listen_tls", l.ListenTLS)
		absolute(&p, path+".certificates", l.Certificates)
	}
	p.OneOf(path+".balance", l.Balance, "leastconn", "roundrobin", "source")
	absolute(&p, path+".check_path", l.CheckPath)
	p.Between(path+".max_connections", l.MaxConnections, 10, 1_000_000)
	p.Required(path+".program", l.Program)
	return p
}
