package config

import "farmhand/internal/service"

// Memcached is the configuration of the role "memcached".
type Memcached struct {
	Frame `yaml:",inline"`
	// Listen is the server's ip:port.
	Listen string `yaml:"listen"`
	// Memory is for items, MaxItem of the largest.
	Memory         service.Size `yaml:"memory"`
	MaxItem        service.Size `yaml:"max_item"`
	MaxConnections int          `yaml:"max_connections"`
	// Program is memcached: a name that is looked for, or a path.
	Program string `yaml:"program"`
}

// MemcachedProgram is the name of memcached among the node's programs.
const MemcachedProgram = "memcached"

func defaultMemcached() Memcached {
	return Memcached{Frame: defaultFrame(), Memory: 64 << 20, MaxItem: 1 << 20, MaxConnections: 1024, Program: "memcached"}
}

func (m Memcached) validate(path string) service.Problems {
	p := m.Frame.validate(path, nil, []string{MemcachedProgram})
	place(&p, path+".listen", m.Listen)
	p.SizeBetween(path+".memory", m.Memory, 1<<20, 1<<40)
	p.SizeBetween(path+".max_item", m.MaxItem, 1<<10, 1<<30)
	p.Between(path+".max_connections", m.MaxConnections, 10, 1_000_000)
	p.Required(path+".program", m.Program)
	return p
}
