package control

import (
	"os"
	"testing"
)

func TestMembersAreReplaced(t *testing.T) {
	for _, text := range []string{
		"farm: x\nmembers:\n  - name: a\n    address: b\n\n# kept\netcd:\n  quota: 1\n",
		"farm: x\nmembers:\n- name: a\n  address: b\n\n# kept\netcd:\n  quota: 1\n",
		"farm: x\nmembers: [{name: a, address: b}]\n\n# kept\netcd:\n  quota: 1\n",
	} {
		if got, want := replaceMembers(text, "members: []\n"), "farm: x\nmembers: []\n\n# kept\netcd:\n  quota: 1\n"; got != want {
			t.Errorf("%q became %q", text, got)
		}
	}
	d := made(t, 1)[0]
	c, err := d.Config()
	must(t, err)
	must(t, os.WriteFile(d.ConfigFile(), []byte(`"farm": shop
"members": [{name: a, address: 127.0.0.1}]
`), 0o600))
	c.Members = append(c.Members, place(t, "b"))
	if text, err := d.withMembers(&c); err == nil {
		t.Errorf("it became %s", text)
	}
	for _, m := range c.Members {
		if got, err := readMember(m.record()); err != nil || got != m {
			t.Errorf("%+v became %+v, %v", m, got, err)
		}
	}
}
