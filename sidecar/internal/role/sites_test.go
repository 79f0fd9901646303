package role

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"farmhand/internal/cluster"
	"farmhand/internal/farmtest"
	"farmhand/internal/report"
	"farmhand/sidecar/internal/config"
	"farmhand/sidecar/internal/membership"
)

// TestSites: each has its names, files, processes and settings; a name that no site has gets the one without names,
// or nothing. What an operator's template has in it that nginx refuses changes nothing.
func TestSites(t *testing.T) {
	w, url, dir := newSiteWorld(t)
	h := &w.config.Web.HTTP
	h.Settings = map[string]string{"memory_limit": "64M", "date.timezone": "Europe/Berlin"}
	for name, names := range map[string][]string{"shop": {"shop.example", "*.shop.example"}, "blog": {"blog.example"}} {
		root := filepath.Join(dir, name)
		must(t, os.MkdirAll(root, 0o755))
		must(t, os.WriteFile(filepath.Join(root, "index.php"), []byte(
			"<?php echo '"+name+" ', $_SERVER['SERVER_NAME'], ' ', ini_get('memory_limit'), ' ', ini_get('date.timezone'), ' ', $_SERVER['REQUEST_URI'];"), 0o644))
		h.Sites = append(h.Sites, config.HTTPSite{Name: name, Names: names, DocumentRoot: root, FrontController: "/index.php", Children: 1, Settings: map[string]string{}})
	}
	for i := range h.Sites {
		if h.Sites[i].Name == "shop" {
			h.Sites[i].Settings["memory_limit"] = "96M"
		}
	}
	if p := w.config.Validate(); len(p) > 0 {
		t.Fatal(p)
	}
	w.start(t)
	primary := host("db1", "primary", "1", membership.Up)
	w.source <- members(7, primary)
	w.await(t, "all well", fine)
	expect := func(name, path, text string) {
		t.Helper()
		status, said, err := asked(url+path, name)
		if err != nil || status != 200 || said != text {
			t.Errorf("%s%s: %d %q, %v; expected %q", name, path, status, said, err, text)
		}
	}
	expect("shop.example", "/a", "shop shop.example 96M Europe/Berlin /a")
	expect("www.shop.example", "/", "shop www.shop.example 96M Europe/Berlin /")
	expect("blog.example", "/", "blog blog.example 64M Europe/Berlin /")
	if status, said, err := asked(url+"/", "other.example"); err != nil || status != 200 || !strings.Contains(said, " plain / ") {
		t.Errorf("other.example: %d %q, %v", status, said, err)
	}
	w.end(t)

	// One site goes, and there is none without a name any more; the template is the operator's.
	template := filepath.Join(dir, "nginx.tmpl")
	text := strings.Replace(Templates[config.NginxProgram], "server_tokens off;", "server_tokens off;\n  add_header X-Template ours;", 1)
	must(t, os.WriteFile(template, []byte(text), 0o644))
	h.NginxTemplate, h.DocumentRoot = template, ""
	h.Sites = h.Sites[:1]
	left := h.Sites[0].Names[0]
	w.start(t)
	w.source <- members(7, primary)
	w.await(t, "all well", fine)
	// nginx began with the file that it had left, and was then told of the new one.
	farmtest.Eventually(t, "nginx has read the new file", func() error {
		if status, said, err := asked(url+"/", "other.example"); err != nil || status != 404 {
			return fmt.Errorf("other.example: %d %q, %v", status, said, err)
		}
		return nil
	})
	if status, said, err := asked(url+"/", left); err != nil || status != 200 || !strings.HasPrefix(said, h.Sites[0].Name+" ") {
		t.Errorf("%s: %d %q, %v", left, status, said, err)
	}
	must(t, os.WriteFile(template, []byte(strings.Replace(text, "add_header X-Template ours;", "add_headers;", 1)), 0o644))
	before, err := os.ReadFile(filepath.Join(w.config.Web.Directory, "nginx.conf"))
	must(t, err)
	if !strings.Contains(string(before), "X-Template ours") {
		t.Error("the template is not the operator's")
	}
	w.source <- members(8, primary)
	w.await(t, "that nginx refuses it", func(r report.Report) bool { return strings.Contains(r.Detail, `unknown directive "add_headers"`) })
	after, err := os.ReadFile(filepath.Join(w.config.Web.Directory, "nginx.conf"))
	must(t, err)
	if string(after) != string(before) {
		t.Error("what nginx refuses has taken its place")
	}
	farmtest.Eventually(t, "it serves all the same", func() error {
		if status, said, err := asked(url+"/", left); err != nil || status != 200 {
			return fmt.Errorf("%d %q, %v", status, said, err)
		}
		return nil
	})
	w.end(t)
}

// TestSitesAsReleases: each site's files are in the release, and the one that is tried is asked for by a site's name.
func TestSitesAsReleases(t *testing.T) {
	w := newReleaseWorld(t)
	c := &w.config.Web
	c.HTTP.Sites = []config.HTTPSite{{Name: "shop", Names: []string{"shop.example"}, DocumentRoot: c.CurrentDir() + "/shop", FrontController: "/index.php", Children: 1}}
	c.Release.Host = "shop.example"
	if p := w.config.Validate(); len(p) > 0 {
		t.Fatal(p)
	}
	w.pack(t, "v1", map[string]string{"shop/index.php": "<?php echo 'shop v1';"})
	w.inForce("v1")
	w.start(t)
	w.source <- members(7, host("db1", "primary", "1", membership.Up))
	w.has(t, "v1")
	w.pack(t, "v2", map[string]string{"shop/index.php": "<?php http_response_code(500); echo 'shop v2';"})
	w.want("v2")
	w.says.await(t, "it refuses v2", func(r cluster.ReleaseReport) bool {
		return r.Refused == "v2" && r.Version == "v1" && strings.Contains(r.Why, "shop v2")
	})
	w.pack(t, "v3", map[string]string{"shop/index.php": "<?php echo 'shop v3';"})
	w.want("v3")
	w.has(t, "v3")
	if status, said, err := asked(w.url+"/", "shop.example"); err != nil || status != 200 || said != "shop v3" {
		t.Errorf("%d %q, %v", status, said, err)
	}
	if version, err := w.visitOnce(http.DefaultClient, "/"); err != nil || version != "v3" {
		t.Errorf("%q, %v", version, err)
	}
	w.end(t)
}
