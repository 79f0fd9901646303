package farmfile

import "farmhand/internal/service"

// Flavor is whose server it is.
type Flavor string

// The flavors.
const (
	MariaDB Flavor = "mariadb"
	Oracle  Flavor = "mysql"
)

func (Flavor) choices() []string { return []string{string(MariaDB), string(Oracle)} }

// Durability is what becomes of writes when too few replicas are left to
// acknowledge them.
type Durability string

// The choices for writes that no replica acknowledges.
const (
	Lossless  Durability = "lossless"  // they wait
	Available Durability = "available" // after a time they go on without
)

func (Durability) choices() []string { return []string{string(Lossless), string(Available)} }

// MySQL is a primary and its replicas.
type MySQL struct {
	Flavor         Flavor     `yaml:"flavor" about:"whose database server it is"`
	Port           int        `yaml:"port" is:"1..65535" about:"the port that the servers listen on"`
	BufferPool     Size       `yaml:"buffer_pool" is:"5MiB..16TiB" about:"memory for InnoDB's pages"`
	Durability     Durability `yaml:"durability" about:"what writes do while no replica acknowledges them: lossless waits, available goes on after a time"`
	AvailableAfter Duration   `yaml:"available_after" is:"1s..1h" about:"the time after which writes go on without a replica, if durability is available"`
}

func checkMySQL(p *service.Problems, path string, r *Role, f *Farm) {
	if r.Parameters.MySQL.Durability == Lossless && r.Count.Min < 2 {
		p.Add(path+".parameters.durability", "lossless needs a replica at all times, and the least number of servers is %d; expected a count of 2 or more, or available", r.Count.Min)
	}
	for name, other := range sorted(f.Roles) {
		if other.Kind != MySQLKind {
			continue
		}
		if first := "roles." + name; first != path {
			p.Add(path+".kind", "%s is of kind mysql already; a farm has one role of that kind", first)
		}
		return
	}
}
