package service

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// counted returns the value of a counter, by its one label's value if it has one.
func counted(t *testing.T, metrics *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := metrics.Gather()
	must(t, err)
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, metric := range family.GetMetric() {
			if label == "" || metric.GetLabel()[0].GetValue() == label {
				return metric.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func TestLogJSON(t *testing.T) {
	var out bytes.Buffer
	log, level, err := NewLogger(&out, LogConfig{Level: "info", Format: "json"}, prometheus.NewRegistry())
	must(t, err)
	log.Debug("unheard")
	log.Named("topology").Info("accepted", zap.Int("epoch", 8))
	var entry map[string]any
	must(t, json.Unmarshal(out.Bytes(), &entry))
	if entry["message"] != "accepted" || entry["level"] != "info" || entry["epoch"] != 8.0 || entry["logger"] != "topology" || entry["time"] == nil {
		t.Errorf("got %v", entry)
	}
	out.Reset()
	level.SetLevel(zap.DebugLevel)
	log.Debug("heard")
	if !strings.Contains(out.String(), "heard") {
		t.Error("the level did not change")
	}
}

func TestLogConsole(t *testing.T) {
	var out bytes.Buffer
	log, _, err := NewLogger(&out, DefaultLog(), prometheus.NewRegistry())
	must(t, err)
	log.Warn("refused", zap.String("reason", "vanished"))
	if got := out.String(); !strings.Contains(got, "\tWARN\trefused\t{\"reason\": \"vanished\"}\n") {
		t.Errorf("got %q", got)
	}
}

func TestLogCounts(t *testing.T) {
	var out bytes.Buffer
	metrics := prometheus.NewRegistry()
	log, _, err := NewLogger(&out, DefaultLog(), metrics)
	must(t, err)
	const said = 10_000
	for range said {
		log.Error("over and over")
	}
	log.Info("something else")
	lines := float64(strings.Count(out.String(), "over and over\n"))
	dropped := counted(t, metrics, "farmhand_log_entries_dropped_total", "")
	if lines < sampleFirst || dropped == 0 || lines+dropped != said {
		t.Errorf("%v lines, %v dropped; want %d together", lines, dropped, said)
	}
	if got := counted(t, metrics, "farmhand_log_entries_total", "error"); got != lines {
		t.Errorf("%v counted, %v lines", got, lines)
	}
	if got := counted(t, metrics, "farmhand_log_entries_total", "info"); got != 1 {
		t.Errorf("%v info entries counted", got)
	}
}

func TestLogRefuses(t *testing.T) {
	for want, c := range map[string]LogConfig{
		"log level":  {Level: "loud", Format: "json"},
		"log format": {Level: "info", Format: "xml"},
	} {
		if _, _, err := NewLogger(&bytes.Buffer{}, c, prometheus.NewRegistry()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestBuild(t *testing.T) {
	if got := ReadBuild("proxy").String(); !strings.HasPrefix(got, "proxy ") || !strings.Contains(got, ", go") {
		t.Errorf("got %q", got)
	}
	b := Build{Program: "proxy", Version: "v1.2.3", Revision: "0123456789abcdef", Modified: true, Go: "go1.26"}
	if got := b.String(); got != "proxy v1.2.3, revision 0123456789ab with changes, go1.26" {
		t.Errorf("got %q", got)
	}
}
