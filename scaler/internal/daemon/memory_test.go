package daemon

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"time"

	"farmhand/scaler/internal/roles"
)

// TestTheNextLeaderKnowsWhatWasBegun: whose rights are still to be taken, how far each
// server is on its way out, and which names are spent.
func TestTheNextLeaderKnowsWhatWasBegun(t *testing.T) {
	m, err := readMemory(nil)
	must(t, err)
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	m.take("db", roles.State{Wanted: 3, Last: 3, LastIn: now, Servers: map[string]roles.Server{
		"db1": {Launched: now, Appeared: true, Ready: now}, "db2": {Launched: now, Appeared: true, Leaving: &roles.Leaving{Why: "a test", Since: now, Retire: now}},
		"db3": {Launched: now},
	}})
	next := m.Roles["db"]
	next.Servers = maps.Clone(next.Servers)
	delete(next.Servers, "db1")
	m.take("db", next)
	m.spend("db", []string{"db2", "db7", "dbx", "web9"})

	data, err := json.Marshal(m)
	must(t, err)
	m, err = readMemory(data)
	must(t, err)
	db := m.Roles["db"]
	if db.Last != 7 || db.Wanted != 3 || !db.LastIn.Equal(now) || !slices.Equal(db.Names(), []string{"db2", "db3"}) {
		t.Errorf("%+v", db)
	}
	if len(m.Gone) != 1 || m.Gone["db1"] != "db" {
		t.Errorf("gone are %v", m.Gone)
	}
	if steps := m.steps(); len(steps) != 1 || steps["db2"] != roles.Retire {
		t.Errorf("steps %v", steps)
	}
	again, err := json.Marshal(m)
	must(t, err)
	if string(again) != string(data) {
		t.Errorf("%s\nis read as\n%s", data, again)
	}
}
