// Package config owns the sidecar's configuration: its keys, their defaults
// and what makes a value acceptable.
//
// It holds no secret: passwords are named by the files that they stand in. It
// reads no flags and no environment.
package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/registry"
	"farmhand/internal/service"
)

// Config is everything that the sidecar can be told.
type Config struct {
	// Role is what this node does; a key of role.Kinds.
	Role string `yaml:"role"`
	// Name is the node's own name in its farm.
	Name string `yaml:"name"`
	// State is the directory of the sidecar's own files: the spool of events, the
	// journal, what was seen of the membership.
	State string `yaml:"state"`
	// Farm is how the node belongs to a farm with a registry.
	Farm Farm `yaml:"farm"`
	// Volume is what the role's data is on.
	Volume    Volume    `yaml:"volume"`
	MySQL     MySQL     `yaml:"mysql"`
	Web       Web       `yaml:"web"`
	Base      Base      `yaml:"base"`
	LB        LB        `yaml:"lb"`
	Memcached Memcached `yaml:"memcached"`
	Worker    Worker    `yaml:"worker"`
	Storage   Storage   `yaml:"storage"`
	// Membership is what all roles but "mysql" live on.
	Membership Membership        `yaml:"membership"`
	Hooks      Hooks             `yaml:"hooks"`
	Log        service.LogConfig `yaml:"log"`
}

// Volume is a volume that somebody else attaches to the node. The role begins only
// where it is there.
type Volume struct {
	// Name is the volume's; empty for none.
	Name string `yaml:"name"`
	// Directory is where it is mounted.
	Directory string `yaml:"directory"`
}

// DefaultState is the state directory unless told otherwise.
const DefaultState = "/var/lib/farmhand/sidecar"

// MySQL is the configuration of the role "mysql".
type MySQL struct {
	// Flavor is "mariadb" or "mysql".
	Flavor string `yaml:"flavor"`
	// ProgramRoot is a directory with an unpacked MySQL of its own; empty means
	// the system's programs.
	ProgramRoot string `yaml:"program_root"`
	// Directory holds all of the server's files.
	Directory string `yaml:"directory"`
	// Listen is the server's ip:port.
	Listen string `yaml:"listen"`
	// Socket is the server's unix socket.
	Socket   string `yaml:"socket"`
	ServerID uint32 `yaml:"server_id"`
	// Follow is the primary's ip:port; empty makes this server the primary.
	Follow string `yaml:"follow"`
	// Cluster is the cluster of the farm that the server is of. What it is to do, and
	// its server id, the farm's assignment says then. Empty for a server by itself.
	Cluster string `yaml:"cluster"`
	// CloneListen is the ip:port where the server's data is given to others of the
	// cluster; empty for nowhere, and then it cannot copy others' data either.
	CloneListen string `yaml:"clone_listen"`
	// RunAs is the system account that the server runs as; empty is the
	// sidecar's own.
	RunAs      string       `yaml:"run_as"`
	BufferPool service.Size `yaml:"buffer_pool"`
	Accounts   Accounts     `yaml:"accounts"`
}

// Accounts are the accounts that a new server gets; one that exists keeps what
// it has.
type Accounts struct {
	// Replication is what followers log in with; it is used for following too.
	Replication Account `yaml:"replication"`
	// Monitor is what proxies watch the server with.
	Monitor Account `yaml:"monitor"`
	// Application is optional: an application's account and its schema, which a
	// primary without any history gets.
	Application Application `yaml:"application"`
}

// Account is a name and a file with its password.
type Account struct {
	User         string `yaml:"user"`
	PasswordFile string `yaml:"password_file"`
}

// Application is an account with a schema of its own.
type Application struct {
	User         string `yaml:"user"`
	PasswordFile string `yaml:"password_file"`
	Schema       string `yaml:"schema"`
}

// Default is the configuration before the file is read.
func Default() Config {
	return Config{
		State:      DefaultState,
		Farm:       defaultFarm(),
		Web:        defaultWeb(),
		Base:       Base{defaultFrame()},
		LB:         defaultLB(),
		Memcached:  defaultMemcached(),
		Worker:     defaultWorker(),
		Storage:    defaultStorage(),
		Membership: defaultMembership(),
		Hooks:      defaultHooks(),
		MySQL: MySQL{
			Flavor:     "mariadb",
			BufferPool: 128 << 20,
			Accounts: Accounts{
				Replication: Account{User: "replicator"},
				Monitor:     Account{User: "farmhand"},
			},
		},
		Log: service.DefaultLog(),
	}
}

// Load reads the file at path over the defaults.
func Load(path string) (Config, error) {
	c := Default()
	if err := service.Load(path, &c); err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	return c, nil
}

// Validate says what is wrong.
func (c *Config) Validate() service.Problems {
	var p service.Problems
	p.OneOf("role", c.Role, "mysql", "web", "base", "lb", "memcached", "worker", "storage")
	if err := farm.CheckName(c.Name); err != nil {
		p.Add("name", "%v", err)
	}
	absolute(&p, "state", c.State)
	if c.Volume.Name != "" {
		if err := farm.CheckName(c.Volume.Name); err != nil {
			p.Add("volume.name", "%v", err)
		}
		absolute(&p, "volume.directory", c.Volume.Directory)
	}
	p.Join(c.Farm.validate("farm"))
	if c.InFarm() && c.Farm.Name == "" && registry.CheckNodeName(c.Name) != nil {
		p.Add("name", "%q is not possible in a farm", c.Name)
	}
	// What is said of a role that the node does not have is not looked at.
	switch c.Role {
	case "mysql":
		p.Join(c.MySQL.validate())
		if c.MySQL.Cluster != "" && !c.InFarm() {
			p.Add("mysql.cluster", "is that of a farm, and the section farm has no directory")
		}
	case "web":
		p.Join(c.Web.validate("web"))
	case "base":
		p.Join(c.Base.validate("base", nil, nil))
	case "lb":
		p.Join(c.LB.validate("lb"))
	case "memcached":
		p.Join(c.Memcached.validate("memcached"))
	case "worker":
		p.Join(c.Worker.validate("worker"))
	case "storage":
		p.Join(c.Storage.validate("storage"))
	}
	if c.Frame() != nil {
		p.Join(c.Membership.validate("membership"))
		if c.Membership.Source == "registry" && !c.InFarm() {
			p.Add("membership.source", "the registry is that of a farm, and the section farm has no directory")
		}
	}
	p.Join(c.Hooks.validate("hooks"))
	p.Join(c.Log.Validate("log"))
	return p
}

func (m MySQL) validate() service.Problems {
	var p service.Problems
	p.OneOf("mysql.flavor", m.Flavor, "mariadb", "mysql")
	absolute(&p, "mysql.directory", m.Directory)
	absolute(&p, "mysql.socket", m.Socket)
	place(&p, "mysql.listen", m.Listen)
	if m.Follow != "" {
		place(&p, "mysql.follow", m.Follow)
		if m.Follow == m.Listen {
			p.Add("mysql.follow", "is the server itself")
		}
	}
	if m.ProgramRoot != "" {
		absolute(&p, "mysql.program_root", m.ProgramRoot)
	}
	if m.Cluster != "" {
		p.Join(m.validateInFarm())
	} else if m.ServerID == 0 {
		p.Add("mysql.server_id", "is missing; it must be 1 or more and unique in the farm")
	}
	p.SizeBetween("mysql.buffer_pool", m.BufferPool, 8<<20, 1<<44)
	accounts := "mysql.accounts."
	for _, key := range []string{"replication", "monitor"} {
		a := map[string]Account{"replication": m.Accounts.Replication, "monitor": m.Accounts.Monitor}[key]
		p.Required(accounts+key+".user", a.User)
		p.Required(accounts+key+".password_file", a.PasswordFile)
	}
	if app := m.Accounts.Application; app != (Application{}) {
		p.Required(accounts+"application.user", app.User)
		p.Required(accounts+"application.password_file", app.PasswordFile)
		p.Required(accounts+"application.schema", app.Schema)
	}
	return p
}

// validateInFarm is about what a farm's assignment says in the place of the
// configuration, and what it needs.
func (m MySQL) validateInFarm() service.Problems {
	var p service.Problems
	if err := farm.CheckName(m.Cluster); err != nil {
		p.Add("mysql.cluster", "%v", err)
	}
	if m.Follow != "" {
		p.Add("mysql.follow", "is for a server without mysql.cluster, whose assignment says whom it follows")
	}
	if m.ServerID != 0 {
		p.Add("mysql.server_id", "is for a server without mysql.cluster, whose assignment says it")
	}
	if m.CloneListen != "" {
		place(&p, "mysql.clone_listen", m.CloneListen)
	}
	return p
}

// duration is for constants.
func duration(text string) service.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		panic(err)
	}
	return service.Duration(d)
}

func absolute(p *service.Problems, key, path string) {
	if !filepath.IsAbs(path) {
		p.Add(key, "%q is not an absolute path", path)
	}
}

func place(p *service.Problems, key, address string) {
	if a, err := netip.ParseAddrPort(address); err != nil || a.Port() == 0 {
		p.Add(key, "%q is not an ip:port", address)
	}
}
