package daemon

import (
	"testing"
	"time"

	"farmhand/internal/cluster"
	"farmhand/scaler/internal/farmfile"
)

// TestClientsOfAWebNode: none only if none is there and none comes, and not known
// unless both are.
func TestClientsOfAWebNode(t *testing.T) {
	for _, c := range []struct {
		load map[string]float64
		want float64 // -1: not known
	}{
		{nil, -1},
		{map[string]float64{cluster.LoadClients: 0}, -1},
		{map[string]float64{cluster.LoadNewClients: 0}, -1},
		{map[string]float64{cluster.LoadClients: 0, cluster.LoadNewClients: 0}, 0},
		{map[string]float64{cluster.LoadClients: 0, cluster.LoadNewClients: 0.5}, 1},
		{map[string]float64{cluster.LoadClients: 7, cluster.LoadNewClients: 0.5}, 7},
	} {
		r := nodeReport(farmfile.WebKind, &cluster.NodeReport{Well: true, Load: c.load}, time.Now())
		got := -1.0
		if r.Clients != nil {
			got = *r.Clients
		}
		if got != c.want || !r.Well {
			t.Errorf("%v: %v clients, well %v; want %v", c.load, got, r.Well, c.want)
		}
	}
}

// TestJobsOfAWorker: how many it has says who goes first, and not that nobody uses it: it may
// take another until it was drained.
func TestJobsOfAWorker(t *testing.T) {
	r := nodeReport(farmfile.WorkerKind, &cluster.NodeReport{Load: map[string]float64{cluster.LoadJobs: 0}}, time.Now())
	if r.Jobs == nil || *r.Jobs != 0 || r.Clients != nil {
		t.Errorf("%+v", r)
	}
	r = nodeReport(farmfile.WorkerKind, &cluster.NodeReport{Load: map[string]float64{cluster.LoadJobs: 0, cluster.LoadClients: 0}}, time.Now())
	if r.Clients == nil || *r.Clients != 0 {
		t.Errorf("drained: %+v", r)
	}
}
