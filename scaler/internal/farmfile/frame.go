package farmfile

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"syscall"

	"github.com/goccy/go-yaml/ast"
	"golang.org/x/sys/unix"

	"farmhand/internal/service"
)

// Frame is what every kind of role but mysql can be told: files that follow the
// farm, programs that are kept running, and how to see whether a server is well.
//
// In its words {name}, {role}, {address}, {slot} and {directory} stand for the
// server's own: see docs/ROLES.md.
type Frame struct {
	Templates    []Template         `yaml:"templates" is:"0..64" about:"files that are written anew when the farm changes"`
	Programs     map[string]Program `yaml:"programs" is:"0..16" keys:"label" about:"programs that are kept running, by name"`
	Mounts       []Mount            `yaml:"mounts" is:"0..8" about:"directories of roles of kind storage that are mounted on each server"`
	Health       []Health           `yaml:"health" is:"0..16" about:"what must succeed for a server to be well"`
	ReplaceAfter Duration           `yaml:"replace_after" is:"10s..720h" about:"how long a server that was ready may be unwell before another takes its place; one of the role at a time"`
	Drain        Command            `yaml:"drain" about:"run on a server when it begins to leave; it is empty when this has succeeded"`
	DrainLimit   Duration           `yaml:"drain_limit" is:"0..24h" about:"how long a server that leaves is waited for until nobody uses it any more"`
}

// Program is one that is kept running: it is started again when it ends.
type Program struct {
	Command      Command     `yaml:"command" about:"the program, which stays in the foreground; without a / it is looked for in the usual directories"`
	RunAs        string      `yaml:"run_as" is:"text?" about:"the system account that it runs as; \"\" for the sidecar's own"`
	Environment  Environment `yaml:"environment" about:"its environment, beyond PATH and LANG"`
	StopSignal   Signal      `yaml:"stop_signal" about:"the signal at which it ends in order"`
	StopAfter    Duration    `yaml:"stop_after" is:"1s..24h" about:"how long it may take to end before it is killed"`
	ReloadSignal Signal      `yaml:"reload_signal" about:"the signal at which it reads its files anew"`
}

// Environment is a program's, by the variables' names.
type Environment map[string]string

// UnmarshalYAML reads names and texts.
func (e *Environment) UnmarshalYAML(n ast.Node) error {
	values := map[string]string{}
	if err := over(n, &values); err != nil {
		return err
	}
	for name, value := range values {
		if !matches(`^[A-Za-z_][A-Za-z0-9_]{0,99}$`, name) || !matches(listedPattern, value) {
			return service.ErrorAt(n, "%q is not possible; expected a name of letters, digits and _, and a text of at most %d characters without control characters", name, maxWord)
		}
	}
	if len(values) > maxWords {
		return service.ErrorAt(n, "expected at most %d variables", maxWords)
	}
	*e = values
	return nil
}

// Signal is a signal's name without SIG.
type Signal string

func (Signal) choices() []string {
	return []string{"TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "WINCH"}
}

// Number is the signal.
func (s Signal) Number() syscall.Signal { return unix.SignalNum("SIG" + string(s)) }

// Health is one way to see whether a server is well. Exactly one of HTTP, TCP and
// Command is given.
type Health struct {
	HTTP      string   `yaml:"http" is:"text?" about:"a URL that must answer with 200 to 399, such as http://{address}:8080/health"`
	TCP       string   `yaml:"tcp" is:"text?" about:"a host:port that must take a connection, such as {address}:11211"`
	Command   Command  `yaml:"command" about:"a program that must end with 0"`
	Interval  Duration `yaml:"interval" is:"100ms..1h" about:"the time between two tries"`
	TimeLimit Duration `yaml:"time_limit" is:"10ms..10m" about:"how long one may take"`
	Failures  int      `yaml:"failures" is:"1..100" about:"tries in a row that fail before the server is unwell"`
	Successes int      `yaml:"successes" is:"1..100" about:"tries in a row that succeed before it is well again"`
}

// Template is a file that is made from the farm's members.
type Template struct {
	Source      string   `yaml:"source" is:"path" about:"the template that the file is made from"`
	Destination string   `yaml:"destination" is:"place" about:"the file that is made"`
	Mode        FileMode `yaml:"mode" about:"the permissions of the destination"`
	Check       Command  `yaml:"check" about:"must succeed before the file takes its place; {file} is the new file"`
	Reload      Command  `yaml:"reload" about:"run after the file has changed"`
	Program     string   `yaml:"program" is:"label?" about:"one of programs, which gets its reload_signal after the file has changed"`
	TimeLimit   Duration `yaml:"time_limit" is:"1s..10m" about:"how long check and reload may take each"`
}

// fileWord stands for the new file in the command that checks it.
const fileWord = "{file}"

// Frame is what the kind has in common with others; nil for mysql.
func (p *Parameters) Frame() *Frame {
	switch {
	case p.Web != nil:
		return &p.Web.Frame
	case p.Base != nil:
		return &p.Base.Frame
	case p.LB != nil:
		return &p.LB.Frame
	case p.Memcached != nil:
		return &p.Memcached.Frame
	case p.Worker != nil:
		return &p.Worker.Frame
	case p.StorageServer != nil:
		return &p.StorageServer.Frame
	}
	return nil
}

// Frame is what the role's kind has in common with others; nil for mysql.
func (r *Role) Frame() *Frame { return r.Parameters.Frame() }

// defaultFrame is what a role has that says nothing.
func defaultFrame(replace, drain Duration) Frame {
	return Frame{Templates: []Template{}, Programs: map[string]Program{}, Mounts: []Mount{}, Health: []Health{}, ReplaceAfter: replace, Drain: Command{}, DrainLimit: drain}
}

// check says what is wrong with the frame at path, some of whose programs' names the
// kind itself uses.
func (v *Frame) check(p *service.Problems, path string, taken ...string) {
	v.checkTemplates(p, path)
	for name, program := range sorted(v.Programs) {
		at := path + ".programs." + name
		if slices.Contains(taken, name) {
			p.Add(at, "a role of this kind has a program %s of its own", name)
		}
		if len(program.Command) == 0 {
			p.Add(at+".command", "it is missing or empty; expected a program that stays in the foreground")
		}
	}
	for i, h := range v.Health {
		h.check(p, fmt.Sprintf("%s.health[%d]", path, i))
	}
}

func (h *Health) check(p *service.Problems, path string) {
	ways := 0
	for _, given := range []bool{h.HTTP != "", h.TCP != "", len(h.Command) > 0} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		p.Add(path, "expected one of http, tcp and command")
	}
	if u, err := url.Parse(plainWords(h.HTTP)); h.HTTP != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil) {
		p.Add(path+".http", "%q is not a URL; expected one such as http://{address}:8080/health", h.HTTP)
	}
	if pattern, expected := form("listen"); h.TCP != "" && !matches(pattern, plainWords(h.TCP)) {
		p.Add(path+".tcp", "%q is not possible; expected %s", h.TCP, expected)
	}
}

// plainWords is text with something that is possible in the place of the words.
func plainWords(text string) string {
	return strings.NewReplacer("{name}", "x", "{role}", "x", "{address}", "127.0.0.1", "{slot}", "1", "{directory}", "/x").Replace(text)
}

func (v *Frame) checkTemplates(p *service.Problems, path string) {
	seen := map[string]int{}
	for i, t := range v.Templates {
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
		if _, ok := v.Programs[t.Program]; t.Program != "" && !ok {
			p.Add(at+".program", "there is no program %q; there are %v", t.Program, slices.Sorted(maps.Keys(v.Programs)))
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

// UnmarshalYAML reads the program over the defaults.
func (v *Program) UnmarshalYAML(n ast.Node) error {
	program := defaults().program
	type plain Program // without this method
	if err := over(n, (*plain)(&program)); err != nil {
		return err
	}
	*v = Program(program)
	return nil
}

// UnmarshalYAML reads the check over the defaults.
func (h *Health) UnmarshalYAML(n ast.Node) error {
	health := defaults().health
	type plain Health // without this method
	if err := over(n, (*plain)(&health)); err != nil {
		return err
	}
	*h = Health(health)
	return nil
}
