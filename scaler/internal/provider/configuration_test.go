package provider_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"farmhand/internal/process"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
)

func farmOf(t *testing.T, roles string) *farmfile.Farm {
	t.Helper()
	f, err := farmfile.Parse("farm.yaml", []byte("name: shop\nroles:\n"+roles))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func configuration(t *testing.T, r farmfile.Role) provider.Configuration {
	t.Helper()
	c, err := provider.ConfigurationOf(r)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestChangesOfAConfiguration(t *testing.T) {
	was := farmOf(t, `
  db: {kind: mysql, storage: {keep: true}, hooks: {events: {host-up: {mode: sync}}}}
  web: {kind: web, parameters: {templates: [{source: /a, destination: /b}, {source: /c, destination: /d}]}}
`)
	now := farmOf(t, `
  db: {kind: mysql, count: 5, size: host, storage: {size: 20GiB, keep: false}, hooks: {wait: 1m, time_limit: 1m, events: {host-up: {mode: async}}},
       parameters: {buffer_pool: 256MiB, durability: lossless, available_after: 20s}}
  web: {kind: web, hooks: {directory: /h}, parameters: {proxy: {admin: "127.0.0.1:9999", max_lag: 3s}, templates: [{source: /a, destination: /b, check: [x, "{file}"]}]}}
`)
	for role, want := range map[string][]string{
		"db": {"hooks.time_limit: 30s -> 1m live", "parameters.buffer_pool: 128MiB -> 256MiB live", "storage.size: 10GiB -> 20GiB"},
		"web": {
			"hooks.directory: - -> /h live", "parameters.proxy.admin: 127.0.0.1:9104 -> 127.0.0.1:9999", "parameters.proxy.max_lag: 10s -> 3s live",
			"parameters.templates[0].check[0]: - -> x live", "parameters.templates[0].check[1]: - -> {file} live", "parameters.templates[1].destination: /d -> - live",
			"parameters.templates[1].mode: 0644 -> - live", "parameters.templates[1].source: /c -> - live", "parameters.templates[1].time_limit: 10s -> - live",
		},
	} {
		a, b := configuration(t, was.Roles[role]), configuration(t, now.Roles[role])
		var got []string
		for _, c := range a.Changes(b) {
			text := c.String()
			if c.Live {
				text += " live"
			}
			got = append(got, text)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n%s\nwant\n%s", role, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		for _, c := range a.Configured(b).Changes(b) {
			if c.Live {
				t.Errorf("after what is live was taken: %v", c)
			}
		}
		if len(a.Changes(a)) != 0 || provider.Configuration(nil).Changes(b) != nil {
			t.Error("what is not known, or the same, differs")
		}
	}
}

// TestAnInstanceIsConfiguredWhileItRuns: its sidecar takes what is live, and the rest stays
// what it was; what the sidecar has started goes on.
func TestAnInstanceIsConfiguredWhileItRuns(t *testing.T) {
	o := made(t)
	var said []string
	o.Tell = func(_, text string) { said = append(said, text) }
	l := local(t, o)
	was := farmOf(t, "  db: {kind: mysql}\n  web: {kind: web, parameters: {proxy: {unix: \"\"}}}\n")
	now := farmOf(t, `
  db: {kind: mysql, storage: {size: 20GiB}, hooks: {time_limit: 7m}, parameters: {buffer_pool: 256MiB}}
  web: {kind: web, parameters: {proxy: {unix: "", tcp: "127.0.0.1:3399", max_lag: 77s, max_per_server: 5}, templates: [{source: /a, destination: /b}]}}
`)
	stop := keep(t, l)
	defer stop()
	for name, c := range map[string]struct {
		file, has, hasNot string
	}{
		"db1": {"sidecar.yaml", "buffer_pool: 256MiB", "time_limit: 30s"}, "web1": {"sidecar.yaml", "destination: /b", "3399"},
	} {
		role := strings.TrimSuffix(name, "1")
		spec := provider.Spec{Name: name, RoleName: role, Cluster: "db", Token: "x", Role: was.Roles[role]}
		if _, err := l.Launch(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		before, watched := up(t, l, name, 0)
		left := watched.PID()
		spec.Role, spec.Token = now.Roles[role], ""
		if err := l.Configure(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		after, _ := up(t, l, name, before.PID)
		text, err := os.ReadFile(filepath.Join(l.Dir, name, c.file))
		if err != nil || !strings.Contains(string(text), c.has) || strings.Contains(string(text), c.hasNot) {
			t.Errorf("%v:\n%s", err, text)
		}
		for _, change := range after.Configuration.Changes(configuration(t, now.Roles[role])) {
			if change.Live {
				t.Errorf("%s runs with an older %v", name, change)
			}
		}
		if !maps.Equal(after.Configuration, before.Configuration.Configured(configuration(t, now.Roles[role]))) {
			t.Errorf("%s runs by %v", name, after.Configuration)
		}
		if _, err := process.Identify(left); err != nil {
			t.Errorf("what the sidecar of %s had started: %v", name, err)
		}
		// Again: nothing is to be done.
		if err := l.Configure(t.Context(), spec); err != nil {
			t.Error(err)
		}
		if again, err := l.List(t.Context()); err != nil || again[len(again)-1].Name != name || again[len(again)-1].PID != after.PID {
			t.Errorf("%+v, %v", again, err)
		}
		if err := l.Terminate(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
	if err := l.Configure(t.Context(), provider.Spec{Name: "db9", RoleName: "db", Cluster: "db", Role: was.Roles["db"]}); err == nil {
		t.Error("one that there is not was configured")
	}
	if len(said) > 0 {
		t.Errorf("a person was told: %v", said)
	}
}
