package config

import (
	"strings"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/service"
)

// Mount is a directory that another role's node has and this one uses.
type Mount struct {
	// Storage is the role, as the farm file calls it.
	Storage string `yaml:"storage"`
	// Path is where the directory is to be.
	Path string `yaml:"path"`
	// Wait is how long what asks for a file waits while the storage is away; 0 means 1m.
	Wait service.Duration `yaml:"wait"`
	// Program is glusterfs: a name that is looked for, or a path; empty means glusterfs.
	Program string `yaml:"program"`
}

// Programs are the names of those that keep the mount: the way to the storage, and what
// mounts it.
func (m Mount) Programs() (door, client string) {
	return "door-" + m.Storage, "mount-" + m.Storage
}

// Variable is the name of the environment variable in which the node's programs find the path.
func (m Mount) Variable() string {
	return "FARMHAND_STORAGE_" + strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(m.Storage))
}

func (m Mount) validate(p *service.Problems, path string) {
	if err := farm.CheckName(m.Storage); err != nil {
		p.Add(path+".storage", "%v", err)
	}
	absolute(p, path+".path", m.Path)
	p.DurationBetween(path+".wait", m.Wait, 0, duration("10m"))
	if time.Duration(m.Wait)%time.Second != 0 {
		p.Add(path+".wait", "%v is not a number of whole seconds", m.Wait)
	}
}
