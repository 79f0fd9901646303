package farmfile

import "farmhand/internal/service"

// Balance is how a load balancer chooses a server.
type Balance string

func (Balance) choices() []string { return []string{"leastconn", "roundrobin", "source"} }

// LB is load balancers: haproxy in front of another role's servers.
type LB struct {
	Backend        string  `yaml:"backend" is:"label" about:"the role that clients are led to, which has a port"`
	Port           int     `yaml:"port" is:"1..65535" about:"the port for HTTP, at the server's own address"`
	TLSPort        int     `yaml:"tls_port" is:"0..65535" about:"the port for HTTPS; 0 for none"`
	Certificates   string  `yaml:"certificates" is:"path?" about:"the directory with a PEM file for each certificate, its chain and key in it, on the server; needed for tls_port"`
	Balance        Balance `yaml:"balance" about:"how a server is chosen for a request"`
	CheckPath      string  `yaml:"check_path" is:"path" about:"what haproxy asks each server for; 200 to 399 is well"`
	MaxConnections int     `yaml:"max_connections" is:"10..1000000" about:"the most clients at a time"`
	Program        string  `yaml:"program" is:"text" about:"haproxy: a name that is looked for, or a path"`
	Frame          `yaml:",inline"`
}

// LBProgram is the name of haproxy among a load balancer's programs.
const LBProgram = "haproxy"

func checkLB(p *service.Problems, path string, r *Role, f *Farm) {
	checkDatabase(p, path, f)
	path += ".parameters"
	lb := r.Parameters.LB
	lb.check(p, path, LBProgram)
	backend, ok := f.Roles[lb.Backend]
	switch {
	case !ok || lb == backend.Parameters.LB:
		p.Add(path+".backend", "there is no other role %q", lb.Backend)
	case backend.Port() == 0:
		p.Add(path+".backend", "role %s offers nothing at a port", lb.Backend)
	}
	switch {
	case lb.TLSPort > 0 && lb.Certificates == "":
		p.Add(path+".certificates", "tls_port needs a directory with certificates")
	case lb.TLSPort == lb.Port:
		p.Add(path+".tls_port", "%d is the port for HTTP", lb.Port)
	}
}
