package daemon

import (
	"testing"
	"time"

	"farmhand/internal/cluster"
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
		r := webReport(&cluster.WebReport{PID: 7, Load: c.load}, time.Now())
		got := -1.0
		if r.Clients != nil {
			got = *r.Clients
		}
		if got != c.want || !r.Well {
			t.Errorf("%v: %v clients, well %v; want %v", c.load, got, r.Well, c.want)
		}
	}
}
