package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"farmhand/internal/service"
	"farmhand/internal/service/servicetest"
)

const example = "../../../docs/proxy.example.yaml"

func TestExampleIsTheDefault(t *testing.T) {
	c, err := Load(example)
	if err != nil {
		t.Fatal(err)
	}
	if want := Default(); !reflect.DeepEqual(*c, want) {
		t.Errorf("the example is not the default:\n got %+v\nwant %+v", *c, want)
	}
}

// TestExampleMentionsEveryKey also keeps the example from losing a key: Load
// would fill in the default and see no difference.
func TestExampleMentionsEveryKey(t *testing.T) {
	servicetest.MentionsEveryKey[Config](t, example, 60)
}

func TestDefaultIsValid(t *testing.T) {
	c := Default()
	if problems := c.Validate(); len(problems) > 0 {
		t.Errorf("%v", problems)
	}
}

func load(t *testing.T, content string) (*Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "proxy.yaml")
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return Load(path)
}

func TestLoadKeepsDefaults(t *testing.T) {
	for name, content := range map[string]string{
		"an empty file":             "",
		"comments only":             "# nothing\n\n",
		"a document mark":           "---\n",
		"sections without a value":  "limits:\npool:\n  # idle_per_user: 3\nlog:\n",
		"keys without a value":      "limits:\n  connections:\ncluster: null\nlisten: ~\n",
		"some of a section's keys":  "limits:\n  connections: 10000\n",
		"the empty flow collection": "reads: {}\n",
	} {
		c, err := load(t, content)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if want := Default(); !reflect.DeepEqual(*c, want) {
			t.Errorf("%s: got %+v", name, *c)
		}
	}
}

func TestLoad(t *testing.T) {
	c, err := load(t, `
listen:
  - unix: /run/a.sock
    mode: 0660
  - {tcp: ":3307"}
  - unix: /run/b.sock
limits: {packet_size: 16MiB, handshake_timeout: 1m30s, connections: 5}
tls:
  clients: {mode: verify, ca: /etc/ca.pem}
proxy_protocol:
  trusted: [10.0.0.0/8, "::1", unix]
hints:
  denied_users: [app, "bob"]
`)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Listen = []Listener{{Unix: "/run/a.sock", Mode: 0o660}, {TCP: ":3307"}, {Unix: "/run/b.sock"}}
	want.Limits.PacketSize, want.Limits.HandshakeTimeout, want.Limits.Connections = 16<<20, Duration(90e9), 5
	want.TLS.Clients.Mode, want.TLS.Clients.CA = TLSVerify, "/etc/ca.pem"
	want.ProxyProtocol.Trusted = []string{"10.0.0.0/8", "::1", "unix"}
	want.Hints.DeniedUsers = []string{"app", "bob"}
	if !reflect.DeepEqual(*c, want) {
		t.Errorf(" got %+v\nwant %+v", *c, want)
	}
	if mode := c.Listen[2].SocketMode(); mode != 0o777 {
		t.Errorf("a socket without a mode gets %v", mode)
	}
	if l := c.Listen[1]; l.Network() != "tcp" || l.Address() != ":3307" {
		t.Errorf("%s %s", l.Network(), l.Address())
	}
}

// TestLoadRefuses wants each error at its place: the wanted text follows the
// name of the file.
func TestLoadRefuses(t *testing.T) {
	for _, test := range []struct{ content, want string }{
		{"limit:\n  connections: 1\n", `:1:1: unknown field "limit"`},
		{"limits:\n  conections: 1\n", `:2:3: unknown field "conections"`},
		{"listen:\n  - tpc: a\n", `:2:5: unknown field "tpc"`},
		{"monitor:\n  password: secret\n", `:2:3: unknown field "password"`},
		{"cluster: a\ncluster: b\n", `:2:1: mapping key "cluster" already defined at [1:1]`},
		{"cluster: [a\n", `:1:`},
		{"a: b: c\n", `:1:`},
		{"just text\n", `:1:1: expected keys and values`},
		{"cluster: main\n---\ncluster: main\n", `: the file has more than one YAML document`},
		{"limits:\n  connections: many\n", `:2:16: expected a whole number, found text`},
		{"limits:\n  connections: 0\n", ":2:16: limits.connections: 0 is out of bounds; expected 1 to 1000000\n  2 |   connections: 0\n    |                ^"},
		{"limits: 5\n", `:1:9: expected keys and values, found a number`},
		{"limits:\n  - 5\n", `:2:3: expected keys and values, found a list`},
		{"listen: {}\n", `:1:9: expected a list, found keys and values`},
		{"limits:\n  packet_size: 2GiB\n", `:2:16: limits.packet_size: 2GiB is out of bounds; expected 1MiB to 1GiB`},
		{"limits:\n  packet_size: 16M\n", `:2:16: "16M" is not a size; expected one such as 512KiB`},
		{"limits:\n  packet_size: [1]\n", `:2:16: expected a size`},
		{"drain_timeout: 30\n", `:1:16: "30" is not a duration; expected one such as 500ms`},
		{"drain_timeout: true\n", `:1:16: expected a duration`},
		{"drain_timeout: -1s\n", `:1:16: drain_timeout: -1s is out of bounds; expected 0s to 24h`},
		{"listen:\n  - unix: /a\n    mode: 999\n", `:3:11: "999" is not a file mode`},
		{"listen:\n  - unix: /a\n    mode: \"7777\"\n", `:3:11: "7777" is not a file mode`},
		{"listen: []\n", `:1:1: listen: 0 addresses; expected 1 to 64`},
		{"listen:\n  - tcp: a:1\n    unix: /a\n", `:2:5: listen[0]: expected either tcp or unix`},
		{"listen:\n  - tcp: a:1\n  - tcp: a:1\n", `:3:5: listen[1]: a:1 is listed twice`},
		{"listen:\n  - tcp: localhost\n", `:2:10: listen[0].tcp: "localhost" is not an address; expected host:port`},
		{"listen:\n  - tcp: localhost:99999\n", `:2:10: listen[0].tcp: "99999" is not a port`},
		{"listen:\n  - tcp: a:1\n    mode: \"0600\"\n", `:3:11: listen[0].mode: only a unix socket has a mode`},
		{"listen:\n  - unix: mysqld.sock\n", `:2:11: listen[0].unix: "mysqld.sock" is not the absolute path`},
		{"topology: topology.json\n", `:1:11: topology: "topology.json" is not the absolute path of a file`},
		{"cluster: a b\n", `:1:10: cluster: "a b" is not a name`},
		{"monitor:\n  user: \"\"\n", `:2:9: monitor.user: it must not be empty`},
		{"server_version: 10.11 MariaDB\n", `:1:17: server_version: expected`},
		{"tls:\n  clients:\n    mode: on\n", `:3:11: tls.clients.mode: "on" is not possible; expected disabled, preferred, required, verify`},
		{"tls:\n  clients:\n    mode: verify\n", `:2:3: tls.clients.ca: verify needs`},
		{"tls:\n  servers:\n    key: /k\n", `:2:3: tls.servers: a certificate and its key go together`},
		{"proxy_protocol:\n  trusted: [10.0.0.1/8]\n", `:2:13: proxy_protocol.trusted[0]: "10.0.0.1/8" has bits beyond its prefix; did you mean 10.0.0.0/8?`},
		{"proxy_protocol:\n  trusted:\n    - web1\n", `:3:7: proxy_protocol.trusted[0]: "web1" is not a network`},
		{"reads:\n  primary: sometimes\n", `:2:12: reads.primary: "sometimes" is not possible`},
		{"reads:\n  consistency: strong\n", `:2:16: reads.consistency: "strong" is not possible`},
		{"hints:\n  enabled: maybe\n", `:2:12: expected true or false, found text`},
		{"console:\n  admins: [\"\"]\n", `:2:12: console.admins[0]: it must not be empty`},
		{"admin:\n  address: \"9104\"\n", `:2:12: admin.address: "9104" is not an address`},
		{"log:\n  level: loud\n", `:2:10: log.level: "loud" is not possible; expected debug, info, warn, error`},
		{"log:\n  format: xml\n", `:2:11: log.format: "xml" is not possible; expected console, json`},
	} {
		_, err := load(t, test.content)
		var errs service.ConfigErrors
		if !errors.As(err, &errs) {
			t.Errorf("%q: %v is no ConfigErrors", test.content, err)
			continue
		}
		if _, message, _ := strings.Cut(err.Error(), "proxy.yaml"); !strings.Contains(message, test.want) || strings.HasPrefix(test.want, ":") && !strings.HasPrefix(message, test.want) {
			t.Errorf("%q:\n got %s\nwant %s", test.content, message, test.want)
		}
	}
}

func TestLoadTellsEverythingAtOnce(t *testing.T) {
	_, err := load(t, "limits:\n  connections: 0\nlog:\n  level: loud\nhealth:\n  failures: 0\n")
	var errs service.ConfigErrors
	if !errors.As(err, &errs) || len(errs) != 3 {
		t.Fatalf("got %v; want three errors", err)
	}
}
