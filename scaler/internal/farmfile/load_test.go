package farmfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"farmhand/internal/service"
)

const example = "../../../testdata/farm.example.yaml"

func load(t *testing.T, content string) *Farm {
	t.Helper()
	path := filepath.Join(t.TempDir(), "farm.yaml")
	must(t, os.WriteFile(path, []byte(content), 0o644))
	f, err := Load(path)
	must(t, err)
	return f
}

func TestExampleIsAWholeFarm(t *testing.T) {
	f, err := Load(example)
	must(t, err)
	zone, err := time.LoadLocation("Europe/Berlin")
	must(t, err)
	if f.Name != "shop" || f.TimeZone.String() != zone.String() || len(f.Roles) != 4 {
		t.Errorf("got %+v", f)
	}
	if got := f.Provider.Parameters.Local.Directory; got != filepath.Join(filepath.Dir(example), "shop-data") {
		t.Errorf("the directory is %s, not beside the file", got)
	}
	db := f.Roles["db"]
	if db.Kind != MySQLKind || db.Count != (Count{3, 8}) || db.Parameters.Web != nil || db.Parameters.MySQL.Durability != Lossless {
		t.Errorf("db is %+v", db)
	}
	metrics := map[MetricKind][2]Level{
		CPUMetric:         {{0.7, Percent}, {0.25, Percent}},
		ForcedReadsMetric: {{0.1, Percent}, {0.01, Percent}},
		QueueWaitMetric:   {{0.1, Seconds}, {0.005, Seconds}},
		CommandMetric:     {{400, Number}, {100, Number}},
	}
	for _, m := range db.Scaling {
		if want := metrics[m.Kind]; want != [2]Level{m.ScaleOut, m.ScaleIn} {
			t.Errorf("%s is %+v; want %+v", m.Kind, m, want)
		}
	}
	if m := db.Scaling[0]; m.Window != Duration(2*time.Minute) || m.OutStep != 2 {
		t.Errorf("its keys and the defaults together are %+v", m)
	}
	if got := db.Scaling[3].Command; !reflect.DeepEqual(got, Command{"/usr/local/bin/carts-open", "--per-server"}) {
		t.Errorf("the command is %q", got)
	}
	if got := db.Schedule[1].String(); got != "10:00 to 00:30 on fri sat sun" {
		t.Errorf("the schedule is %s", got)
	}
	web := f.Roles["web"].Parameters.Web
	if web.Proxy.Consistency != "session" || web.Proxy.TCP != "127.0.0.1:3306" || web.Templates[0].Mode != 0o640 {
		t.Errorf("web is %+v", web)
	}
	data, err := os.ReadFile(example)
	must(t, err)
	if err := judge(compiled(t), data); err != nil {
		t.Errorf("the schema refuses it: %v", err)
	}
}

// TestLoadedFarmReadsBack: what check --json prints means the same farm.
func TestLoadedFarmReadsBack(t *testing.T) {
	f, err := Load(example)
	must(t, err)
	for name, write := range map[string]func(any) ([]byte, error){"YAML": yaml.Marshal, "JSON": json.Marshal} {
		data, err := write(f)
		must(t, err)
		if err := judge(compiled(t), data); err != nil {
			t.Errorf("%s: the schema refuses it: %v", name, err)
		}
		again := defaults().farm
		must(t, service.Decode("f", data, &again))
		once, err := yaml.Marshal(f)
		must(t, err)
		twice, err := yaml.Marshal(again)
		must(t, err)
		if !bytes.Equal(once, twice) {
			t.Errorf("%s: it is\n%s\nwas\n%s", name, twice, once)
		}
	}
}

func TestDefaultsAreValid(t *testing.T) {
	d := defaults()
	d.farm.Name, d.farm.Roles = "farm", map[string]Role{"db": d.roles[MySQLKind], "web": d.roles[WebKind]}
	if problems := d.farm.Validate(); len(problems) > 0 {
		t.Errorf("%v", problems)
	}
	if len(d.roles) != len(roleKinds) || len(d.metrics) != len(metricKinds) {
		t.Errorf("%d kinds of role and %d of metric have defaults; there are %d and %d", len(d.roles), len(d.metrics), len(roleKinds), len(metricKinds))
	}
	for kind, m := range d.metrics {
		of := MySQLKind
		if only := metricKinds[kind].only; len(only) > 0 {
			of = only[0]
		}
		role, ok := d.roles[of], m.Kind == kind
		role.Count = Count{2, 8} // where it matters most
		if m.ScaleOut.Unit == "" {
			continue
		}
		var p service.Problems
		if m.check(&p, "metric", &role); len(p) > 0 || !ok {
			t.Errorf("metric %s: %v", kind, p)
		}
	}
}

// TestDefaultsAreFresh: one farm's values are not another's.
func TestDefaultsAreFresh(t *testing.T) {
	first := load(t, "name: a\nroles: {db: {kind: mysql, parameters: {port: 3307}}}\nprovider: {parameters: {directory: /a}}\n")
	second := load(t, "name: b\nroles: {db: {kind: mysql}, web: {kind: web}}\n")
	if first.Roles["db"].Parameters.MySQL.Port != 3307 || second.Roles["db"].Parameters.MySQL.Port != 3306 ||
		first.Provider.Parameters.Local.Directory != "/a" {
		t.Errorf("got %+v and %+v", first, second)
	}
}

// TestDefaultsAreTheProxys compares the proxy's settings with its own example,
// which a test of the proxy compares with its defaults.
func TestDefaultsAreTheProxys(t *testing.T) {
	data, err := os.ReadFile("../../../docs/proxy.example.yaml")
	must(t, err)
	var own struct {
		Listen []struct{ TCP, Unix string }
		Pool   struct {
			MaxPerServer int `yaml:"max_per_server"`
		}
		Reads struct {
			MaxLag      Duration `yaml:"max_lag"`
			Consistency Consistency
		}
		Admin struct{ Address string }
	}
	must(t, yaml.Unmarshal(data, &own))
	want := Proxy{
		TCP: own.Listen[0].TCP, Unix: own.Listen[1].Unix, Admin: own.Admin.Address,
		Consistency: own.Reads.Consistency, MaxLag: own.Reads.MaxLag, MaxPerServer: own.Pool.MaxPerServer,
	}
	if got := defaults().roles[WebKind].Parameters.Web.Proxy; got != want {
		t.Errorf("got %+v; the proxy has %+v", got, want)
	}
}

func TestHooksOf(t *testing.T) {
	f := load(t, `name: a
roles:
  db:
    kind: mysql
    hooks:
      time_limit: 20s
      events:
        before-host-up: {mode: async}
        host-down: {time_limit: 5s}
`)
	hooks := f.Roles["db"].Hooks
	for event, want := range map[EventKind]Hook{
		"before-host-up":        {Async, Duration(20 * time.Second)},
		"host-down":             {Async, Duration(5 * time.Second)},
		"before-host-terminate": {Sync, Duration(20 * time.Second)},
		"host-init":             {Sync, Duration(20 * time.Second)},
		"custom":                {Async, Duration(20 * time.Second)},
	} {
		if got := hooks.Of(event); got != want {
			t.Errorf("%s: got %v; want %v", event, got, want)
		}
	}
	if got := hooks.Waited(); !slices.Equal(got, []EventKind{"host-init", "before-host-terminate"}) {
		t.Errorf("waited for: %v", got)
	}
}

// TestGoodFiles: what is unusual and yet possible, by the schema too.
func TestGoodFiles(t *testing.T) {
	schema := compiled(t)
	for name, content := range map[string]string{
		"one server":                   "name: a\nroles: {db: {kind: mysql, count: 1}}\n",
		"one server that may get more": "name: a\nroles: {db: {kind: mysql, count: {min: 1, max: 3}, scaling: [{kind: lag}]}}\n",
		"a database of another name":   "name: a\nroles: {main: {kind: mysql}}\npolicies: {failover: {role: main}}\n",
		"lossless with one replica":    "name: a\nroles: {db: {kind: mysql, count: 2, parameters: {durability: lossless}}}\n",
		"nobody decides":               "name: a\nroles: {db: {kind: mysql, count: 2}}\npolicies: {failover: {mode: manual, min_replicas: 5}}\n",
		"thresholds without default":   "name: a\nroles: {db: {kind: mysql, count: {min: 2, max: 9}, scaling: [{kind: connections, scale_out: 100, scale_in: 40.5}]}}\n",
		"two commands":                 "name: a\nroles: {db: {kind: mysql, count: {min: 2, max: 9}, scaling: [{kind: command, scale_out: 1, scale_in: 0.5, command: a}, {kind: command, scale_out: 9, scale_in: 1, command: [sh, -c, 'echo 1 | tail']}]}}\n",
		"numbers as text":              "name: \"a\"\nroles: {db: {kind: mysql, storage: {size: \"1073741824\"}, count: {min: 2, max: 9}, scaling: [{kind: load, scale_out: \"2\"}]}}\n",
		"a whole day":                  "name: a\nroles: {db: {kind: mysql, count: {min: 2, max: 3}, schedule: [{from: 00:00, to: 24:00, at_least: 3}]}}\n",
		"a socket only":                "name: a\nroles: {db: {kind: mysql}, web: {kind: web, parameters: {proxy: {tcp: \"\", admin: \"[::1]:0\"}}}}\n",
		"a farm on AWS":                awsFarm,
		"nothing after a key":          "name: a\nroles:\n  db:\n    kind: mysql\n    scaling:\n",
	} {
		t.Run(name, func(t *testing.T) {
			load(t, content)
			if name == "nothing after a key" { // which the schema does not have
				return
			}
			if err := judge(schema, []byte(content)); err != nil {
				t.Errorf("the schema refuses it: %v", err)
			}
		})
	}
}

func TestInitWritesTheDefaults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "farm.yaml")
	must(t, Init(path))
	got, err := Load(path)
	must(t, err)
	want := defaults()
	want.farm.Name = "farm"
	want.farm.Roles = map[string]Role{"db": want.roles[MySQLKind], "web": want.roles[WebKind]}
	want.farm.Provider.Parameters.Local.Directory = filepath.Join(filepath.Dir(path), want.farm.Provider.Parameters.Local.Directory)
	if !reflect.DeepEqual(*got, want.farm) {
		t.Errorf("the file means\n%+v\nwant\n%+v", *got, want.farm)
	}
	if err := judge(compiled(t), initial); err != nil {
		t.Errorf("the schema refuses it: %v", err)
	}

	must(t, os.WriteFile(path, []byte("mine"), 0o644))
	if err := Init(path); !errors.Is(err, ErrExists) {
		t.Errorf("a file that is there: %v", err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "mine" {
		t.Errorf("it was overwritten: %q, %v", data, err)
	}
	if err := Init(filepath.Join(path, "farm.yaml")); err == nil {
		t.Error("a file was written below a file")
	}
	if err := Init(filepath.Join(t.TempDir(), "none", "farm.yaml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
}

// TestInitMentionsEveryKey also keeps the file from losing a key: Load would fill
// in the default and see no difference. What is left are the keys of lists. It is a small
// file: of the kinds of role it has mysql and web, and of what kinds have in common the
// templates.
func TestInitMentionsEveryKey(t *testing.T) {
	d := defaults()
	keys := 0
	has := func(key string) {
		keys++
		if !regexp.MustCompile(`(?m)^[ #-]*` + key + `:`).Match(initial) {
			t.Errorf("the file lacks the key %s", key)
		}
	}
	var walk func(v reflect.Type)
	walk = func(typ reflect.Type) {
		for _, k := range keysOf(typ) {
			field := typ.Field(k.field).Type
			small := typ == reflect.TypeFor[Frame]() && k.name != "templates" || typ == reflect.TypeFor[Template]() && k.name == "program" ||
				typ == reflect.TypeFor[Parameters]() && field != reflect.TypeFor[*MySQL]() && field != reflect.TypeFor[*Web]()
			if small {
				continue
			}
			for field.Kind() == reflect.Pointer || field.Kind() == reflect.Slice || field.Kind() == reflect.Map {
				field = field.Elem()
			}
			if !k.inline && k.about == "" {
				t.Errorf("the key %s of %v is not explained", k.name, typ)
			}
			// Commands and queues are named where the metrics are, and the example is another.
			if !k.inline && (typ != reflect.TypeFor[Metric]() || k.name != "command" && k.name != "time_limit" && k.name != "queue" && k.name != "per_server") {
				has(k.name)
			}
			if field.Kind() == reflect.Struct && field.PkgPath() == reflect.TypeOf(d).PkgPath() && len(keysOf(field)) > 0 && isSection(field) {
				walk(field)
			}
		}
	}
	walk(reflect.TypeFor[Farm]())
	if keys < 55 {
		t.Errorf("only %d keys were looked for", keys)
	}
}

// TestInitExamplesWork takes the # off the examples, and the lines above them away.
func TestInitExamplesWork(t *testing.T) {
	lines := strings.Split(string(initial), "\n")
	off := regexp.MustCompile(`^( *)#(\S|  )`)
	var kept []string
	examples := 0
	for i, line := range lines {
		if i+1 < len(lines) && off.MatchString(lines[i+1]) && !off.MatchString(line) {
			examples++
			key, _, _ := strings.Cut(line, ":")
			if !strings.HasPrefix(strings.Replace(lines[i+1], "#", "", 1), key+":") {
				t.Errorf("line %d, %q, is replaced by %q", i+1, line, lines[i+1])
			}
			continue
		}
		kept = append(kept, off.ReplaceAllString(line, "$1$2"))
	}
	if examples != 10 {
		t.Errorf("found %d examples", examples)
	}
	f := load(t, strings.Join(kept, "\n"))
	db := f.Roles["db"]
	if len(db.Scaling) != 1 || len(db.Schedule) != 1 || len(db.Hooks.Events) != 1 || len(f.Roles["web"].Parameters.Web.Templates) != 1 || len(f.Roles["web"].Parameters.Web.Release.Shared) != 1 || len(f.Roles["web"].Parameters.Web.HTTP.Sites) != 1 || len(f.Policies.Maintenance.Windows) != 1 || len(f.Cron) != 1 {
		t.Errorf("got %+v", f)
	}
	// They show the defaults too.
	if want := defaults().metrics[LoadMetric]; !reflect.DeepEqual(db.Scaling[0], want) {
		t.Errorf("the example is %+v; the default %+v", db.Scaling[0], want)
	}
}

// FuzzDecode wants an error, or a farm that is valid for the schema too, and never
// a panic, from whatever stands in the file.
func FuzzDecode(f *testing.F) {
	schema := compiled(f)
	whole, err := os.ReadFile(example)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(initial)
	f.Add(whole)
	f.Add([]byte("name: a\nroles: {db: {kind: mysql, count: {min: 1}}, web: {kind: 5, parameters: []}}"))
	f.Add([]byte("provider: {kind: x}\nroles:\n  a: {kind: web, hooks: {events: {custom: {}}}}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		farm := defaults().farm
		if err := service.Decode("f", data, &farm); err != nil {
			return
		}
		if problems := farm.Validate(); len(problems) > 0 {
			t.Errorf("accepted with %v", problems)
		}
		written, err := json.Marshal(&farm)
		if err != nil {
			t.Fatalf("it cannot be written: %v", err)
		}
		if err := judge(schema, written); err != nil {
			t.Errorf("the schema refuses %s: %v", written, err)
		}
	})
}

func TestBackupsAreAsTheFileSays(t *testing.T) {
	p := load(t, `name: shop
time_zone: Europe/Berlin
roles: {db: {kind: mysql}}
backups:
  store: s3://shop/farm?endpoint=https://s3.example.org
  schedule: "30 3 * * sun"
  windows: [{days: [sun], from: 03:00, to: 05:00}]
  from_primary: false
  throttle: 10MiB
  encrypt_to: [age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p]
  retention: {last: 3, for: 24h, weekly: 4}
  archive: {every: 1s, keep: 336h}
  drills: {schedule: 168h, identity_file: /etc/farmhand/backup.key}
`).Safekeeping()
	last := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	if next := p.Full.Next(last, p.Zone); !next.Equal(time.Date(2026, 11, 29, 2, 30, 0, 0, time.UTC)) {
		t.Errorf("a full one at %v", next)
	}
	if len(p.Windows) != 1 || !p.Windows[0].Active(time.Date(2026, 11, 29, 4, 0, 0, 0, p.Zone)) || p.Windows[0].Active(time.Date(2026, 11, 28, 4, 0, 0, 0, p.Zone)) {
		t.Errorf("windows are %+v", p.Windows)
	}
	if p.Store != "s3://shop/farm?endpoint=https://s3.example.org" || p.FromPrimary || p.Throttle != 10<<20 || len(p.EncryptTo) != 1 ||
		p.Retain.Last != 3 || p.Retain.For != 24*time.Hour || p.Retain.Weekly != 4 || p.ArchiveEvery != time.Second || p.ArchiveSize != 8<<20 ||
		p.KeepArchive != 336*time.Hour || p.Drill.String() != "168h" || p.IdentityFile != "/etc/farmhand/backup.key" {
		t.Errorf("the policy is %+v", p)
	}
}
