package daemon

import (
	"strings"
	"testing"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/registry"
	"farmhand/scaler/internal/provider"
	"farmhand/scaler/internal/roles"
)

// TestANodeWhoseMachineIsTakenAwayIsLetGo by its own word only.
func TestANodeWhoseMachineIsTakenAwayIsLetGo(t *testing.T) {
	now := time.Now()
	m, err := readMemory(nil)
	must(t, err)
	m.take("web", roles.State{Wanted: 2, Last: 2, Servers: map[string]roles.Server{
		"web1": {Launched: now, Appeared: true, Ready: now}, "web2": {Launched: now, Appeared: true, Ready: now},
	}})
	l := &leader{memory: m, instances: []provider.Instance{{Name: "web1"}, {Name: "web2"}}, sized: now}
	w := newWorld(func() {})
	for _, by := range []string{"web1", "db1"} { // db1 has nothing to say of web2
		data, err := (&cluster.EndingReport{Name: map[string]string{"web1": "web1", "db1": "web2"}[by], At: now.Add(2 * time.Minute), Why: "AWS takes it away"}).Encode()
		must(t, err)
		w.take(registry.Reported{Node: by, Name: cluster.EndingReportName, Data: data}, now)
	}
	l.end(&moment{now: now, endings: w.endings})
	s := l.memory.Roles["web"].Servers
	if leave := s["web1"].Leaving; leave == nil || leave.Stays || !strings.HasPrefix(leave.Why, "AWS takes it away at ") || !l.sized.IsZero() {
		t.Errorf("web1 is %+v", s["web1"])
	}
	if s["web2"].Leaving != nil {
		t.Errorf("web2 is %+v", s["web2"])
	}
	since := s["web1"].Leaving.Since
	l.end(&moment{now: now.Add(time.Second), endings: w.endings})
	if again := l.memory.Roles["web"].Servers["web1"].Leaving; !again.Since.Equal(since) {
		t.Errorf("it begins to leave again: %+v", again)
	}
}
