package farmfile

import "farmhand/internal/service"

// Consistency is what a read through the proxy sees at least; the proxy's
// configuration says more of it.
type Consistency string

func (Consistency) choices() []string { return []string{"eventual", "session", "farm", "strict"} }

// Web is web nodes: what their sidecars keep running and up to date.
type Web struct {
	Database string  `yaml:"database" is:"label" about:"the role that the proxy connects to"`
	Proxy    Proxy   `yaml:"proxy" about:"the proxy's settings; docs/proxy.example.yaml explains them"`
	HTTP     HTTP    `yaml:"http" about:"nginx and php-fpm on each node, if it has a port"`
	Release  Release `yaml:"release" about:"the site's code as versions that scaler release rolls out, if there is a store"`
	Mail     Mail    `yaml:"mail" about:"where PHP's mail() goes"`
	Frame    `yaml:",inline"`
}

// Proxy is the settings of the proxy that a farm's owner may want to set. They
// mean what the keys of the proxy's own configuration mean.
type Proxy struct {
	TCP          string      `yaml:"tcp" is:"listen?" about:"the address that PHP connects to; \"\" for none"`
	Unix         string      `yaml:"unix" is:"path?" about:"the socket that PHP connects to; \"\" for none"`
	Admin        string      `yaml:"admin" is:"listen?" about:"where the proxy shows its metrics; \"\" for nowhere"`
	Consistency  Consistency `yaml:"consistency" about:"what a read sees at least"`
	MaxLag       Duration    `yaml:"max_lag" is:"0..720h" about:"how far a replica may be behind and serve reads"`
	MaxPerServer int         `yaml:"max_per_server" is:"0..100000" about:"the most connections to each server; 0 for no limit"`
}

func checkWeb(p *service.Problems, path string, r *Role, f *Farm) {
	path += ".parameters"
	w := r.Parameters.Web
	if role, ok := f.Roles[w.Database]; !ok || role.Kind != MySQLKind {
		p.Add(path+".database", "there is no role %q of kind mysql", w.Database)
	}
	if w.Proxy.TCP == "" && w.Proxy.Unix == "" {
		p.Add(path+".proxy", "the proxy listens nowhere; expected tcp, unix or both")
	}
	if w.Proxy.TCP != "" && w.Proxy.TCP == w.Proxy.Admin {
		p.Add(path+".proxy.admin", "%s is where clients connect, as tcp says", w.Proxy.Admin)
	}
	w.HTTP.check(p, path+".http", f)
	w.checkRelease(p, path)
	w.Mail.check(p, path+".mail", w.HTTP.Port)
	own := []string{ProxyProgram}
	if w.HTTP.Port > 0 {
		own = append(own, NginxProgram, PHPFPMProgram)
	}
	w.check(p, path, own...)
}

// ProxyProgram is the name of the proxy among a web node's programs.
const ProxyProgram = "proxy"
