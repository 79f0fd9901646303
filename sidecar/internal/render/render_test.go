package render_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"farmhand/sidecar/internal/membership"
	"farmhand/sidecar/internal/render"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return string(data)
}

var farm = membership.Snapshot{Epoch: 7, Hosts: []membership.Host{
	{Name: "cache1", Role: "memcached", Address: "10.0.2.1:11211", State: membership.Up},
	{Name: "cache2", Role: "memcached", Address: "10.0.2.2:11211", State: membership.Up},
	{Name: "cache3", Role: "memcached", Address: "10.0.2.3:11211", State: membership.Down},
	{Name: "db1", Role: "primary", Address: "10.0.0.1:3306", State: membership.Up},
	{Name: "db2", Role: "replica", Address: "10.0.0.2:3306", State: membership.Up},
}}

func newTemplate(t *testing.T, text string) (template render.Template, dir string) {
	t.Helper()
	dir = t.TempDir()
	path := filepath.Join(dir, "t.tmpl")
	must(t, os.WriteFile(path, []byte(text), 0o644))
	return render.Template{Source: path, Destination: filepath.Join(dir, "out.conf"), Mode: 0o640, Limit: 20 * time.Second}, dir
}

func TestRender(t *testing.T) {
	template, _ := newTemplate(t, `; for {{.Node}}, epoch {{.Epoch}}
session.save_path = "{{range $i, $h := up "memcached"}}{{if $i}},{{end}}{{$h.Address}}{{end}}"
{{with .Primary}}primary {{host .Address}} {{port .Address}}{{end}}
{{range .Roles.replica}}{{.Name}}{{end}} {{len .Hosts}} {{len (up "nobody")}}
`)
	got, err := template.Render(render.NewView("web1", farm))
	must(t, err)
	if want := `; for web1, epoch 7
session.save_path = "10.0.2.1:11211,10.0.2.2:11211"
primary 10.0.0.1 3306
db2 5 0
`; string(got) != want {
		t.Errorf("got %s", got)
	}
}

func TestStrict(t *testing.T) {
	for text, want := range map[string]string{
		"{{.Roles.nobody}}": "map has no entry for key",
		"{{.Colour}}":       "can't evaluate field Colour",
		"{{colour}}":        `function "colour" not defined`,
		"{{if}}":            "missing value for if",
		"{{range up \"memcached\"}}{{.Colour}}{{end}}": "can't evaluate field Colour",
		`{{port "nowhere"}}`:                           "missing port",
		`{{range 1000000000}}xxxxxxxxxx{{end}}`:        "larger than",
	} {
		template, dir := newTemplate(t, text)
		must(t, os.WriteFile(template.Destination, []byte("old"), 0o644))
		if _, err := template.Apply(t.Context(), render.NewView("web1", farm), dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %s", text, err, want)
		}
		if got := read(t, template.Destination); got != "old" {
			t.Errorf("%s: the file has %q", text, got)
		}
	}
}

func TestApplyOnlyIfChanged(t *testing.T) {
	template, dir := newTemplate(t, "epoch {{.Epoch}}\n")
	template.Check = []string{"/bin/sh", "-c", `cat "$1" >>` + dir + `/checked`, "check", render.NewFile}
	template.Reload = []string{"/bin/sh", "-c", "cat " + template.Destination + " >>" + dir + "/reloaded"}
	apply := func(wantChanged bool) {
		t.Helper()
		if changed, err := template.Apply(t.Context(), render.NewView("web1", farm), dir); changed != wantChanged || err != nil {
			t.Errorf("changed: %v, %v", changed, err)
		}
	}
	apply(true)
	apply(false)
	if info, err := os.Stat(template.Destination); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	must(t, os.WriteFile(template.Destination, []byte("by hand"), 0o644))
	apply(true)
	const want = "epoch 7\nepoch 7\n"
	if checked, reloaded := read(t, dir+"/checked"), read(t, dir+"/reloaded"); checked != want || reloaded != want {
		t.Errorf("checked %q, reloaded %q", checked, reloaded)
	}
}

func TestCheckThatFailsKeepsTheOldFile(t *testing.T) {
	template, dir := newTemplate(t, "new\n")
	must(t, os.WriteFile(template.Destination, []byte("old"), 0o644))
	template.Reload = []string{"/bin/sh", "-c", "touch " + dir + "/reloaded"}
	for _, check := range []string{"echo line 1 is bad >&2; exit 1", "sleep 1000"} {
		template.Check = []string{"/bin/sh", "-c", check, render.NewFile}
		template.Limit = 100 * time.Millisecond
		_, err := template.Apply(t.Context(), render.NewView("web1", farm), dir)
		if err == nil || !strings.Contains(err.Error(), "the old one stays") || strings.Contains(check, "bad") && !strings.Contains(err.Error(), "line 1 is bad") {
			t.Errorf("got %v", err)
		}
		if got := read(t, template.Destination); got != "old" {
			t.Errorf("the file has %q", got)
		}
	}
	must(t, os.WriteFile(dir+"/secret", []byte("hunter2hunter2"), 0o600))
	template.Check = []string{"/bin/sh", "-c", "cat " + dir + "/secret; exit 1", render.NewFile}
	for _, secrets := range []string{dir + "/secret", dir + "/gone"} {
		template.Secrets = []string{secrets}
		if _, err := template.Apply(t.Context(), render.NewView("web1", farm), dir); err == nil || strings.Contains(err.Error(), "hunter") {
			t.Errorf("with %s: %v", secrets, err)
		}
	}
	must(t, os.Remove(dir+"/secret"))
	left, err := os.ReadDir(dir)
	must(t, err)
	if len(left) != 2 { // the template and the old file
		t.Errorf("left: %v", left)
	}
}

// TestReloadThatFailsIsDue: also for the next process.
func TestReloadThatFailsIsDue(t *testing.T) {
	template, dir := newTemplate(t, "new\n")
	template.Reload = []string{"/bin/sh", "-c", "[ -e " + dir + "/go ] && echo >>" + dir + "/reloaded"}
	view := render.NewView("web1", farm)
	for range 2 {
		if _, err := template.Apply(t.Context(), view, dir); err == nil || !strings.Contains(err.Error(), "the reload failed") {
			t.Errorf("got %v", err)
		}
	}
	must(t, os.WriteFile(dir+"/go", nil, 0o644))
	for range 2 {
		if changed, err := template.Apply(t.Context(), view, dir); changed || err != nil {
			t.Errorf("changed: %v, %v", changed, err)
		}
	}
	if got := read(t, dir+"/reloaded"); got != "\n" {
		t.Errorf("reloaded %q", got)
	}
}

// TestTemplateOfTheDocumentation: it makes what it looks like.
func TestTemplateOfTheDocumentation(t *testing.T) {
	text := read(t, "../../../docs/MEMBERSHIP.md")
	_, after, ok := strings.Cut(text, "```ini\n")
	example, _, ended := strings.Cut(after, "```")
	if !ok || !ended {
		t.Fatal("there is none")
	}
	template, _ := newTemplate(t, example)
	got, err := template.Render(render.NewView("web1", farm))
	must(t, err)
	if want := "; web1's sessions\nsession.save_handler = memcached\nsession.save_path = \"10.0.2.1:11211,10.0.2.2:11211\"\n"; string(got) != want {
		t.Errorf("got %s", got)
	}
}
