package cli

import (
	"strings"
	"testing"
	"time"

	"farmhand/scaler/internal/cron"
	"farmhand/scaler/internal/farmfile"
)

func TestCronTable(t *testing.T) {
	f, err := farmfile.Parse("farm.yaml", []byte(`
name: shop
time_zone: Europe/Berlin
roles: {db: {kind: mysql}}
cron:
  report: {schedule: "30 3 * * *", queue: "https://sqs.eu-central-1.amazonaws.com/123456789012/jobs", body: report}
  sweep: {schedule: 15m, time_zone: UTC, queue: "http://127.0.0.1:9324/0/jobs.fifo?region=x", body: sweep, unsure: skip}
`))
	if err != nil {
		t.Fatal(err)
	}
	jobs, err := f.CronJobs()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 29, 1, 0, 0, 0, time.UTC)
	report, _, _ := cron.Next(jobs[0].Job, cron.State{}, now.Add(-time.Hour))
	report.Told, report.Sent = "sent", time.Date(2026, 11, 28, 2, 30, 0, 0, time.UTC)
	var out strings.Builder
	if err := cronTable(&out, jobs, map[string]cron.State{"report": report}, now); err != nil {
		t.Fatal(err)
	}
	want := `NAME    SCHEDULE    TIME ZONE      NEXT                 LAST SENT            STATE
report  30 3 * * *  Europe/Berlin  2026-11-29 03:30:00  2026-11-28 03:30:00  sent
sweep   15m         UTC            2026-11-29 01:15:00  -                    no scaler that leads has looked at it yet
`
	if out.String() != want {
		t.Errorf("%s\nwant\n%s", &out, want)
	}
}
