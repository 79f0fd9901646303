package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
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
	data, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := yaml.Unmarshal(data, &tree); err != nil {
		t.Fatal(err)
	}
	keys := 0
	var compare func(path string, typ reflect.Type, tree map[string]any)
	compare = func(path string, typ reflect.Type, tree map[string]any) {
		for i := range typ.NumField() {
			name, _, _ := strings.Cut(typ.Field(i).Tag.Get("yaml"), ",")
			value, ok := tree[name]
			if !ok {
				t.Errorf("the example lacks the key %s%s", path, name)
				continue
			}
			keys++
			if typ.Field(i).Type.Kind() == reflect.Struct {
				section, ok := value.(map[string]any)
				if !ok {
					t.Errorf("%s%s is not a section in the example", path, name)
					continue
				}
				compare(path+name+".", typ.Field(i).Type, section)
			}
		}
	}
	compare("", reflect.TypeFor[Config](), tree)
	if keys < 40 {
		t.Errorf("only %d keys were compared", keys)
	}
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
		{"  directory: \"\"\n  # How long a hook", "  directory: hooks.d\n  # How long a hook", `hooks.directory: "hooks.d" is not an absolute path`},
		{"time_limit: 30s", "time_limit: 0s", "hooks.time_limit: 0s is out of bounds"},
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

func TestURLsOfThisMachineNeedNoTLS(t *testing.T) {
	for _, url := range []string{"http://127.0.0.1:8080/x", "http://[::1]/", "http://localhost/", "https://example.org"} {
		if err := checkURL(url); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}
