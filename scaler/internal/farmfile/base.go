package farmfile

import "farmhand/internal/service"

// Base is servers of any sort: what they are for is said by templates, programs and
// health checks alone.
type Base struct {
	Frame `yaml:",inline"`
	Port  int `yaml:"port" is:"0..65535" about:"the port at which others reach what a server offers; 0 if it offers nothing"`
}

func checkBase(p *service.Problems, path string, r *Role, f *Farm) {
	r.Parameters.Base.check(p, path+".parameters")
	checkDatabase(p, path, f)
}

// checkDatabase wants a database in the farm: nodes learn of each other by the name of its
// cluster.
func checkDatabase(p *service.Problems, path string, f *Farm) {
	if f.Database() == "" {
		p.Add(path+".kind", "a farm needs a role of kind mysql: its servers learn of each other as that cluster's members")
	}
}
