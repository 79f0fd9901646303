package role

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/farm"
	"farmhand/internal/report"
)

func replica(receiver, applier, err string) report.Report {
	return report.Report{State: report.Running, Replication: &report.Replication{Receiver: receiver, Applier: applier, Error: err}}
}

func TestReportsAsEvents(t *testing.T) {
	running, failed := report.Report{State: report.Running}, report.Report{State: report.Failed, Detail: "killed"}
	dumb := report.Report{State: report.Running, Detail: "it cannot be asked"}
	for _, test := range []struct {
		reports []report.Report
		want    string
	}{
		{[]report.Report{{State: report.Starting}, running, running}, "host-up"},
		{[]report.Report{dumb, running, dumb, running}, "host-up"},
		{[]report.Report{running, failed, {State: report.Starting}, failed, running}, "host-up host-crash host-up"},
		{[]report.Report{failed, running}, "host-crash host-up"},
		{[]report.Report{replica("Yes", "Yes", ""), replica("Yes", "No", "1062"), replica("Yes", "No", "1062"), replica("Connecting", "Yes", ""), dumb, replica("Yes", "Yes", "")}, "host-up replication-broken replication-recovered"},
		{[]report.Report{running, {State: report.Stopping}, {State: report.Stopped}}, "host-up"},
	} {
		var known told
		var got []string
		for _, r := range test.reports {
			for _, kind := range known.kinds(r) {
				got = append(got, string(kind))
				known = known.after(kind)
			}
		}
		if s := strings.Join(got, " "); s != test.want {
			t.Errorf("%+v:\n got %s\nwant %s", test.reports, s, test.want)
		}
	}
}

// TestTellAgain: what could not be put is not lost.
func TestTellAgain(t *testing.T) {
	var got []string
	full := errors.New("full")
	m := &mysql{tools: Tools{Log: zap.NewNop(), Event: func(e farm.Event) error {
		if err := e.Check(); err != nil {
			t.Error(err)
		}
		got = append(got, fmt.Sprintf("%s %s", e.Kind, e.Host.Role))
		err := full
		full = nil
		return err
	}}}
	r := report.Report{Time: time.Now(), Name: "db1", Address: "127.0.0.1:3306", Role: farm.Primary, State: report.Failed, Detail: strings.Repeat("é", 5000) + "\x00\xff"}
	for range 3 {
		m.tell(r)
	}
	if s := strings.Join(got, ", "); s != "host-crash primary, host-crash primary" {
		t.Errorf("told %s", s)
	}
}
