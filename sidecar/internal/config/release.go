package config

import (
	"path/filepath"
	"strconv"
	"strings"

	"farmhand/internal/objects"
	"farmhand/internal/service"
)

// Release is how a web node gets its site's code: as releases that the farm rolls out, which are in the
// directory site below the role's own.
type Release struct {
	// Store is where the releases are, as backups.store has it; empty for none.
	Store string `yaml:"store"`
	// Keep is how many releases stay on the node.
	Keep int `yaml:"keep"`
	// Check is a command and its arguments that is run in a new release's directory; empty for none.
	Check []string `yaml:"check"`
	// CheckLimit is how long it may take.
	CheckLimit service.Duration `yaml:"check_limit"`
	// Path is what the site is asked for to see whether a release is good, Host the name that it is asked by; empty
	// for the address.
	Path string `yaml:"path"`
	Host string `yaml:"host"`
	// Within is how long a new release may take until it answers well.
	Within service.Duration `yaml:"within"`
	// Shared are paths in each release that lead to what all releases share.
	Shared []Shared `yaml:"shared"`
}

// Shared is a path in each release that leads somewhere else.
type Shared struct {
	Path   string `yaml:"path"`   // below the release
	Target string `yaml:"target"` // an absolute path
}

func defaultRelease() Release {
	return Release{Keep: 5, Check: []string{}, CheckLimit: duration("1m"), Path: "/", Within: duration("30s"), Shared: []Shared{}}
}

// SiteDir is the directory with the releases, below the role's.
func (w Web) SiteDir() string { return filepath.Join(w.Directory, "site") }

// CurrentDir is what leads to the release that visitors get.
func (w Web) CurrentDir() string { return filepath.Join(w.SiteDir(), "current") }

// NextDir is what leads to the release that is tried.
func (w Web) NextDir() string { return filepath.Join(w.SiteDir(), "next") }

func (w Web) validateRelease(p *service.Problems, path string) {
	r := w.Release
	if r.Store == "" {
		return
	}
	if _, err := objects.ParseURL(r.Store); err != nil {
		p.Add(path+".release.store", "%v", err)
	}
	if w.HTTP.Listen == "" {
		p.Add(path+".http.listen", "it is missing: nothing serves a release")
		return
	}
	for at, root := range w.HTTP.roots() {
		if root != w.CurrentDir() && !strings.HasPrefix(root, w.CurrentDir()+"/") {
			p.Add(path+".http."+at, "%s is not below %s, where releases are", root, w.CurrentDir())
		}
	}
	p.Between(path+".release.keep", r.Keep, 1, 100)
	command(p, path+".release.check", r.Check)
	p.DurationBetween(path+".release.check_limit", r.CheckLimit, duration("1s"), duration("1h"))
	absolute(p, path+".release.path", r.Path)
	p.DurationBetween(path+".release.within", r.Within, duration("1s"), duration("1h"))
	for i, s := range r.Shared {
		at := path + ".release.shared[" + strconv.Itoa(i) + "]"
		if !filepath.IsLocal(s.Path) || filepath.Clean(s.Path) == "." {
			p.Add(at+".path", "%q is not a path below the release", s.Path)
		}
		absolute(p, at+".target", s.Target)
	}
}
