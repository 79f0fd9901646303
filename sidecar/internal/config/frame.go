package config

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"farmhand/internal/farm"
	"farmhand/internal/service"
	"farmhand/sidecar/internal/render"
)

// Frame is what every role but "mysql" can be told: files that follow the membership,
// programs that are kept running, and how to see whether the node is well.
type Frame struct {
	// Directory is made for the role's files; empty for none.
	Directory string `yaml:"directory"`
	// Templates are files of other programs.
	Templates []Template `yaml:"templates"`
	// Programs are kept running, beside the role's own.
	Programs []Program `yaml:"programs"`
	// Mounts are directories of other roles' nodes that this one uses.
	Mounts []Mount `yaml:"mounts"`
	// Health is what must succeed for the node to be well.
	Health []Health `yaml:"health"`
	// Drain is a command for when the node begins to leave the farm; once it has succeeded,
	// nobody uses the node any more. Empty for none.
	Drain []string `yaml:"drain"`
	// DrainLimit is how long the command may take.
	DrainLimit service.Duration `yaml:"drain_limit"`
}

// Template is a file that is written from the membership.
type Template struct {
	Template    string           `yaml:"template"`
	Destination string           `yaml:"destination"`
	Mode        service.FileMode `yaml:"mode"`   // 0 means 0644
	Check       []string         `yaml:"check"`  // a command and its arguments; {} is the new file
	Reload      []string         `yaml:"reload"` // a command and its arguments
	// Program is the name of one of Programs, which gets its reload signal after a change.
	Program   string           `yaml:"program"`
	TimeLimit service.Duration `yaml:"time_limit"` // of each; 0 means 10s
}

// Program is one that is kept running: started again when it ends.
type Program struct {
	Name string `yaml:"name"`
	// Command is the program and its arguments. A name without a / is looked for in PATH
	// and the usual directories.
	Command []string `yaml:"command"`
	// RunAs is a system account; empty for the sidecar's own.
	RunAs string `yaml:"run_as"`
	// Environment is all of it, beyond PATH and LANG.
	Environment map[string]string `yaml:"environment"`
	// StopSignal ends it in order, ReloadSignal has it read its files anew: names without
	// SIG; empty means TERM and HUP.
	StopSignal   string `yaml:"stop_signal"`
	ReloadSignal string `yaml:"reload_signal"`
	// StopAfter is how long it may take to end; 0 means 30s.
	StopAfter service.Duration `yaml:"stop_after"`
}

// Health is one way to see whether the node is well: HTTP, TCP or Command.
type Health struct {
	HTTP    string   `yaml:"http"` // a URL that must answer with 200 to 399
	TCP     string   `yaml:"tcp"`  // host:port
	Command []string `yaml:"command"`
	// Interval is between two tries; 0 means 5s. TimeLimit is of one; 0 means 2s.
	Interval  service.Duration `yaml:"interval"`
	TimeLimit service.Duration `yaml:"time_limit"`
	// Failures in a row make it unwell, Successes well again; 0 means 3 and 2.
	Failures  int `yaml:"failures"`
	Successes int `yaml:"successes"`
}

// Base is the configuration of the role "base".
type Base struct {
	Frame `yaml:",inline"`
}

func defaultFrame() Frame {
	return Frame{Templates: []Template{}, Programs: []Program{}, Mounts: []Mount{}, Health: []Health{}, Drain: []string{}, DrainLimit: duration("1m")}
}

// Frame is the configuration's of its role; nil for the role "mysql".
func (c *Config) Frame() *Frame {
	switch c.Role {
	case "web":
		return &c.Web.Frame
	case "base":
		return &c.Base.Frame
	case "lb":
		return &c.LB.Frame
	case "memcached":
		return &c.Memcached.Frame
	case "worker":
		return &c.Worker.Frame
	case "storage":
		return &c.Storage.Frame
	}
	return nil
}

// validate says what is wrong with the frame at path; written are files that the role
// writes itself, taken the names of its own programs.
func (f Frame) validate(path string, written, taken []string) service.Problems {
	var p service.Problems
	programs := map[string]bool{}
	for i, program := range f.Programs {
		at := fmt.Sprintf("%s.programs[%d]", path, i)
		program.validate(&p, at)
		if programs[program.Name] || slices.Contains(taken, program.Name) {
			p.Add(at+".name", "there is a program %s already", program.Name)
		}
		programs[program.Name] = true
	}
	paths := map[string]bool{}
	for i, m := range f.Mounts {
		at := fmt.Sprintf("%s.mounts[%d]", path, i)
		m.validate(&p, at)
		door, client := m.Programs()
		if programs[door] || programs[client] {
			p.Add(at+".storage", "it is mounted already, or there is a program %s or %s", door, client)
		}
		if clean := filepath.Clean(m.Path); paths[clean] {
			p.Add(at+".path", "another storage is mounted at %s", m.Path)
		} else {
			paths[clean] = true
		}
		programs[door], programs[client] = true, true
	}
	if len(f.Mounts) > 0 {
		absolute(&p, path+".directory", f.Directory)
	}
	destinations := map[string]bool{}
	for _, file := range written {
		destinations[filepath.Clean(file)] = true
	}
	for i, t := range f.Templates {
		path := fmt.Sprintf("%s.templates[%d]", path, i)
		absolute(&p, path+".template", t.Template)
		absolute(&p, path+".destination", t.Destination)
		if clean := filepath.Clean(t.Destination); destinations[clean] {
			p.Add(path+".destination", "%s is written already", t.Destination)
		} else {
			destinations[clean] = true
		}
		command(&p, path+".check", t.Check)
		if len(t.Check) > 0 && !slices.ContainsFunc(t.Check[1:], func(arg string) bool { return strings.Contains(arg, render.NewFile) }) {
			p.Add(path+".check", "no argument has %s in it, for the path of the new file", render.NewFile)
		}
		command(&p, path+".reload", t.Reload)
		if t.Program != "" && !slices.ContainsFunc(f.Programs, func(v Program) bool { return v.Name == t.Program }) {
			p.Add(path+".program", "there is no program %q", t.Program)
		}
		if t.TimeLimit != 0 {
			p.DurationBetween(path+".time_limit", t.TimeLimit, duration("10ms"), duration("10m"))
		}
	}
	for i, h := range f.Health {
		h.validate(&p, fmt.Sprintf("%s.health[%d]", path, i))
	}
	if f.Directory != "" {
		absolute(&p, path+".directory", f.Directory)
	}
	command(&p, path+".drain", f.Drain)
	p.DurationBetween(path+".drain_limit", f.DrainLimit, 0, duration("24h"))
	return p
}

func (v Program) validate(p *service.Problems, path string) {
	if err := farm.CheckName(v.Name); err != nil {
		p.Add(path+".name", "%v", err)
	}
	if len(v.Command) == 0 || v.Command[0] == "" {
		p.Add(path+".command", "it is missing or empty")
	}
	for key, name := range map[string]string{"stop_signal": v.StopSignal, "reload_signal": v.ReloadSignal} {
		if name != "" && unix.SignalNum("SIG"+name) == 0 {
			p.Add(path+"."+key, "%q is not the name of a signal; expected one such as TERM", name)
		}
	}
	p.DurationBetween(path+".stop_after", v.StopAfter, 0, duration("24h"))
}

func (h Health) validate(p *service.Problems, path string) {
	ways := 0
	for _, given := range []bool{h.HTTP != "", h.TCP != "", len(h.Command) > 0} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		p.Add(path, "expected one of http, tcp and command")
	}
	if u, err := url.Parse(h.HTTP); h.HTTP != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil) {
		p.Add(path+".http", "%q is not a URL; expected one such as http://127.0.0.1:8080/health", h.HTTP)
	}
	if h.TCP != "" {
		if err := farm.CheckAddress(h.TCP); err != nil || strings.HasPrefix(h.TCP, "/") {
			p.Add(path+".tcp", "%q is not a host:port", h.TCP)
		}
	}
	command(p, path+".command", h.Command)
	p.DurationBetween(path+".interval", h.Interval, 0, duration("1h"))
	p.DurationBetween(path+".time_limit", h.TimeLimit, 0, duration("10m"))
	p.Between(path+".failures", h.Failures, 0, 100)
	p.Between(path+".successes", h.Successes, 0, 100)
}

// command is about a program that is given by its path, or by a name that is looked for.
func command(p *service.Problems, path string, args []string) {
	if len(args) > 0 && (args[0] == "" || strings.Contains(args[0], "/") && !filepath.IsAbs(args[0])) {
		p.Add(path, "%q is not the absolute path of a program, or its name; it is run without a shell", args[0])
	}
}
