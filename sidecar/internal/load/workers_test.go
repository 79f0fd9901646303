package load

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"farmhand/internal/cluster"
	"farmhand/sidecar/internal/work"
)

// TestWorkers: what is not known is not said, and what was known long ago is not.
func TestWorkers(t *testing.T) {
	place := work.Place{Directory: t.TempDir()}
	w := NewWorkers(place, []string{"one", "two"})
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	check := func(what string, want map[string]float64) {
		t.Helper()
		got, err := w.Sample(t.Context(), now)
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("%s: %v, %v; want %v", what, got, err, want)
		}
	}
	check("before they begin", map[string]float64{cluster.LoadJobs: 0})
	says := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(place.BusyFile(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	says("one", `{"received": "2026-11-27T11:59:50Z", "age_ns": 0}`)
	check("the queue is empty", map[string]float64{cluster.LoadJobs: 0, cluster.LoadQueueAge: 0})
	says("two", `{"received": "2026-11-27T11:59:55Z", "age_ns": 90000000000}`)
	file, err := os.Open(filepath.Join(place.Directory, "two.busy"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	check("one has a job", map[string]float64{cluster.LoadJobs: 1, cluster.LoadQueueAge: 90})
	now = now.Add(58 * time.Second)
	check("the other has not asked for a minute", map[string]float64{cluster.LoadJobs: 1})
}
