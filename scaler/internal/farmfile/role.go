package farmfile

import (
	"fmt"

	"github.com/goccy/go-yaml/ast"

	"farmhand/internal/service"
)

// RoleKind is a kind of role.
type RoleKind string

// The kinds of role.
const (
	MySQLKind     RoleKind = "mysql"
	WebKind       RoleKind = "web"
	BaseKind      RoleKind = "base"
	LBKind        RoleKind = "lb"
	MemcachedKind RoleKind = "memcached"
	WorkerKind    RoleKind = "worker"
	// StorageServerKind is not called after its key: a role's storage is what it is on.
	StorageServerKind RoleKind = "storage"
)

// roleKinds are the kinds of role that there are.
var roleKinds = map[RoleKind]struct {
	about string
	// check says what is wrong with the role at path that its keys one by one
	// do not show.
	check func(p *service.Problems, path string, role *Role, f *Farm)
}{
	MySQLKind:         {"one primary and its replicas, MariaDB or MySQL", checkMySQL},
	WebKind:           {"web nodes, each with the proxy", checkWeb},
	BaseKind:          {"anything else, by templates, programs and health checks", checkBase},
	LBKind:            {"load balancers, haproxy in front of another role", checkLB},
	MemcachedKind:     {"memcached servers", checkMemcached},
	WorkerKind:        {"servers that do the jobs of an SQS queue", checkWorker},
	StorageServerKind: {"the one server whose disk others mount", checkStorageServer},
}

func (RoleKind) choices() []string { return names(roleKinds) }

func (RoleKind) about(name string) string { return roleKinds[RoleKind(name)].about }

// Role is one kind of server in the farm.
type Role struct {
	Kind       RoleKind   `yaml:"kind" about:"what the servers are"`
	Image      string     `yaml:"image" is:"text" about:"what they are launched from; local has host, the programs of this machine, and what scaler rebundle made; aws ami-… or resolve:ssm:/parameter"`
	Size       string     `yaml:"size" is:"text" about:"how large they are, in the provider's words; local has host, this machine; aws instance types, with commas, the preferred one first"`
	Count      Count      `yaml:"count" about:"how many there are, a primary included: a number, or min and max to scale between"`
	Scaling    []Metric   `yaml:"scaling" is:"0..16" about:"what to scale by, if count has min and max: out if one metric asks for it, in if all do"`
	Schedule   []Schedule `yaml:"schedule" is:"0..32" about:"times in which there are more servers than min"`
	Storage    Storage    `yaml:"storage" about:"the volume of each server"`
	Hooks      Hooks      `yaml:"hooks" about:"programs of your own that are run when something happens"`
	Parameters Parameters `yaml:"parameters" about:"what that kind of role needs to know"`
}

// Parameters are those of the role's kind; the others are nil.
type Parameters struct {
	MySQL         *MySQL
	Web           *Web
	Base          *Base
	LB            *LB
	Memcached     *Memcached
	Worker        *Worker
	StorageServer *StorageServer
}

// Port is where others reach what a server of the role offers; 0 if it offers nothing.
func (r *Role) Port() int {
	switch p := r.Parameters; {
	case p.MySQL != nil:
		return p.MySQL.Port
	case p.Web != nil:
		return p.Web.HTTP.Port
	case p.Base != nil:
		return p.Base.Port
	case p.LB != nil:
		return p.LB.Port
	case p.Memcached != nil:
		return p.Memcached.Port
	case p.StorageServer != nil:
		return p.StorageServer.Port
	}
	return 0
}

// UnmarshalYAML reads the role over the defaults of its kind. A role whose kind
// is not known has nothing else that could be judged.
func (r *Role) UnmarshalYAML(n ast.Node) error {
	kind, err := kindOf(n)
	if err != nil {
		return err
	}
	role, ok := defaults().roles[RoleKind(kind)]
	if !ok {
		*r = Role{Kind: RoleKind(kind)}
		return nil
	}
	type plain Role // without this method
	if err := over(n, (*plain)(&role)); err != nil {
		return err
	}
	*r = role
	return nil
}

// UnmarshalYAML reads the parameters over those that are set.
func (v *Parameters) UnmarshalYAML(n ast.Node) error { return over(n, v.ofKind()) }

// MarshalYAML writes the parameters as they are read.
func (v Parameters) MarshalYAML() (any, error) { return v.ofKind(), nil }

func (v Parameters) ofKind() any {
	switch {
	case v.MySQL != nil:
		return v.MySQL
	case v.Web != nil:
		return v.Web
	case v.LB != nil:
		return v.LB
	case v.Memcached != nil:
		return v.Memcached
	case v.Worker != nil:
		return v.Worker
	case v.StorageServer != nil:
		return v.StorageServer
	}
	return v.Base
}

func (r *Role) check(p *service.Problems, path string, f *Farm) {
	kind, ok := roleKinds[r.Kind]
	if !ok {
		return // as checkKeys says
	}
	if r.Count.Max < 1 {
		return // as checkKeys says; from no number of servers nothing follows
	}
	if r.Count.Min > r.Count.Max {
		p.Add(path+".count.min", "min %d is above max %d", r.Count.Min, r.Count.Max)
		return
	}
	scales := r.Count.Min < r.Count.Max
	if scales && len(r.Scaling)+len(r.Schedule) == 0 {
		p.Add(path+".count", "min and max differ, but nothing says when to scale; expected scaling or schedule, or one number")
	}
	if !scales && len(r.Scaling) > 0 {
		p.Add(path+".scaling", "count is always %d; expected min below max to scale between, or no metric", r.Count.Min)
	}
	if !scales && len(r.Schedule) > 0 {
		p.Add(path+".schedule", "count is always %d; expected min below max to scale between, or no schedule", r.Count.Min)
	}
	seen := map[MetricKind]int{}
	for i := range r.Scaling {
		m, at := &r.Scaling[i], fmt.Sprintf("%s.scaling[%d]", path, i)
		if first, twice := seen[m.Kind]; twice && m.Kind != CommandMetric {
			p.Add(at+".kind", "%s is in scaling[%d] already", m.Kind, first)
		} else {
			seen[m.Kind] = i
		}
		m.check(p, at, r)
	}
	for i, s := range r.Schedule {
		s.check(p, fmt.Sprintf("%s.schedule[%d]", path, i), r)
	}
	r.Storage.check(p, path+".storage", r)
	if frame := r.Frame(); frame != nil {
		frame.checkMounts(p, path+".parameters", r, f)
	}
	kind.check(p, path, r, f)
}

// Count is how many servers a role has.
type Count struct {
	Min int `yaml:"min" is:"1..100" about:"the least"`
	Max int `yaml:"max" is:"1..100" about:"the most"`
}

// UnmarshalYAML reads a number, or min and max.
func (c *Count) UnmarshalYAML(n ast.Node) error {
	keys, ok := n.(*ast.MappingNode)
	if !ok {
		var number int
		if n.Type() != ast.IntegerType {
			return service.ErrorAt(n, "expected a whole number, or min and max")
		}
		if err := over(n, &number); err != nil {
			return err
		}
		*c = Count{number, number}
		return nil
	}
	if len(keys.Values) < 2 {
		return service.ErrorAt(n, "expected both min and max")
	}
	*c = Count{} // which is out of bounds
	type plain Count
	return over(n, (*plain)(c))
}

// MarshalYAML writes the count as it is read.
func (c Count) MarshalYAML() (any, error) {
	if c.Min == c.Max {
		return c.Min, nil
	}
	type plain Count
	return plain(c), nil
}

func (c Count) String() string {
	if c.Min == c.Max {
		return fmt.Sprint(c.Min)
	}
	return fmt.Sprintf("%d to %d", c.Min, c.Max)
}
