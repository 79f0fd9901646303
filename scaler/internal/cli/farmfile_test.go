package cli

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"farmhand/scaler/internal/farmfile"
)

var update = flag.Bool("update", false, "rewrite what the documentation shows")

// scaler runs a command as its user would and returns what it says.
func scaler(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c := New()
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(&out)
	err := c.ExecuteContext(t.Context())
	return out.String(), err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestDocumentationShowsWhatHappens runs the commands of docs/FARMFILE.md in a
// fresh directory and compares what it shows.
func TestDocumentationShowsWhatHappens(t *testing.T) {
	page, err := filepath.Abs("../../../docs/FARMFILE.md")
	must(t, err)
	data, err := os.ReadFile(page)
	must(t, err)
	t.Chdir(t.TempDir())
	text, commands, files := string(data), 0, 0
	for _, block := range regexp.MustCompile("(?s)```(\\w*)\n(.*?)```").FindAllStringSubmatch(text, -1) {
		if block[1] == "yaml" && strings.HasPrefix(block[2], "name:") {
			files++
			must(t, os.WriteFile("least.yaml", []byte(block[2]), 0o644))
			if out, err := scaler(t, "check", "least.yaml"); err != nil {
				t.Errorf("%s%v\n%s", out, err, block[2])
			}
		}
		if name, ok := strings.CutPrefix(block[2], "# "); ok && block[1] == "yaml" {
			name, _, _ = strings.Cut(name, "\n")
			if strings.HasSuffix(name, ".yaml") {
				files++
				must(t, os.WriteFile(name, []byte(block[2]), 0o644))
			}
		}
		if !strings.HasPrefix(block[2], "$ scaler ") {
			continue
		}
		var last string // what the last of the block's commands says
		var shown strings.Builder
		for line := range strings.Lines(block[2]) {
			command, ok := strings.CutPrefix(line, "$ scaler ")
			if !ok {
				continue
			}
			commands++
			shown.WriteString(line)
			out, err := scaler(t, strings.Fields(command)...)
			if err != nil {
				out += "scaler: " + err.Error() + "\n" // as main says it
			}
			last = out
		}
		shown.WriteString(last)
		if *update {
			text = strings.Replace(text, block[2], shown.String(), 1)
		} else if block[2] != shown.String() {
			t.Errorf("the page shows\n%s\nbut it is\n%s", block[2], shown.String())
		}
	}
	if commands != 3 || files != 2 {
		t.Errorf("found %d commands and %d files", commands, files)
	}
	if *update {
		must(t, os.WriteFile(page, []byte(text), 0o644))
	}
}

func TestCheckAsJSON(t *testing.T) {
	t.Chdir(t.TempDir())
	must(t, os.WriteFile("farm.yaml", []byte("name: Shop\nroles:\n  db: {kind: mysql, count: 0}\n"), 0o644))
	out, err := scaler(t, "check", "--json")
	if err == nil || err.Error() != "farm.yaml: 2 of its values cannot be" {
		t.Errorf("got %v", err)
	}
	var v struct {
		verdict
		Farm json.RawMessage `json:"farm"`
	}
	must(t, json.Unmarshal([]byte(out), &v))
	if v.Valid || len(v.Problems) != 2 || v.Farm != nil ||
		v.Problems[1] != (problem{Line: 3, Column: 28, Path: "roles.db.count", Message: "0 is out of bounds; expected 1 to 100"}) {
		t.Errorf("got %+v", v)
	}

	must(t, os.Remove("farm.yaml"))
	if _, err := scaler(t, "init"); err != nil {
		t.Fatal(err)
	}
	out, err = scaler(t, "check", "--json")
	must(t, err)
	v.verdict, v.Farm = verdict{}, nil
	must(t, json.Unmarshal([]byte(out), &v))
	// The farm is itself a farm file.
	must(t, os.WriteFile("again.yaml", v.Farm, 0o644))
	first, err := farmfile.Load("farm.yaml")
	must(t, err)
	again, err := farmfile.Load("again.yaml")
	must(t, err)
	one, err := yaml.Marshal(first)
	must(t, err)
	two, err := yaml.Marshal(again)
	must(t, err)
	if !v.Valid || !bytes.Equal(one, two) {
		t.Errorf("valid: %v; it is\n%s\nwas\n%s", v.Valid, two, one)
	}
}

// TestCheckShowsTheWholeFarm compares what is said of the example.
func TestCheckShowsTheWholeFarm(t *testing.T) {
	const want = `farm shop: 9 to 18 servers, launched by the provider local

ROLE   KIND       SERVERS  IMAGE  SIZE  STORAGE
cache  memcached  2        host   host  -       memcached on port 11211, 1GiB
db     mysql      3 to 8   host   host  200GiB  mariadb on port 3306, buffer pool 2GiB, lossless
lb     lb         2        host   host  -       haproxy on port 8080, for web
web    web        2 to 6   host   host  -       proxy for db on 127.0.0.1:3306 and /run/mysqld/mysqld.sock, session reads, nginx on port 8081 for /var/www/shop, 1 template

ROLE  SCALES BY                               OUT ABOVE  IN BELOW  OVER  OUT          IN
db    cpu                                     70%        25%       2m    +2, then 5m  -1, then 30m
db    forced_reads                            10%        1%        1m    +2, then 3m  -1, then 15m
db    queue_wait                              100ms      5ms       1m    +3, then 3m  -1, then 15m
db    /usr/local/bin/carts-open --per-server  400        100       1m    +2, then 3m  -1, then 15m
web   load                                    1.5        0.5       1m    +2, then 3m  -1, then 15m

ROLE  AT LEAST  FROM
db    6         17:30 to 23:00 on thu (Europe/Berlin)
db    5         10:00 to 00:30 on fri sat sun (Europe/Berlin)

ROLE  HOOKS IN                   WITHIN  WAITED FOR
db    /etc/farmhand/hooks.d/db   30s     host-init, before-host-up, before-host-terminate (10m), new-primary
web   /etc/farmhand/hooks.d/web  30s     host-init, before-host-up, before-host-terminate

POLICY
failover     automatic, for db: suspect after 3 failed probes every 500ms, if 2 or more replicas answer, within 30s, then none for 15m
maintenance  03:00 to 05:30 on tue wed (Europe/Berlin)
backups      none: backups.store is empty
`
	out, err := scaler(t, "check", "../../../testdata/farm.example.yaml")
	must(t, err)
	if out != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
}

func TestCheckShowsFarms(t *testing.T) {
	t.Chdir(t.TempDir())
	for content, want := range map[string]string{
		"roles: {db: {kind: mysql, count: 1}}":                                                             "failover     none: db has no replica\n",
		"roles: {db: {kind: mysql}}\npolicies: {failover: {mode: manual, quiet: 0}}":                       "failover     manual, for db: if 1 or more replicas answer, within 1m\n",
		"roles: {db: {kind: mysql}}\npolicies: {maintenance: {windows: [{from: 01:00, to: 02:00}]}}":       "maintenance  01:00 to 02:00 every day (UTC)\n",
		"roles: {db: {kind: mysql}, web: {kind: web, parameters: {proxy: {tcp: \"\"}}}}":                   "proxy for db on /run/mysqld/mysqld.sock, farm reads\n",
		"roles: {db: {kind: mysql, parameters: {durability: available, available_after: 2m, port: 3307}}}": "mariadb on port 3307, buffer pool 128MiB, available after 2m\n",
	} {
		must(t, os.WriteFile("farm.yaml", []byte("name: a\n"+content+"\n"), 0o644))
		if out, err := scaler(t, "check"); err != nil || !strings.Contains(out, want) {
			t.Errorf("%s: got %v\n%s; want %s", content, err, out, want)
		}
	}
}

func TestInitAndCheckSayWhatToDo(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"check"}, "there is no farm.yaml (scaler init farm.yaml writes one)"},
		{[]string{"check", "."}, "read configuration: read .: is a directory"},
		{[]string{"check", "a", "b"}, "accepts at most 1 arg(s), received 2"},
		{[]string{"init", "none/farm.yaml"}, "write farm file: open none/farm.yaml: no such file or directory"},
		{[]string{"schema", "x"}, `unknown command "x" for "scaler schema"`},
	} {
		if out, err := scaler(t, test.args...); err == nil || err.Error() != test.want || out != "" {
			t.Errorf("scaler %v: got %v and %q; want %s", test.args, err, out, test.want)
		}
	}
	out, err := scaler(t, "init", "shop.yaml")
	if err != nil || !strings.Contains(out, "scaler check shop.yaml") {
		t.Errorf("init: %q, %v", out, err)
	}
	if _, err := scaler(t, "init", "shop.yaml"); err == nil || err.Error() != "shop.yaml: it is there already and was left as it is (scaler check shop.yaml says what is in it)" {
		t.Errorf("a second time: %v", err)
	}
	if out, err := scaler(t, "schema"); err != nil || out != string(farmfile.Schema()) {
		t.Errorf("schema: %v, %q", err, out)
	}
}
