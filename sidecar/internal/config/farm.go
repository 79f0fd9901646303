package config

import (
	"net/url"
	"strconv"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/registry"
	"farmhand/internal/service"
)

// Farm is how the node belongs to a farm, which has a registry.
type Farm struct {
	// Directory is what "sidecar join" left; empty for a node without a farm.
	Directory string `yaml:"directory"`
	// TokenFile has the token to join with, if nothing is in the directory yet; it is
	// removed then.
	TokenFile string `yaml:"token_file"`
	// Name is the node's in the farm; empty means its own.
	Name string `yaml:"name"`
	// Address is where the others reach what the node serves; empty for the database
	// server's own, and of another role for none.
	Address string `yaml:"address"`
	// Role is what the farm file calls the node's role, Slot its place among the role's
	// nodes, 1 or more, that a node in its place takes over; Slots is how many the role has at
	// the least. The others learn it with the membership. Empty and 0 for not known.
	Role  string `yaml:"role"`
	Slot  int    `yaml:"slot"`
	Slots int    `yaml:"slots"`
	// Metadata is where EC2's metadata service is asked whether the machine, a spot
	// instance, is taken away: http://169.254.169.254; empty for nowhere.
	Metadata string `yaml:"metadata"`
	// Lease is how long the node counts as there after its last renewal.
	Lease service.Duration `yaml:"lease"`
}

func defaultFarm() Farm { return Farm{Lease: duration("6s")} }

// InFarm reports whether the node belongs to a farm with a registry.
func (c *Config) InFarm() bool { return c.Farm.Directory != "" }

// NodeName is the node's name in the farm's registry.
func (c *Config) NodeName() string {
	if c.Farm.Name != "" {
		return c.Farm.Name
	}
	return c.Name
}

// ClusterName is the cluster of the farm that the node is of or connects to; empty if
// it does not go by the farm's registry.
func (c *Config) ClusterName() string {
	if c.Role == "mysql" {
		return c.MySQL.Cluster
	}
	if c.Membership.Source != "registry" {
		return ""
	}
	return c.Membership.Registry.Cluster
}

// NodeAddress is where the others reach what the node serves; empty if nowhere.
func (c *Config) NodeAddress() string {
	if c.Farm.Address == "" && c.Role == "mysql" {
		return c.MySQL.Listen
	}
	return c.Farm.Address
}

func (f Farm) validate(path string) service.Problems {
	var p service.Problems
	if f.Directory == "" {
		if f != defaultFarm() {
			p.Add(path+".directory", "is missing; a node of a farm keeps its key and certificate there")
		}
		return p
	}
	absolute(&p, path+".directory", f.Directory)
	if f.TokenFile != "" {
		absolute(&p, path+".token_file", f.TokenFile)
	}
	if f.Name != "" {
		if err := registry.CheckNodeName(f.Name); err != nil {
			p.Add(path+".name", "%v", err)
		}
	}
	if f.Address != "" {
		if err := farm.CheckEventAddress(f.Address); err != nil {
			p.Add(path+".address", "%v", err)
		}
	}
	if f.Role != "" {
		if err := farm.CheckName(f.Role); err != nil {
			p.Add(path+".role", "%v", err)
		}
	}
	p.Between(path+".slot", f.Slot, 0, farm.MaxSlot)
	p.Between(path+".slots", f.Slots, 0, farm.MaxSlot)
	if u, err := url.Parse(f.Metadata); f.Metadata != "" && (err != nil || u.Scheme != "http" || u.Host == "" || u.Path != "") {
		p.Add(path+".metadata", "%q is not http://host:port", f.Metadata)
	}
	p.DurationBetween(path+".lease", f.Lease, service.Duration(registry.MinLease), service.Duration(registry.MaxLease))
	if time.Duration(f.Lease)%time.Second != 0 {
		p.Add(path+".lease", "%v is not a number of whole seconds", f.Lease)
	}
	return p
}

// Attributes are what the node says of itself to the others of its farm.
func (c *Config) Attributes() map[string]string {
	attributes := map[string]string{}
	if c.Farm.Role != "" {
		attributes[farm.RoleAttribute] = c.Farm.Role
	}
	for name, n := range map[string]int{farm.SlotAttribute: c.Farm.Slot, farm.SlotsAttribute: c.Farm.Slots} {
		if n > 0 {
			attributes[name] = strconv.Itoa(n)
		}
	}
	return attributes
}
