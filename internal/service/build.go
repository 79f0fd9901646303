package service

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Build is which build of a program runs.
type Build struct {
	Program  string
	Version  string // the module's version, (devel) for a build from a work tree
	Revision string // of the version control system; empty if not built from one
	Modified bool   // the work tree had changes on top of the revision
	Go       string // the version of the Go release
}

// ReadBuild returns what the linker noted about this binary.
func ReadBuild(program string) Build {
	b := Build{Program: program, Version: "(devel)", Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			b.Revision = setting.Value
		case "vcs.modified":
			b.Modified = setting.Value == "true"
		}
	}
	return b
}

// String returns the build as a --version flag shows it.
func (b Build) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s %s", b.Program, b.Version)
	if b.Revision != "" {
		fmt.Fprintf(&s, ", revision %.12s", b.Revision)
	}
	if b.Modified {
		s.WriteString(" with changes")
	}
	fmt.Fprintf(&s, ", %s", b.Go)
	return s.String()
}

// NewRegistry returns a registry of metrics that has those of the Go runtime, of
// the process and of the build already.
func NewRegistry(b Build) *prometheus.Registry {
	r := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "farmhand_build_info",
		Help: "Always 1; its labels say which build runs.",
		ConstLabels: prometheus.Labels{
			"program": b.Program, "version": b.Version, "revision": b.Revision, "goversion": b.Go,
		},
	})
	info.Set(1)
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		info,
	)
	return r
}
