package mariabackup

import "testing"

func TestTheBinlogStateOfACopy(t *testing.T) {
	for name, c := range map[string]struct{ position, before, after, want string }{
		"nothing was ever written":                             {},
		"one server writes":                                    {"0-1-9", "0-1-7", "0-1-12", "0-1-9"},
		"servers that wrote before":                            {"0-3-9", "0-1-4,0-2-6,0-3-8", "0-1-4,0-2-6,0-3-12", "0-1-4,0-2-6,0-3-9"},
		"another wrote between and is gone":                    {"0-2-9", "0-1-4", "0-1-7,0-2-12", "0-1-7,0-2-9"},
		"another writes since":                                 {"0-1-9", "0-1-4", "0-1-9,0-2-12", "0-1-9"},
		"they took turns":                                      {"0-1-9", "0-1-4,0-2-3", "0-1-9,0-2-12", "0-2-3,0-1-9"},
		"the donor has errant transactions":                    {"0-1-9", "0-1-9,0-2-11", "0-1-9,0-2-11", "0-2-11,0-1-9"},
		"in a domain of their own":                             {"0-1-9", "0-1-9,7-2-1", "0-1-9,7-2-1", "7-2-1,0-1-9"},
		"domains":                                              {"0-1-9,1-2-3", "0-1-8,0-2-5,1-1-2", "0-1-12,0-2-5,1-1-2,1-2-4", "0-2-5,1-1-2,0-1-9,1-2-3"},
		"a donor that was copied and has logged nothing since": {"0-1-9", "", "", "0-1-9"},
	} {
		got, err := StateAt(c.position, c.before, c.after)
		if err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
	if _, err := StateAt("0-1-9", "0-1", ""); err == nil {
		t.Error("nonsense was taken for a state")
	}
}
