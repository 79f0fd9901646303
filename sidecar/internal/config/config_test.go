package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"farmhand/internal/service/servicetest"
)

const example = "../../../docs/sidecar.example.yaml"

// needed is what the example has beyond the defaults.
func needed(c *Config) {
	c.Role, c.Name = "mysql", "db1"
	c.MySQL.Directory, c.MySQL.Socket = "/var/lib/farmhand/db1", "/var/lib/farmhand/db1/mysql.sock"
	c.MySQL.Listen, c.MySQL.ServerID = "10.0.0.1:3306", 1
	c.MySQL.Accounts.Replication.PasswordFile = "/etc/farmhand/replication.password"
	c.MySQL.Accounts.Monitor.PasswordFile = "/etc/farmhand/monitor.password"
}

func TestExampleIsTheDefault(t *testing.T) {
	c, err := Load(example)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	needed(&want)
	if !reflect.DeepEqual(c, want) {
		t.Errorf("the example is not the default:\n got %+v\nwant %+v", c, want)
	}
}

// TestExampleMentionsEveryKey also keeps the example from losing a key: Load
// would fill in the default and see no difference.
func TestExampleMentionsEveryKey(t *testing.T) {
	servicetest.MentionsEveryKey[Config](t, example, 65)
}

// TestProblems: each is said with the path of its key.
func TestProblems(t *testing.T) {
	good, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ old, bad, want string }{
		{"name: db1", "name: 'db 1'", `name: "db 1" is not a name`},
		{"state: /var/lib/farmhand/sidecar", "state: sidecar", `state: "sidecar" is not an absolute path`},
		{"directory: \"\"\n  # A token", "directory: node\n  # A token", `farm.directory: "node" is not an absolute path`},
		{"token_file: \"\"", "token_file: /etc/token", "farm.directory: is missing"},
		{"lease: 6s", "lease: 7s", "farm.directory: is missing"},
		{"  directory: \"\"\n  # How long a hook", "  directory: hooks.d\n  # How long a hook", `hooks.directory: "hooks.d" is not an absolute path`},
		{"time_limit: 30s\n  kill_after", "time_limit: 0s\n  kill_after", "hooks.time_limit: 0s is out of bounds"},
		{"kill_after: 5s", "kill_after: 1h", "hooks.kill_after: 1h is out of bounds"},
		{"output: 16KiB", "output: 1GiB", "hooks.output: 1GiB is out of bounds"},
		{"attempts: 5", "attempts: 0", "hooks.attempts: 0 is out of bounds"},
		{"parallel: 4", "parallel: 0", "hooks.parallel: 0 is out of bounds"},
		{"journal: 4MiB", "journal: 1KiB", "hooks.journal: 1KiB is out of bounds"},
		{"secret_files: []", "secret_files: [/a, b]", `hooks.secret_files[1]: "b" is not an absolute path`},
		{"url: \"\"", "url: http://example.org/x", "hooks.webhook.url: http is for this machine only; expected https://example.org/x"},
		{"url: \"\"", "url: https://u:p@example.org/x", "hooks.webhook.url: it has a user or a password in it"},
		{"url: \"\"", "url: example.org", "hooks.webhook.url: it is not a URL"},
		{"secret_file: \"\"", "secret_file: s", `hooks.webhook.secret_file: "s" is not an absolute path`},
		{"attempts: 4", "attempts: 100", "hooks.webhook.attempts: 100 is out of bounds"},
		{"first_wait: 1s", "first_wait: 0", "hooks.webhook.first_wait: 0s is out of bounds"},
	} {
		content := strings.Replace(string(good), test.old, test.bad, 1)
		if content == string(good) {
			t.Errorf("the example has no %q", test.old)
			continue
		}
		path := filepath.Join(t.TempDir(), "sidecar.yaml")
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q:\n got %v\nwant %s", test.bad, err, test.want)
		}
	}
}

// TestWebProblems: each is said with the path of its key, and what belongs to
// another role is not looked at.
func TestWebProblems(t *testing.T) {
	load := func(content string) error {
		path := filepath.Join(t.TempDir(), "sidecar.yaml")
		if err := os.WriteFile(path, []byte("role: web\nname: web1\n"+content), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		return err
	}
	template := func(more string) string {
		return "web:\n  templates:\n    - {template: /a, destination: /b" + more + "}\n"
	}
	for _, content := range []string{
		"", "mysql: {listen: nowhere}\n", template(""), template(`, check: [/bin/check, "x={}"], reload: [/bin/true], time_limit: 1m, mode: "0600"`), "web: {topology: ''}\n",
		"membership: {source: dns, dns: {records: {primary: _mysql._tcp.farm.example.}, server: '127.0.0.1:53'}}\n",
		"membership: {source: ec2, ec2: {tags: {farm: shop}, region: eu-central-1, endpoint: 'https://vpce-1.ec2.example'}}\n",
	} {
		if err := load(content); err != nil {
			t.Errorf("%q: %v", content, err)
		}
	}
	for content, want := range map[string]string{
		"membership: {source: ec2}\n":                                                            "membership.ec2.tags: there are 0; expected 1 to 50",
		"membership: {source: ec2, ec2: {tags: {a: b}, role_tag: ''}}\n":                         `membership.ec2.tags: "" is not the name of a tag`,
		"membership: {source: ec2, ec2: {tags: {a: b}, endpoint: 'http://example.org'}}\n":       "membership.ec2.endpoint: http is for this machine only",
		"membership: {source: ec2, ec2: {tags: {a: b}, ports: {web: 70000}}}\n":                  "membership.ec2.ports.web: 70000 is out of bounds",
		"membership: {source: ec2, ec2: {tags: {a: b}, every: 1m, at_most: 30s}}\n":              "membership.ec2.at_most: 30s is out of bounds",
		"membership: {source: ec2, ec2: {tags: {a: b}, misses: -1}}\n":                           "membership.ec2.misses: -1 is out of bounds",
		"web: {topology: t.json}\n":                                                              `web.topology: "t.json" is not an absolute path`,
		"web: {cluster: 'a b'}\n":                                                                "web.cluster: ",
		"web: {proxy: {command: [./proxy, run]}}\n":                                              `web.proxy.command: "./proxy" is not the absolute path of a program`,
		"web: {directory: /w, http: {listen: ':80', document_root: /r}}\n":                       `web.http.listen: ":80" is not an ip:port`,
		"web: {directory: /w, http: {listen: '127.0.0.1:80'}}\n":                                 `web.http.document_root: "" is not an absolute path`,
		"web: {http: {listen: '127.0.0.1:80', document_root: /r}}\n":                             `web.directory: "" is not an absolute path`,
		"web: {directory: /w, http: {listen: '127.0.0.1:80', document_root: '/r$x'}}\n":          `web.http.document_root: "/r$x" has a character in it`,
		"web: {directory: /w, http: {listen: '127.0.0.1:80', document_root: /r, database: x}}\n": `web.http.database: "x" is not a host:port`,
		"web: {proxy: {stop_after: 0}}\n":                                                        "web.proxy.stop_after: 0s is out of bounds",
		"membership: {source: rumour}\n":                                                         `membership.source: "rumour" is not possible`,
		"membership: {source: dns}\n":                                                            "membership.dns.records: there are none",
		"membership: {source: dns, dns: {records: {'a b': x.example}}}\n":                        `membership.dns.records: "a b" is not a name`,
		"membership: {source: dns, dns: {records: {web: 'x y'}}}\n":                              `membership.dns.records.web: "x y" is not the name of a record`,
		"membership: {source: dns, dns: {records: {web: x.example}, server: ns}}\n":              `membership.dns.server: "ns" is not a host:port`,
		"membership: {source: dns, dns: {records: {web: x.example}, time_limit: 0}}\n":           "membership.dns.time_limit: 0s is out of bounds",
		"membership: {source: dns, dns: {records: {web: x.example}, at_most: 1s}}\n":             "membership.dns.at_most: 1s is out of bounds",
		"membership: {file: m.yaml}\n":                                                           `membership.file: "m.yaml" is not an absolute path`,
		"web:\n  templates:\n    - {template: a, destination: b}\n":                              `web.templates[0].destination: "b" is not an absolute path`,
		"web:\n  topology: /b/../b\n  templates:\n    - {template: /a, destination: /b}\n":       "web.templates[0].destination: /b is written already",
		template(", check: [/bin/check]"):                                                        "web.templates[0].check: no argument has {} in it",
		template(`, check: [./check, "{}"]`):                                                     `web.templates[0].check: "./check" is not the absolute path`,
		template(", reload: [./reload]"):                                                         `web.templates[0].reload: "./reload" is not the absolute path`,
		template(", time_limit: 1ms"):                                                            "web.templates[0].time_limit: 1ms is out of bounds",
		template(", colour: blue"):                                                               "colour",
	} {
		if err := load(content); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\n got %v\nwant %s", content, err, want)
		}
	}
}

func TestURLsOfThisMachineNeedNoTLS(t *testing.T) {
	for _, url := range []string{"http://127.0.0.1:8080/x", "http://[::1]/", "http://localhost/", "https://example.org"} {
		if err := checkURL(url); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// TestClusterProblems are those of a database server that is its farm's.
func TestClusterProblems(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"mysql.cluster: ":         func(c *Config) { c.MySQL.Cluster = "a b" },
		"mysql.follow: ":          func(c *Config) { c.MySQL.Follow = "10.0.0.2:3306" },
		"mysql.server_id: ":       func(c *Config) { c.MySQL.ServerID = 3 },
		"mysql.clone_listen: ":    func(c *Config) { c.MySQL.CloneListen = "3308" },
		"mysql.cluster: is that ": func(c *Config) { c.Farm.Directory = "" },
	} {
		c, err := Load(example)
		if err != nil {
			t.Fatal(err)
		}
		c.Farm.Directory, c.MySQL.Cluster, c.MySQL.ServerID = "/var/lib/farmhand/node", "db", 0
		if problems := c.Validate(); len(problems) > 0 {
			t.Fatalf("%v", problems)
		}
		change(&c)
		var said []string
		for _, p := range c.Validate() {
			said = append(said, p.Path+": "+p.Message)
		}
		if text := strings.Join(said, "\n"); !strings.Contains(text, want) || len(said) != 1 {
			t.Errorf("%s:\n%s", want, text)
		}
	}
}

// TestFarmProblems are those of a node that belongs to a farm.
func TestFarmProblems(t *testing.T) {
	for want, change := range map[string]func(*Config){
		`farm.token_file: "t" is not an absolute path`: func(c *Config) { c.Farm.TokenFile = "t" },
		`farm.name: "root"`:                            func(c *Config) { c.Farm.Name = "root" },
		`name: "Root" is not possible in a farm`:       func(c *Config) { c.Name = "Root" },
		"farm.address":                                 func(c *Config) { c.Farm.Address = "a b" },
		"farm.lease: 1s is out of bounds":              func(c *Config) { c.Farm.Lease = duration("1s") },
		"farm.lease: 2.5s is not a number":             func(c *Config) { c.Farm.Lease = duration("2500ms") },
		"membership.registry.cluster":                  func(c *Config) { c.Membership.Source = "registry" },
		"web.proxy.metrics":                            func(c *Config) { c.Web.Proxy.Metrics = "9090" },
		"the section farm has no directory": func(c *Config) {
			c.Membership.Source, c.Membership.Registry.Cluster = "registry", "db"
			c.Farm.Directory = ""
		},
	} {
		c := Default()
		c.Role, c.Name, c.Farm.Directory = "web", "web1", "/var/lib/farmhand/node"
		if problems := c.Validate(); len(problems) > 0 {
			t.Fatalf("%v", problems)
		}
		change(&c)
		var said []string
		for _, p := range c.Validate() {
			said = append(said, p.Path+": "+p.Message)
		}
		if text := strings.Join(said, "\n"); !strings.Contains(text, want) || len(said) != 1 {
			t.Errorf("%s:\n%s", want, text)
		}
	}
}
