package daemon

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/registry"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
)

// TestWhoAStepOfARotationWaitsFor: for everybody who may use or accept a password, also
// if nobody hears of it.
func TestWhoAStepOfARotationWaitsFor(t *testing.T) {
	now := time.Now()
	l := &leader{instances: []provider.Instance{
		{Name: "db1", Kind: farmfile.MySQLKind, State: provider.Running},
		{Name: "db2", Kind: farmfile.MySQLKind, State: provider.Running},
		{Name: "web1", Kind: farmfile.WebKind, State: provider.Running},
		{Name: "web2", Kind: farmfile.WebKind, State: provider.Terminating},
	}}
	server := func(name string, process cluster.Process, age time.Duration) arrived[*cluster.Report] {
		return arrived[*cluster.Report]{&cluster.Report{Name: name, Process: process}, now.Add(-age)}
	}
	said := func(steps map[string]cluster.PasswordStep) map[string]*cluster.PasswordsReport {
		all := map[string]*cluster.PasswordsReport{}
		for name, step := range steps {
			all[name] = &cluster.PasswordsReport{ID: "7", Step: step}
		}
		return all
	}
	type steps = map[string]cluster.PasswordStep
	const accept, use, drop = cluster.AcceptBoth, cluster.UseNew, cluster.AcceptNew
	for what, c := range map[string]struct {
		step    cluster.PasswordStep
		said    steps
		change  func(m *moment)
		waiting string
	}{
		"nobody has said anything":                         {step: accept, waiting: "db1 db2"},
		"the primary alone accepts":                        {step: accept, said: steps{"db1": accept}, waiting: "db2"},
		"all servers accept; a web node has nothing to do": {step: accept, said: steps{"db1": accept, "db2": accept}},
		"one is ahead, as after another leader":            {step: accept, said: steps{"db1": accept, "db2": use}},
		"a replica's process does not run":                 {step: accept, said: steps{"db1": accept}, change: func(m *moment) { m.databases["db2"] = server("db2", cluster.Copying, 0) }},
		"nobody knows any more whether it does":            {step: accept, said: steps{"db1": accept}, change: func(m *moment) { m.databases["db2"] = server("db2", cluster.Crashed, time.Minute) }, waiting: "db2"},
		"there is no primary":                              {step: accept, said: steps{"db1": accept, "db2": accept}, change: func(m *moment) { m.assignment = nil }, waiting: "the primary"},
		"the primary's process does not run":               {step: drop, said: steps{"db2": drop}, change: func(m *moment) { m.databases["db1"] = server("db1", cluster.Crashed, 0) }, waiting: "the primary"},
		"another change was reported":                      {step: accept, said: steps{"db2": accept}, change: func(m *moment) { m.passwords["db1"] = &cluster.PasswordsReport{ID: "6", Step: cluster.Changed} }, waiting: "db1"},
		"everybody is to use them":                         {step: use, said: steps{"db1": use, "db2": use}, waiting: "web1"},
		"also a server that does not run":                  {step: use, said: steps{"db1": use, "web1": use}, change: func(m *moment) { m.databases["db2"] = server("db2", cluster.Crashed, 0) }, waiting: "db2"},
		"also a node that is no instance":                  {step: use, said: steps{"db1": use, "db2": use, "web1": use}, change: func(m *moment) { m.members = map[string]registry.Member{"app1": {}} }, waiting: "app1"},
		"all use them":                                     {step: use, said: steps{"db1": use, "db2": use, "web1": use}},
		"one that has not done it says why":                {step: drop, said: steps{"db1": drop}, change: func(m *moment) { m.passwords["db2"] = &cluster.PasswordsReport{ID: "7", Why: "no answer"} }, waiting: "db2"},
		"the servers refuse the old ones":                  {step: drop, said: steps{"db1": drop, "db2": drop}},
		"nobody has to hear that it is done":               {step: cluster.Changed},
	} {
		m := &moment{
			now: now, databases: map[string]arrived[*cluster.Report]{"db1": server("db1", cluster.Running, 0), "db2": server("db2", cluster.Running, 0)},
			passwords: said(c.said), assignment: &cluster.Assignment{Servers: []cluster.Server{{Name: "db1", Task: cluster.Lead}, {Name: "db2", Task: cluster.Follow}}},
		}
		if c.change != nil {
			c.change(m)
		}
		l.rotation = &rotation{ID: "7", Step: c.step, New: map[string]string{"monitor": "hush"}}
		waiting := l.unrotated(m)
		if got := strings.Join(slices.Sorted(maps.Keys(waiting)), " "); got != c.waiting {
			t.Errorf("%s: it waits for %q, want %q", what, got, c.waiting)
		}
		text := l.rotationText(m)
		for name, why := range waiting {
			if !strings.Contains(text, name+": "+why) {
				t.Errorf("%s: %q does not say that of %s", what, text, name)
			}
		}
	}
	if text := fmt.Sprintf("%v %+v %#v %s", l.rotation, *l.rotation, *l.rotation, l.rotation); strings.Contains(text, "hush") {
		t.Errorf("a password is printed: %s", text)
	}
}
