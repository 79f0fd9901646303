package farmfile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"farmhand/internal/service"
)

// Consistency is what a read through the proxy sees at least; the proxy's
// configuration says more of it.
type Consistency string

func (Consistency) choices() []string { return []string{"eventual", "session", "farm", "strict"} }

// Web is web nodes: what their sidecars keep running and up to date.
type Web struct {
	Database  string     `yaml:"database" is:"label" about:"the role that the proxy connects to"`
	Proxy     Proxy      `yaml:"proxy" about:"the proxy's settings; docs/proxy.example.yaml explains them"`
	Templates []Template `yaml:"templates" is:"0..64" about:"files that are written anew when the farm changes"`
}

// Proxy is the settings of the proxy that a farm's owner may want to set. They
// mean what the keys of the proxy's own configuration mean.
type Proxy struct {
	TCP          string      `yaml:"tcp" is:"listen?" about:"the address that PHP connects to; \"\" for none"`
	Unix         string      `yaml:"unix" is:"path?" about:"the socket that PHP connects to; \"\" for none"`
	Admin        string      `yaml:"admin" is:"listen?" about:"where the proxy shows its metrics; \"\" for nowhere"`
	Consistency  Consistency `yaml:"consistency" about:"what a read sees at least"`
	MaxLag       Duration    `yaml:"max_lag" is:"0..720h" about:"how far a replica may be behind and serve reads"`
	MaxPerServer int         `yaml:"max_per_server" is:"0..100000" about:"the most connections to each server; 0 for no limit"`
}

// Template is a file that is made from the farm's members.
type Template struct {
	Source      string   `yaml:"source" is:"path" about:"the template that the file is made from"`
	Destination string   `yaml:"destination" is:"path" about:"the file that is made"`
	Mode        FileMode `yaml:"mode" about:"the permissions of the destination"`
	Check       Command  `yaml:"check" about:"must succeed before the file takes its place; {file} is the new file"`
	Reload      Command  `yaml:"reload" about:"run after the file has changed"`
	TimeLimit   Duration `yaml:"time_limit" is:"1s..10m" about:"how long check and reload may take each"`
}

// fileWord stands for the new file in the command that checks it.
const fileWord = "{file}"

func checkWeb(p *service.Problems, path string, r *Role, f *Farm) {
	path += ".parameters"
	w := r.Parameters.Web
	if role, ok := f.Roles[w.Database]; !ok || role.Kind != MySQLKind {
		p.Add(path+".database", "there is no role %q of kind mysql", w.Database)
	}
	if w.Proxy.TCP == "" && w.Proxy.Unix == "" {
		p.Add(path+".proxy", "the proxy listens nowhere; expected tcp, unix or both")
	}
	if w.Proxy.TCP != "" && w.Proxy.TCP == w.Proxy.Admin {
		p.Add(path+".proxy.admin", "%s is where clients connect, as tcp says", w.Proxy.Admin)
	}
	seen := map[string]int{}
	for i, t := range w.Templates {
		at := fmt.Sprintf("%s.templates[%d]", path, i)
		if first, twice := seen[t.Destination]; twice {
			p.Add(at+".destination", "templates[%d] writes %s already", first, t.Destination)
		} else {
			seen[t.Destination] = i
		}
		if t.Source != "" && t.Source == t.Destination {
			p.Add(at+".destination", "a template does not overwrite itself")
		}
		hasFile := func(word string) bool { return strings.Contains(word, fileWord) }
		if len(t.Check) > 0 && !slices.ContainsFunc(t.Check, hasFile) {
			p.Add(at+".check", "expected %s among its words: it is the new file that is to be checked", fileWord)
		}
	}
}

// UnmarshalYAML reads the template over the defaults.
func (t *Template) UnmarshalYAML(n ast.Node) error {
	template := defaults().template
	type plain Template // without this method
	if err := over(n, (*plain)(&template)); err != nil {
		return err
	}
	*t = Template(template)
	return nil
}
