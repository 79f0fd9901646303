package farmfile

import (
	"fmt"
	"strings"

	"farmhand/internal/objects"
	"farmhand/internal/service"
)

// Release is how the code of a web role's site comes to its servers: as versions that are rolled out.
type Release struct {
	Store      string   `yaml:"store" is:"store?" about:"where the versions are kept: /path, or s3://bucket/prefix?endpoint=https://host&region=name; servers need to read it only; credentials never stand here; \"\" for no releases"`
	Keep       int      `yaml:"keep" is:"1..100" about:"how many versions are kept, in the store and on each server"`
	Check      Command  `yaml:"check" about:"run on each server in the directory of a new version, as the account of PHP; what it refuses is not used"`
	CheckLimit Duration `yaml:"check_limit" is:"1s..1h" about:"how long check may take"`
	Path       string   `yaml:"path" is:"request" about:"what each server's site is asked for, which must answer with 200 to 399: the new version before visitors get it, and again after that"`
	Host       string   `yaml:"host" is:"host?" about:"the name by which it is asked; \"\" for the server's address"`
	Within     Duration `yaml:"within" is:"1s..1h" about:"how long a new version may take on a server until it answers well"`
	Shared     []Shared `yaml:"shared" is:"0..32" about:"paths that all versions share, such as uploads"`
}

// Shared is a path in each version that leads to what all of them share.
type Shared struct {
	Path   string `yaml:"path" is:"below" about:"a path in each version, which has nothing there; it becomes a link"`
	Target string `yaml:"target" is:"place" about:"where it leads to, such as the path of a mount"`
}

// currentDir is where a server has the version that visitors get.
const currentDir = "{directory}/site/current"

func (w *Web) checkRelease(p *service.Problems, path string) {
	r := w.Release
	if r.Store == "" {
		return
	}
	if _, err := objects.ParseURL(r.Store); err != nil {
		p.Add(path+".release.store", "%v", err)
	}
	if w.HTTP.Port == 0 {
		p.Add(path+".http.port", "it is missing: nothing serves a release")
	}
	for key, root := range sorted(w.HTTP.roots()) {
		if root != currentDir && !strings.HasPrefix(root, currentDir+"/") {
			p.Add(path+".http."+key, "%q is not in a release; expected %s or a path below that", root, currentDir)
		}
	}
	seen := map[string]bool{}
	for i, s := range r.Shared {
		if seen[s.Path] {
			p.Add(fmt.Sprintf("%s.release.shared[%d].path", path, i), "%s is there twice", s.Path)
		}
		seen[s.Path] = true
	}
}
