package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"farmhand/internal/farm"
	"farmhand/internal/service"
	"farmhand/sidecar/internal/render"
)

// Web is the configuration of the role "web".
type Web struct {
	// Topology is the file that the proxy reads; empty for none.
	Topology string `yaml:"topology"`
	// Cluster is the name that the farm's servers have in it.
	Cluster string `yaml:"cluster"`
	// Templates are files of other programs.
	Templates []Template `yaml:"templates"`
	// Proxy is the program that is kept running.
	Proxy Proxy `yaml:"proxy"`
}

// Template is a file that is written from the membership.
type Template struct {
	Template    string           `yaml:"template"`
	Destination string           `yaml:"destination"`
	Mode        service.FileMode `yaml:"mode"`       // 0 means 0644
	Check       []string         `yaml:"check"`      // a command and its arguments; {} is the new file
	Reload      []string         `yaml:"reload"`     // a command and its arguments
	TimeLimit   service.Duration `yaml:"time_limit"` // of each; 0 means 10s
}

// Proxy is a program that is kept running.
type Proxy struct {
	Command []string `yaml:"command"` // empty for none
	// StopAfter is how long it may take to end.
	StopAfter service.Duration `yaml:"stop_after"`
}

// Membership is where the node learns who belongs to the farm.
type Membership struct {
	Source string `yaml:"source"` // file
	File   string `yaml:"file"`
}

func defaultWeb() Web {
	return Web{Topology: "/etc/farmhand/topology.json", Cluster: "main", Templates: []Template{}, Proxy: Proxy{Command: []string{}, StopAfter: duration("1m")}}
}

func defaultMembership() Membership {
	return Membership{Source: "file", File: "/etc/farmhand/membership.yaml"}
}

func (w Web) validate(path string) service.Problems {
	var p service.Problems
	if w.Topology != "" {
		absolute(&p, path+".topology", w.Topology)
	}
	if err := farm.CheckName(w.Cluster); err != nil {
		p.Add(path+".cluster", "%v", err)
	}
	destinations := map[string]bool{filepath.Clean(w.Topology): true}
	for i, t := range w.Templates {
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
		if t.TimeLimit != 0 {
			p.DurationBetween(path+".time_limit", t.TimeLimit, duration("10ms"), duration("10m"))
		}
	}
	command(&p, path+".proxy.command", w.Proxy.Command)
	p.DurationBetween(path+".proxy.stop_after", w.Proxy.StopAfter, duration("1s"), duration("24h"))
	return p
}

func (m Membership) validate(path string) service.Problems {
	var p service.Problems
	p.OneOf(path+".source", m.Source, "file")
	if m.Source == "file" {
		absolute(&p, path+".file", m.File)
	}
	return p
}

// command wants a program by its path: there is no shell to look for it.
func command(p *service.Problems, path string, args []string) {
	if len(args) > 0 && !filepath.IsAbs(args[0]) {
		p.Add(path, "%q is not the absolute path of a program; it is run without a shell", args[0])
	}
}
