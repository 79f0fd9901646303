package report_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/report"
)

func TestReportsAreReadAsWritten(t *testing.T) {
	zero, three := int64(0), int64(3)
	want := []report.Report{
		{Time: time.Unix(1, 0).UTC(), Name: "db1", Address: "127.0.0.1:3306", Role: farm.Primary, State: report.Running, PID: 7},
		{Name: "db2", Role: farm.Replica, State: report.Running, Replication: &report.Replication{Source: "127.0.0.1:3306", Receiver: "Yes", Applier: "Yes", Behind: &zero}},
		{Name: "db2", Role: farm.Replica, State: report.Running, Replication: &report.Replication{Applier: "No", Error: "1062: Duplicate", Behind: &three}},
		{Name: "db2", Role: farm.Replica, State: report.Running, Replication: &report.Replication{}},
		{Name: "db3", Role: farm.Replica, State: report.Failed, Detail: "two\nlines"},
	}
	var stream bytes.Buffer
	for _, r := range want {
		if err := report.Write(&stream, r); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(stream.String(), "\n"); n != len(want) {
		t.Errorf("%d reports are %d lines", len(want), n)
	}
	var got []report.Report
	if err := report.Read(&stream, func(r report.Report) { got = append(got, r) }); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, want %+v", got, want)
	}
}

func TestWhatIsNoReport(t *testing.T) {
	for _, text := range []string{"panic: boom\n", "{}\n", `{"name":"db1"}` + "\n", strings.Repeat("x", 2<<20)} {
		if err := report.Read(strings.NewReader(text), func(report.Report) { t.Errorf("%.20q is a report", text) }); err == nil {
			t.Errorf("%.20q was read without an error", text)
		}
	}
}
