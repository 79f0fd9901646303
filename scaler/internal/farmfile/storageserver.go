package farmfile

import (
	"fmt"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"farmhand/internal/service"
)

// StorageServer is the one server whose volume others mount: a pinned disk, and never two
// servers that have it.
type StorageServer struct {
	Port      int      `yaml:"port" is:"1..65535" about:"the port, at the server's own address, at which the farm's nodes reach it by mutual TLS"`
	Durable   bool     `yaml:"durable" about:"whether what was written is on the disk before it is acknowledged; otherwise the last seconds are lost with a machine that loses its power"`
	LostAfter Duration `yaml:"lost_after" is:"10s..1h" about:"how long nothing may be heard of the server, while others are heard of, before its instance is ended and another gets its volume"`
	Owner     string   `yaml:"owner" is:"text?" about:"the system account that a new shared directory belongs to; \"\" for the one that web servers run as"`
	Program   string   `yaml:"program" is:"text" about:"glusterfsd: a name that is looked for, or a path"`
	Frame     `yaml:",inline"`
}

// The names of a storage server's own programs.
const (
	BrickProgram = "brick"
	GateProgram  = "gate"
)

func checkStorageServer(p *service.Problems, path string, r *Role, f *Farm) {
	checkDatabase(p, path, f)
	if r.Count.Min != 1 || r.Count.Max != 1 {
		p.Add(path+".count", "there is one disk, and one server at a time has it; expected 1 instead of %s", r.Count)
	}
	at := path + ".storage"
	switch s := r.Storage; {
	case s.Kind == DirectoryStorage:
		p.Add(at+".kind", "a directory of the server's own is lost with it; expected volume or array")
	case !s.Keep || !s.Pin:
		p.Add(at, "a server that takes the place of a lost one has to get its disk; expected keep and pin")
	}
	r.Parameters.StorageServer.check(p, path+".parameters", BrickProgram, GateProgram)
}

// Mount is the directory of a role of kind storage, mounted on each server of another role.
type Mount struct {
	Storage string   `yaml:"storage" is:"label" about:"the role of kind storage"`
	Path    string   `yaml:"path" is:"place" about:"where the directory is mounted; it is made if it is not there"`
	Wait    Duration `yaml:"wait" is:"1s..10m" about:"how long what asks for a file waits while the storage is away, before it is refused; whole seconds"`
	Program string   `yaml:"program" is:"text" about:"glusterfs: a name that is looked for, or a path"`
}

// UnmarshalYAML reads the mount over the defaults.
func (m *Mount) UnmarshalYAML(n ast.Node) error {
	mount := defaults().mount
	type plain Mount // without this method
	if err := over(n, (*plain)(&mount)); err != nil {
		return err
	}
	*m = Mount(mount)
	return nil
}

// checkMounts says what is wrong with the mounts of the role whose parameters are at path.
func (v *Frame) checkMounts(p *service.Problems, path string, r *Role, f *Farm) {
	storages, paths := map[string]bool{}, map[string]bool{}
	for i, m := range v.Mounts {
		at := fmt.Sprintf("%s.mounts[%d]", path, i)
		if s, ok := f.Roles[m.Storage]; !ok || s.Kind != StorageServerKind {
			p.Add(at+".storage", "there is no role %q of kind storage", m.Storage)
		}
		if r.Kind == StorageServerKind {
			p.Add(at, "a storage server mounts no storage: it would wait for itself, or for one that waits for it")
		}
		if storages[m.Storage] || paths[m.Path] {
			p.Add(at, "the storage %s is mounted already, or something else at %s", m.Storage, m.Path)
		}
		storages[m.Storage], paths[m.Path] = true, true
		if strings.ContainsAny(m.Path, "\"\\$#; ") {
			p.Add(at+".path", "%q has a character in it that GlusterFS or PHP would take for its own", m.Path)
		}
		if time.Duration(m.Wait)%time.Second != 0 {
			p.Add(at+".wait", "%v is no number of whole seconds", m.Wait)
		}
	}
	for storage := range sorted(storages) {
		for _, name := range []string{"door-" + storage, "mount-" + storage} {
			if _, taken := v.Programs[name]; taken {
				p.Add(path+".programs."+name, "the mount of %s has a program of that name", storage)
			}
		}
	}
}
