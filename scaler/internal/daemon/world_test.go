package daemon

import (
	"errors"
	"strings"
	"testing"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/registry"
)

// TestWhatIsNotKnownIsNotDecidedBy: nothing is decided before all is known, nor while
// the registry is lost, nor by reports of which nobody knows how old they are, for as
// long as their nodes have hardly had the time to speak.
func TestWhatIsNotKnownIsNotDecidedBy(t *testing.T) {
	w := newWorld(func() {})
	refused := func(why string) {
		t.Helper()
		if _, err := w.look(time.Now()); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("got %v, want %q", err, why)
		}
	}
	known := func(watched string, change func()) {
		t.Helper()
		must(t, w.change(watched, nil, func() error { change(); return nil }))
	}
	refused("not read yet")
	for _, watched := range []string{watchedMembers, watchedAssignment, watchedOperations} {
		known(watched, func() {})
	}
	refused(watchedReports)
	reported := func(at time.Time) {
		data, err := (&cluster.Report{Name: "db1"}).Encode()
		must(t, err)
		known(watchedReports, func() { w.take(registry.Reported{Node: "db1", Name: cluster.ReportName, Data: data}, at) })
	}
	reported(time.Time{})
	known(watchedAssignment, func() {
		w.assignment = &cluster.Assignment{Servers: []cluster.Server{{Name: "db1"}}}
	})
	refused("listening for db1")
	if m, err := w.look(time.Now().Add(silent + time.Second)); err != nil {
		t.Errorf("after it had the time to speak: %v", err)
	} else if _, age := m.report("db1"); age != longAgo {
		t.Errorf("its age is %v", age)
	}
	reported(time.Now())
	if m, err := w.look(time.Now()); err != nil {
		t.Error(err)
	} else if r, age := m.report("db1"); r == nil || age > time.Minute {
		t.Errorf("%+v, %v old", r, age)
	}
	must(t, w.change(watchedMembers, errors.New("the registry is lost"), nil))
	refused("the registry is lost")

	// A node speaks for itself only.
	data, err := (&cluster.Report{Name: "db1"}).Encode()
	must(t, err)
	w.take(registry.Reported{Node: "db2", Name: cluster.ReportName, Data: data}, time.Now())
	if m, _ := w.look(time.Now()); m.databases["db2"].report != nil {
		t.Error("a node has spoken for another")
	}
}
