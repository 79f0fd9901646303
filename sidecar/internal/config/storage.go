package config

import "farmhand/internal/service"

// Storage is the configuration of the role "storage": a directory of the node that others
// mount.
type Storage struct {
	Frame `yaml:",inline"`
	// Data is the directory of the data, the top of the volume if there is one.
	Data string `yaml:"data"`
	// Listen is the ip:port at which the others reach it.
	Listen string `yaml:"listen"`
	// Owner is the system account that the shared directory belongs to when it is made; empty
	// for that of web servers.
	Owner string `yaml:"owner"`
	// Durable: what was written is on the disk before it is acknowledged.
	Durable bool `yaml:"durable"`
	// Program is glusterfsd: a name that is looked for, or a path.
	Program string `yaml:"program"`
}

// The names of the storage's own programs.
const (
	BrickProgram = "brick"
	GateProgram  = "gate"
)

func defaultStorage() Storage {
	return Storage{Frame: defaultFrame(), Durable: true, Program: "glusterfsd"}
}

func (s Storage) validate(path string) service.Problems {
	p := s.Frame.validate(path, nil, []string{BrickProgram, GateProgram})
	absolute(&p, path+".directory", s.Directory)
	absolute(&p, path+".data", s.Data)
	place(&p, path+".listen", s.Listen)
	p.Required(path+".program", s.Program)
	return p
}
