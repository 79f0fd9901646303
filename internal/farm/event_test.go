package farm_test

import (
	"strings"
	"testing"
	"time"

	"farmhand/internal/farm"
)

func TestEventCheck(t *testing.T) {
	good := func() farm.Event {
		return farm.Event{
			ID: "e1", Kind: farm.HostUp, Time: time.Unix(1, 0),
			Host:   farm.EventHost{Name: "web1", Role: "web", Address: "10.0.0.1"},
			Fields: map[string]string{"zone": "b", "text": "two words\nand lines"},
		}
	}
	if err := good().Check(); err != nil {
		t.Errorf("a good event: %v", err)
	}
	for _, address := range []string{"10.0.0.1:3306", "[::1]:80", "db1.example", "/run/db1/mysqld.sock", "fe80::1"} {
		e := good()
		e.Host.Address = address
		if err := e.Check(); err != nil {
			t.Errorf("address %s: %v", address, err)
		}
	}
	for want, spoil := range map[string]func(*farm.Event){
		"id: ":                          func(e *farm.Event) { e.ID = "../e" },
		`"host-sideways" is not a kind`: func(e *farm.Event) { e.Kind = "host-sideways" },
		"time: ":                        func(e *farm.Event) { e.Time = time.Time{} },
		"host: ":                        func(e *farm.Event) { e.Host.Name = "" },
		"role: ":                        func(e *farm.Event) { e.Host.Role = "a b" },
		"address: ":                     func(e *farm.Event) { e.Host.Address = "10.0.0.1\n" },
		"name of a field":               func(e *farm.Event) { e.Fields["LD_PRELOAD"] = "x" },
		"4097 bytes":                    func(e *farm.Event) { e.Fields["zone"] = strings.Repeat("x", 4097) },
		"NUL":                           func(e *farm.Event) { e.Fields["zone"] = "a\x00b" },
	} {
		e := good()
		spoil(&e)
		if err := e.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v; want an error with %q", err, want)
		}
	}
}

func TestEventCheckTellsEverythingAtOnce(t *testing.T) {
	err := farm.Event{}.Check()
	for _, want := range []string{"id:", "kind of event", "time:", "host:", "role:", "address:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}
