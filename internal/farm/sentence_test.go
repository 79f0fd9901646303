package farm

import "testing"

func TestSentence(t *testing.T) {
	for want, e := range map[string]Event{
		"db1 is up (replica at 192.0.2.1:3306)":                 {Kind: HostUp, Host: EventHost{Name: "db1", Role: "replica", Address: "192.0.2.1:3306"}},
		"web1 is up (web)":                                      {Kind: HostUp, Host: EventHost{Name: "web1", Role: "web", Address: "web1"}},
		"db2 has crashed (primary at 192.0.2.2:3306): it ended": {Kind: HostCrash, Host: EventHost{Name: "db2", Role: "primary", Address: "192.0.2.2:3306"}, Fields: map[string]string{"reason": "it ended"}},
		"volume-mounted at db3 (replica at 192.0.2.3:3306)":     {Kind: VolumeMounted, Host: EventHost{Name: "db3", Role: "replica", Address: "192.0.2.3:3306"}},
	} {
		if got := e.Sentence(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
