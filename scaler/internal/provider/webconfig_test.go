package provider_test

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"farmhand/internal/farmtest"
	"farmhand/scaler/internal/provider"
)

// TestAWebNodeTakesWhatItServes while it runs: sites, releases and the mail relay; where and by which programs it
// serves stays what it was. What comes out is what a sidecar takes.
func TestAWebNodeTakesWhatItServes(t *testing.T) {
	was := farmOf(t, "  db: {kind: mysql}\n  web: {kind: web, parameters: {http: {port: 8081, document_root: /srv/a}, release: {path: /x}}}\n")
	now := farmOf(t, `
  db: {kind: mysql}
  web:
    kind: web
    parameters:
      http:
        port: 8082
        nginx: other
        time_limit: 7s
        php: {settings: {date.timezone: Europe/Berlin}, program: other-fpm}
        sites: {shop: {names: [shop.example, "*.shop.example"], document_root: "{directory}/site/current/shop", settings: {memory_limit: 256M}}}
      release: {store: /srv/releases, path: /health, host: shop.example, check: [php, -v], shared: [{path: up, target: "{directory}/up"}]}
      mail: {relay: "smtp.example:587", user: site, password_file: /x}
`)
	dir := t.TempDir()
	password := filepath.Join(dir, "mail.password")
	if err := os.WriteFile(password, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	now.Roles["web"].Parameters.Web.Mail.PasswordFile = password
	site := provider.Site{
		Address: netip.MustParseAddr("127.0.0.9"), State: dir, Node: dir, Work: filepath.Join(dir, "work"), Token: filepath.Join(dir, "token"),
		Secret: func(string) string { return password }, ProxyProgram: "/bin/true", ProxyFile: filepath.Join(dir, "proxy.yaml"),
		Topology: filepath.Join(dir, "topology.json"), Listen: "127.0.0.1:3306", Admin: "127.0.0.1:9104",
	}
	spec := &provider.Spec{Name: "web1", RoleName: "web", Cluster: "db", Role: was.Roles["web"]}
	config, err := spec.Sidecar(site)
	if err != nil {
		t.Fatal(err)
	}
	if text := written(t, config); strings.Contains(text, "release:") || strings.Contains(text, "mail:") {
		t.Errorf("it has what it is not to have:\n%s", text)
	}
	var read map[string]any // as from its file
	if err := yaml.Unmarshal([]byte(written(t, config)), &read); err != nil {
		t.Fatal(err)
	}
	spec.Role = now.Roles["web"]
	if err := spec.Reconfigure(read, site); err != nil {
		t.Fatal(err)
	}
	text := written(t, read)
	for _, has := range []string{
		"listen: 127.0.0.9:8081", "nginx: nginx", "time_limit: 7s", "date.timezone: Europe/Berlin", "document_root: " + dir + "/work/site/current/shop",
		"memory_limit: 256M", "store: /srv/releases", "target: " + dir + "/work/up", "relay: smtp.example:587",
	} {
		if !strings.Contains(text, has) {
			t.Errorf("it lacks %s:\n%s", has, text)
		}
	}
	for _, hasNot := range []string{":8082", "nginx: other", "other-fpm", "/srv/a"} {
		if strings.Contains(text, hasNot) {
			t.Errorf("it has %s:\n%s", hasNot, text)
		}
	}
	for _, c := range configuration(t, was.Roles["web"]).Changes(configuration(t, now.Roles["web"])) {
		if stays := c.Key == "parameters.http.port" || c.Key == "parameters.http.nginx" || c.Key == "parameters.http.php.program"; c.Live == stays {
			t.Errorf("%v: live is %v", c, c.Live)
		}
	}
	// One that serves nothing yet begins with that only as another instance.
	spec.Role = farmOf(t, "  db: {kind: mysql}\n  web: {kind: web}\n").Roles["web"]
	if config, err = spec.Sidecar(site); err != nil {
		t.Fatal(err)
	}
	spec.Role = now.Roles["web"]
	if err := spec.Reconfigure(config, site); err != nil {
		t.Fatal(err)
	}
	if text := written(t, config); strings.Contains(text, "release:") || strings.Contains(text, "mail:") || strings.Contains(text, "http:") {
		t.Errorf("it has what it is not to have yet:\n%s", text)
	}
	if err := farmtest.Build(dir, "sidecar"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "sidecar.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(filepath.Join(dir, "sidecar"), "check", file).CombinedOutput(); err != nil {
		t.Errorf("the sidecar does not take it: %v\n%s", err, out)
	}
}

func written(t *testing.T, config map[string]any) string {
	t.Helper()
	text, err := yaml.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
