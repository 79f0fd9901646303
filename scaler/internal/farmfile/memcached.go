package farmfile

import "farmhand/internal/service"

// Memcached is memcached servers, each with a place in the list of its clients that the
// server in its place takes over.
type Memcached struct {
	Port           int    `yaml:"port" is:"1..65535" about:"the port, at the server's own address"`
	Memory         Size   `yaml:"memory" is:"1MiB..1TiB" about:"memory for items"`
	MaxItem        Size   `yaml:"max_item" is:"1KiB..1GiB" about:"the largest item"`
	MaxConnections int    `yaml:"max_connections" is:"10..1000000" about:"the most clients at a time"`
	Program        string `yaml:"program" is:"text" about:"memcached: a name that is looked for, or a path"`
	Frame          `yaml:",inline"`
}

// MemcachedProgram is the name of memcached among a server's programs.
const MemcachedProgram = "memcached"

func checkMemcached(p *service.Problems, path string, r *Role, f *Farm) {
	checkDatabase(p, path, f)
	r.Parameters.Memcached.check(p, path+".parameters", MemcachedProgram)
	if m := r.Parameters.Memcached; m.MaxItem > m.Memory/2 {
		p.Add(path+".parameters.max_item", "%v is more than half of memory, %v", m.MaxItem, m.Memory)
	}
}
