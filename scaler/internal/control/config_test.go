package control

import (
	"os"
	"strings"
	"testing"
)

// TestConfig: the file that init writes is read as it was meant, and what is
// wrong is said with its place.
func TestConfig(t *testing.T) {
	c, m, err := made(t, 1)[0].load()
	must(t, err)
	if c.Farm != "shop" || m.Name != "a" || c.Etcd.Quota != 1<<30 || len(c.External.Endpoints) != 0 {
		t.Errorf("%+v, %+v", c, m)
	}
	for what, try := range map[string]struct{ text, want string }{
		"no member":        {"farm: shop\n", "members"},
		"a bad address":    {"farm: shop\nmembers:\n  - {name: a, address: 0.0.0.0}\n", "members[0].address"},
		"two of one name":  {"farm: shop\nmembers:\n  - {name: a, address: 127.0.0.1}\n  - {name: a, address: 127.0.0.2}\n", "members[1].name"},
		"two of one place": {"farm: shop\nmembers:\n  - {name: a, address: 127.0.0.1}\n  - {name: b, address: 127.0.0.1}\n", "members[1].client_port"},
		"a short election": {"farm: shop\nmembers:\n  - {name: a, address: 127.0.0.1}\netcd:\n  election: 100ms\n", "etcd.election"},
		"an unknown key":   {"farm: shop\ncolour: red\n", "colour"},
		"a lone authority": {"farm: shop\nmembers:\n  - {name: a, address: 127.0.0.1}\nexternal:\n  authority: /x\n", "external.authority"},
	} {
		d := made(t, 1)[0]
		must(t, writeConfig(d, try.text))
		if _, _, err := d.load(); err == nil || !strings.Contains(err.Error(), try.want) || !strings.Contains(err.Error(), "registry.yaml:") {
			t.Errorf("%s: %v", what, err)
		}
	}
	d := made(t, 1)[0]
	must(t, writeConfig(d, "farm: shop\nmembers:\n  - {name: z, address: 127.0.0.1}\n"))
	if _, _, err := d.load(); err == nil || !strings.Contains(err.Error(), `"a"`) {
		t.Errorf("a directory of a member that is not listed: %v", err)
	}
}

func writeConfig(d Dir, text string) error { return os.WriteFile(d.ConfigFile(), []byte(text), 0o600) }
