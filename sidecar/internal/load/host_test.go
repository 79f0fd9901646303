package load

import (
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"farmhand/internal/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// rewrite changes a text in a file.
func rewrite(t *testing.T, file, before, after string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), before) {
		t.Fatalf("%s has no %q", file, before)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(data), before, after, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, got, want map[string]float64) {
	t.Helper()
	for name, value := range want {
		if is, ok := got[name]; !ok || math.Abs(is-value) > 1e-9 {
			t.Errorf("%s is %v (%v), expected %v", name, is, ok, value)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is there: %v", name, got[name])
		}
	}
}

func TestHost(t *testing.T) {
	proc := t.TempDir()
	if err := os.CopyFS(proc, os.DirFS("testdata/proc")); err != nil {
		t.Fatal(err)
	}
	h, err := newHost(proc, "")
	if err != nil {
		t.Fatal(err)
	}
	first, err := h.Sample(start)
	if err != nil {
		t.Fatal(err)
	}
	now := map[string]float64{
		cluster.LoadProcessors: 2, cluster.Load1: 1.5, cluster.Load5: 0.75, cluster.Load15: 0.25,
		cluster.LoadMemoryBytes: 8000000 * 1024, cluster.LoadMemoryShare: 0.75,
	}
	want(t, first, now)

	// Of 1,000 ticks 250 were busy, 100 of them stolen; 750 idle or waiting for a disk.
	rewrite(t, filepath.Join(proc, "stat"), "cpu  1000 100 400 8000 300 50 50 100", "cpu  1100 100 450 8700 350 50 50 200")
	rewrite(t, filepath.Join(proc, "net/dev"), "eth0:  500000", "eth0:  520000")
	second, err := h.Sample(start.Add(2 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	rates := maps.Clone(now)
	rates[cluster.LoadCPUShare] = 0.25
	rates[cluster.LoadNetworkReceived], rates[cluster.LoadNetworkSent] = 10000, 0
	want(t, second, rates)

	// What cannot be read is absent, and the rest is there.
	if err := os.Remove(filepath.Join(proc, "meminfo")); err != nil {
		t.Fatal(err)
	}
	rewrite(t, filepath.Join(proc, "net/dev"), "eth0:  520000", "eth0:  10") // the device is a new one
	third, err := h.Sample(start.Add(4 * time.Second))
	if err == nil || !strings.Contains(err.Error(), "measure memory") {
		t.Errorf("the error is %v", err)
	}
	want(t, third, map[string]float64{cluster.LoadProcessors: 2, cluster.Load1: 1.5, cluster.Load5: 0.75, cluster.Load15: 0.25})
}

// TestThisMachine measures the real one.
func TestThisMachine(t *testing.T) {
	h, err := NewHost(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Sample(time.Now()); err != nil {
		t.Fatal(err)
	}
	var got map[string]float64
	for end := time.Now().Add(10 * time.Second); got[cluster.LoadCPUShare] == 0 && time.Now().Before(end); {
		for range 1_000_000 { // something to do
		}
		if got, err = h.Sample(time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	names := []string{
		cluster.LoadProcessors, cluster.Load1, cluster.LoadCPUShare, cluster.LoadMemoryShare, cluster.LoadMemoryBytes,
		cluster.LoadDiskShare, cluster.LoadDiskBytes, cluster.LoadDiskFree,
	}
	for _, name := range names {
		value, ok := got[name]
		share := slices.Contains([]string{cluster.LoadCPUShare, cluster.LoadMemoryShare, cluster.LoadDiskShare}, name)
		if !ok || value < 0 || share && value > 1 {
			t.Errorf("%s is %v (%v)", name, value, ok)
		}
	}
	if h, err = NewHost("/nowhere"); err != nil {
		t.Fatal(err)
	}
	if got, err := h.Sample(time.Now()); err == nil || got[cluster.LoadProcessors] == 0 {
		t.Errorf("of a directory that is not there: %v, %v", got, err)
	}
}
